//! Threads that step environments.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// One thread, the caller's, or several. Threads do not survive a fork: a child makes its own.
pub struct Pool {
    threads: usize,
    pool: Option<(u32, ThreadPool)>,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        Self { threads, pool: None }
    }

    /// Whether there are several.
    pub fn is_shared(&self) -> bool {
        self.threads > 1
    }

    /// Runs `work` so that rayon's parallel iterators inside use these threads.
    pub fn install<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
        if !self.is_shared() {
            return Ok(work());
        }
        let process = std::process::id();
        if self.pool.as_ref().is_some_and(|(made_in, _)| *made_in != process) {
            // Its threads are those of the parent; to drop it would wait for them.
            std::mem::forget(self.pool.take());
        }
        if self.pool.is_none() {
            let name = |i| format!("pwm-{i}");
            self.pool = Some((process, ThreadPoolBuilder::new().num_threads(self.threads).thread_name(name).build()?));
        }
        let (_, pool) = self.pool.as_ref().expect("invariant: just made");
        Ok(pool.install(work))
    }
}
