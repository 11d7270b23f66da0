//! Rows of metrics: what they are made of, what a checkpoint remembers of one, how their columns are called.

use pwm::algo::metrics::{self, Metric, MetricKind};
use pwm::algo::{EpochReport, Evaluation, Measure, Parts, TaskEvaluation, learner};
use pwm::config::{Algorithm, Config};
use pwm::run::tracker::{PATIENCE, PartialRow, Tracker};

fn parts(algorithm: Algorithm) -> Parts {
    let c = Config { algorithm, wm_buffer_size: 5000, horizon: 4, ..Config::default() };
    learner(algorithm).build(&c).parts
}

fn tracker(parts: &Parts, skipped: &[u32; 3], partial: &PartialRow) -> Tracker {
    Tracker::new(parts, &["run".into()], skipped, partial)
}

fn epoch(parts: &Parts, loss: f64, skipped: [u32; 3], numbers: &[(Metric, f64)]) -> EpochReport {
    let metrics: Vec<Metric> = parts.metrics.iter().map(|m| m.metric).collect();
    let mut r = EpochReport::new(metrics.into(), 3);
    (r.learned, r.skipped) = (true, skipped.into());
    let usual = [
        (metrics::LOSS_ACTOR, loss),
        (metrics::LOSS_CRITIC, 0.0),
        (metrics::LOSS_DYNAMICS, 0.0),
        (metrics::LOSS_REWARD, 0.0),
        (metrics::TRAIN_EPISODES, 2.0),
        (metrics::TRAIN_RETURN, 10.0 * loss),
        (metrics::TRAIN_LENGTH, 5.0),
        (metrics::BLOWN_UP, 0.0),
    ];
    for (m, x) in usual.iter().chain(numbers) {
        let at = r.metrics.iter().position(|known| known.name == m.name).expect("every algorithm measures it");
        r.values[at] = *x;
    }
    r
}

fn at(t: &mut Tracker, eval: Option<&Evaluation>, name: &str) -> f64 {
    let i = t.columns().iter().position(|c| *c == name).unwrap();
    t.row(eval, None, [7.0, 9.0], 0)[i]
}

#[test]
fn several_tasks_have_columns_of_their_own() {
    let parts = parts(Algorithm::Shac);
    let tasks = ["run".to_owned(), "hop".to_owned()];
    let mut t = Tracker::new(&parts, &tasks, &[0; 2], &PartialRow::default());
    let task = |i: usize, returns: &[f64]| TaskEvaluation {
        task: tasks[i].clone(),
        returns: returns.into(),
        lengths: vec![3.0; returns.len()],
    };
    let e = Evaluation { tasks: vec![task(0, &[10.0, 30.0]), task(1, &[f64::NAN])], measure: Measure::Return };
    let own = at(&mut t, Some(&e), "eval/run/return_mean");
    assert_eq!((own, at(&mut t, Some(&e), "eval/run/length")), (20.0, 3.0));
    // One task that was lost is lost in the mean over tasks too.
    assert_eq!(at(&mut t, Some(&e), "eval/hop/return_mean"), f64::INFINITY);
    assert_eq!(at(&mut t, Some(&e), "eval/return_mean"), f64::INFINITY);
    let e = Evaluation { tasks: vec![task(0, &[10.0, 30.0]), task(1, &[4.0])], measure: Measure::Return };
    assert_eq!(at(&mut t, Some(&e), "eval/return_mean"), 12.0);
    assert_eq!(t.columns().iter().filter(|c| c.starts_with("eval/")).count(), 9);
}

