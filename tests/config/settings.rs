//! Configuration: sources and their order, every kind of message word for word, round trip, shipped files, documents.

use pwm::app::config::{ConfigCommand, run};
use pwm::config::{
    ActorKind, Algorithm, Bootstrap, Config, ConfigErrors, Dynamics, FlowHead, Integrator, KEYS, Key, Latent,
    LrSchedule, NoteKind, ReplaySampling, RewNorm, RewardHead, SHIPPED, Shipped, ShippedKind, TauSampling, help_text,
    load, load_with_notes, markdown,
};
use std::path::{Path, PathBuf};

const NONE: &[&str] = &[];

fn refusal(result: Result<Config, ConfigErrors>) -> String {
    result.expect_err("should be refused").to_string()
}

/// What a file of this text is refused with.
fn file(text: &str) -> String {
    refusal(Config::from_yaml("my.yaml", text, NONE))
}

/// What these overrides of the default configuration are refused with.
fn overrides(texts: &[&str]) -> String {
    refusal(load(texts))
}

/// "a, b or c".
fn one_of(words: &[&str]) -> String {
    let (last, most) = words.split_last().unwrap();
    format!("{} or {last}", most.join(", "))
}

// ---- sources

#[test]
fn the_bare_command_trains_the_small_configuration_on_the_ant() {
    let config = load(NONE).unwrap();
    assert_eq!((config.alg.as_str(), config.env.as_str()), ("pwm_small", "ant"));
    assert_eq!((config.latent, config.wm_batch_size, config.num_envs), (Latent::Observed, 64, 128));
    assert_eq!(config.run_folder().to_str(), Some("runs/ant_pwm_small_s0"));
    assert_eq!(config.bootstrap_updates(), 200);
}

#[test]
fn each_source_overrides_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let env = write("hill.yaml", "num_envs: 2\nhorizon: 2\nseed: 2\n");
    let alg = write("mine.yaml", "horizon: 4\nseed: 4\n");
    let config = load(&[format!("alg={alg}"), format!("env={env}"), "seed=8".into()]).unwrap();
    assert_eq!((config.num_envs, config.horizon, config.seed), (2, 4, 8));
    assert_eq!(config.latent_dim, Config::default().latent_dim, "a file of one's own starts from the defaults");
    assert_eq!(config.run_folder().to_str(), Some("runs/hill_mine_s8"));

    let based = write("based.yaml", "alg: pwm_small\nseed: 4\n");
    let config = load(&[format!("alg={based}")]).unwrap();
    assert_eq!((config.latent, config.seed), (Latent::Observed, 4), "unless it names a shipped one");
    let chooses = write("chooses.yaml", &format!("env: {env}\ncritic_batches: 1\n"));
    assert_eq!(load(&[format!("alg={chooses}")]).unwrap().num_envs, 2);
}

#[test]
fn overrides_take_yaml_prefixes_and_the_later_of_two() {
    let config = load(&[
        "alg.units=[64,32]",
        "env.num_envs=16",
        "actor_lr=1e-3",
        "wm_bootstrap_iterations=null",
        "seed=1",
        "seed=2",
    ])
    .unwrap();
    assert_eq!(config.units, [64, 32]);
    assert_eq!((config.num_envs, config.actor_lr, config.seed), (16, 1e-3, 2));
    assert_eq!((config.wm_bootstrap_iterations, config.bootstrap_updates()), (None, 1000));
    assert_eq!(load(&["run_dir=a: b #c"]).unwrap().run_dir, "a: b #c");
    assert_eq!(load(&["run_dir="]).unwrap().run_dir, "");
    assert!(!load(&["detach=no"]).unwrap().detach, "YAML's older words for true and false");
    assert_eq!(load(&["wm_buffer_size=2e6", "max_epochs=20_000"]).unwrap().wm_buffer_size, 2_000_000);
}

#[test]
fn published_names_are_accepted() {
    let config =
        load(&["rew_rms=true", "ret_rms=false", "obs_rms=true", "MM_caching_frequency=4", "wm_lr=1e-4"]).unwrap();
    assert_eq!(config.rew_norm, RewNorm::CenterScale);
    assert!(!config.ret_norm && config.obs_norm);
    assert_eq!((config.mm_caching_frequency, config.model_lr), (4, 1e-4));
    assert_eq!(load(&["rew_rms=false"]).unwrap().rew_norm, RewNorm::None);
}

