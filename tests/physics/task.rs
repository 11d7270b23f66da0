//! Tasks on a robot with every kind of joint: observation, reward, termination, starts, adjoints.

use crate::support::specs::{FIXED, FREE, task};
use crate::support::verdict::Verdict;
use pwm::app::gradcheck::stages::check_stages;
use pwm::app::gradcheck::states::{StateAction, random_state};
use pwm::config::{Config, Subgradient};
use pwm::device::Dual;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvReal, InputCotangents, OutputCotangents, StepOperands, Task};
use pwm::sim::JointKind;

fn settings() -> Config {
    Config { action_penalty: -0.05, mm_caching_frequency: 4, ..Config::default() }
}

fn random(seed: u64, n: usize) -> Vec<f64> {
    let rng = Philox::new(seed, Stream::Test);
    (0..n as u32).map(|k| rng.normal(seed, k)).collect()
}

/// Next q, qd, observation and reward of one row.
fn step<R: EnvReal>(task: &Task, x: &[R]) -> Vec<R> {
    let s = task.sizes;
    let (q, rest) = x.split_at(s.nq);
    let (qd, rest) = rest.split_at(s.nqd);
    let (action, obs) = rest.split_at(s.act);
    let (mut q, mut qd, mut next, mut reward) = (q.to_vec(), qd.to_vec(), vec![R::zero(); s.obs], [R::zero()]);
    R::step_rows(task, 1, &mut q, &mut qd, obs, action, &mut next, &mut reward);
    [&q[..], &qd, &next, &reward].concat()
}