#[test]
fn rows_are_means_and_name_what_was_lost() {
    let parts = parts(Algorithm::Pwm);
    let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
    for (i, loss) in [1.0, 3.0, f64::NAN].into_iter().enumerate() {
        let episodes = if i == 2 { 0.0 } else { 2.0 };
        t.add(&epoch(&parts, loss, [i as u32, 0, 0], &[(metrics::TRAIN_EPISODES, episodes)]), 0.5);
    }
    assert_eq!(t.skipped().collect::<Vec<_>>(), [("actor", 2)]);
    assert_eq!(t.lost().collect::<Vec<_>>(), [("actor", 1)]);
    assert_eq!(t.episodes(), [20.0, 5.0]);
    let names = ["loss/actor", "train/return", "skipped_updates", "nonfinite_losses", "time/steps_per_s"];
    let steps = parts.config.epoch_steps() as f64;
    assert_eq!(names.map(|n| at(&mut t, None, n)), [2.0, 20.0, 2.0, 1.0, 2.0 * steps]);
    t.written();
    assert!(at(&mut t, None, "eval/return_mean").is_nan() && at(&mut t, None, "loss/actor").is_nan());
    let lost = TaskEvaluation { task: "run".into(), returns: vec![f64::NAN], lengths: vec![5.0] };
    let lost = Evaluation { tasks: vec![lost], measure: Measure::Return };
    assert_eq!(at(&mut t, Some(&lost), "eval/return_mean"), f64::INFINITY, "measured, and no number");
}

#[test]
fn what_a_checkpoint_remembers_makes_the_same_row() {
    let parts = parts(Algorithm::Pwm);
    let new = || tracker(&parts, &[0; 3], &PartialRow::default());
    let (mut whole, mut first) = (new(), new());
    for (i, loss) in [0.1, f64::NAN, 0.7, 1e-7].into_iter().enumerate() {
        let r = epoch(&parts, loss, [i as u32; 3], &[(metrics::TRAIN_RETURN, 1.0 / 3.0)]);
        whole.add(&r, 0.5);
        first.add(&r, 0.5);
    }
    let text = serde_json::to_string(&first.partial_row()).unwrap();
    assert!(!text.contains("null") && !text.contains("time/") && !text.contains("lr/"), "{text}");
    let mut second = tracker(&parts, &[3; 3], &serde_json::from_str(&text).unwrap());
    whole.add(&epoch(&parts, 0.3, [4; 3], &[]), 0.5);
    second.add(&epoch(&parts, 0.3, [4; 3], &[]), 0.25);
    let (a, b) = (whole.row(None, None, [7.0; 2], 0).to_vec(), second.row(None, None, [7.0; 2], 0).to_vec());
    for (name, (a, b)) in whole.columns().iter().zip(a.iter().zip(b)) {
        if !name.starts_with("time/") && *name != metrics::RSS.name {
            assert_eq!(a.to_bits(), b.to_bits(), "{name}");
        }
    }
    // The speed is that of the epochs that were timed.
    let speed = "time/steps_per_s";
    assert_eq!(at(&mut second, None, speed), 2.0 * at(&mut whole, None, speed));
    assert_eq!(
        serde_json::from_str::<PartialRow>("{}").unwrap(),
        PartialRow::default(),
        "files written before it existed"
    );
}

/// As a checkpoint of version 0.1 has it.
#[test]
fn what_earlier_builds_remembered_is_read() {
    let text = r#"{"now":{"actor":{"sum":2.5,"count":2,"lost":1},"critic":{"sum":1.0,"count":3,"lost":0},
        "dynamics":{"sum":0.5,"count":3,"lost":0},"reward":{"sum":0.75,"count":3,"lost":0},
        "norms":[{"sum":9.0,"count":3,"lost":0},{"sum":6.0,"count":3,"lost":0},{"sum":3.0,"count":3,"lost":0}],
        "episodes":4.0,"returns":40.0,"lengths":12.0,"blown_up":1.0,"bounded":[5.0,6.0],"skipped":[0,7,8]},
        "idle":[0,0,9]}"#;
    let parts = parts(Algorithm::Pwm);
    let mut t = tracker(&parts, &[0, 7, 8], &serde_json::from_str(text).unwrap());
    for (name, x) in [
        ("loss/actor", 1.25),
        ("loss/critic", 1.0 / 3.0),
        ("loss/dynamics", 0.5 / 3.0),
        ("loss/reward", 0.25),
        ("grad_norm/actor", 3.0),
        ("grad_norm/critic", 2.0),
        ("grad_norm/world_model", 1.0),
        ("train/episodes", 4.0),
        ("train/return", 10.0),
        ("train/length", 3.0),
        ("env/blown_up", 1.0),
        ("env/bounded_gradients", 5.0),
        ("env/lost_gradients", 6.0),
        ("skipped_updates", 15.0),
        ("nonfinite_losses", 1.0),
    ] {
        assert_eq!(at(&mut t, None, name), x, "{name}");
    }
    assert_eq!(t.skipped().collect::<Vec<_>>(), [("critic", 7), ("world model", 8)]);
    assert_eq!(t.dead(), None);
    let wm = parts.config.wm_iterations as u32;
    t.add(&epoch(&parts, 1.0, [0, 7, 8 + wm], &[]), 0.1);
    assert_eq!(t.dead(), Some("world model"));
}