// ---- messages

#[test]
fn unknown_keys() {
    assert_eq!(file("seed: 1\nhorizn: 3\n"), "my.yaml:2:1: there is no setting `horizn`\n  did you mean `horizon`?");
    assert_eq!(
        overrides(&["batch_size=3"]),
        "override `batch_size=3`: there is no setting `batch_size`\n  did you mean `wm_batch_size`?"
    );
    assert_eq!(
        overrides(&["lr=1e-3"]),
        "override `lr=1e-3`: there is no setting `lr`\n  \
         did you mean `actor_lr`, `critic_lr`, `model_lr`, `lr_schedule`, `lr_end` or `lr_decay_start`?"
    );
    assert_eq!(
        overrides(&["elephants=3"]),
        "override `elephants=3`: there is no setting `elephants`\n  `pwm config docs` lists every setting"
    );
    assert_eq!(
        file("critic_method: one-step\n"),
        "my.yaml:1:1: there is no setting `critic_method`\n  \
         targets are always TD(lambda); `lam=0` gives one-step targets"
    );
    assert_eq!(
        file("networks:\n  units: [3]\n"),
        "my.yaml:1:1: there is no setting `networks`\n  settings are flat: write the settings inside it without it"
    );
}

#[test]
fn wrong_values() {
    assert_eq!(
        file("seed: 1\nmax_epochs: sixty\n"),
        "my.yaml:2:13: `max_epochs` cannot be \"sixty\"\n  allowed: whole number, at least 1"
    );
    assert_eq!(
        file("lr_schedule: linaer\n"),
        "my.yaml:1:14: `lr_schedule` cannot be \"linaer\"\n  allowed: linear, cosine or constant\n  did you mean `linear`?"
    );
    assert_eq!(
        overrides(&["alg.gamma=1.5"]),
        "override `alg.gamma=1.5`: `gamma` cannot be 1.5\n  allowed: number, from 0 to 1"
    );
    assert_eq!(
        overrides(&["units=[128,x]"]),
        "override `units=[128,x]`: `units` cannot be [128, x]\n  \
         allowed: list of one or more whole numbers, each from 1 to 65536"
    );
    assert_eq!(
        overrides(&["detach=maybe"]),
        "override `detach=maybe`: `detach` cannot be \"maybe\"\n  allowed: true or false"
    );
    assert_eq!(file("rew_rms: scale\n"), "my.yaml:1:10: `rew_rms` cannot be \"scale\"\n  allowed: true or false");
    for (text, shown) in [("gamma: .nan", ".nan"), ("actor_lr: .inf", ".inf"), ("seed: -1", "-1"), ("seed:", "null")] {
        let message = file(text);
        assert!(message.contains(&format!("cannot be {shown}\n")), "{message}");
    }
    assert!(file("units: []").contains("`units` cannot be []"), "no hidden layer at all");
    assert!(file("actor_betas: [0.9]").contains("allowed: list of two numbers, each from 0 to below 1"));
    assert!(file("reward_clip: 1e300").contains("cannot be 1e300"), "beyond single precision");
    assert!(file("seed: 1.5").contains("cannot be 1.5"));
    assert!(file("seed: 1e30").contains("cannot be 1e30"));
}

#[test]
fn a_key_set_twice() {
    assert_eq!(
        file("seed: 1\nseed: 2\n"),
        "my.yaml:2:1: `seed` is set twice\n  it was already set at my.yaml:1:1; keep one of the two"
    );
    assert_eq!(
        file("ret_norm: true\nret_rms: true\n"),
        "my.yaml:2:1: `ret_norm` is set twice\n  it was already set at my.yaml:1:1; keep one of the two"
    );
}

#[test]
fn text_that_is_not_yaml() {
    assert_eq!(file("seed: 1\nunits: [1\n"), "my.yaml:2:8: unclosed bracket '['");
    assert_eq!(file("- a\n- b\n"), "my.yaml: invalid type: sequence, expected lines `key: value`");
    assert_eq!(overrides(&["units=[1,"]), "override `units=[1,`: unclosed bracket '['");
    assert_eq!(
        overrides(&["seed"]),
        "override `seed`: an override is written key=value, as in `seed=3`\n  did you mean `seed=...`?"
    );
    assert_eq!(Config::from_yaml("empty.yaml", "", NONE).unwrap(), Config::default());
}

