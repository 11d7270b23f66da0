//! Sweeps as job arrays, against commands that answer as SLURM's do; `scripts/slurm_sweep.py` is the same on the real
//! ones.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A run of a few epochs, in a moment.
const TINY: [&str; 9] = [
    "alg=shac_small",
    "env=hopper",
    "num_envs=4",
    "horizon=4",
    "episode_length=20",
    "eval_every=2",
    "eval_episodes=1",
    "max_epochs=4",
    "max_minutes=0",
];

/// A folder with commands in the place of SLURM's, and a sweep.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(cluster.dir.path().join("bin")).unwrap();
        // Keeps what it is given, and greets first.
        cluster.command(
            "sbatch",
            "n=$(($(cat \"$D/n\" 2>/dev/null || echo 40) + 1)); echo $n > \"$D/n\"; echo \"$@\" > \"$D/args.$n\"; \
             cat > \"$D/script.$n\"; echo Welcome; echo $n",
        );
        cluster.command("squeue", "cat \"$D/queue\" 2>/dev/null; true");
        cluster.command("scontrol", "echo \"$@\" >> \"$D/requeued\"");
        cluster
    }

    fn command(&self, name: &str, text: &str) {
        let file = self.dir.path().join("bin").join(name);
        std::fs::write(&file, format!("#!/bin/sh\nD='{}'\n{text}\n", self.dir.path().display())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sweep(&self) -> PathBuf {
        self.at("a sweep")
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.args(args).env("PATH", path).env("SLURM_ARRAY_JOB_ID", "41").env("SLURM_ARRAY_TASK_ID", "0");
        command.output().unwrap()
    }

    /// The status and what was said.
    fn train(&self, more: &[&str]) -> (i32, String) {
        let o = self.run(env!("CARGO_BIN_EXE_pwm-train"), more);
        let said = String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr);
        (o.status.code().unwrap_or(-1), said)
    }

    fn submit(&self, more: &[&str]) -> (i32, String) {
        let folder = format!("run_dir={}", self.sweep().display());
        let own = ["--multirun", "seed=0,1,2", &folder, "--launcher", "slurm"];
        self.train(&[&own, &TINY[..], more].concat())
    }

    /// What the task of a member does.
    fn task(&self, place: usize) -> (i32, String) {
        self.train(&["--resume", &self.sweep().display().to_string(), "--member", &place.to_string()])
    }

    fn status(&self) -> Value {
        let folder = self.sweep().display().to_string();
        let o = self.run(env!("CARGO_BIN_EXE_pwm"), &["sweep", "status", &folder, "--json"]);
        serde_json::from_slice(&o.stdout).unwrap()
    }

    fn states(&self) -> Vec<String> {
        let status = self.status();
        status["members"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap().to_owned()).collect()
    }

    fn why(&self, place: usize) -> String {
        self.status()["members"][place]["why"].as_str().unwrap_or_default().to_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }
}

fn epochs(run: &Path) -> u64 {
    pwm::run::folder::read_info(run).unwrap().unwrap().epoch
}

