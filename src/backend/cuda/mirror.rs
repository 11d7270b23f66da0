//! Variables on both sides: which one has the newest numbers.

use crate::tape::VarId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Which side has the newest numbers of each variable.
#[derive(Debug)]
pub struct Mirror {
    /// The host's copy is older than the device's.
    stale: Vec<AtomicBool>,
    /// Held while a copy is brought up to date.
    copying: Mutex<()>,
    /// The host's copy is newer.
    written: Vec<bool>,
}

impl Mirror {
    /// Of `variables` fresh variables, which are zero on both sides.
    pub fn new(variables: usize) -> Self {
        let stale = (0..variables).map(|_| AtomicBool::new(false)).collect();
        Self { stale, copying: Mutex::new(()), written: vec![false; variables] }
    }

    /// Brings the host's copy of a variable up to date by `copy`, if it is older. Several threads may ask for the same
    /// variable: all return when its numbers are there, and one copies them.
    pub fn refresh(&self, var: VarId, copy: impl FnOnce()) {
        let stale = &self.stale[var.0 as usize];
        if !stale.load(Acquire) {
            return;
        }
        let _one = self.copying.lock().unwrap_or_else(|e| e.into_inner());
        if stale.load(Relaxed) {
            copy();
            // Stored last: a thread that sees `false` reads the numbers at once.
            stale.store(false, Release);
        }
    }

    /// The host has brought a variable up to date by other means.
    pub fn is_fresh(&mut self, var: VarId) {
        *self.stale[var.0 as usize].get_mut() = false;
    }

    /// The host writes a variable.
    pub fn write(&mut self, var: VarId) {
        self.written[var.0 as usize] = true;
    }

    /// Whether the host wrote a variable since it was sent.
    pub fn is_written(&self, var: VarId) -> bool {
        self.written[var.0 as usize]
    }

    /// The device has everything that the host wrote.
    pub fn sent(&mut self) {
        self.written.fill(false);
    }

    /// Everything may have changed on the device.
    pub fn age(&mut self) {
        self.stale.iter_mut().for_each(|s| *s.get_mut() = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[test]
    fn readers_of_an_old_variable_wait_for_the_one_that_copies_it() {
        let mut mirror = Mirror::new(2);
        mirror.age();
        let (copies, number, both) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(2));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    both.wait();
                    mirror.refresh(VarId(1), || {
                        copies.fetch_add(1, Relaxed);
                        std::thread::sleep(Duration::from_millis(20));
                        number.store(7, Relaxed);
                    });
                    assert_eq!(number.load(Relaxed), 7, "the numbers are there");
                });
            }
        });
        assert_eq!(copies.load(Relaxed), 1);
        mirror.refresh(VarId(1), || panic!("it is up to date"));
        mirror.age();
        mirror.is_fresh(VarId(1));
        mirror.refresh(VarId(1), || panic!("it is up to date"));
    }
}