#[test]
fn configurations_that_are_not_there() {
    assert_eq!(
        overrides(&["alg=pwm5M"]),
        format!(
            "override `alg=pwm5M`: there is no shipped alg configuration `pwm5M`\n  shipped: {}; \
             a file of your own is given by a path ending in .yaml\n  did you mean `pwm_5M`?",
            one_of(&Shipped::names(ShippedKind::Alg))
        )
    );
    assert_eq!(
        overrides(&["env=/no/such.yaml"]),
        format!(
            "cannot read /no/such.yaml: No such file or directory (os error 2)\n  \
             check the path; the shipped configurations are: {}",
            one_of(&Shipped::names(ShippedKind::Env))
        )
    );
    assert_eq!(
        refusal(Config::from_yaml("run/config.yaml", "seed: 1", &["alg=pwm_5M"])),
        "override `alg=pwm_5M`: `alg` cannot change when run/config.yaml is continued\n  start a new run"
    );
}

#[test]
fn the_processor_multiplies_in_single_precision() {
    let said = overrides(&["device=cpu", "precision=tf32"]);
    assert!(
        said.contains("device=cpu multiplies in single precision, precision=tf32 is for a GPU")
            && said.contains("set precision to fp32, or device to auto or cuda:0"),
        "{said}"
    );
    assert!(overrides(&["precision=fp16"]).contains("allowed: fp32, tf32 or bf16"));
}