#[test]
fn an_array_is_submitted_once_and_ends() {
    let c = Cluster::new();
    let (status, said) = c.submit(&["--sbatch=--partition=fast", "--sbatch=--comment=two words", "--jobs", "2"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("job array      41:") && said.contains("on the processor"), "{said}");
    let script = c.text("script.41");
    assert!(script.contains("#SBATCH --array=0-2%2\n") && script.contains("#SBATCH --cpus-per-task=1\n"), "{script}");
    assert_eq!(c.text("args.41").trim(), "--parsable --partition=fast --comment=two words");
    assert_eq!(c.text("args.42").trim(), "--parsable --partition=fast --dependency=afterany:41");
    assert!(c.text("script.42").contains("report") && said.contains("report.html when all have ended"), "{said}");

    // In the queue nothing is due, and settings of what waits stay.
    std::fs::write(c.at("queue"), "41_0|RUNNING|None\n41_1|PENDING|Priority\n41_2|SIGNALING|None\n").unwrap();
    assert_eq!(c.states(), ["running", "queued", "running"]);
    assert!(c.why(1) == "Priority" && c.status()["alive"] == true);
    let (status, said) = c.submit(&["max_epochs=6"]);
    assert!(status == 0 && said.contains("nothing is left to do"), "{said}");
    let info = std::fs::read_to_string(c.sweep().join("sweep.json")).unwrap();
    assert!(info.contains("max_epochs=4") && !info.contains("max_epochs=6"), "{info}");

    // Their tasks do their work; one that comes a second time does nothing more.
    for place in 0..3 {
        assert_eq!(c.task(place), (0, String::new()));
    }
    std::fs::write(c.at("queue"), "").unwrap();
    assert_eq!(c.states(), ["finished"; 3]);
    let run = c.sweep().join("seed=1");
    let before = std::fs::read(run.join("run.json")).unwrap();
    assert_eq!(c.task(1).0, 0);
    assert!(std::fs::read(run.join("run.json")).unwrap() == before && epochs(&run) == 4);
    assert!(c.status()["alive"] == false && c.text("requeued").is_empty());
    // Without the flag it is where it was.
    let (status, said) = c.train(&["--resume", &c.sweep().display().to_string(), "max_epochs=6"]);
    assert!(status == 0 && said.contains("3 of them to be submitted") && said.contains("job array      43:"), "{said}");
}

#[test]
fn where_nothing_is_known_nothing_is_submitted_and_failures_are_told() {
    let c = Cluster::new();
    // Refused: in its words, and nothing is forgotten.
    c.command("sbatch", "echo 'sbatch: error: invalid partition specified: nowhere' >&2; exit 1");
    let (status, said) = c.submit(&["--sbatch=--partition=nowhere"]);
    assert!(status == 1 && said.contains("not submitted") && said.contains("invalid partition"), "{said}");
    c.command("sbatch", "cat > /dev/null; echo hello");
    let (status, said) = c.submit(&[]);
    assert!(status == 1 && said.contains("`hello`"), "{said}");

    let c = Cluster::new();
    assert_eq!(c.submit(&[]).0, 0);
    assert_eq!(c.states(), ["waiting"; 3]);
    assert!(c.why(0).contains("left the queue") && c.why(0).contains("slurm-41_0.log"), "{}", c.why(0));
    // A queue that does not answer is no empty queue.
    c.command("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
    let (status, said) = c.submit(&[]);
    assert!(status == 1 && said.contains("Unable to contact") && c.text("n").trim() == "42", "{said}");
    assert!(c.why(0).contains("Unable to contact"), "{}", c.why(0));
    // One that has forgotten the array is.
    c.command("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
    assert!(c.submit(&[]).1.contains("3 of them to be submitted"));

    // A member that fails says why, in its task and in the table; the next submission leaves it out.
    let run = c.sweep().join("seed=0");
    std::fs::write(&run, "in the way of the folder").unwrap();
    let (status, said) = c.task(0);
    assert!(status != 0 && !said.is_empty(), "{said}");
    std::fs::remove_file(&run).unwrap();
    assert_eq!(c.task(0).0, 0);
    pwm::sweep::write_failure(
        &c.sweep().join("seed=1"),
        &pwm::sweep::Failure { reason: "killed by SIGKILL".into(), ..Default::default() },
    )
    .unwrap();
    assert_eq!(c.states(), ["finished", "failed", "waiting"]);
    let (_, said) = c.submit(&[]);
    assert!(said.contains("1 of them to be submitted"), "{said}");
    // With --retry too, and what is refused keeps its reason.
    c.command("sbatch", "exit 1");
    assert_eq!(c.submit(&["--retry"]).0, 1);
    assert_eq!((&c.states()[1][..], &c.why(1)[..]), ("failed", "killed by SIGKILL"));

    for (more, part) in [
        (&["threads=0"][..], "threads=0"),
        (&["device=cuda:1"], "cuda:0"),
        (&["--launcher", "local", "--sbatch=-p"], "--sbatch is for --launcher slurm"),
    ] {
        let folder = format!("run_dir={}", c.at("other").display());
        let own = ["--multirun", "seed=0,1", &folder, "--launcher", "slurm"];
        let own = if more.contains(&"local") { &own[..3] } else { &own[..] };
        let (status, said) = c.train(&[own, &TINY[..], more].concat());
        assert!(status == 2 && said.contains(part), "{more:?}: {status} {said}");
    }
    let (status, said) = c.train(&["--sbatch=--partition=fast", "max_epochs=1"]);
    assert!(status == 2 && said.contains("--multirun"), "{said}");
}

#[test]
fn what_waits_learns_what_was_submitted() {
    let c = Cluster::new();
    let file = c.at("mine.yaml");
    let text = |lr: &str| format!("alg: shac_small\nactor_lr: {lr}\n");
    std::fs::write(&file, text("1e-3")).unwrap();
    let alg = format!("alg={}", file.display());
    let (status, said) = c.submit(&[&alg]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(c.task(0).0, 0);
    std::fs::write(&file, text("2e-3")).unwrap();
    let (status, said) = c.task(1);
    assert!(status == 2 && said.contains("a file that they name has changed"), "{status} {said}");
    assert!(c.states()[1] == "failed" && c.why(1).contains("has changed"));
    // What was begun has its settings in its folder.
    assert_eq!(c.task(0).0, 0);
}

/// Told of the end of its time, a task queues itself again: itself alone, though it may have the array's own number.
#[test]
fn a_task_goes_back_into_the_queue() {
    use crate::support::process::{signal, wait_for};

    let c = Cluster::new();
    assert_eq!(c.submit(&["max_epochs=1000000", "save_every=1"]).0, 0);
    let path = format!("{}:{}", c.at("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut task = Command::new(env!("CARGO_BIN_EXE_pwm-train"))
        .args(["--resume", &c.sweep().display().to_string(), "--member", "0"])
        .env("PATH", path)
        .env("SLURM_ARRAY_JOB_ID", "41")
        .env("SLURM_ARRAY_TASK_ID", "0")
        .spawn()
        .unwrap();
    let run = c.sweep().join("seed=0");
    let is_on = || pwm::run::folder::read_info(&run).is_ok_and(|i| i.is_some_and(|i| i.epoch >= 10));
    wait_for("ten epochs", is_on);
    signal(&task, "USR1");
    assert_eq!(task.wait().unwrap().code(), Some(0));
    assert_eq!(c.text("requeued"), "requeue 41_0\n");
    assert_eq!(c.states()[0], "interrupted");
    // Ended by somebody, it does not.
    let mut task = Command::new(env!("CARGO_BIN_EXE_pwm-train"))
        .args(["--resume", &c.sweep().display().to_string(), "--member", "0"])
        .spawn()
        .unwrap();
    let before = epochs(&run);
    wait_for("five more", || epochs(&run) > before + 5);
    signal(&task, "TERM");
    assert_eq!(task.wait().unwrap().code(), Some(0));
    assert_eq!(c.text("requeued"), "requeue 41_0\n");
}