/// Cotangents of q, qd, action and the observation before.
fn pull<R: EnvReal>(task: &Task, x: &[R], bar: &[R]) -> Vec<R> {
    let s = task.sizes;
    let [mut q, mut qd, mut action, mut obs] = [s.nq, s.nqd, s.act, s.obs].map(|n| vec![R::zero(); n]);
    let (x_q, x_qd) = x[..s.nq + s.nqd].split_at(s.nq);
    let (x_action, x_obs) = x[s.nq + s.nqd..].split_at(s.act);
    let (q_bar, rest) = bar.split_at(s.nq);
    let (qd_bar, rest) = rest.split_at(s.nqd);
    let (obs_bar, reward) = rest.split_at(s.obs);
    R::adjoint_rows(
        task,
        1,
        StepOperands { q: x_q, qd: x_qd, action: x_action, obs: x_obs },
        OutputCotangents { q: q_bar, qd: qd_bar, obs: obs_bar, reward },
        InputCotangents { q: &mut q, qd: &mut qd, obs: &mut obs, action: &mut action },
    );
    [q, qd, action, obs].concat()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A state, an action and an observation that need not be the state's.
fn operands(task: &Task, e: u32) -> Vec<f64> {
    let state = random_state(task, &Philox::new(5, Stream::Test), e);
    [state.q, state.qd, state.action, random(1000 + u64::from(e), task.sizes.obs)].concat()
}

/// What a step of rows gives, then what its adjoint gives from ones, of each row.
fn both(task: &Task, rows: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let (s, n) = (task.sizes, rows.len());
    let part = |from: usize, width: usize| -> Vec<f32> {
        rows.iter().flat_map(|r| r[from..from + width].iter().map(|&x| x as f32)).collect()
    };
    let (q, qd) = (part(0, s.nq), part(s.nq, s.nqd));
    let (action, obs) = (part(s.nq + s.nqd, s.act), part(s.nq + s.nqd + s.act, s.obs));
    let (mut next_q, mut next_qd) = (q.clone(), qd.clone());
    let (mut next, mut reward) = (vec![0.0; n * s.obs], vec![0.0; n]);
    f32::step_rows(task, n, &mut next_q, &mut next_qd, &obs, &action, &mut next, &mut reward);
    let ones = [s.nq, s.nqd, s.obs, 1].map(|width| vec![1.0; n * width]);
    let [mut q_bar, mut qd_bar, mut obs_bar, mut action_bar] =
        [s.nq, s.nqd, s.obs, s.act].map(|width| vec![0.0; n * width]);
    f32::adjoint_rows(
        task,
        n,
        StepOperands { q: &q, qd: &qd, action: &action, obs: &obs },
        OutputCotangents { q: &ones[0], qd: &ones[1], obs: &ones[2], reward: &ones[3] },
        InputCotangents { q: &mut q_bar, qd: &mut qd_bar, obs: &mut obs_bar, action: &mut action_bar },
    );
    let parts = [
        (next_q, s.nq),
        (next_qd, s.nqd),
        (next, s.obs),
        (reward, 1),
        (q_bar, s.nq),
        (qd_bar, s.nqd),
        (obs_bar, s.obs),
        (action_bar, s.act),
    ];
    (0..n).map(|i| parts.iter().flat_map(|(x, w)| x[i * w..(i + 1) * w].to_vec()).collect()).collect()
}

/// A row gives the same bits alone, in any lane, in the group that is not full, and beside a row that is not a number.
#[test]
fn rows_do_not_depend_on_place_or_neighbours() {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for text in [FIXED, FREE] {
        let task = task(text, &settings());
        let mut rows: Vec<Vec<f64>> = (0..11).map(|e| operands(&task, 3 * e)).collect();
        let alone: Vec<_> = rows.iter().map(|r| bits(&both(&task, std::slice::from_ref(r))[0])).collect();
        let together = both(&task, &rows);
        assert!(together.iter().zip(&alone).all(|(a, b)| bits(a) == *b), "{}", task.spec.title);
        rows[4].fill(f64::NAN);
        let beside = both(&task, &rows);
        let same = (0..rows.len()).filter(|&i| bits(&beside[i]) == alone[i]).count();
        assert_eq!(same, rows.len() - 1, "{}", task.spec.title);
    }
}

/// Gradients of single precision are numbers wherever the step is one, in random states of every sort.
#[test]
fn no_gradient_is_lost() {
    all_finite(8_000);
}

#[test]
#[ignore = "minutes: scripts/full"]
fn no_gradient_is_lost_in_a_million_states() {
    all_finite(1_000_000);
}

fn all_finite(states: u32) {
    for text in [FIXED, FREE] {
        let task = task(text, &settings());
        let s = task.sizes;
        let (results, mut left_physics) = (s.nq + s.nqd + s.obs + 1, 0);
        for first in (0..states).step_by(16) {
            let rows: Vec<_> = (first..first + 16).map(|e| operands(&task, e)).collect();
            for (e, row) in (first..).zip(both(&task, &rows)) {
                if row[..results].iter().any(|x| x.is_nan() || x.abs() > 1e6) {
                    left_physics += 1;
                    continue;
                }
                assert!(row[results..].iter().all(|x| x.is_finite()), "{} state {e}", task.spec.title);
            }
        }
        println!("{}: {left_physics} of {states} steps left physics", task.spec.title);
        assert!(left_physics < states / 100, "{left_physics}");
    }
}

#[test]
fn every_stage_is_the_transpose_of_its_derivative() {
    let mut v = Verdict::default();
    for text in [FIXED, FREE] {
        let task = task(text, &settings());
        for e in 0..60 {
            let state = random_state(&task, &Philox::new(5, Stream::Test), e);
            for error in check_stages(task.dflex(), &state, &Philox::new(3, Stream::Test), e) {
                v.check(&format!("{}: {}", task.spec.title, error.stage), e, error.dual, 1e-11);
            }
        }
    }
    v.finish();
}

/// At rest, every hinge and slide at one of its limits, actions at the ends of their range: the central choice is what
/// central differences measure, as well as they do across a kink; the reference's is not.
#[test]
fn central_sub_gradients_are_what_differences_measure() {
    let rng = Philox::new(3, Stream::Test);
    for subgradient in [Subgradient::Central, Subgradient::Reference] {
        // Of contacts and of joints, on either robot: the one that is fixed to the world need not touch the ground.
        let mut worst = [0.0f64; 2];
        for text in [FIXED, FREE] {
            let task = task(text, &Config { subgradient, ..settings() });
            for e in 0..30 {
                let mut state = StateAction { qd: vec![0.0; task.sizes.nqd], ..random_state(&task, &rng, e) };
                for (i, link) in task.dflex().model().links.iter().enumerate() {
                    let limit = if i % 2 == 0 { link.lower } else { link.upper };
                    if matches!(link.kind, JointKind::Hinge | JointKind::Slide) && limit.is_finite() {
                        state.q[link.q] = limit;
                    }
                }
                (state.action[0], state.action[1]) = (1.0, -1.0);
                for error in check_stages(task.dflex(), &state, &rng, e) {
                    match ["contact", "joint"].iter().position(|k| *k == error.stage) {
                        Some(i) if subgradient == Subgradient::Reference => worst[i] = worst[i].max(error.differences),
                        _ if subgradient == Subgradient::Reference => {}
                        _ => assert!(error.differences <= 1e-5, "{}, state {e}, {error:?}", task.spec.title),
                    }
                }
            }
        }
        assert!(subgradient == Subgradient::Central || worst.iter().all(|w| *w > 1e-3), "{worst:?}");
    }
}

#[test]
fn the_adjoint_of_a_step_is_that_of_dual_numbers() {
    let mut v = Verdict::default();
    for text in [FIXED, FREE] {
        let task = task(text, &settings());
        for e in 0..40 {
            let x = operands(&task, e);
            let along = random(2000 + u64::from(e), x.len());
            let dual: Vec<Dual> = x.iter().zip(&along).map(|(&x, &d)| Dual::new(x, d)).collect();
            let y = step(&task, &dual);
            let bar = random(3000 + u64::from(e), y.len());
            let back = pull(&task, &x, &bar);
            let out: f64 = y.iter().zip(&bar).map(|(y, w)| y.d * w).sum();
            let size = dot(&back, &back).sqrt() * dot(&along, &along).sqrt();
            v.check(&task.spec.title, e, (out - dot(&back, &along)).abs() / size, 1e-10);
        }
    }
    v.finish();
}

/// Eight at a time in single precision is one at a time in double precision, for values and cotangents; wider rows hold
/// zeros behind the task's own entries.
#[test]
fn lanes_agree_and_wide_rows_are_padded() {
    const ROWS: usize = 11;
    for text in [FIXED, FREE] {
        let task = task(text, &settings());
        let s = task.sizes;
        let (wide_obs, wide_act) = (s.obs + 3, s.act + 2);
        let rows: Vec<Vec<f64>> = (0..ROWS as u32).map(|e| operands(&task, 3 * e)).collect();
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let part = |from: usize, n: usize, width: usize| -> Vec<f32> {
            rows.iter().flat_map(|r| [&narrow(&r[from..from + n])[..], &vec![7.0; width - n]].concat()).collect()
        };
        let (mut q, mut qd) = (part(0, s.nq, s.nq), part(s.nq, s.nqd, s.nqd));
        let (q0, qd0) = (q.clone(), qd.clone());
        let action = part(s.nq + s.nqd, s.act, wide_act);
        let obs = part(s.nq + s.nqd + s.act, s.obs, wide_obs);
        let (mut next, mut reward) = (vec![9.0; ROWS * wide_obs], vec![9.0; ROWS]);
        f32::step_rows(&task, ROWS, &mut q, &mut qd, &obs, &action, &mut next, &mut reward);
        let bars = |seed, n: usize, width: usize| -> Vec<f32> {
            let x = narrow(&random(seed, ROWS * n));
            x.chunks(n).flat_map(|r| [r, &vec![5.0; width - n]].concat()).collect()
        };
        let (q_bar, qd_bar) = (bars(71, s.nq, s.nq), bars(72, s.nqd, s.nqd));
        let (obs_bar, reward_bar) = (bars(73, s.obs, wide_obs), bars(74, 1, 1));
        let zeros = |n: usize| vec![3.0f32; ROWS * n];
        let [mut to_q, mut to_qd, mut to_obs, mut to_action] = [s.nq, s.nqd, wide_obs, wide_act].map(zeros);
        f32::adjoint_rows(
            &task,
            ROWS,
            StepOperands { q: &q0, qd: &qd0, action: &action, obs: &obs },
            OutputCotangents { q: &q_bar, qd: &qd_bar, obs: &obs_bar, reward: &reward_bar },
            InputCotangents { q: &mut to_q, qd: &mut to_qd, obs: &mut to_obs, action: &mut to_action },
        );
        for (e, row) in rows.iter().enumerate() {
            let x: Vec<f64> = narrow(row).into_iter().map(f64::from).collect();
            let y = step::<f64>(&task, &x);
            let own = |x: &[f32], n: usize, width: usize| {
                x[e * width..e * width + n].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
            };
            let got =
                [own(&q, s.nq, s.nq), own(&qd, s.nqd, s.nqd), own(&next, s.obs, wide_obs), own(&reward, 1, 1)].concat();
            let off = got.iter().zip(&y).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max);
            assert!(off < 2e-3, "{}, row {e}: {off}", task.spec.title);
            let bar = [
                own(&q_bar, s.nq, s.nq),
                own(&qd_bar, s.nqd, s.nqd),
                own(&obs_bar, s.obs, wide_obs),
                own(&reward_bar, 1, 1),
            ];
            let back = pull::<f64>(&task, &x, &bar.concat());
            let got = [
                own(&to_q, s.nq, s.nq),
                own(&to_qd, s.nqd, s.nqd),
                own(&to_action, s.act, wide_act),
                own(&to_obs, s.obs, wide_obs),
            ]
            .concat();
            let (mut apart, mut size) = (0.0, 0.0);
            for (a, b) in got.iter().zip(&back) {
                apart += (a - b).powi(2);
                size += b.powi(2);
            }
            assert!((apart / size).sqrt() < 5e-3, "{}, row {e}: {}", task.spec.title, (apart / size).sqrt());
            assert_eq!(next[e * wide_obs + s.obs..(e + 1) * wide_obs], [0.0; 3]);
            assert_eq!(to_obs[e * wide_obs + s.obs..(e + 1) * wide_obs], [0.0; 3]);
            assert_eq!(to_action[e * wide_act + s.act..(e + 1) * wide_act], [0.0; 2]);
        }
    }
}