#[test]
fn settings_that_do_not_go_together() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["alg=pwm_small", "dynamics=flow"],
            "latent=observed has no groups whose sums flow_head=tangent and flow_projection=none could keep\n  set flow_head \
             to linear and flow_projection to none, or latent to encoded\n  `flow_head` from the defaultLINE",
        ),
        (
            &["alg=pwm_5M", "latent_dim=100"],
            "latent_dim=100 is not a multiple of simnorm_dim=8\n  set latent_dim to 96 or 104\n  \
             `latent_dim` from override `latent_dim=100`, `simnorm_dim` from the default",
        ),
        (
            &["critic_batches=7"],
            "a rollout of num_envs=128 x horizon=16 = 2048 states cannot be cut into critic_batches=7 equal parts\n  \
             set critic_batches to 4, or num_envs to a multiple of 7\n  `critic_batches` from override \
             `critic_batches=7`, `num_envs` from configs/alg/pwm_small.yaml:LINE, `horizon` from \
             configs/alg/pwm_small.yaml:LINE",
        ),
        (
            &["wm_buffer_size=1000"],
            "wm_buffer_size=1000 rows cannot hold one window of horizon+1=17 rows for each of num_envs=128\n  \
             set wm_buffer_size to at least 2176",
        ),
        (
            &["wm_buffer_size=3000", "wm_batch_size=4000"],
            "wm_buffer_size=3000 rows is less than wm_batch_size=4000 windows\n  \
             set wm_buffer_size to at least 4000, or lower wm_batch_size",
        ),
        (&["episode_length=10"], "horizon=16 steps is longer than an episode of episode_length=10"),
        (
            &["reward_head=two_hot", "rew_norm=scale"],
            "reward_head=two_hot learns the raw reward, which rew_norm=scale would change\n  \
             set rew_norm to none, or reward_head to scalar",
        ),
        (&["vmin=3", "vmax=3"], "the bins from vmin=3 to vmax=3 are empty"),
        (&["actor_lr=0"], "lr_schedule=linear would raise actor_lr=0.0 to lr_end=1e-5"),
        (&["warmup_epochs=9", "max_epochs=9"], "warmup_epochs=9 leaves nothing of max_epochs=9"),
        (&["actor_init_logstd=-2"], "actor_init_logstd=-2 is below actor_min_logstd=-1.427"),
    ];
    for (texts, expected) in cases {
        // Lines of the shipped file may move.
        let message = overrides(texts);
        let parts: Vec<&str> = expected.split("LINE").collect();
        assert!(message.starts_with(parts[0]), "{texts:?} gave:\n{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{texts:?} gave:\n{message}");
    }
    assert!(load(&["reward_head=two_hot", "rew_norm=none"]).is_ok());
    assert!(load(&["actor_lr=0", "lr_schedule=constant"]).is_ok());
    let by_hand = Config { latent_dim: 12, ..Config::default() };
    assert!(by_hand.validate().unwrap_err().to_string().ends_with("set latent_dim to 8 or 16"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let message = refusal(Config::from_yaml("my.yaml", "horizn: 3\nseed: x\n", &["gamma=2"]));
    let places: Vec<&str> = message.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(places.len(), 3, "{message}");
    assert!(places[0].starts_with("my.yaml:1:1") && places[1].starts_with("my.yaml:2:7"));
    assert!(places[2].starts_with("override `gamma=2`"));
}

// ---- round trip

#[test]
fn resolved_yaml_reads_back_and_is_complete() {
    for alg in Shipped::names(ShippedKind::Alg) {
        let config = load(&[format!("alg={alg}"), "run_dir=a \"b\" \u{85}\u{1f41c}".into()]).unwrap();
        let yaml = config.to_yaml();
        assert_eq!(Config::from_yaml("config.yaml", &yaml, NONE).unwrap(), config);
        assert!(KEYS.iter().all(|key| yaml.contains(&format!("\n{}: ", key.name))));
    }
    let config = Config::from_yaml("config.yaml", &load(NONE).unwrap().to_yaml(), &["max_minutes=30"]).unwrap();
    assert_eq!((config.max_minutes, config.latent), (30.0, Latent::Observed));
}

#[test]
fn json_has_every_key_in_order() {
    let json = load(&["alg=pwm_48M"]).unwrap().to_json();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
    assert_eq!(json["units"], serde_json::json!([1792, 1792]));
    assert_eq!(json["actor_lr"], serde_json::json!(5e-4));
}

// ---- shipped files, documents, command

#[test]
fn every_shipped_file_is_valid_and_in_the_list() {
    let mut on_disk = Vec::new();
    for kind in [ShippedKind::Env, ShippedKind::Alg] {
        for entry in std::fs::read_dir(format!("{}/configs/{}", env!("CARGO_MANIFEST_DIR"), kind.key())).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            on_disk.push((kind.key(), name.strip_suffix(".yaml").expect("a YAML file").to_owned()));
        }
    }
    assert_eq!(on_disk.len(), SHIPPED.len());
    for (kind, name) in on_disk {
        let shipped = SHIPPED.iter().find(|s| s.kind.key() == kind && s.name == name).expect("listed");
        if !shipped.is_set() {
            load(&[format!("{kind}={name}")]).unwrap().validate().unwrap();
        }
        assert!(shipped.summary().len() > 20, "{name} says what it is for in its first line");
    }
}

#[test]
fn the_published_configurations_keep_the_papers_choices() {
    let big = load(&["alg=pwm_48M"]).unwrap();
    assert_eq!((big.latent_dim, big.wm_batch_size), (768, 1024));
    assert_eq!((big.units, big.encoder_units), (vec![1792; 2], vec![1792; 3]));
    let config = load(&["alg=pwm_5M"]).unwrap();
    assert_eq!((config.latent_dim, config.wm_batch_size, config.max_epochs), (512, 256, 15_000));
    assert_eq!((config.rew_norm, config.replay_sampling), (RewNorm::CenterScale, ReplaySampling::Episode));
    assert_eq!((config.bootstrap, config.lr_schedule), (Bootstrap::Exact, LrSchedule::Linear));
    assert_eq!((config.rollout_states(), config.critic_batch_size()), (2048, 512));
    // The built-in defaults are this configuration.
    let named = Config { wm_bootstrap_iterations: Some(1000), alg: "pwm_5M".into(), ..Config::default() };
    assert_eq!(config, named);
}

