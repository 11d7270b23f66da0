//! Members as one job array of SLURM: what is submitted, and what its queue says.
//!
//! A task of the array is a process that starts its member, passes signals on and notes why it failed
//! (`single.rs`). SLURM sends SIGUSR1 two minutes before the time limit: the member saves and ends, and
//! its task puts itself back into the queue. A job that is preempted gets SIGTERM, and SLURM requeues it; one that is
//! cancelled gets SIGTERM too and stays out.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::capacity::Resources;

/// This launcher's name in `sweep.json`.
pub const NAME: &str = "slurm";
/// Seconds before the time limit at which a task is told.
const WARNING: u64 = 120;
/// Beside a member's plan: the process that started it.
const SUPERVISOR: u64 = 128 << 20;
/// Of a control group's memory a run leaves one part in so many to the kernel: see `mem::Budget`.
const LEFT: u64 = 49;
/// How long an answer of the queue holds: sites dislike programs that ask all the time.
const HOLDS: Duration = Duration::from_secs(15);
/// How long a task tries to get back into the queue, and the time between two tries.
const TRIES: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);

/// What a job array is made of.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    /// The sweep's folder, absolute.
    pub folder: &'a Path,
    /// The program that trains, and the one that makes the report.
    pub program: &'a Path,
    pub reporter: &'a Path,
    /// Places of the members in `sweep.json`.
    pub places: &'a [usize],
    /// The most that any of them takes.
    pub most: Resources,
    /// Minutes that a member takes at most; none where nothing limits it.
    pub minutes: Option<f64>,
    /// The most tasks side by side.
    pub jobs: Option<usize>,
    /// Options of `sbatch` that the user gave, each one argument. They win.
    pub options: &'a [String],
}

/// What the queue says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It waits, for this reason.
    Waits(String),
    /// It runs, or is about to begin or to end.
    Runs,
}

/// Where the user's options speak of something, ours is left out: `--mem` and `--mem-per-cpu` exclude each other.
const GROUPS: [(&str, &[&str]); 4] = [
    ("--mem", &["--mem"]),
    ("--cpus-per-task", &["--cpus-per-task", "-c"]),
    ("--time", &["--time", "-t"]),
    ("--gres", &["--gres", "--gpus", "-G"]),
];
/// Options that say where jobs of somebody go: the report goes there too.
const PLACE: [&str; 8] = ["--partition", "-p", "--account", "-A", "--qos", "-q", "--reservation", "--constraint"];

impl Array<'_> {
    fn names(&self, group: &[&str]) -> bool {
        self.options.iter().any(|o| group.iter().any(|name| o.starts_with(name)))
    }

    /// The script that `sbatch` is given.
    pub fn script(&self) -> String {
        let mut lines = vec!["#!/bin/sh".to_owned()];
        let mut option = |text: String| {
            let ours = GROUPS.iter().find(|(name, _)| text.split('=').next() == Some(name));
            if ours.is_none_or(|(_, group)| !self.names(group)) {
                lines.push(format!("#SBATCH {text}"));
            }
        };
        option(format!("--job-name={}", name_of(self.folder)));
        let at_once = self.jobs.map_or_else(String::new, |n| format!("%{n}"));
        option(format!("--array={}{at_once}", ranges(self.places)));
        option(format!("--cpus-per-task={}", self.most.threads));
        option(format!("--mem={}M", (self.most.host + self.most.host / LEFT + SUPERVISOR).div_ceil(1 << 20)));
        if self.most.device > 0 {
            option("--gres=gpu:1".into());
        }
        if let Some(minutes) = self.minutes {
            // The evaluation and the pictures at the end come on top.
            option(format!("--time={}", (minutes * 1.1).ceil() as u64 + 15));
        }
        option("--requeue".into());
        option("--open-mode=append".into());
        option(format!("--signal=B:USR1@{WARNING}"));
        option(format!("--output={}", output(self.folder, "slurm-%A_%a.log")));
        lines.push(format!(
            "exec {} --resume {} --member \"$SLURM_ARRAY_TASK_ID\"",
            quoted(self.program),
            quoted(self.folder)
        ));
        lines.join("\n") + "\n"
    }

    /// Submits it; the number of the array.
    ///
    /// # Errors
    /// If there is no `sbatch`, or it refuses, in its words.
    pub fn submit(&self) -> io::Result<String> {
        sbatch(self.options, &self.script())
    }

    /// Submits the job that makes the report when the array has ended.
    ///
    /// # Errors
    /// As [`Array::submit`], and if the program is not there.
    pub fn submit_report(&self, array: &str) -> io::Result<String> {
        if !self.reporter.is_file() {
            return Err(io::Error::other(format!("{} is not there", self.reporter.display())));
        }
        let script = format!(
            "#!/bin/sh\n#SBATCH --job-name=report\n#SBATCH --cpus-per-task=1\n#SBATCH --mem=2G\n#SBATCH --time=30\n\
             #SBATCH --output={}\nexec {} report {} --out {}\n",
            output(self.folder, "slurm-report.log"),
            quoted(self.reporter),
            quoted(self.folder),
            quoted(&self.folder.join(super::REPORT))
        );
        let goes = |o: &&String| PLACE.iter().any(|p| o.starts_with(p));
        let mut options: Vec<String> = self.options.iter().filter(goes).cloned().collect();
        options.push(format!("--dependency=afterany:{array}"));
        sbatch(&options, &script)
    }
}

