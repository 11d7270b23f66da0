//! Robots from files: they train, their runs go on without the files, and they are shown.

use crate::support::mjcf::{BEAST, BEAST_TASK, LEG, LEG_TASK, write};
use crate::support::tiny;
use pwm::app::robot::{self, RobotCommand};
use pwm::app::{baseline, status, train};
use pwm::config::{Shipped, ShippedKind, load};
use pwm::env::Task;
use pwm::run::folder;
use pwm::run::signals::StopFlag;
use std::path::Path;

fn run(overrides: Vec<String>, resume: Option<&Path>) -> String {
    let args = train::TrainArgs { overrides, resume: resume.map(Into::into), ..Default::default() };
    let mut out = Vec::new();
    train::run(&args, &mut out, &StopFlag::detached()).unwrap_or_else(|e| panic!("{e:#}"));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_run_on_a_robots_file_goes_on_to_the_same_bits_without_it() {
    for (name, xml, task) in [("leg", LEG, LEG_TASK), ("beast", BEAST, BEAST_TASK)] {
        let dir = tempfile::tempdir().unwrap();
        let env = write(dir.path(), name, xml, task);
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let settings = |run: &Path, epochs: &str| {
            let run = format!("run_dir={}", run.display());
            tiny::settings(&[&env, &run, epochs, "lr_schedule=constant", "max_minutes=0"])
        };
        run(settings(&a, "max_epochs=6"), None);
        run(settings(&b, "max_epochs=3"), None);
        // One file is gone, the other says something else.
        std::fs::remove_file(dir.path().join(format!("{name}.yaml"))).unwrap();
        std::fs::write(dir.path().join(format!("{name}.xml")), "<mujoco/>").unwrap();
        run(vec!["max_epochs=6".into()], Some(&b));
        let bytes = |run: &Path| std::fs::read(folder::latest(run)).unwrap();
        assert!(bytes(&a) == bytes(&b), "{name}: latest checkpoints differ");
        assert!(std::fs::read_to_string(b.join("config.yaml")).unwrap().contains("<mujoco model="), "{name}");
    }
}

fn show(robot: &str, out: &Path) -> anyhow::Result<String> {
    let mut said = Vec::new();
    robot::run(&RobotCommand::Show { robot: robot.into(), out: out.into() }, &mut said)?;
    Ok(String::from_utf8(said)?)
}

#[test]
fn robots_are_shown_with_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "beast", BEAST, BEAST_TASK);
    let out = dir.path().join("pictures");
    let said = show(&dir.path().join("beast.xml").display().to_string(), &out).unwrap();
    let row = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{text}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(said.starts_with("beast: 6 bodies, "), "{said}");
    assert!(said.contains("15 coordinates, 13 degrees of freedom, 21 points that touch the ground"), "{said}");
    let lift =
        ["leg", "swing", "hinge", "0", "1", "0", "-1.0472", "to", "1.0472", "0.5", "3", "about", "0.174533", "0.02"];
    assert_eq!(row(&said, "leg ")[..14], lift.map(str::to_owned), "{said}");
    assert_eq!(row(&said, "leg ").last().unwrap(), "15");
    for (ending, mark) in [("svg", "<svg"), ("html", "\"notes\":\"body")] {
        let text = std::fs::read_to_string(out.join(format!("beast.{ending}"))).unwrap();
        assert!(text.contains(mark) && text.contains("centre of mass") && text.contains("swing"), "{ending}");
    }
    // The task of the same robot has its constants, a shipped one its own.
    let said = show(&dir.path().join("beast.yaml").display().to_string(), &out).unwrap();
    assert!(row(&said, "swing ").contains(&"200,".into()), "{said}");
    let mut listed = Vec::new();
    robot::run(&RobotCommand::List, &mut listed).unwrap();
    let listed = String::from_utf8(listed).unwrap();
    for (name, build) in pwm::sim::robots::ROBOTS {
        let said = show(name, &out).unwrap();
        let moves = build().bodies.into_iter().find(|b| b.joint.kind != pwm::sim::JointKind::Fixed).unwrap();
        assert!(said.starts_with(&format!("{name}: ")) && said.contains(&moves.name), "{said}");
        // Of some body the last column has the force of a motor.
        let driven = |l: &str| l.split_whitespace().last().is_some_and(|m| m.parse::<f64>().is_ok_and(|m| m > 1.0));
        assert!(said.lines().skip(2).take_while(|l| !l.is_empty()).any(driven), "{said}");
        assert!(out.join(format!("{name}.svg")).is_file() && listed.contains(name));
    }
    // What cannot be shown, and the status that it ends with.
    let wrong = dir.path().join("wrong.xml");
    std::fs::write(&wrong, "<mujoco>\n<worldbdy/></mujoco>").unwrap();
    for (robot, expected, code) in [
        (wrong.display().to_string(), "wrong.xml:2:1: there is no element `worldbdy`", 2),
        (dir.path().join("none.xml").display().to_string(), "none.xml", 3),
        ("beats".into(), "there is no robot `beats`", 2),
    ] {
        let e = show(&robot, &out).unwrap_err();
        assert!(format!("{e:#}").contains(expected) && status(&e) == code, "{robot}: {e:#}");
    }
}