/// Flow dynamics have the parameters of the others within a thousandth; with head and bins as published, exactly the
/// numbers of the published model.
#[test]
fn flow_configurations_have_the_baselines_size() {
    let world = |settings: &[&str]| {
        let c = load(settings).unwrap();
        pwm::algo::pwm::PwmNets::new(&mut pwm::tape::Vars::default(), &c, 37, 8).world.group.len
    };
    let is_flow = |name: &&str| load(&[format!("alg={name}")]).unwrap().dynamics == Dynamics::Flow;
    for name in Shipped::names(ShippedKind::Alg).into_iter().filter(is_flow) {
        let alg = format!("alg={name}");
        let (flow, mlp) = (world(&[&alg]), world(&[&alg, "dynamics=mlp"]));
        assert!((flow as f64 / mlp as f64 - 1.0).abs() < 1e-3, "{name}: {flow} and {mlp}");
        let mut shown = Vec::new();
        run(&ConfigCommand::Show { overrides: vec![alg], json: false }, &mut shown).unwrap();
        assert!(String::from_utf8(shown).unwrap().contains(&format!("dynamics: mlp has {mlp}")));
    }
    let published = ["flow_head=simnorm", "reward_head=two_hot", "rew_norm=none"];
    for (alg, parameters) in [("alg=pwm_5M_flow_v1", 1_521_765), ("alg=pwm_48M_flow_v2", 18_670_181)] {
        assert_eq!(world(&[&[alg][..], &published].concat()), parameters, "{alg}");
    }
    let evaluations = |alg: &str| {
        let c = load(&[format!("alg={alg}")]).unwrap();
        pwm::ops::flow::evaluations(c.flow_integrator, c.flow_substeps)
    };
    let counts = [
        "pwm_48M_flow_v0",
        "pwm_48M_flow_v1",
        "pwm_48M_flow_v2",
        "pwm_48M_flow_v3",
        "pwm_48M_flow_v3_heun",
        "pwm_48M_flow_v2_rk4",
    ];
    assert_eq!(counts.map(evaluations), [2, 4, 8, 8, 16, 16]);
}

/// A file with the groups, names and references of the published fork's.
const FORK: &str = "\
_target_: flow_mbpo_pwm.algorithms.pwm.PWM
_recursive_: False
actor_config:
  _target_: flow_mbpo_pwm.models.actor.ActorStochasticMLP
  units: [400, 200, 100]
  activation_class: nn.Mish
  init_logstd: -1.0
world_model_config:
  _target_: flow_mbpo_pwm.models.flow_world_model.FlowWorldModel
  units: [96, 64]
  num_bins: 101
  vmin: -10.0
  task_dim: 0
  encoder:
    last_layer_kwargs:
      act:
        simnorm_dim: 16
  dynamics:
    last_layer: normedlinear
latent_dim: 512
rew_rms: False
critic_method: td-lambda
horizon: ${horizon}
max_epochs: 15_000
wm_dyn_loss_weight: 2.0
esnr: True
use_flow_dynamics: true
flow_integrator: euler
flow_substeps: 8
flow_tau_sampling: midpoint
";

#[test]
fn settings_that_change_nothing_are_said_to() {
    let notes = |texts: &[&str]| load_with_notes(texts).unwrap().1.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(notes(&["latent_dim=256"]), ["ignored latent_dim=256: latent=observed does not read it"]);
    assert_eq!(
        notes(&["flow_substeps=8", "num_bins=51"]),
        [
            "ignored flow_substeps=8: dynamics=mlp does not read it",
            "ignored num_bins=51: reward_head=scalar does not read it"
        ]
    );
    assert!(notes(&["alg=pwm_5M_flow_v2", "flow_substeps=8", "latent_dim=256", "lr_end=1e-6"]).is_empty());
    assert_eq!(notes(&["lr_schedule=constant", "lr_end=1e-6"]).len(), 1);
    assert_eq!(notes(&["step_grad_norm=1"]), ["ignored step_grad_norm=1: algorithm=pwm does not read it"]);
    assert_eq!(
        notes(&["alg=shac", "step_grad_norm=1", "wm_batch_size=8"]),
        ["ignored wm_batch_size=8: algorithm=shac does not read it"]
    );
}

