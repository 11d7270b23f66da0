//! Requests to stop, from the keyboard or a cluster's scheduler.
//!
//! SIGINT, SIGTERM and SIGUSR1 (what SLURM sends before the time limit) set a flag that the epoch loop reads between
//! epochs: it saves and ends. A second signal of any of the three ends the process at once with status 128 + its number
//! (130 for SIGINT); files are written whole or not
//! at all (`atomic.rs`), so even that leaves the last checkpoint good.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::*;
use signal_hook::flag;

#[cfg(unix)]
const STOPPING: [i32; 3] = [SIGINT, SIGTERM, SIGUSR1];
#[cfg(not(unix))]
const STOPPING: [i32; 2] = [SIGINT, SIGTERM];

/// Whether, and by which signal, the process was asked to stop. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

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
            flag::register_usize(signal, stop.0.clone(), signal as usize)?;
        }
        Ok(stop)
    }

    /// Asks to stop from inside the program.
    pub fn request(&self) {
        self.0.store(usize::MAX, Ordering::SeqCst);
    }

    /// Whether to save and end now.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// What asked, for the log and `run.json`.
    pub fn reason(&self) -> Option<&'static str> {
        #[cfg(unix)]
        if self.0.load(Ordering::SeqCst) == SIGUSR1 as usize {
            return Some("SIGUSR1");
        }
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            n if n == SIGINT as usize => Some("SIGINT"),
            n if n == SIGTERM as usize => Some("SIGTERM"),
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