/// Whether options of `sbatch` ask for a GPU.
pub fn wants_gpu(options: &[String]) -> bool {
    options
        .iter()
        .any(|o| o.starts_with("--gpus") || o.starts_with("-G") || o.starts_with("--gres") && o.contains("gpu"))
}

/// Runs a command of SLURM's; an error names it.
fn asked(command: &mut Command) -> io::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn sbatch(options: &[String], script: &str) -> io::Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("sbatch: {e}")))?;
    // One that ends before it has read everything says why.
    let written = child.stdin.take().expect("invariant: piped").write_all(script.as_bytes());
    let out = child.wait_with_output()?;
    if !out.status.success() {
        let what = said(&out.stderr);
        let array = "a cluster takes places up to its MaxArraySize";
        return Err(io::Error::other(if what.contains("array") { format!("{what} ({array})") } else { what }));
    }
    written?;
    // A site may greet first.
    let text = said(&out.stdout);
    let job = text.lines().last().unwrap_or_default().split(';').next().unwrap_or_default();
    if job.is_empty() || !job.bytes().all(|b| b.is_ascii_digit()) {
        return Err(io::Error::other(format!("sbatch answered `{text}`, where the number of a job is expected")));
    }
    Ok(job.to_owned())
}

/// Tasks that are in the queue, by `ARRAY_TASK`.
pub type Queue = BTreeMap<String, TaskState>;

/// The last answer of the queue: when it came, what was asked.
static LAST: Mutex<Option<(Instant, String, Queue)>> = Mutex::new(None);

/// What the queue says of the tasks of some arrays, by `ARRAY_TASK`. An answer holds for a while.
///
/// # Errors
/// If the queue does not answer: then nothing is known.
pub fn queue(arrays: &[&str]) -> io::Result<Queue> {
    if arrays.is_empty() {
        return Ok(Queue::new());
    }
    let list = arrays.join(",");
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((at, of, answer)) = last.as_ref()
        && *of == list
        && at.elapsed() < HOLDS
    {
        return Ok(answer.clone());
    }
    let out = asked(Command::new("squeue").args(["-h", "-r", "-o", "%F_%K|%T|%r", "-j", &list]))?;
    let what = said(&out.stderr);
    // It has forgotten arrays that ended long ago.
    if !out.status.success() && !what.contains("Invalid job id") {
        return Err(io::Error::other(format!("squeue: {what}")));
    }
    let answer = read_queue(&said(&out.stdout));
    *last = Some((Instant::now(), list, answer.clone()));
    Ok(answer)
}

/// States of a task that has left the queue for good.
const ENDED: [&str; 10] = [
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "NODE_FAIL",
    "BOOT_FAIL",
    "DEADLINE",
    "PREEMPTED",
    "REVOKED",
];