#[test]
fn files_of_the_published_fork_are_read_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pwm_5M_flow_v3_substeps8_euler.yaml");
    std::fs::write(&path, FORK).unwrap();
    let alg = format!("alg={}", path.display());
    let (c, notes) = load_with_notes(&[&alg, "seed=3"]).unwrap();
    assert_eq!((c.dynamics, c.flow_integrator, c.flow_substeps), (Dynamics::Flow, Integrator::Euler, 8));
    assert_eq!(
        (c.flow_tau_sampling, c.flow_head, c.reward_head),
        (TauSampling::Midpoint, FlowHead::Tangent, RewardHead::Scalar)
    );
    assert_eq!((c.units.as_slice(), c.simnorm_dim, c.latent_dim), (&[96, 64][..], 16, 512));
    assert_eq!((c.rew_norm, c.max_epochs, c.horizon, c.seed), (RewNorm::None, 15_000, 16, 3));
    let of = |name: &str| {
        let found: Vec<_> = notes.iter().filter(|n| n.setting.starts_with(&format!("{name}="))).collect();
        assert_eq!(found.len(), 1, "{name}: {notes:?}");
        found[0]
    };
    for name in ["world_model_config.num_bins", "world_model_config.dynamics.last_layer", "wm_dyn_loss_weight", "esnr"]
    {
        assert_eq!(of(name).kind, NoteKind::Harmful, "{name}");
    }
    for name in ["_recursive_", "horizon", "critic_method", "actor_config.activation_class", "world_model_config.vmin"]
    {
        assert_eq!(of(name).kind, NoteKind::Ignored, "{name}");
    }
    assert_eq!(of("use_flow_dynamics").to_string(), "mapped  use_flow_dynamics=true: dynamics=flow");
    assert!(of("world_model_config.num_bins").to_string().starts_with("WARNING world_model_config.num_bins=101: "));
    // One note for each setting, none lost.
    assert_eq!(notes.len(), FORK.lines().filter(|l| !l.trim_end().ends_with(':')).count());
    assert!(load_with_notes(&["alg=pwm_5M"]).unwrap().1.is_empty(), "files of this program are only read");

    let shac = "_target_: flow_mbpo_pwm.algorithms.shac.SHAC\nhorizon: 32\n\
        critic_config:\n  units: ${resolve_child:[40, 20],${env.shac.critic_mlp},units}\n\
        actor_lr: ${resolve_child:2e-3,${env.shac},actor_lr}\n";
    std::fs::write(&path, shac).unwrap();
    let (c, notes) = load_with_notes(&[&alg]).unwrap();
    assert_eq!((c.algorithm, c.action_in_obs, c.horizon, c.actor_lr), (Algorithm::Shac, false, 32, 2e-3));
    assert_eq!((c.critic_units.as_slice(), notes.len()), (&[40, 20][..], 4), "{notes:?}");
    assert!(notes.iter().all(|n| n.kind == NoteKind::Mapped), "{notes:?}");

    let broken = dir.path().join("broken.yaml");
    std::fs::write(&broken, FORK.replace("flow_substeps: 8", "flow_substeps: many")).unwrap();
    let message = refusal(load(&[format!("alg={}", broken.display())]));
    assert!(message.contains(":29:16: `flow_substeps` cannot be \"many\""), "{message}");
    let fullflow = FORK.replace("ActorStochasticMLP", "ActorFlowODE");
    std::fs::write(&broken, fullflow).unwrap();
    assert_eq!(load(&[format!("alg={}", broken.display())]).unwrap().actor, ActorKind::Flow);
}