/// What the observation, the reward and the end of an episode are, worked out by hand from a state.
#[test]
fn observation_reward_and_termination_are_as_specified() {
    let c = settings();
    let t = task(FIXED, &c);
    let mut q = t.dflex().spec.reset.start.clone();
    (q[0], q[5], q[6], q[8]) = (-0.2, 0.7, 0.3, 0.05);
    let qd: Vec<f64> = (0..9).map(|k| 0.1 * f64::from(k)).collect();
    let mut obs = vec![0.0; t.sizes.obs];
    t.dflex().observe_row(&q, &qd, Some(&[0.5, -2.0, 0.25, 3.0]), &mut obs);
    let mut expected = q[..5].to_vec();
    expected.extend([0.7f64.sin(), 0.7f64.cos()]);
    expected.extend(&q[6..]);
    expected.extend(qd.iter().map(|v| 0.1 * v));
    expected.extend([0.5, -1.0, 0.25, 1.0]);
    assert_eq!(obs.len(), expected.len());
    assert!(obs.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-15), "{obs:?}\n{expected:?}");
    let reward =
        step::<f64>(&t, &[&q[..], &qd, &[0.5, -2.0, 0.25, 3.0], &obs].concat())[t.sizes.nq + t.sizes.nqd + t.sizes.obs];
    let foot = 0.1 * qd[7];
    let by_hand = -20.0 * 0.25f64.powi(2) + 1.0 - (0.3f64 / 0.5).powi(2) - 0.1 * foot * foot - 0.5 * 0.7f64.powi(2)
        + 0.7 * (0.1 * qd[0]).clamp(-0.2, 0.2)
        - 0.05 * (0.25 + 1.0 + 0.0625 + 1.0);
    assert!((reward - by_hand).abs() < 1e-14, "{reward} {by_hand}");
    assert!(!t.is_terminal(&obs));
    obs[0] = -0.31;
    assert!(t.is_terminal(&obs));

    let free = task(FREE, &c);
    let mut obs = vec![0.0; free.sizes.obs];
    let start = free.dflex().spec.reset.start.clone();
    free.dflex().observe_row(&start, &vec![0.0; free.sizes.nqd], None, &mut obs);
    // At the start up is up, and the heading is the cosine of the way to (5, -2).
    assert!((obs[0] - 1.0).abs() < 1e-12 && (obs[1] - 5.0 / 29f64.sqrt()).abs() < 1e-12 && obs[2] == 0.4, "{obs:?}");
    assert!(free.is_terminal(&[1.0, 1.0, 0.05]));
    assert!(!task(FREE, &Config { early_termination: false, ..c }).is_terminal(&[1.0, 1.0, 0.05]));
}

