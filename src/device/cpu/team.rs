//! A team of threads that walk the same program in step.
//!
//! A training epoch on a small model is thousands of operations of a few microseconds. Handing each to a work-stealing
//! pool costs as much as the work, so the team meets once a program: every worker executes the same list of stages,
//! takes tasks of a stage from a shared counter and waits at a barrier before the next one. Nothing is allocated.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Spins before a waiting thread yields its core; some microseconds.
const SPINS: u32 = 1 << 12;
/// Yields before an idle worker sleeps until the next job.
const YIELDS: u32 = 1 << 8;

/// Bytes of a worker's stack. Kernels keep their temporaries in scratch memory; a few rows stand on the stack, and what a
/// robot of the largest class takes with the gradient of its step (`sim::size`). What is not touched is not resident.
pub const STACK: usize = 2 << 20;

/// A unit of lock-step work: `stages` stages of `tasks(stage)` tasks.
pub trait Job: Sync {
    fn stages(&self) -> usize;
    fn tasks(&self, stage: usize) -> usize;
    fn run(&self, stage: usize, task: usize);
}

#[derive(Clone, Copy)]
struct JobPtr(*const (dyn Job + 'static));
// SAFETY: a Job is Sync, and `Team::run` keeps it alive until every worker has left it.
unsafe impl Send for JobPtr {}

struct Shared {
    threads: usize,
    /// The job in progress; `generation` counts jobs and publishes it.
    job: Mutex<Option<JobPtr>>,
    wake: Condvar,
    generation: AtomicUsize,
    quit: AtomicBool,
    /// Next task of the current stage.
    next: AtomicUsize,
    /// Barrier: threads that have arrived, and how often all have.
    arrived: AtomicUsize,
    barriers: AtomicUsize,
    /// A kernel panicked: the rest of the job is skipped.
    failed: AtomicBool,
}

/// `threads - 1` workers and the thread that calls [`Team::run`].
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Threads that a setting means: 0 is every core the process may use.
pub fn count(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, |n| n.get()) }
}

impl Team {
    /// `threads` as [`count`] reads it.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = count(threads);
        let shared = Arc::new(Shared {
            threads,
            job: Mutex::new(None),
            wake: Condvar::new(),
            generation: AtomicUsize::new(0),
            quit: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            barriers: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        let mut team = Self { shared, workers: Vec::new() };
        for i in 1..threads {
            let shared = team.shared.clone();
            let thread = std::thread::Builder::new().name(format!("pwm-{i}")).stack_size(STACK);
            let worker = thread.spawn(move || shared.work())?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Calls `f` once on every thread.
    pub fn on_each(&self, f: &(dyn Fn() + Sync)) -> Result<(), JobPanicked> {
        self.run(&OnEach { f, threads: self.threads(), begun: AtomicUsize::new(0) })
    }

    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `job` on all threads and returns when it is done. `Err` if a task panicked.
    pub fn run(&self, job: &dyn Job) -> Result<(), JobPanicked> {
        let s = &*self.shared;
        s.failed.store(false, Relaxed);
        if s.threads > 1 {
            // SAFETY: only the lifetime is erased; the last barrier of `walk` keeps workers from outliving it.
            let erased = JobPtr(unsafe { std::mem::transmute::<*const dyn Job, *const (dyn Job + 'static)>(job) });
            *s.job.lock().unwrap_or_else(|e| e.into_inner()) = Some(erased);
            s.generation.fetch_add(1, Release);
            s.wake.notify_all();
        }
        s.walk(job);
        if s.failed.load(Acquire) { Err(JobPanicked) } else { Ok(()) }
    }
}

/// One task for each thread: nobody gets two, because each waits until all have begun.
struct OnEach<'a> {
    f: &'a (dyn Fn() + Sync),
    threads: usize,
    begun: AtomicUsize,
}

impl Job for OnEach<'_> {
    fn stages(&self) -> usize {
        1
    }
    fn tasks(&self, _: usize) -> usize {
        self.threads
    }
    fn run(&self, _: usize, _: usize) {
        self.begun.fetch_add(1, AcqRel);
        while self.begun.load(Acquire) < self.threads {
            std::thread::yield_now();
        }
        (self.f)();
    }
}

/// A task of the job panicked; its message went to stderr.
#[derive(Debug, thiserror::Error)]
#[error("a kernel failed; its message is above")]
pub struct JobPanicked;

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Release);
        {
            let _guard = self.shared.job.lock();
            self.shared.generation.fetch_add(1, Release);
            self.shared.wake.notify_all();
        }
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

impl Shared {
    /// Life of a worker.
    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.await_job(seen);
            if self.quit.load(Acquire) {
                return;
            }
            let job = *self.job.lock().unwrap_or_else(|e| e.into_inner());
            if let Some(job) = job {
                // SAFETY: `Team::run` does not return before this worker passed the last barrier.
                self.walk(unsafe { &*job.0 });
            }
        }
    }

    /// Waits, spinning, then yielding, then asleep, until the generation differs from `seen`.
    fn await_job(&self, seen: usize) -> usize {
        for round in 0..SPINS + YIELDS {
            let now = self.generation.load(Acquire);
            if now != seen {
                return now;
            }
            if round < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let mut guard = self.job.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let now = self.generation.load(Acquire);
            if now != seen {
                return now;
            }
            guard = self.wake.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
    }

    fn walk(&self, job: &dyn Job) {
        for stage in 0..job.stages() {
            let tasks = job.tasks(stage);
            loop {
                let task = self.next.fetch_add(1, Relaxed);
                if task >= tasks {
                    break;
                }
                if !self.failed.load(Relaxed) && catch_unwind(AssertUnwindSafe(|| job.run(stage, task))).is_err() {
                    self.failed.store(true, Release);
                }
            }
            self.barrier();
        }
    }

    /// All threads leave after the last has arrived, which resets the task counter.
    fn barrier(&self) {
        let round = self.barriers.load(Acquire);
        if self.arrived.fetch_add(1, AcqRel) + 1 == self.threads {
            self.next.store(0, Relaxed);
            self.arrived.store(0, Relaxed);
            self.barriers.fetch_add(1, Release);
            return;
        }
        let mut spins = 0u32;
        while self.barriers.load(Acquire) == round {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}
