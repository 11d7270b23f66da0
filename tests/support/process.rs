//! Processes that a test starts, signals and waits for.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long anything may take to come, on the busiest machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Sends a signal by its name, such as `TERM`.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success());
}

/// Waits until something is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let from = Instant::now();
    while !is_so() {
        assert!(from.elapsed() < LIMIT, "it does not come: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something is so of a process that must not end before.
pub fn wait_while_it_runs(child: &mut Child, what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || {
        let so = is_so();
        assert!(so || child.try_wait().unwrap().is_none(), "it ended by itself before {what}");
        so
    });
}

/// Waits for the end of a process.
pub fn end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_for("the end of the process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// The processor's time that all threads of a process have taken: how far it is, whatever else the machine does.
#[cfg(target_os = "linux")]
pub fn processor_time(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    // The name in brackets may hold spaces. Times are in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