#[test]
fn starts_move_what_they_list_and_nothing_else() {
    let t = task(FIXED, &settings());
    // Six hinges and slides, four numbers of the ball's turn, eight velocities behind the cart's.
    assert_eq!((t.dflex().spec.reset.uniforms(), t.dflex().spec.reset.blocks()), (6 + 4 + 8, 5));
    let random = Philox::new(11, Stream::Reset);
    let (mut q, mut qd) = (vec![0f64; 10], vec![0f64; 9]);
    let mut turned = 0;
    for e in 0..200 {
        t.dflex().reset_row(&random, 3, e, &mut q, &mut qd);
        let norm: f64 = q[1..5].iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-12 && q[4] >= (15f64.to_radians() / 2.0).cos() - 1e-12);
        turned += u32::from(q[4] < 0.9999);
        for k in [0, 5, 6, 7, 8, 9] {
            assert!((q[k] - t.dflex().spec.reset.start[k]).abs() <= 0.1 && q[k] != t.dflex().spec.reset.start[k]);
        }
        assert!(qd[0] == 0.0 && qd[1..].iter().all(|v| v.abs() <= 0.25 && *v != 0.0));
    }
    assert!(turned > 100);
    let still = task(FIXED, &Config { stochastic_init: false, ..settings() });
    still.dflex().reset_row(&random, 3, 1, &mut q, &mut qd);
    assert_eq!((q, qd), (still.dflex().spec.reset.start.clone(), vec![0.0; 9]));
}

/// At the ends of a term's range and of an action's, the central choice passes half of the cotangent on.
#[test]
fn kinks_of_terms_follow_the_sub_gradient() {
    for (subgradient, share) in [(Subgradient::Reference, 1.0), (Subgradient::Central, 0.5)] {
        let t = task(FIXED, &Config { subgradient, ..settings() });
        let s = t.sizes;
        let mut x = operands(&t, 0);
        let obs = s.nq + s.nqd + s.act;
        // The linear term is cut at 0.2; the parabola meets its line at 0.05.
        (x[obs], x[obs + 11]) = (0.05, 0.2);
        let mut bar = vec![0.0; s.nq + s.nqd + s.obs + 1];
        *bar.last_mut().unwrap() = 1.0;
        let back = pull::<f64>(&t, &x, &bar);
        assert!((back[obs] - share * 2.0).abs() < 1e-15 && (back[obs + 11] - share * 0.7).abs() < 1e-15);
    }
}