#[test]
fn a_network_that_never_learns_is_named() {
    let parts = parts(Algorithm::Pwm);
    let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
    let wm = parts.config.wm_iterations as u32;
    for e in 1..=PATIENCE {
        assert_eq!(t.dead(), None);
        // One skipped update of many critic updates does no harm.
        t.add(&epoch(&parts, 1.0, [0, e, e * wm], &[]), 0.1);
    }
    assert_eq!(t.dead(), Some("world model"));
    assert_eq!(tracker(&parts, &[0; 3], &t.partial_row().forgiven()).dead(), None);
    t.add(&epoch(&parts, 1.0, [0, PATIENCE, PATIENCE * wm], &[]), 0.1);
    assert_eq!(t.dead(), None);
}

#[test]
fn numbers_of_one_label_are_one_on_the_screen() {
    let parts = parts(Algorithm::Pwm);
    let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
    let mut shown = t.shown();
    let numbers = [
        (metrics::LOSS_DYNAMICS, 0.25),
        (metrics::LOSS_REWARD, 0.5),
        (metrics::LR_CRITIC, 1e-3),
        (metrics::MODEL_SECONDS, 2.0),
    ];
    t.add(&epoch(&parts, -1.0, [0; 3], &numbers), 0.1);
    t.show(&mut shown);
    t.written();
    t.show(&mut shown);
    let known: Vec<_> = shown.iter().filter(|s| !s.value.is_nan()).map(|s| (s.kind, s.label, s.value)).collect();
    assert_eq!(
        known,
        [
            (MetricKind::Loss, "actor", -1.0),
            (MetricKind::Loss, "critic", 0.0),
            (MetricKind::Loss, "model", 0.75),
            (MetricKind::LearningRate, "critic", 1e-3),
            (MetricKind::Seconds, "model", 2.0)
        ]
    );
}

/// The columns of runs that other programs read: none may go or be called otherwise.
#[test]
fn columns_have_the_names_they_always_had() {
    let run = [
        "eval/return_mean",
        "eval/return_std",
        "eval/length",
        "train/return",
        "train/length",
        "train/episodes",
        "loss/actor",
        "loss/critic",
        "loss/dynamics",
        "loss/reward",
        "grad_norm/actor",
        "grad_norm/critic",
        "grad_norm/world_model",
        "lr/actor",
        "lr/critic",
        "lr/world_model",
        "time/elapsed_s",
        "time/cpu_s",
        "time/steps_per_s",
        "time/actor_s",
        "time/critic_s",
        "time/world_model_s",
        "time/eval_s",
        "time/save_s",
        "memory/rss_mib",
        "env/blown_up",
        "skipped_updates",
        "nonfinite_losses",
        "rollbacks",
        "env/bounded_gradients",
        "env/lost_gradients",
    ];
    let probes = [
        "probe/reward_correlation",
        "probe/reward_spread",
        "probe/true_reward_spread",
        "probe/error_one_step",
        "probe/error_horizon",
        "probe/group_drift",
        "probe/velocity_error_0",
        "probe/velocity_error_1_4",
        "probe/velocity_error_1_2",
        "probe/velocity_error_3_4",
        "probe/velocity_error_1",
    ];
    let of = |algorithm| {
        let parts = parts(algorithm);
        let skipped = vec![0; parts.networks.len()];
        let t = Tracker::new(&parts, &["run".into()], &skipped, &PartialRow::default());
        t.columns().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(Algorithm::Pwm), [&run[..], &probes].concat());
    // What SHAC does not measure was never written.
    let of_model = ["loss/dynamics", "loss/reward", "grad_norm/world_model", "lr/world_model"];
    assert_eq!(of(Algorithm::Shac), run.into_iter().filter(|c| !of_model.contains(c)).collect::<Vec<_>>());
}
