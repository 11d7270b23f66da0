//! Many tasks as commands: one model that plays all of them; one learned from recorded episodes, and policies learned in
//! it; all of it stopped and gone on with to the same bits, and refused before anything is computed.

use crate::support::tiny;
use std::path::Path;
use std::process::{Command, Output};

use pwm::io::checkpoint::Checkpoint;
use pwm::io::metrics::read_metrics;
use pwm::run::folder::RunFolder;

fn said(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

/// A command that ends well; all that it said.
fn ends(program: &str, args: &[&str]) -> String {
    let o = Command::new(program).args(args).output().unwrap();
    assert!(o.status.success(), "{args:?}: {}", said(&o));
    said(&o)
}

fn pwm(args: &[&str]) -> String {
    ends(env!("CARGO_BIN_EXE_pwm"), args)
}

/// What a run of several tasks says itself.
const OWN: [&str; 2] = ["num_envs=", "episode_length="];

/// Settings of a small run without those.
fn small() -> Vec<&'static str> {
    tiny::SETTINGS.iter().copied().filter(|s| !OWN.iter().any(|key| s.starts_with(key))).collect()
}

fn train(dir: &Path, more: &[&str]) -> String {
    let run_dir = format!("run_dir={}", dir.display());
    let all = [&small()[..], more, &[&run_dir]].concat();
    ends(env!("CARGO_BIN_EXE_pwm-train"), &all)
}

/// How a command that is refused ends, and what it says.
fn refused(dir: &Path, more: &[&str]) -> (i32, String) {
    let run_dir = format!("run_dir={}", dir.display());
    let all = [&small()[..], more, &[&run_dir]].concat();
    let o = Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(&all).output().unwrap();
    assert!(!o.status.success() && !RunFolder::holds_run(dir), "{}", said(&o));
    (o.status.code().unwrap(), said(&o))
}

fn bytes(dir: &Path) -> Vec<u8> {
    std::fs::read(RunFolder::open(dir).unwrap().latest()).unwrap()
}

#[test]
fn one_model_plays_several_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tasks = ["env=[cartpole-balance,reacher-easy,dflex-hopper-stand]", "num_envs=6", "task_dim=5"];
    let more = [&tasks[..], &["replay_unfinished=true", "max_epochs=6", "eval_every=3"]].concat();
    let text = train(&at("a"), &more);
    assert!(text.contains("cartpole-balance"), "{text}");
    let rows = read_metrics(&at("a").join("metrics.jsonl")).unwrap();
    let last = rows.last().unwrap();
    for task in ["cartpole-balance", "reacher-easy", "dflex-hopper-stand"] {
        assert!(last.values.contains_key(format!("eval/{task}/return_mean").as_str()), "{:?}", last.values.keys());
    }
    assert!(last.values["loss/dynamics"].is_finite());
    // What is padded stays nothing: the cartpole has one action of the six entries that the widest task has.
    let stored = Checkpoint::load(&RunFolder::open(&at("a")).unwrap().latest()).unwrap();
    let mask = stored.values::<f32>("action_mask").unwrap();
    let of_task = |i: usize| mask[i * mask.len() / 3..(i + 1) * mask.len() / 3].iter().sum::<f32>();
    assert_eq!([of_task(0), of_task(1), of_task(2)], [1.0, 2.0, 3.0]);
    // In two sittings, on two threads.
    train(&at("b"), &[&more[..], &["max_epochs=6", "max_minutes=0", "threads=2"]].concat());
    assert_eq!(bytes(&at("a")), bytes(&at("b")), "threads change nothing");
    let text = pwm(&["eval", at("a").to_str().unwrap()]);
    assert!(text.contains("reacher-easy"), "{text}");

    for (more, what) in [
        (["env=[cartpole-balance,reacher-easi]", "num_envs=4"], "did you mean reacher-easy"),
        (["env=[cartpole-balance,reacher-easy]", "num_envs=5"], "set num_envs to 6"),
        (["env=[cartpole-balance,reacher-easy]", "alg=shac_small"], "learns one task"),
        (["env=[cartpole-balance,reacher-easy]", "action_penalty=-1"], "each of several tasks has its own"),
    ] {
        let (code, text) = refused(&at("c"), &more);
        assert!(code == 2 && text.contains(what), "{more:?}: {text}");
    }
}