/// Lines `ARRAY_TASK|STATE|REASON`.
fn read_queue(text: &str) -> Queue {
    let line = |line: &str| {
        let mut parts = line.trim().splitn(3, '|');
        let (task, state) = (parts.next()?.to_owned(), parts.next()?);
        Some(match state {
            state if ENDED.contains(&state) => return None,
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
                (task, TaskState::Waits(parts.next().unwrap_or_default().to_owned()))
            }
            // Whatever else it is called, it holds a place.
            _ => (task, TaskState::Runs),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Puts the task of this process back into the queue. Of an array one task has the array's own number, and means all of
/// them with it: a task is named by both of its numbers. A controller that is busy is asked again for a minute.
///
/// # Errors
/// If this is no task of an array, or `scontrol` refuses, in its words.
pub fn requeue() -> io::Result<()> {
    let of = |name: &str| std::env::var(name).map_err(|e| io::Error::other(format!("{name}: {e}")));
    let task = format!("{}_{}", of("SLURM_ARRAY_JOB_ID")?, of("SLURM_ARRAY_TASK_ID")?);
    let begun = Instant::now();
    loop {
        let out = asked(Command::new("scontrol").args(["requeue", &task]))?;
        if out.status.success() {
            return Ok(());
        }
        if begun.elapsed() >= TRIES {
            return Err(io::Error::other(format!("scontrol requeue {task}: {}", said(&out.stderr))));
        }
        std::thread::sleep(AGAIN);
    }
}

/// `0-3,7`.
fn ranges(places: &[usize]) -> String {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b);
    let text = |run: &[usize]| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    };
    runs.map(text).collect::<Vec<_>>().join(",")
}

/// A folder's name as a job is called.
fn name_of(folder: &Path) -> String {
    let name = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    name.chars().map(|c| if c.is_alphanumeric() || "._-+=,".contains(c) { c } else { '_' }).collect()
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// A file in a folder as the option `--output` reads it, in which `%` and `\` mean something.
fn output(folder: &Path, file: &str) -> String {
    let folder = folder.display().to_string().replace('\\', "\\\\").replace('%', "%%");
    format!("'{folder}/{file}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_asks_for_what_the_largest_member_needs() {
        let gib = 1 << 30;
        let array = Array {
            folder: Path::new("/data/my sweeps/a"),
            program: Path::new("/opt/pwm-train"),
            reporter: Path::new("/opt/pwm"),
            places: &[7, 0, 1, 2],
            most: Resources { threads: 4, host: 49 * gib, device: 1 },
            minutes: Some(60.0),
            jobs: Some(3),
            options: &["--partition=gpu".into(), "--mem-per-cpu=9G".into()],
        };
        let script = array.script();
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(lines[0], "#!/bin/sh");
        for wanted in [
            "#SBATCH --job-name=a",
            "#SBATCH --array=0-2,7%3",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --gres=gpu:1",
            "#SBATCH --time=81",
            "#SBATCH --requeue",
            "#SBATCH --signal=B:USR1@120",
        ] {
            assert!(lines.contains(&wanted), "{wanted}\n{script}");
        }
        // What the user says of memory is an argument of sbatch, and ours would contradict it.
        assert!(!script.contains("--mem="), "{script}");
        let ours = Array { options: &[], ..array.clone() }.script();
        // 49 GiB, one more for the kernel, and the process beside.
        assert!(ours.contains("#SBATCH --mem=51328M\n"), "{ours}");
        assert!(ours.contains("#SBATCH --output='/data/my sweeps/a/slurm-%A_%a.log'"), "{ours}");
        assert_eq!(
            lines.last(),
            Some(&"exec '/opt/pwm-train' --resume '/data/my sweeps/a' --member \"$SLURM_ARRAY_TASK_ID\"")
        );
        let plain = Array { minutes: None, jobs: None, most: Resources { device: 0, ..array.most }, ..array };
        assert!(!plain.script().contains("--time") && !plain.script().contains("gpu:1"));
    }

    #[test]
    fn the_queue_is_read() {
        let text =
            "12_0|RUNNING|None\n12_1|PENDING|Priority\n12_2|COMPLETED|None\n\n12_3|COMPLETING|None\n12_4|SIGNALING|x";
        let queue = read_queue(text);
        assert_eq!(queue.len(), 4);
        assert_eq!(queue["12_0"], TaskState::Runs);
        assert_eq!(queue["12_1"], TaskState::Waits("Priority".into()));
        assert!(queue["12_3"] == TaskState::Runs && queue["12_4"] == TaskState::Runs);
    }
}
