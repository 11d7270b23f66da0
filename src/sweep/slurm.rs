//! Members as one job array of SLURM: what is submitted, and what its queue says.
//!
//! A task of the array is a process that starts its member, passes signals on and notes why it failed
//! (`single.rs`). SLURM sends SIGUSR1 two minutes before the time limit: the member saves and ends, and
//! its task puts itself back into the queue. A job that is preempted gets SIGTERM, and SLURM requeues it; one that is
//! cancelled gets SIGTERM too and stays out.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::capacity::Resources;

/// Seconds before the time limit at which a task is told.
const WARNING: u64 = 120;
/// Beside a member's plan: the process that started it.
const SUPERVISOR: u64 = 128 << 20;
/// Of a control group's memory a run leaves one part in so many to the kernel: see `mem::Budget`.
const LEFT: u64 = 49;

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
    /// Options of `sbatch` that the user gave, which win.
    pub options: &'a [String],
}

/// What the queue says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits, for this reason.
    Waits(String),
    /// It runs, or is about to end.
    Runs,
}

impl Array<'_> {
    /// The script that `sbatch` is given.
    pub fn script(&self) -> String {
        let mut lines = vec!["#!/bin/sh".to_owned()];
        let mut option = |text: String| lines.push(format!("#SBATCH {text}"));
        let name = self.folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        option(format!("--job-name={}", name.replace(char::is_whitespace, "_")));
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
        option(format!("--output={}", quoted(&self.folder.join("slurm-%A_%a.log"))));
        // Of an option that is given twice the last counts.
        self.options.iter().for_each(|o| option(o.clone()));
        lines.push(format!(
            "exec {} --resume {} --member \"$SLURM_ARRAY_TASK_ID\"",
            quoted(self.program),
            quoted(self.folder)
        ));
        lines.join("\n") + "\n"
    }

    /// Submits it, and behind it the job that makes the report; the number of the array.
    ///
    /// # Errors
    /// If there is no `sbatch`, or it refuses, in its words.
    pub fn submit(&self) -> io::Result<String> {
        let array = sbatch(&[], &self.script())?;
        let report = format!(
            "#!/bin/sh\n#SBATCH --job-name=report\n#SBATCH --output={}\nexec {} report {} --out {}\n",
            quoted(&self.folder.join("slurm-report.log")),
            quoted(self.reporter),
            quoted(self.folder),
            quoted(&self.folder.join(super::REPORT))
        );
        // Where the report goes, the runs' accounts and partitions go.
        let place = self
            .options
            .iter()
            .filter(|o| ["-p", "-A", "--partition", "--account", "--qos"].iter().any(|p| o.starts_with(p)));
        let mut options: Vec<String> = place.cloned().collect();
        options.push(format!("--dependency=afterany:{array}"));
        // A sweep without a report is a sweep: `pwm report` makes it at any time.
        let _ = sbatch(&options, &report);
        Ok(array)
    }
}

fn sbatch(options: &[String], script: &str) -> io::Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().expect("invariant: piped").write_all(script.as_bytes())?;
    let out = child.wait_with_output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !out.status.success() {
        return Err(io::Error::other(said(&out.stderr)));
    }
    // On a cluster of clusters the number is followed by a name.
    Ok(said(&out.stdout).split(';').next().unwrap_or_default().to_owned())
}

/// What the queue says of the tasks of some arrays, by `ARRAY_TASK`; nothing where there is no queue to ask.
pub fn queue(arrays: &[&str]) -> BTreeMap<String, Queued> {
    if arrays.is_empty() {
        return BTreeMap::new();
    }
    let list = arrays.join(",");
    let asked = Command::new("squeue").args(["-h", "-r", "-o", "%F_%K|%T|%r", "-j", &list]).output();
    asked.map_or_else(|_| BTreeMap::new(), |out| read_queue(&String::from_utf8_lossy(&out.stdout)))
}

/// Lines `ARRAY_TASK|STATE|REASON`.
fn read_queue(text: &str) -> BTreeMap<String, Queued> {
    let line = |line: &str| {
        let mut parts = line.trim().splitn(3, '|');
        let (task, state) = (parts.next()?.to_owned(), parts.next()?);
        Some(match state {
            "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" => (task, Queued::Runs),
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" => {
                (task, Queued::Waits(parts.next().unwrap_or_default().to_owned()))
            }
            _ => return None,
        })
    };
    text.lines().filter_map(line).collect()
}

/// Puts the task of this process back into the queue.
///
/// # Errors
/// If this is no job, or `scontrol` refuses, in its words.
pub fn requeue() -> io::Result<()> {
    let job = std::env::var("SLURM_JOB_ID").map_err(io::Error::other)?;
    let out = Command::new("scontrol").args(["requeue", &job]).output()?;
    if out.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&out.stderr).into_owned())) }
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

/// A path as a shell reads it, and `sbatch` too.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
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
            options: &["--partition=gpu".into(), "--mem=9G".into()],
        };
        let script = array.script();
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(lines[0], "#!/bin/sh");
        for wanted in [
            "#SBATCH --job-name=a",
            "#SBATCH --array=0-2,7%3",
            "#SBATCH --cpus-per-task=4",
            // 49 GiB, one more for the kernel, and the process beside.
            "#SBATCH --mem=51328M",
            "#SBATCH --gres=gpu:1",
            "#SBATCH --time=81",
            "#SBATCH --requeue",
            "#SBATCH --signal=B:USR1@120",
        ] {
            assert!(lines.contains(&wanted), "{wanted}\n{script}");
        }
        let at = |line: &str| lines.iter().position(|l| *l == line);
        assert!(at("#SBATCH --mem=9G") > at("#SBATCH --mem=51328M"), "the user's own comes last");
        assert_eq!(
            lines.last(),
            Some(&"exec '/opt/pwm-train' --resume '/data/my sweeps/a' --member \"$SLURM_ARRAY_TASK_ID\"")
        );
        let plain = Array { minutes: None, jobs: None, most: Resources { device: 0, ..array.most }, ..array };
        assert!(!plain.script().contains("--time") && !plain.script().contains("gpu:1"));
    }

    #[test]
    fn the_queue_is_read() {
        let queue =
            read_queue("12_0|RUNNING|None\n12_1|PENDING|Priority\n12_2|COMPLETED|None\n\n12_3|COMPLETING|None\n");
        assert_eq!(queue.len(), 3);
        assert_eq!(queue["12_0"], Queued::Runs);
        assert_eq!(queue["12_1"], Queued::Waits("Priority".into()));
        assert_eq!(queue["12_3"], Queued::Runs);
    }
}
