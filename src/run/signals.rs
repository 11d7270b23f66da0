//! Requests to stop, from the keyboard or a cluster's scheduler.
//!
//! SIGINT, SIGTERM and SIGUSR1 (what SLURM sends before the time limit) set a flag that the epoch loop reads between
//! epochs: it saves and ends. A scheduler does not wait for long: [`GRACE`] after SIGTERM or SIGUSR1 a process that is
//! still inside an epoch or an evaluation ends there, with its last checkpoint, which a run of long epochs writes after
//! each of them. A second signal of any of the three ends the process at once. In both cases the status is 128 + the
//! signal's number (130 for SIGINT); files are written whole or not at all (`atomic.rs`), so the last checkpoint is
//! good.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::*;
use signal_hook::flag;

#[cfg(unix)]
const STOPPING: [i32; 3] = [SIGINT, SIGTERM, SIGUSR1];
#[cfg(not(unix))]
const STOPPING: [i32; 2] = [SIGINT, SIGTERM];

/// How long an epoch or evaluation may go on after SIGTERM or SIGUSR1: five seconds are what a run may take to be gone,
/// and a process of some gigabytes takes a part of one to go.
pub const GRACE: Duration = Duration::from_secs(3);
/// What [`StopFlag::interrupt`] is called as a reason.
pub const INTERRUPTED: &str = "an interrupt";
/// Where a signal's number stands otherwise.
const INTERRUPT: usize = usize::MAX - 1;
/// Stack of the thread that sees to it, bytes.
pub const STACK: usize = 64 << 10;

/// Whether, and by which signal, the process was asked to stop. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The signal; 0 before there is one.
    asked: Arc<AtomicUsize>,
    /// Whether what is being done can be cut short without loss of what is worth keeping.
    interruptible: AtomicBool,
}

impl StopFlag {
    /// A flag that no signal sets, for runs inside another program.
    pub fn detached() -> Self {
        Self::default()
    }

    /// Takes over the three signals for the rest of the process.
    pub fn install() -> io::Result<Self> {
        let stop = Self::default();
        let asked = Arc::new(AtomicBool::new(false));
        for signal in STOPPING {
            // Actions run in the order of registration: the test for "already asked" comes before the mark.
            flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
            flag::register(signal, asked.clone())?;
            flag::register_usize(signal, stop.0.asked.clone(), signal as usize)?;
        }
        #[cfg(unix)]
        stop.keep_time()?;
        Ok(stop)
    }

    /// Starts the thread that ends what takes too long when a scheduler waits.
    #[cfg(unix)]
    fn keep_time(&self) -> io::Result<()> {
        let (stop, mut signals) = (self.clone(), signal_hook::iterator::Signals::new(STOPPING)?);
        let watch = move || {
            let Some(signal) = signals.forever().find(|&s| s != SIGINT) else { return };
            let from = Instant::now();
            while from.elapsed() < GRACE || !stop.0.interruptible.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let name = stop.reason().unwrap_or("a signal");
            let text = "inside an epoch or evaluation; the same command goes on from the last checkpoint";
            let _ = writeln!(io::stderr(), "\nended by {name} {text}");
            signal_hook::low_level::exit(128 + signal);
        };
        std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(watch)?;
        Ok(())
    }

    /// Ends with the process that started this one and holds the other end of `lifeline`. A byte there is a signal that
    /// is passed on; it counts once, also if the signal itself has come already. The end of the lifeline is the end of
    /// that process: it counts as SIGTERM, also after another signal.
    pub fn follow(&self, mut lifeline: impl io::Read + Send + 'static) -> io::Result<()> {
        let stop = self.clone();
        let watch = move || {
            let mut signal = [0];
            loop {
                match lifeline.read(&mut signal) {
                    Ok(1) if stop.requested() => {}
                    // A number that is no signal asks for nothing.
                    Ok(1) => drop(signal_hook::low_level::raise(signal[0].into())),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    _ => return drop(signal_hook::low_level::raise(SIGTERM)),
                }
            }
        };
        std::thread::Builder::new().name("lifeline".into()).stack_size(STACK).spawn(watch)?;
        Ok(())
    }

    /// The signal that asked to stop; SIGTERM for a request from inside the program.
    pub fn signal(&self) -> Option<i32> {
        match self.0.asked.load(Ordering::SeqCst) {
            0 => None,
            INTERRUPT | usize::MAX => Some(SIGTERM),
            signal => Some(signal as i32),
        }
    }

    /// Does something that a scheduler's signal may cut short by ending the process.
    pub fn interruptible<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.interruptible.store(true, Ordering::SeqCst);
        let done = work();
        self.0.interruptible.store(false, Ordering::SeqCst);
        done
    }

    /// Asks to stop from inside the program.
    pub fn request(&self) {
        self.0.asked.store(usize::MAX, Ordering::SeqCst);
    }

    /// The same for somebody who waits: nothing is evaluated any more.
    pub fn interrupt(&self) {
        self.0.asked.store(INTERRUPT, Ordering::SeqCst);
    }

    /// Whether to save and end now.
    pub fn requested(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst) != 0
    }

    /// What asked, for the log and `run.json`.
    pub fn reason(&self) -> Option<&'static str> {
        #[cfg(unix)]
        if self.0.asked.load(Ordering::SeqCst) == SIGUSR1 as usize {
            return Some("SIGUSR1");
        }
        match self.0.asked.load(Ordering::SeqCst) {
            0 => None,
            n if n == SIGINT as usize => Some("SIGINT"),
            n if n == SIGTERM as usize => Some("SIGTERM"),
            INTERRUPT => Some(INTERRUPTED),
            _ => Some("a request"),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn signals_set_the_flag() {
        let stop = StopFlag::install().unwrap();
        assert!(!stop.requested() && stop.reason().is_none());
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert!(stop.requested());
        assert_eq!(stop.reason(), Some("SIGUSR1"));
    }
}