/// What looks at a run knows every shipped robot, and measures it by what is published of it and of no other.
#[test]
fn every_command_knows_every_robot() {
    let dir = tempfile::tempdir().unwrap();
    let command = |program: &str, args: &[&str]| {
        let o = std::process::Command::new(program).args(args).current_dir(dir.path()).output().unwrap();
        assert!(o.status.success(), "{args:?}: {}", String::from_utf8_lossy(&o.stderr));
        String::from_utf8(o.stdout).unwrap()
    };
    let pwm = |args: &[&str]| command(env!("CARGO_BIN_EXE_pwm"), args);
    for (robot, _) in pwm::sim::robots::ROBOTS {
        let (env, run) = (format!("env={robot}"), format!("run_dir={robot}"));
        let settings = tiny::settings(&["alg=pwm_small", &env, &run, "max_epochs=6", "threads=1"]);
        command(env!("CARGO_BIN_EXE_pwm-train"), &settings.iter().map(|s| &s[..]).collect::<Vec<_>>());
        let policy = format!("{robot}/checkpoints/best.safetensors");
        assert!(pwm(&["eval", &policy, "--episodes", "3"]).contains("(3 episodes)"), "{robot}");
        assert!(pwm(&["fidelity", &policy, "--rollouts", "2", "--warm-up", "3"]).contains("cosine"), "{robot}");
        pwm(&["render", &policy]);
        assert!(pwm(&["gradcheck", &env, "--states", "3"]).contains("worst"), "{robot}");
        assert!(pwm(&["plan", "--all", &env]).contains("pwm_48M"), "{robot}");
        pwm(&["report", robot, "--out", "page"]);
        let page = std::fs::read_to_string(dir.path().join("page/report.html")).unwrap();
        let published = |of: &str| {
            let c = pwm::config::load(&[format!("env={of}")]).unwrap();
            let known = pwm::env::Task::from_config(&c).unwrap().spec.returns;
            known.into_iter().filter(|r| r.policy.contains(", published")).collect::<Vec<_>>()
        };
        let missed: Vec<_> =
            published(robot).into_iter().filter(|r| r.draw && !page.contains(&r.policy)).map(|r| r.policy).collect();
        assert!(missed.is_empty(), "{robot}: {missed:?}");
        assert!(!published(robot).is_empty() || !page.contains(", published"), "{robot}: nothing is published of it");
    }
}

/// What the files of shipped tasks say of untrained policies is what these earn, but for chance.
#[test]
fn tasks_pay_what_their_files_say() {
    let mut seen = 0;
    for name in Shipped::names(ShippedKind::Env) {
        let c = load(&[format!("env={name}")]).unwrap();
        let task = Task::from_config(&c).unwrap();
        for (policy, scale) in [("random actions", 1.0), ("doing nothing", 0.0)] {
            let Some(known) = task.spec.returns.iter().find(|r| r.policy == policy) else { continue };
            let e = baseline::play(&task, 24, c.seed, scale);
            let error = e.std() / 24f64.sqrt() + 1.0;
            let (low, high) = (known.low - 5.0 * error, known.high + 5.0 * error);
            assert!((low..high).contains(&e.mean()), "{name}, {policy}: {} is not {known:?}", e.mean());
            seen += 1;
        }
    }
    assert!(seen >= 72, "{seen}");
}