/// Files of many tasks in every shape they have: settings in a group or at the top, in one line, to be filled in later.
/// None of them becomes a run of one task; with tasks they are what they say.
#[test]
fn files_of_many_tasks_want_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many.yaml");
    let alg = format!("alg={}", path.display());
    // The place of the first setting, and each of them with its line.
    let refused = |text: &str, place: &str, settings: &[&str]| {
        std::fs::write(&path, text).unwrap();
        for overrides in [vec![alg.clone()], vec![alg.clone(), "max_epochs=3".into()]] {
            let message = refusal(load(&overrides));
            let start = format!("{}:{place}: this is a run of many tasks", path.display());
            assert!(message.starts_with(&start) && settings.iter().all(|s| message.contains(s)), "{text}\n{message}");
            assert!(message.contains("; for a run of one task set ") && message.lines().count() == 2, "{message}");
        }
    };
    let with = |line: &str| FORK.replace("  task_dim: 0\n", line);
    refused(
        &with("  task_dim: 96\n  multitask: True\n  action_dims: ???\n  tasks: ???\n"),
        "13:3",
        &[
            "`world_model_config.task_dim=96` (line 13)",
            "`world_model_config.multitask=true` (line 14)",
            "`world_model_config.action_dims=\"???\"` (line 15)",
            "`world_model_config.tasks=\"???\"` (line 16)",
        ],
    );
    refused(&with("  task_dim: 96\n"), "13:3", &["task_dim=96` (line 13)"]);
    refused(&with("  task_dim: 64\n  multitask: ${multitask}\n"), "13:3", &["(line 13)", "(line 14)"]);
    // What is derived is refused in any case, with its line.
    for (lines, what) in [
        ("  multitask: False\n  action_dims: [6, 6, 1]\n", ":14:3: `world_model_config.action_dims=[6, 6, 1]`: sizes"),
        ("  multitask: True\n  action_dims: 6\n", ":14:3: `world_model_config.action_dims=6`: sizes"),
        ("  multitask: True\n  tasks: [walker-run]\n", ":14:3: `world_model_config.tasks=[walker-run]`: tasks"),
    ] {
        std::fs::write(&path, with(lines)).unwrap();
        let message = refusal(load(&[&alg, "env=mt30", "num_envs=30"]));
        assert!(message.contains(what) && message.ends_with("remove this line, line 14"), "{message}");
    }
    // With several environments, and for recorded episodes, it is what it says.
    let many = with("  task_dim: 96\n  multitask: True\n  action_dims: ???\n  tasks: ???\n");
    std::fs::write(&path, many.replace("  num_bins: 1\n", "  num_bins: 101\n")).unwrap();
    for more in [&["env=mt30", "num_envs=30"][..], &["mode=pretrain", "data=x.idx"]] {
        let (c, notes) = load_with_notes(&[&[alg.as_str()], more].concat()).unwrap();
        assert_eq!(c.task_dim, 96);
        assert!(notes.iter().any(|n| n.setting.contains("action_dims") && n.kind == NoteKind::Ignored), "{notes:?}");
    }
    refused(&format!("multitask: true\n{FORK}"), "1:1", &["`multitask=true` (line 1)"]);
    refused(
        &format!("multitask: true\n{}", with("").replace("  units: [96, 64]\n", "  task_dim: 96\n")),
        "1:1",
        &["`multitask=true` (line 1)", "`world_model_config.task_dim=96` (line 11)"],
    );
    // The top of a run rather than of an algorithm, which names no class of its own; in one line; of this program.
    refused("defaults:\n  - alg: some\ngeneral:\n  seed: 4\ntasks: ???\n", "5:1", &["`tasks=\"???\"` (line 5)"]);
    let one_line = "_target_: a.PWM\nworld_model_config: {task_dim: 96, multitask: true}\n";
    refused(one_line, "2:22", &["task_dim=96` (line 2)", "multitask=true` (line 2)"]);
    refused("horizon: 16\nmultitask: true\n", "2:1", &["`multitask=true` (line 2)"]);

    // One task, said in each way: as before.
    for line in
        ["  task_dim: 0\n  multitask: False\n  action_dims: null\n  tasks: null\n", "  task_dim: 0\n  tasks: []\n", ""]
    {
        std::fs::write(&path, with(line)).unwrap();
        let (_, notes) = load_with_notes(&[&alg]).unwrap();
        let harmful = |n: &&pwm::config::Note| n.setting.contains("task") && n.kind == NoteKind::Harmful;
        assert_eq!(notes.iter().filter(harmful).count(), 0, "{notes:?}");
    }
    std::fs::write(&path, with("  task_dim: 96\n  multitask: False\n  action_dims: null\n  tasks: null\n")).unwrap();
    let notes = load_with_notes(&[&alg]).unwrap().1;
    assert!(notes.iter().any(|n| n.setting == "world_model_config.task_dim=96" && n.kind == NoteKind::Harmful));
}