#[test]
fn models_of_recorded_episodes_and_policies_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let at = |name: &str| dir.path().join(name);
    let (data, idx) = (text("data"), text("all.idx"));
    let o = pwm(&["collect", "--out", &data, "--episodes", "3", "env=cartpole-balance,reacher-easy"]);
    assert!(o.contains("reacher-easy: 3 episodes"), "{o}");
    pwm(&["collect", "--out", &data, "--episodes", "2", "--policy", "smooth", "env=dflex-hopper-stand"]);
    let o = pwm(&["data", "index", &data, "--out", &idx]);
    assert!(o.contains("dflex-hopper-stand") && o.contains("3 tasks, 8 episodes"), "{o}");

    let source = format!("data={idx}");
    let pretrain = ["mode=pretrain", &source, "held_out=0.4", "task_dim=5", "wm_iterations=3", "eval_every=2"];
    for (name, kind) in [("mlp", &[][..]), ("flow", &["dynamics=flow", "latent=encoded", "flow_substeps=2"])] {
        let whole = [&pretrain[..], kind, &["max_epochs=6"]].concat();
        let told = train(&at(name), &whole);
        assert!(told.contains("on held out windows"), "{told}");
        // Stopped after four epochs and gone on with.
        let cut = [&pretrain[..], kind, &["max_epochs=6", "max_minutes=0"]].concat();
        let part = at(&format!("{name}_part"));
        train(&part, &[&cut[..], &["save_every=1", "threads=2"]].concat());
        assert_eq!(bytes(&at(name)), bytes(&part));
        let rows = read_metrics(&at(name).join("metrics.jsonl")).unwrap();
        assert!(rows.last().unwrap().values["eval/return_mean"] > rows[0].values["eval/return_mean"], "it learns");
        assert!(rows.last().unwrap().values.contains_key("probe/reward_correlation"));

        let model = format!("model={}", text(name));
        // What kind of a model it is need not be said again.
        let policy = ["mode=policy", &source, &model, "env=reacher-easy", "num_envs=8", "eval_every=2", "max_epochs=4"];
        let policy = [&policy[..], &["critic_batches=2", "latent_dim=64", "units=[8]"]].concat();
        let run = at(&format!("{name}_policy"));
        let told = train(&run, &policy);
        assert!(told.contains("begins with    the world model"), "{told}");
        // The model is as it was.
        let params = |dir: &Path| {
            let stored = Checkpoint::load(&RunFolder::open(dir).unwrap().latest()).unwrap();
            stored.values::<f32>("world_model.params").unwrap()
        };
        let best = Checkpoint::load(&RunFolder::open(&at(name)).unwrap().best()).unwrap();
        assert_eq!(params(&run), best.values::<f32>("world_model.params").unwrap());
        let told = pwm(&["eval", run.to_str().unwrap()]);
        assert!(told.contains("return"), "{told}");
        // Fine-tuned, it is another one.
        let tuned = at(&format!("{name}_tuned"));
        train(&tuned, &[&policy[..], &["finetune=true"]].concat());
        assert_ne!(params(&tuned), params(&run));
        // A policy records more data, which combine with the first.
        let more = text(&format!("{name}_more"));
        let best = RunFolder::open(&run).unwrap().best();
        pwm(&["collect", "--out", &more, "--episodes", "1", "--policy", best.to_str().unwrap(), "env=reacher-easy"]);
    }
    for (more, what) in [
        (vec!["mode=pretrain"], "data names none"),
        (vec!["mode=policy", &source, "env=reacher-easy"], "model names none"),
        (
            vec!["mode=pretrain", &source, "tasks=[reacher-*,walker-run]"],
            "`walker-run` is none of the tasks of the data",
        ),
        (vec!["mode=pretrain", &source, "horizon=600"], "horizon"),
        (vec!["mode=pretrain", &source, "env=reacher-easy"], "plays nothing"),
    ] {
        let (code, text) = refused(&at("no"), &more);
        assert!(code == 2 && text.contains(what), "{more:?}: {text}");
    }
    let model = format!("model={}", text("mlp"));
    let (code, told) = refused(&at("no"), &["mode=policy", &source, &model, "env=reacher-hard", "task_dim=5"]);
    assert!(code == 2 && told.contains("did you mean reacher-easy"), "{told}");
    // A new task is taught to the model: it begins as an old one, and the old ones stay.
    let (more, other) = (text("more"), text("more.idx"));
    pwm(&["collect", "--out", &more, "--episodes", "2", "env=pendulum-swingup"]);
    pwm(&["data", "index", &more, "--out", &other]);
    let other = format!("data={other}");
    let teach = ["mode=pretrain", &other, &model, "task_init=reacher-easy", "held_out=0.4", "wm_iterations=1"];
    let still = ["max_epochs=1", "model_lr=0", "lr_schedule=constant"];
    train(&at("taught"), &[&teach[..], &still].concat());
    let stored = Checkpoint::load(&RunFolder::open(&at("taught")).unwrap().latest()).unwrap();
    let tasks = pwm::run::state::config_of(&stored).unwrap().unwrap().model_tasks();
    // By the numbers of the data: the reacher's is smaller than the cartpole's.
    assert_eq!(tasks, ["reacher-easy", "cartpole-balance", "dflex-hopper-stand", "pendulum-swingup"]);
    let params = stored.values::<f32>("world_model.params").unwrap();
    let rows: Vec<&[f32]> = params[..4 * 5].chunks(5).collect();
    assert!(rows[3] == rows[0] && rows[3] != rows[1], "{rows:?}");
    let (code, told) = refused(&at("no"), &["mode=pretrain", &other, &model, "task_init=reacher-easi"]);
    assert!(code == 2 && told.contains("did you mean reacher-easy"), "{told}");
    // Another one of those that it knows is played with it; and with a model that knows more than is played.
    let tasks = "tasks=[reacher-easy,cartpole-balance,dflex-hopper-stand]";
    let play = [&model[..], tasks, "env=reacher-easy", "num_envs=4", "replay_unfinished=true", "max_epochs=3"];
    let told = train(&at("played"), &[&play[..], &["critic_batches=2"]].concat());
    assert!(told.contains("begins with    the world model"), "{told}");
    let rows = read_metrics(&at("played").join("metrics.jsonl")).unwrap();
    assert!(rows.last().unwrap().values["loss/dynamics"].is_finite());
    // What a model alone cannot do, and what export does not know.
    for (args, what) in [
        (vec!["eval", &text("mlp")[..]], "a model without a policy"),
        (vec!["fidelity", &text("mlp")[..]], "a model without a policy"),
        (vec!["export", &text("mlp_policy")[..]], "embedding of one of 3 tasks"),
        (vec!["gradcheck", "env=[ant,hopper]"], "checked on one task"),
    ] {
        let o = Command::new(env!("CARGO_BIN_EXE_pwm")).args(&args).output().unwrap();
        assert!(o.status.code() == Some(2) && said(&o).contains(what), "{args:?}: {}", said(&o));
    }
    // It goes on with its own data, wherever they are, and with no others.
    let (again, all) = (text("again"), "env=cartpole-balance,reacher-easy,dflex-hopper-stand");
    pwm(&["collect", "--out", &again, "--episodes", "2", all]);
    pwm(&["data", "index", &again, "--out", &text("again.idx")]);
    for (data, status, what) in [("more.idx", 4, "no episodes of"), ("again.idx", 2, "are not those that the run")] {
        let (run, data) = (text("mlp"), format!("data={}", text(data)));
        let o = Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(["--resume", &run, "max_epochs=7", &data]).output();
        let o = o.unwrap();
        assert!(o.status.code() == Some(status) && said(&o).contains(what), "{}", said(&o));
    }
    let moved = text("moved.idx");
    std::fs::copy(&idx, &moved).unwrap();
    ends(env!("CARGO_BIN_EXE_pwm-train"), &["--resume", &text("mlp"), "max_epochs=7", &format!("data={moved}")]);
    // Only some of the tasks.
    let told = train(&at("some"), &[&pretrain[..], &["tasks=[reacher-*]", "max_epochs=1"]].concat());
    assert!(told.contains("reacher-easy"), "{told}");
}
