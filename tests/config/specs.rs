//! Specifications of environments: what is wrong with one is said with its place; one's own file runs; what a run keeps
//! of it.

use crate::support::mjcf::{BEAST, BEAST_TASK, LEG, LEG_TASK, write};
use crate::support::specs::{FIXED, FREE, robot};
use pwm::config::spec::Spec;
use pwm::config::{Config, SHIPPED, Shipped, ShippedKind, load};
use pwm::env::term::Term;
use pwm::env::{Task, check};

fn shipped() -> &'static str {
    Shipped::find(ShippedKind::Env, "ant").unwrap().text
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

/// On robots that have joints of every kind: what cannot be named, and what does not go together.
#[test]
fn what_a_joint_does_not_have_is_refused_with_its_line() {
    let fixed = "the joint of `hand` is fixed\n  name a body whose joint moves";
    let simple = "none of these joints is a hinge or a slide\n  name a body on one";
    let alone = "`of` names one body: leave `from` and `to` out, or `of`";
    for (spec, from, to, expected) in [
        // Names of fixed joints where a coordinate is needed.
        (FIXED, "- coordinates: {from: hip}", "- coordinates: {of: hand}", fixed),
        (FIXED, "- velocities: {scale: joint_vel_obs_scaling}", "- velocities: {of: hand}", fixed),
        (FIXED, "- velocities: {from: shoulder, width: 0.5}", "- velocities: {of: hand, width: 0.5}", fixed),
        (FIXED, "action: {from: elbow, to: foot,", "action: {of: hand,", fixed),
        (FIXED, "- coordinates: 0.2", "- coordinates: {of: hand, width: 0.2}", simple),
        (FIXED, "- coordinates: 0.2", "- coordinates: {of: shoulder, width: 0.2}", simple),
        (
            FIXED,
            "{of: velocities.foot,",
            "{of: velocities.hand,",
            "`velocities.hand` is no single entry: the joint of `hand` is fixed and has no coordinate\n  say which, as in \
             `velocities.x`, `velocities.0` or `velocities.BODY`",
        ),
        (
            FIXED,
            "termination: {of: coordinates.cart,",
            "termination: {of: coordinates.shoulder,",
            "the joint of `shoulder` has several coordinates\n  say which",
        ),
        (FIXED, "- sine: {of: elbow}", "- sine: {of: hand}", "only a hinge has an angle"),
        (
            FIXED,
            "- rotation: {of: shoulder,",
            "- rotation: {of: elbow,",
            "only a ball joint, or the root, turns freely",
        ),
        // One body and a range of them.
        (FIXED, "{from: shoulder, width: 0.5}", "{of: shoulder, from: hip, width: 0.5}", alone),
        (FIXED, "{from: cart, to: shoulder}", "{of: cart, to: shoulder}", alone),
        (
            FIXED,
            "{from: cart, to: shoulder}",
            "{from: shoulder, to: cart}",
            "`to` comes before `from`\n  exchange them",
        ),
        // The root is one.
        (
            FREE,
            "position: 0.1,",
            "position: {of: cart, width: 0.1},",
            "a position is the root's\n  write one number: `- position: 0.1`",
        ),
        (FIXED, "- coordinates: 0.2", "- position: 0.2", "the robot has no free root to move"),
        // Ranges.
        (FIXED, "low: -1, high: 0.3,", "low: 1, high: 0.3,", "`low` (1) is above `high` (0.3)\n  exchange them"),
        (FIXED, "low: -0.2, high: 0.2", "low: 0.3, high: -0.2", "`low` (0.3) is above `high` (-0.2)\n  exchange them"),
        (FIXED, "scale: 0.5}", "scale: 0}", "the angle at which it is zero is not zero itself"),
    ] {
        assert_eq!(spec.matches(from).count(), 1, "{from}");
        let read = |text: &str| {
            let spec = Spec::in_file("my.yaml", text).unwrap();
            Task::read(&spec, &Config::default(), robot).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(read(spec), Ok(()));
        let text = read(&spec.replace(from, to)).unwrap_err();
        let at = format!("my.yaml:{}:", spec[..spec.find(from).unwrap()].lines().count());
        assert!(text.contains(expected) && text.starts_with(&at), "{from} -> {to}, at {at}:\n{text}");
    }
    // An equal pair is a range of one number.
    let one = FIXED.replace("low: -0.2, high: 0.2", "low: 0.2, high: 0.2");
    Task::read(&Spec::in_file("my.yaml", &one).unwrap(), &Config::default(), robot).unwrap();
}

#[test]
fn every_shipped_environment_is_right_and_sets_every_default() {
    for s in SHIPPED.iter().filter(|s| s.kind == ShippedKind::Env && !s.is_set()) {
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
    assert_eq!((task.spec.name.as_str(), task.dflex().spec.drives[0].gain), ("slow_ant", 50.0));
    assert_eq!(
        task.dflex().spec.terms[1],
        Term::Linear { of: 27, weight: 0.3, offset: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY }
    );
    assert_eq!(task.dflex().spec.terms[4], Term::ActionCost { weight: -0.5 });

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
    assert_eq!(Task::from_config(&plain).unwrap().dflex().spec.termination.unwrap().below, 0.5);
    let old: String = c.to_yaml().lines().filter(|l| !l.starts_with("spec: ")).map(|l| format!("{l}\n")).collect();
    let old = Config::from_yaml::<&str>("config.yaml", &old, &[]).unwrap();
    assert_eq!(Task::from_config(&old).unwrap().dflex().spec.drives[0].gain, 200.0);
}

/// A file of one's own in a folder that lives as long as the first of these.
fn own(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.yaml");
    std::fs::write(&file, text).unwrap();
    let env = format!("env={}", file.display());
    (dir, env)
}

/// What is said of the task in such a file.
fn said_of(text: &str) -> String {
    let (_dir, env) = own(text);
    let c = load(&[env]).unwrap();
    check(&c).unwrap_err().to_string()
}

#[test]
fn an_environment_starts_from_a_shipped_one() {
    let text = "env: hopper\nepisode_length: 50\nspec:\n  reward:\n    - linear: {of: velocities.rootx}\n";
    let (_dir, env) = own(text);
    let c = load(&[&env[..], "action_penalty=-0.5"]).unwrap();
    let (task, hopper) = (Task::from_config(&c).unwrap(), Task::from_config(&load(&["env=hopper"]).unwrap()).unwrap());
    assert_eq!((task.spec.name.as_str(), task.spec.title.as_str()), ("my", "my"), "a title is nobody else's");
    assert_eq!((task.sizes, &task.dflex().spec.reset), (hopper.sizes, &hopper.dflex().spec.reset));
    // Its own reward, and so nothing of what the other's returns are worth.
    assert_eq!((task.dflex().spec.terms.len(), task.spec.returns.len(), task.spec.episode_length), (1, 0, 50));
    assert_eq!((c.termination_height, c.action_penalty), (-0.45, -0.5), "settings come from it too");
    let again = Config::from_yaml::<&str>("config.yaml", &c.to_yaml(), &[]).unwrap();
    assert_eq!(format!("{:?}", Task::from_config(&again).unwrap()), format!("{task:?}"));

    // Another reward alone keeps what the returns are worth to the other.
    let (_dir, env) = own("env: hopper\naction_penalty: 0\n");
    let c = load(&[env]).unwrap();
    assert_eq!(Task::from_config(&c).unwrap().spec.returns.len(), hopper.spec.returns.len());

    // Errors are at the file's own lines; what was inherited and no longer fits, where the other is named.
    let text = said_of("# My task.\nenv: hopper\nspec:\n  reward:\n    - linear: {of: velocities.rooty}\n");
    assert!(text.contains("my.yaml:5:") && text.contains("velocities.rooty"), "{text}");
    let text = said_of("# My task.\nenv: hopper\nspec:\n  observation: [velocities]\n  reward: []\n");
    assert!(text.contains("my.yaml:2:") && text.contains("coordinates"), "{text}");
    let (_dir, env) = own("env: hoper\n");
    let text = load(&[env]).unwrap_err().to_string();
    assert!(text.contains("my.yaml:1:") && text.contains("hopper"), "{text}");
}

#[test]
fn an_environment_has_settings_for_single_algorithms() {
    let (_dir, env) = own("env: hopper\nwith_alg:\n  shac_small: {max_epochs: 7}\n  shac: {num_critics: 2}\n");
    let of = |more: &[&str]| load(&[&[&env[..]], more].concat()).unwrap();
    assert_eq!(of(&["alg=shac_small"]).max_epochs, 7);
    assert_eq!(of(&["alg=shac_small", "max_epochs=9"]).max_epochs, 9, "the command line counts most");
    assert_eq!(of(&[]).max_epochs, load(&["alg=pwm_small"]).unwrap().max_epochs);
    // A file of one's own for the algorithm is on top of what holds for the one that it starts from.
    let dir = tempfile::tempdir().unwrap();
    let alg = dir.path().join("a.yaml");
    for (text, epochs, critics) in [("alg: shac_small\n", 7, 2), ("alg: shac\nmax_epochs: 5\n", 5, 2)] {
        std::fs::write(&alg, text).unwrap();
        let c = of(&[&format!("alg={}", alg.display())]);
        assert_eq!((c.max_epochs, c.num_critics), (epochs, critics), "{text}");
    }
    for (text, expected) in [
        ("with_alg: 3\n", "has a line `ALGORITHM: {key: value, ...}`"),
        ("with_alg:\n  shac_smal: {max_epochs: 7}\n", "shac_small"),
        ("with_alg:\n  pwm_small: {max_epoch: 7}\n", "max_epochs"),
    ] {
        let (_dir, env) = own(text);
        let text = load(&[env]).unwrap_err().to_string();
        assert!(text.contains("my.yaml:") && text.contains(expected), "{text}");
    }
}

#[test]
fn files_of_the_published_code_name_their_robot() {
    let (_dir, env) = own("config:\n  _target_: dflex.envs.HopperEnv\n  episode_length: 300\n");
    let c = load(&[env]).unwrap();
    let task = Task::from_config(&c).unwrap();
    assert_eq!((task.spec.robot.name.as_str(), task.spec.episode_length), ("hopper", 300));
}

#[test]
fn tolerances_and_their_products_are_read_and_refused() {
    let action_cost = "- action_cost: {weight: action_penalty}";
    for (to, expected) in [
        ("- product: [{linear: {of: up}}]", "only tolerances can be factors"),
        ("- product: []", "at least one factor"),
        ("- product: [{product: {of: up}}]", "a summand of its own"),
        ("- tolerance: {of: up, margin: -1}", "`margin` is a distance"),
        ("- tolerance: {of: up, margin: 1, at_margin: 1}", "`at_margin` is from 0 to below 1"),
        ("- tolerance: {of: up, margin: 1, at_margin: 0}", "what falls like this never ends"),
        ("- tolerance: {of: up, fall: steep}", "there is no fall `steep`"),
        ("- tolerance: {of: up, fall: gaussian, margin: 1, at_margin: 0}", "what falls like this never ends"),
        ("- tolerance: {of: up, low: 2, high: 1}", "is above"),
    ] {
        let text = said(action_cost, to);
        assert!(
            text.contains(expected) && text.starts_with(&format!("my.yaml:{}:", line(action_cost))),
            "{to}: {text}"
        );
    }
}

/// A run keeps the robot's file as well: both may go.
#[test]
fn a_robot_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let c = load(&[&write(dir.path(), "leg", LEG, LEG_TASK)[..], "inertia=exact"]).unwrap();
    let task = Task::from_config(&c).unwrap();
    assert_eq!((task.spec.name.as_str(), task.spec.robot.name.as_str()), ("leg", "one leg"));
    assert_eq!(task.dflex().spec.drives.iter().map(|d| d.gain).collect::<Vec<_>>(), [200.0; 3]);
    dir.close().unwrap();
    let again = Config::from_yaml::<&str>("config.yaml", &c.to_yaml(), &[]).unwrap();
    assert_eq!(again, c);
    assert_eq!(format!("{:?}", Task::from_config(&again).unwrap()), format!("{task:?}"));

    // A robot's inertias are those of its file, whatever the published ones are.
    let dir = tempfile::tempdir().unwrap();
    let env = write(dir.path(), "beast", BEAST, BEAST_TASK);
    let mass = |c: &Config| format!("{:?}", Task::from_config(c).unwrap().dflex().model().links);
    let (c, notes) = pwm::config::load_with_notes(&[&env[..], "inertia=reference"]).unwrap();
    assert_eq!(mass(&c), mass(&load(&[&env[..], "inertia=exact"]).unwrap()));
    assert!(
        notes.iter().any(|n| n.to_string().contains("a robot from a file of its own does not read it")),
        "{notes:?}"
    );
    // Its start is that of the file, and so are its limits without damping.
    let task = Task::from_config(&c).unwrap();
    assert_eq!((task.dflex().spec.reset.start[1], task.dflex().spec.reset.start[13]), (0.6, 0.02));
    let joint = |name: &str| task.spec.robot.bodies.iter().find(|b| b.name == name).unwrap().joint;
    assert_eq!((joint("swing").limit_stiffness, joint("swing").limit_damping), (200.0, 0.0));
    assert_eq!(joint("arm").limit_stiffness, 0.0, "a ball has no limits");
    let material = task.spec.robot.bodies[0].shapes[1].material;
    assert_eq!((material.stiffness, material.damping, material.viscosity, material.friction), (5e3, 1e3, 200.0, 0.9));
}

#[test]
fn what_is_wrong_with_a_robots_file_or_its_constants_is_said_with_its_line() {
    let said = |xml: &str, task: &str| {
        let dir = tempfile::tempdir().unwrap();
        let c = load(&[write(dir.path(), "leg", xml, task)]).map_err(|e| e.to_string());
        let text = c.and_then(|c| check(&c).map_err(|e| e.to_string())).unwrap_err();
        text.replace(&format!("{}/", dir.path().display()), "")
    };
    let task = |from: &str, to: &str| {
        assert_eq!(LEG_TASK.matches(from).count(), 1, "{from}");
        said(LEG, &LEG_TASK.replace(from, to))
    };
    for (text, expected) in [
        (task("robot: leg.xml", "robot: lag.xml"), "leg.yaml:3:10: cannot read lag.xml"),
        (task("stiffness: 2e4, ", ""), "leg.yaml:4:12: the robot's file cannot say `stiffness` of its contact"),
        (task("2e4", "-1"), "leg.yaml:4:24: `stiffness` is not negative"),
        (
            task("  contact: {stiffness: 2e4, damping: 2e3, viscosity: 1e3}\n", ""),
            "leg.yaml:3:10: the robot's file cannot say",
        ),
        (task("viscosity", "viscousity"), "did you mean `viscosity`?"),
        (
            task("stiffness: 1e3, damping: 10", "damping: 10"),
            "leg.yaml:5:11: the robot's file cannot say `stiffness` of its limits",
        ),
        (task("action: motors", "action: motor"), "leg.yaml:6:11: this is a mapping"),
        (
            said(&LEG.replace("<motor joint=\"knee\"/>", ""), LEG_TASK),
            "leg.yaml:6:11: joints that are driven follow each other, but the one of `leg`",
        ),
        (said(&LEG.replace("range=\"-2.61799 0\"", "rnge=\"1\""), LEG_TASK), "leg.xml:19:"),
        (
            said(&LEG.replace("<worldbody>", "<option timestep=\"0.01\"/><worldbody>"), LEG_TASK),
            "`timestep` in line 11 of leg.xml is 0.01 s",
        ),
        (
            said(&LEG.replace("contype=\"1\"", "contype=\"0\""), LEG_TASK),
            "leg.yaml:4:12: nothing of this robot touches a ground",
        ),
        (said_of("env: hopper\nspec:\n  contact: {}\n"), "my.yaml:3:12: `contact` sets nothing"),
        (said_of("env: hopper\nspec:\n  limits: {}\n"), "my.yaml:3:11: `limits` sets nothing"),
        (said_of("env: anymal\nspec:\n  limits: {damping: 1}\n"), "my.yaml:3:11: no joint of this robot has limits"),
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    // A time step that is the substep is no contradiction, and a shipped robot takes other constants.
    let dir = tempfile::tempdir().unwrap();
    let step = format!("<option timestep=\"{}\"/><worldbody>", 1.0 / 960.0);
    let c = load(&[write(dir.path(), "leg", &LEG.replace("<worldbody>", &step), LEG_TASK)]).unwrap();
    check(&c).unwrap();
    let (_dir, env) = own("env: hopper\nspec:\n  contact: {friction: 0.2}\n  limits: {damping: 3}\n");
    let robot = Task::from_config(&load(&[env]).unwrap()).unwrap().spec.robot;
    let material = robot.bodies[2].shapes[0].material;
    assert_eq!((material.friction, material.stiffness, robot.bodies[3].joint.limit_damping), (0.2, 2e4, 3.0));
    let (_dir, env) = own("env: hopper\nspec:\n  action: motors\n");
    assert!(
        check(&load(&[env]).unwrap()).unwrap_err().to_string().contains("`motors` are those of a robot's own file")
    );
}

/// Tasks under MuJoCo's law: what is wrong, and with what they do not go together.
#[test]
fn tasks_under_mujocos_law_are_read_and_refused() {
    let base = "env: finger-turn-easy\nspec:\n";
    for (own, line, expected) in [
        ("  reward: distence\n", 3, "did you mean `distance`?"),
        ("  reward: site(tip)\n", 3, "this is one number, not 3"),
        ("  reward: uniform(0, 1)\n", 3, "numbers are drawn where an episode starts"),
        ("  reward: velocity(hing)\n", 3, "did you mean `hinge`?"),
        ("  reward: rotation(spinner, xq)\n", 3, "no entry `xq`"),
        ("  reward: touch(tip) + touch(touch)\n", 3, "there is no site `touch`"),
        ("  observation: []\n", 3, "0 entries"),
        ("  let: {action: 1}\n", 3, "cannot be named"),
        ("  let: {action: 1}\n  reward: 1\n", 3, "cannot be named"),
        ("  physics: newton\n", 3, "known: dflex or mujoco"),
        ("  robot: fingr\n", 3, "did you mean `finger`?"),
        ("  substeps: 0\n", 3, "a whole number from 1 to 1024"),
        ("  damping: {hinge: -1}\n", 3, "not negative"),
        ("  damping: {hing: 1}\n", 3, "no joint `hing`"),
        ("  start: {within_ranges: [hinge]}\n", 3, "has no range"),
        ("  start: {turned: [hinge]}\n", 3, "not free to turn"),
        ("  start: {coordinates: {hinge: coordinate(hinge)}}\n", 3, "does not know the state"),
        ("  start: {coordinates: {hinge: site(tip)}}\n", 3, "does not know the state"),
        ("  start: {goal: [1, 2, 3], accepted: coordinate(hinge)}\n", 3, "no start of ten thousand"),
        ("  start: {goal: [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n", 3, "room is for 8 numbers"),
        ("  start: {within_ranges: [distal], coordinates: {distal: 0}}\n", 3, "`distal` is set twice"),
        ("  let: {pi: 3}\n", 3, "cannot be named"),
        ("  reward: length(velocity(hinge)) + goal.x + x0\n", 3, "there is no `x0`"),
        ("  start: {sleep: 3}\n", 3, "there is no entry `sleep`"),
        ("  noise: 3\n", 3, "there is no entry `noise`"),
    ] {
        let text = said_of(&format!("{base}{own}"));
        assert!(text.contains(&format!("my.yaml:{line}:")) && text.contains(expected), "{own}{text}");
    }
    let refused = |settings: &[&str]| check(&load(settings).unwrap()).unwrap_err().to_string();
    let text = refused(&["env=walker-run", "alg=shac_small"]);
    assert!(text.contains("no gradient here") && text.contains("alg=pwm_small"), "{text}");
    let text = refused(&["env=walker-run", "device=cuda:0"]);
    assert!(text.contains("device=cpu"), "{text}");
    // What such a task does not read is said, and what other tasks do not.
    let note = |settings: &[&str]| pwm::config::load_with_notes(settings).unwrap().1[0].to_string();
    assert!(note(&["env=walker-run", "inertia=exact"]).contains("an environment under MuJoCo's law does not read it"));
    assert!(note(&["env=ant", "mujoco_version=3.1.2"]).contains("an environment under dFlex's law does not read it"));
    assert!(pwm::config::load_with_notes(&["env=cup-catch", "mujoco_version=3.1.2"]).unwrap().1.is_empty());
    let text = load(&["env=walker-rum"]).unwrap_err().to_string();
    assert!(text.contains("did you mean `walker-run`?"), "{text}");
    let text = load(&["env=mt30"]).unwrap_err().to_string();
    assert!(text.contains("among the 30 tasks") && text.contains("set num_envs to 60"), "{text}");
    // A list of one is that one.
    assert_eq!(load(&["env=[reacher-e*]"]).unwrap(), load(&["env=reacher-easy"]).unwrap());
    let unknown = Config { env: "walker-rum".into(), ..Config::default() };
    assert!(check(&unknown).unwrap_err().to_string().contains("no environment"), "no other is taken in its place");
    let c = load(&["env=mt30", "num_envs=60"]).unwrap();
    assert!(check(&c).is_ok() && c.env_names().len() == 30 && c.episode_length == 500);
}

/// A task of one's own on a robot's file under MuJoCo's law; a run keeps both.
#[test]
fn a_robot_of_ones_own_under_mujocos_law() {
    let dir = tempfile::tempdir().unwrap();
    let xml = "<mujoco><worldbody><geom type=\"plane\" size=\"1 1 1\"/><body name=\"b\" pos=\"0 0 1\"><freejoint name=\"r\"/>\
               <geom size=\"0.1\"/><site name=\"s\" size=\"0.11\"/></body></worldbody></mujoco>";
    std::fs::write(dir.path().join("ball.xml"), xml).unwrap();
    let task = "episode_length: 40\nspec:\n  physics: mujoco\n  robot: ball.xml\n  substeps: 10\n  observation:\n    - \
                coordinate(r)\n    - velocity(r)\n    - touch(s)\n  reward: body(b).z\n";
    let file = dir.path().join("drop.yaml");
    std::fs::write(&file, task).unwrap();
    let c = load(&[format!("env={}", file.display())]).unwrap();
    let said = check(&c).unwrap_err().to_string();
    // Nothing drives it: a policy has nothing to do.
    assert!(said.contains("nothing to drive"), "{said}");
    let xml = xml
        .replace(
            "</mujoco>",
            "<tendon><spatial name=\"t\"><site site=\"s\"/><site site=\"w\"/></spatial></tendon><actuator>\
               <motor tendon=\"t\"/></actuator></mujoco>",
        )
        .replace("</worldbody>", "<site name=\"w\" pos=\"0 0 3\"/></worldbody>");
    std::fs::write(dir.path().join("ball.xml"), xml).unwrap();
    let c = load(&[format!("env={}", file.display())]).unwrap();
    let task = Task::from_config(&c).unwrap();
    assert_eq!((task.sizes.obs, task.sizes.act, task.spec.dt), (3 + 6 + 1, 1, 0.02));
    dir.close().unwrap();
    let again = Config::from_yaml::<&str>("config.yaml", &c.to_yaml(), &[]).unwrap();
    assert_eq!(format!("{:?}", Task::from_config(&again).unwrap()), format!("{task:?}"));
}