/// Configuration files as they are, of the folder `FORK`: those of many tasks are refused with their lines, the others
/// are read.
#[test]
#[ignore = "needs a folder of files: scripts/full"]
fn files_of_users_are_read_or_refused() {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => walk(&path, files),
                Some(e) if e == "yaml" => files.push(path),
                _ => {}
            }
        }
    }
    let mut files = vec![];
    walk(Path::new(&std::env::var("FORK").expect("FORK names a folder")), &mut files);
    files.sort();
    let (mut read, mut refused) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let is_set = |line: &str| {
            let (key, value) = line.split('#').next().unwrap_or_default().split_once(':').unwrap_or_default();
            match key.trim() {
                "multitask" => value.trim().eq_ignore_ascii_case("true"),
                "tasks" | "action_dims" => !["", "null"].contains(&value.trim()),
                _ => false,
            }
        };
        let (line, result) = (text.lines().position(is_set), load(&[format!("alg={}", file.display())]));
        match (line, result) {
            (None, Ok(_)) => read += 1,
            (Some(at), Err(e)) => {
                let said = e.to_string();
                let named = said.contains(&format!("(line {})", at + 1));
                assert!(named, "{}: {said}", file.display());
                refused += 1;
            }
            (line, result) => panic!("{}: {line:?}, {:?}", file.display(), result.err().map(|e| e.to_string())),
        }
    }
    println!("{read} files of one task are read, {refused} of many tasks are refused");
    assert!(read > 0 && refused > 0);
}

#[test]
fn docs_are_what_the_table_says() {
    let on_disk = include_str!("../../docs/CONFIG.md");
    assert!(
        on_disk == markdown(),
        "docs/CONFIG.md is out of date: `pwm config docs --out docs/CONFIG.md` writes it anew"
    );
}

#[test]
fn help_explains_every_key() {
    let help = help_text();
    for key in KEYS {
        assert!(help.contains(&format!("\n  {}=", key.name)), "{}", key.name);
        assert!(key.doc.trim().ends_with('.'), "{} has a sentence", key.name);
        assert_eq!(key.words.len(), key.meanings.len());
        assert!(Config::from_yaml("d", &format!("{}: {}", key.name, key.default_text()), NONE).is_ok(), "{}", key.name);
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    assert!(Key::find("ret_rms").is_none(), "an alias is not a key");
}

#[test]
fn the_command_prints() {
    let print = |command: ConfigCommand| {
        let mut out = Vec::new();
        run(&command, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let show = |overrides: &[&str], json| {
        print(ConfigCommand::Show { overrides: overrides.iter().map(ToString::to_string).collect(), json })
    };
    let shown = show(&["seed=7"], false).unwrap();
    assert!(shown.starts_with(&load(&["seed=7"]).unwrap().to_yaml()) && shown.contains("# Parameters: "));
    assert_eq!(Config::from_yaml("shown.yaml", &shown, NONE).unwrap(), load(&["seed=7"]).unwrap());
    let shapes: serde_json::Value = serde_json::from_str(&show(&[], true).unwrap()).unwrap();
    let read_by_the_peer = "latent latent_dim units encoder_units wm_batch_size num_envs horizon actor_units critic_units \
                            num_critics critic_iterations critic_batches";
    for key in read_by_the_peer.split(' ').filter(|key| !key.is_empty()) {
        assert!(!shapes["pwm_small"][key].is_null(), "{key}");
    }
    assert!(show(&["sed=7"], false).unwrap_err().to_string().ends_with("did you mean `seed`?"));
    let list = print(ConfigCommand::List).unwrap();
    assert!(SHIPPED.iter().all(|s| list.contains(&format!("{}={}", s.kind.key(), s.name))));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("CONFIG.md");
    print(ConfigCommand::Docs { out: Some(path.clone()) }).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), print(ConfigCommand::Docs { out: None }).unwrap());
}

// ---- garbage

#[test]
fn deep_and_long_input_is_refused() {
    for text in
        ["[".repeat(100_000), format!("units: {}", "[".repeat(100_000)), "a: ".repeat(100_000), "? ".repeat(50_000)]
    {
        assert!(Config::from_yaml("deep.yaml", &text, NONE).is_err());
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    assert!(Config::from_yaml("bomb.yaml", bomb, NONE).is_err());
}

/// A word with a second name: both mean the same, and files show the first.
#[test]
fn decoupled_rollouts_are_anchored_ones() {
    let c = load(&["alg=pwm_5M", "rollout=decoupled"]).unwrap();
    assert_eq!(c, load(&["alg=pwm_5M", "rollout=anchored"]).unwrap());
    assert!(c.to_yaml().contains("\nrollout: anchored\n"));
    let error = load(&["rollout=decoupeld"]).unwrap_err().to_string();
    assert!(error.contains("imagined or anchored"), "{error}");
}
