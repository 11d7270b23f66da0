//! How an epoch of `pwm_small` on two threads shares two cores with another process.
//!
//! `benches/neighbours.sh` runs it on an idle computer and keeps the result. A round measures epochs alone, beside a
//! process of equal priority that never waits, and beside one of the lowest priority; ratios are taken within a round,
//! so that what changes slowly does not count.

use pwm::app::bench::epoch::learning;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
/// Epochs are run for so long in each surrounding: many slices of the scheduler.
const WINDOW: Duration = Duration::from_secs(4);
/// Time for the scheduler to spread what has begun.
const SETTLE: Duration = Duration::from_millis(500);
/// The most that an epoch may take beside a process, in times of an epoch alone.
const LIMITS: [(&str, Option<u8>, f64); 2] =
    [("one busy process of equal priority", None, 2.2), ("one busy process at nice 19", Some(19), 1.15)];

/// A process that never waits; it ends with this value.
struct Busy(Child);

impl Busy {
    fn start(nice: Option<u8>) -> std::io::Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = match nice {
            None => Command::new(own),
            Some(n) => {
                let mut command = Command::new("nice");
                command.args(["-n", &n.to_string()]).arg(own);
                command
            }
        };
        Ok(Self(command.arg("--busy").stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    if std::env::args().any(|a| a == "--busy") {
        // Ends with its parent at the latest a minute later, should that be killed.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            std::hint::black_box((0..1 << 20).fold(0u64, |a, b| a ^ std::hint::black_box(b)));
        }
        return ExitCode::SUCCESS;
    }
    let config = pwm::config::load(&["alg=pwm_small", "device=cpu", "threads=2"].map(String::from));
    let mut runner = learning(&config.expect("shipped settings are valid")).expect("a run that learns");
    let mut epoch = || {
        let (start, mut epochs) = (Instant::now(), 0);
        while start.elapsed() < WINDOW {
            runner.run_epoch().expect("kernels do not panic");
            epochs += 1;
        }
        1e3 * start.elapsed().as_secs_f64() / f64::from(epochs)
    };
    epoch();
    let (mut alone, mut ratios) = (vec![], [vec![], vec![]]);
    println!("| round | alone, ms | {} | {} |\n|---|---|---|---|", LIMITS[0].0, LIMITS[1].0);
    for round in 1..=ROUNDS {
        let idle = epoch();
        let beside = [0, 1].map(|i| {
            let _busy = Busy::start(LIMITS[i].1).expect("a process starts");
            std::thread::sleep(SETTLE);
            epoch() / idle
        });
        println!("| {round} | {idle:.2} | {:.2} | {:.2} |", beside[0], beside[1]);
        alone.push(idle);
        ratios.iter_mut().zip(beside).for_each(|(all, one)| all.push(one));
    }
    println!("| median | {:.2} | {:.2} | {:.2} |", median(alone), median(ratios[0].clone()), median(ratios[1].clone()));
    let mut kept = true;
    for ((name, _, limit), ratios) in LIMITS.into_iter().zip(ratios) {
        let ratio = median(ratios);
        kept &= ratio <= limit;
        let word = if ratio <= limit { "kept" } else { "MISSED" };
        println!("\nBeside {name}: {ratio:.2} times the time alone, at most {limit} wanted: {word}.");
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
