//! Specifications of environments: what is wrong with one is said with its place; one's own file runs; what a run keeps of it.

use pwm::config::spec::Spec;
use pwm::config::{Config, Kind, SHIPPED, Shipped, load};
use pwm::env::term::Term;
use pwm::env::{Task, check};

fn shipped() -> &'static str {
    Shipped::find(Kind::Env, "ant").unwrap().text
}

/// What is said of the shipped file with `from` replaced by `to`.
fn said(from: &str, to: &str) -> String {
    assert_eq!(shipped().matches(from).count(), 1, "{from}");
    let text = shipped().replace(from, to);
    let spec = Spec::in_file("my.yaml", &text).unwrap();
    Task::read(&spec, &Config::default(), pwm::sim::robots::by_name).unwrap_err().to_string()
}

/// The line of the shipped file in which `text` begins, counted from 1.
fn line(text: &str) -> usize {
    shipped()[..shipped().find(text).unwrap()].lines().count()
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (from, to, expected) in [
        ("robot: ant", "robot: amt", "did you mean `ant`?"),
        ("- height\n", "- heigth\n", "did you mean `height`?"),
        ("of: linear_velocity.x", "of: linear_velocity", "is no single entry"),
        ("of: linear_velocity.x", "of: linear_velocity.hip_1", "is no single entry"),
        ("of: linear_velocity.x", "of: 37", "no entry 37\n  they are 0 to 36"),
        ("weight: up_rew_scale", "weight: up_rew_scal", "there is no setting `up_rew_scal`"),
        ("weight: up_rew_scale", "weight: stochastic_init", "is no number"),
        ("weight: up_rew_scale", "wieght: up_rew_scale", "there is no entry `wieght` here"),
        ("gain: 200", "gain: [200, 200]", "2 gains for 8 degrees of freedom"),
        ("steps_per_second: 60", "steps_per_second: 0", "more than 0"),
        ("substeps: 16", "substeps: 1.5", "give a whole number from 1 to 1024"),
        ("substeps: 16", "substeps: 600", "substeps, but there is room for"),
        ("start: [0, 0.75,", "start: [0.75,", "a start of 14 coordinates\n  the robot has 15"),
        ("0.7071067811865476, 0, 1,", "0.8, 0, 1,", "has norm"),
        ("- action_cost:", "- action_costs:", "did you mean `action_cost`?"),
        ("- position: 0.2", "- positions: 0.2", "did you mean `position`?"),
        ("of: height, below", "of: head, below", "there is no feature `head` here"),
        ("target: [10000, 0]", "target: 10000", "this is a list"),
        ("- coordinates\n", "- coordinates: {from: torso}\n", "the joint of `torso` is free"),
    ] {
        let text = said(from, to);
        let at = format!("my.yaml:{}:", line(from));
        assert!(text.contains(expected) && text.starts_with(&at), "{from} -> {to}, at {at}:\n{text}");
    }
    assert!(said("  substeps: 16\n", "").contains("`substeps` is missing"));
}

#[test]
fn every_shipped_environment_is_right_and_sets_every_default() {
    for s in SHIPPED.iter().filter(|s| s.kind == Kind::Env) {
        let c = load(&[format!("env={}", s.name)]).unwrap();
        check(&c).unwrap();
        assert_eq!(c.spec, None, "a shipped one is known by its name");
    }
    // The defaults are the file's, not a second list.
    let c = load(&["alg=pwm_5M"]).unwrap();
    for key in ["termination_height", "joint_vel_obs_scaling", "subgradient", "mm_caching_frequency"] {
        let own = shipped().lines().find_map(|l| l.strip_prefix(&format!("{key}: "))).unwrap();
        let own = own.split('#').next().unwrap().trim();
        assert_eq!(Config::default().get(key).unwrap().to_string(), own, "{key}");
        assert_eq!(c.get(key).unwrap().to_string(), own, "{key}");
    }
}

#[test]
fn an_environment_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slow_ant.yaml");
    let text = shipped().replace("gain: 200", "gain: 50").replace("up_rew_scale: 0.1", "up_rew_scale: 0.3");
    std::fs::write(&file, text).unwrap();
    let env = format!("env={}", file.display());
    let c = load(&[&env[..], "action_penalty=-0.5"]).unwrap();
    let task = Task::from_config(&c).unwrap();
    assert_eq!((task.spec.name.as_str(), task.spec.drives[0].gain), ("slow_ant", 50.0));
    assert_eq!(
        task.spec.terms[1],
        Term::Linear { of: 27, weight: 0.3, offset: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY }
    );
    assert_eq!(task.spec.terms[4], Term::ActionCost { weight: -0.5 });

    // A run keeps it: the file may go.
    std::fs::remove_file(&file).unwrap();
    let again = Config::from_yaml::<&str>("config.yaml", &c.to_yaml(), &[]).unwrap();
    assert_eq!(again, c);
    assert_eq!(format!("{:?}", Task::from_config(&again).unwrap()), format!("{task:?}"));
    // Tasks that differ print apart: operations are told apart by that.
    assert_ne!(format!("{:?}", Task::from_config(&Config::default()).unwrap()), format!("{task:?}"));

    // Settings alone, as files were before they held specifications, and as run folders were.
    std::fs::write(&file, "termination_height: 0.5\n").unwrap();
    let plain = load(&[&env]).unwrap();
    assert_eq!((plain.spec.clone(), plain.termination_height), (None, 0.5));
    assert_eq!(Task::from_config(&plain).unwrap().spec.termination.unwrap().below, 0.5);
    let old: String = c.to_yaml().lines().filter(|l| !l.starts_with("spec: ")).map(|l| format!("{l}\n")).collect();
    let old = Config::from_yaml::<&str>("config.yaml", &old, &[]).unwrap();
    assert_eq!(Task::from_config(&old).unwrap().spec.drives[0].gain, 200.0);
}
