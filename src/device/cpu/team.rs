//! A team of threads that walk the same program in step.
//!
//! A training epoch on a small model is thousands of operations of a few microseconds. Handing each to a work-stealing
//! pool costs as much as the work, so the team is given a whole program: every thread takes tasks of the open stage
//! from a shared counter, and the thread that finishes the last task opens the next stage. Nothing is allocated.
//!
//! A stage waits for its tasks, not for threads. A thread that sleeps, or that the operating system has stopped between
//! two tasks, holds up no other: they take its share. So a run that shares its cores with other processes goes on with
//! the cores it is given. A thread that finds no task spins for about as long as a stage takes, because being woken
//! costs as much, and then sleeps until the next stage opens. No thread yields: a core that is yielded to another
//! process is gone for a whole tick of its scheduler.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread that finds no task spins so long before it sleeps: longer than most stages, and a small part of the
/// milliseconds for which a scheduler stops a thread.
const SPIN: Duration = Duration::from_micros(if cfg!(miri) { 0 } else { 200 });
/// Spins between two looks at the clock.
const SPINS: u32 = 64;

/// Bytes of a worker's stack. Kernels keep their temporaries in scratch memory; a few rows stand on the stack, and what
/// a robot of the largest class takes with the gradient of its step (`sim::size`). What is not touched is not resident.
pub const STACK: usize = 2 << 20;

/// A unit of lock-step work: `stages` stages of `tasks(stage)` tasks, fewer than 2^31 each. A panic in `tasks` or `run`
/// ends the job.
pub trait Job: Sync {
    fn stages(&self) -> usize;
    fn tasks(&self, stage: usize) -> usize;
    fn run(&self, stage: usize, task: usize);
}

/// The job in progress. A pointer, because a reference that a worker holds would have to stay valid until the worker
/// lets go of it, and [`Team::run`] returns when the last task is done, whatever the workers do then.
#[derive(Clone, Copy)]
struct Posted {
    job: *const (dyn Job + 'static),
    stages: usize,
    /// Number of its first stage.
    first: u32,
}

struct Shared {
    threads: usize,
    /// How long its threads spin.
    spin: Duration,
    /// The stage that is open: its number in the lower half, the tasks that no thread has taken yet in the upper half
    /// (signed: below zero if threads asked in vain). Numbers of stages go on from job to job, and around after 2^32.
    open: AtomicU64,
    /// Tasks of the open stage: all of them, and those that are done.
    tasks: AtomicUsize,
    done: AtomicUsize,
    /// Written by [`Team::run`] while no stage has tasks, read by threads that have a task.
    posted: UnsafeCell<Option<Posted>>,
    /// The job panicked: the rest of it is skipped.
    failed: AtomicBool,
    quit: AtomicBool,
    /// Whoever sleeps does so on `wake` with `sleep`, and says so before. Taken down by who is about to wake all.
    asleep: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Held by the thread whose job is in progress.
    turn: Mutex<()>,
}

// SAFETY: `posted` alone is not `Send` and `Sync`. Accesses to it are ordered by `open`: it is written before a stage
// with tasks is opened (release), and read by threads that took a task of such a stage (acquire). A job is `Sync`, and
// `Team::run` keeps it alive until every task is done.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// `threads - 1` workers and the thread that calls [`Team::run`].
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Threads that a setting means: 0 is every core the process may use.
pub fn count(threads: usize) -> usize {
    if threads > 0 { threads } else { cores() }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

impl Team {
    /// `threads` as [`count`] reads it.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = count(threads);
        let shared = Arc::new(Shared::new(threads));
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
        self.run(&OnEach { f, threads: self.threads(), begun: Barrier::new(self.threads()) })
    }

    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `job` on all threads and returns when it is done. `Err` if the job panicked. Several threads may call this:
    /// one job runs after the other. A task must not call it, since its own job would have to end first.
    pub fn run(&self, job: &dyn Job) -> Result<(), JobPanicked> {
        let s = &*self.shared;
        let stages = job.stages();
        let _turn = locked(&s.turn);
        s.failed.store(false, Relaxed);
        let first = number(s.open.load(Relaxed)).wrapping_add(1);
        // SAFETY: only the lifetime is erased; the job is used by threads that have a task of it, and by this one.
        let job = unsafe { std::mem::transmute::<*const dyn Job, *const (dyn Job + 'static)>(job) };
        let posted = Posted { job, stages, first };
        // SAFETY: all tasks of the last job are done and those of this one are opened below, so no thread reads
        // `posted`.
        unsafe { *s.posted.get() = Some(posted) };
        // SAFETY: the job is borrowed by this function; no stage of it is open.
        unsafe { s.open_from(posted, 0) };
        let end = first.wrapping_add(stages as u32);
        loop {
            let stage = s.take_tasks();
            if stage == end {
                break;
            }
            s.wait(stage);
        }
        if s.failed.load(Relaxed) { Err(JobPanicked) } else { Ok(()) }
    }
}

/// One task for each thread: no thread gets two, because each task waits until all have begun.
struct OnEach<'a> {
    f: &'a (dyn Fn() + Sync),
    threads: usize,
    begun: Barrier,
}

impl Job for OnEach<'_> {
    fn stages(&self) -> usize {
        1
    }
    fn tasks(&self, _: usize) -> usize {
        self.threads
    }
    fn run(&self, _: usize, _: usize) {
        self.begun.wait();
        (self.f)();
    }
}

/// The job panicked; its message went to stderr.
#[derive(Debug, thiserror::Error)]
#[error("a kernel failed; its message is above")]
pub struct JobPanicked;

impl Drop for Team {
    fn drop(&mut self) {
        let s = &*self.shared;
        s.quit.store(true, Relaxed);
        s.publish(number(s.open.load(Relaxed)).wrapping_add(1), 0);
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

/// Stage and number of tasks as they stand in [`Shared::open`].
fn packed(stage: u32, tasks: usize) -> u64 {
    let tasks = i32::try_from(tasks).expect("invariant: a stage has fewer than 2^31 tasks");
    (tasks as u64) << 32 | u64::from(stage)
}

fn number(open: u64) -> u32 {
    open as u32
}

fn left(open: u64) -> i32 {
    (open >> 32) as i32
}

fn locked(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    fn new(threads: usize) -> Self {
        Self {
            threads,
            // Without a core for each thread, one that spins keeps another from its task.
            spin: if threads <= cores() { SPIN } else { Duration::ZERO },
            open: AtomicU64::new(0),
            tasks: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            posted: UnsafeCell::new(None),
            failed: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            turn: Mutex::new(()),
        }
    }

    /// The loop of a worker thread.
    fn work(&self) {
        loop {
            let stage = self.take_tasks();
            if self.quit.load(Relaxed) {
                return;
            }
            self.wait(stage);
        }
    }

    /// Runs tasks of the open stage and of those after it until none is left. Returns the number of the stage in which
    /// this thread found none.
    fn take_tasks(&self) -> u32 {
        // Tasks of the open stage that this thread has done and not yet added to `done`, and all tasks of that stage:
        // it stays open until they are added.
        let (mut mine, mut all) = (0, 0);
        loop {
            let open = self.open.fetch_sub(1 << 32, AcqRel);
            if left(open) > 0 {
                all = self.tasks.load(Relaxed);
                // SAFETY: this thread has a task, so the job is alive and `posted` is not written.
                let posted = unsafe { (*self.posted.get()).expect("invariant: a task has its job") };
                let (stage, task) = (number(open).wrapping_sub(posted.first) as usize, all - left(open) as usize);
                // SAFETY: the job lives until this thread has counted its task.
                let run = || unsafe { (*posted.job).run(stage, task) };
                if !self.failed.load(Relaxed) && catch_unwind(AssertUnwindSafe(run)).is_err() {
                    self.failed.store(true, Relaxed);
                }
                mine += 1;
                continue;
            }
            if mine == 0 {
                return number(open);
            }
            if self.done.fetch_add(mine, AcqRel) + mine == all {
                // SAFETY: all tasks of the stage are done, and this thread alone knows it: until it opens the next
                // stage or ends the job, `Team::run` waits and keeps the job alive.
                unsafe {
                    let posted = (*self.posted.get()).expect("invariant: a task has its job");
                    self.open_from(posted, number(open).wrapping_sub(posted.first) as usize + 1);
                }
            }
            mine = 0;
        }
    }

    /// Opens the first stage from `stage` on that has tasks, or ends the job: also one that cannot count its tasks,
    /// since a thread that ended here would leave the others waiting for ever.
    ///
    /// # Safety
    /// The job is alive, and every task of its opened stages is done.
    unsafe fn open_from(&self, posted: Posted, mut stage: usize) {
        let mut tasks = 0;
        while stage < posted.stages {
            let count = || {
                // SAFETY: the caller's promise; the job ends with `publish` below.
                let tasks = unsafe { (*posted.job).tasks(stage) };
                assert!(tasks <= i32::MAX as usize, "invariant: a stage has fewer than 2^31 tasks");
                tasks
            };
            match catch_unwind(AssertUnwindSafe(count)) {
                Ok(0) => stage += 1,
                Ok(some) => {
                    tasks = some;
                    break;
                }
                Err(_) => {
                    self.failed.store(true, Relaxed);
                    stage = posted.stages;
                }
            }
        }
        self.tasks.store(tasks, Relaxed);
        self.done.store(0, Relaxed);
        self.publish(posted.first.wrapping_add(stage as u32), tasks);
    }

    /// Opens a stage and wakes who sleeps.
    fn publish(&self, stage: u32, tasks: usize) {
        self.open.store(packed(stage, tasks), Release);
        // Here and where a thread goes to sleep `asleep` is exchanged, and of two exchanges the later one sees the other:
        // it is this one, which then wakes the sleeper, or the sleeper's, which then sees the stage that was opened.
        if self.asleep.swap(false, AcqRel) {
            // One that has looked at `open` and does not sleep yet holds this.
            drop(locked(&self.sleep));
            self.wake.notify_all();
        }
    }

    /// Waits until another stage than `stage` is open.
    fn wait(&self, stage: u32) {
        let over = || number(self.open.load(Acquire)) != stage;
        if !self.spin.is_zero() {
            let start = Instant::now();
            while start.elapsed() < self.spin {
                for _ in 0..SPINS {
                    if over() {
                        return;
                    }
                    std::hint::spin_loop();
                }
            }
        }
        let mut guard = locked(&self.sleep);
        loop {
            let others = self.asleep.swap(true, AcqRel);
            if over() {
                // A flag for nobody would make whoever opens the next stage call the operating system. This is no
                // exchange: who comes to sleep next learns of open stages through `sleep`.
                self.asleep.store(others, Relaxed);
                return;
            }
            guard = self.wake.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Counts how often each task ran, and sees whether a stage began before the one before was over.
    struct Counted {
        stages: Vec<Vec<AtomicUsize>>,
        early: AtomicBool,
        /// Stages whose first task takes some milliseconds.
        slow: fn(usize) -> bool,
    }

    impl Counted {
        fn new(tasks: &[usize], slow: fn(usize) -> bool) -> Self {
            let stages = tasks.iter().map(|&n| (0..n).map(|_| AtomicUsize::new(0)).collect()).collect();
            Self { stages, early: AtomicBool::new(false), slow }
        }

        fn assert_each(&self, times: usize) {
            assert!(!self.early.load(Relaxed), "a stage began before the one before was over");
            let all = self.stages.iter().flatten();
            all.for_each(|n| assert_eq!(n.load(Relaxed), times, "every task runs once a job"));
        }
    }

    impl Job for Counted {
        fn stages(&self) -> usize {
            self.stages.len()
        }
        fn tasks(&self, stage: usize) -> usize {
            self.stages[stage].len()
        }
        fn run(&self, stage: usize, task: usize) {
            if task == 0 && (self.slow)(stage) {
                thread::sleep(Duration::from_millis(3));
            }
            let mine = self.stages[stage][task].fetch_add(1, Relaxed) + 1;
            if let Some(before) = stage.checked_sub(1) {
                let late = self.stages[before].iter().any(|n| n.load(Relaxed) < mine);
                self.early.fetch_or(late, Relaxed);
            }
        }
    }

    const MANY: usize = if cfg!(miri) { 8 } else { 2000 };

    #[test]
    fn every_task_runs_once_and_stages_follow_each_other() {
        for threads in [1, 2, 3, 8] {
            let team = Team::new(threads).unwrap();
            let job = Counted::new(&[5, 0, 1, 17, 0, 0, 64, 2, 0], |_| false);
            for _ in 0..MANY {
                team.run(&job).unwrap();
            }
            job.assert_each(MANY);
            team.run(&Counted::new(&[], |_| false)).unwrap();
            team.run(&Counted::new(&[0, 0], |_| false)).unwrap();
        }
    }

    #[test]
    fn sleepers_are_woken() {
        let team = Team::new(3).unwrap();
        let job = Counted::new(&[4, 1, 4, 1, 8], |stage| stage % 2 == 1);
        for _ in 0..10 {
            team.run(&job).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        job.assert_each(10);
    }

    #[test]
    fn two_callers_take_turns() {
        let team = Team::new(2).unwrap();
        let jobs = [Counted::new(&[3, 2, 9], |_| false), Counted::new(&[7, 1], |_| false)];
        thread::scope(|scope| {
            for job in &jobs {
                scope.spawn(|| (0..MANY).for_each(|_| team.run(job).unwrap()));
            }
        });
        jobs.iter().for_each(|j| j.assert_each(MANY));
    }

    #[test]
    fn each_thread_is_called_once() {
        let team = Team::new(4).unwrap();
        for _ in 0..5 {
            let seen = Mutex::new(vec![]);
            team.on_each(&|| seen.lock().unwrap().push(thread::current().id())).unwrap();
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|id| format!("{id:?}"));
            seen.dedup();
            assert_eq!(seen.len(), 4);
        }
    }

    #[test]
    fn a_thread_without_a_core_holds_nobody_up() {
        // The workers of this team never run at all.
        let team = Team { shared: Arc::new(Shared::new(3)), workers: vec![] };
        let job = Counted::new(&[4, 1, 9], |_| false);
        team.run(&job).unwrap();
        job.assert_each(1);
    }

    #[test]
    fn a_panic_ends_the_job_and_not_the_team() {
        struct Panics;
        impl Job for Panics {
            fn stages(&self) -> usize {
                2
            }
            fn tasks(&self, _: usize) -> usize {
                5
            }
            fn run(&self, stage: usize, task: usize) {
                assert!((stage, task) != (0, 3), "the task of this test that panics");
            }
        }
        let team = Team::new(2).unwrap();
        assert!(team.run(&Panics).is_err());
        let job = Counted::new(&[3, 3], |_| false);
        team.run(&job).unwrap();
        job.assert_each(1);
    }

    /// Whoever finishes a stage counts the tasks of the next one. A worker that ended then would leave the rest
    /// waiting.
    #[test]
    fn a_job_that_cannot_count_its_tasks_ends_too() {
        struct Uncounted {
            bad: usize,
            huge: bool,
            ran: AtomicUsize,
        }
        impl Job for Uncounted {
            fn stages(&self) -> usize {
                4
            }
            fn tasks(&self, stage: usize) -> usize {
                match (stage == self.bad, self.huge) {
                    (false, _) => 3,
                    (true, true) => 1 << 31,
                    (true, false) => panic!("the count of this test that panics"),
                }
            }
            fn run(&self, _: usize, _: usize) {
                // Long enough that workers take part, and so finish stages.
                thread::sleep(Duration::from_millis(1));
                self.ran.fetch_add(1, Relaxed);
            }
        }
        for threads in [1, 3] {
            let team = Team::new(threads).unwrap();
            for (bad, huge) in [(0, false), (1, false), (2, true), (3, false)] {
                let job = Uncounted { bad, huge, ran: AtomicUsize::new(0) };
                assert!(team.run(&job).is_err());
                assert_eq!(job.ran.into_inner(), 3 * bad, "the stages before it, and none behind");
                let good = Counted::new(&[3, 3], |_| false);
                team.run(&good).unwrap();
                good.assert_each(1);
            }
        }
    }

    #[test]
    fn only_a_thread_that_sleeps_says_so() {
        let shared = Shared { spin: Duration::ZERO, ..Shared::new(2) };
        shared.publish(1, 0);
        shared.wait(0);
        assert!(!shared.asleep.load(Relaxed), "the stage was over: nobody is to be woken");
        // Another who sleeps is not forgotten.
        shared.asleep.store(true, Relaxed);
        shared.wait(0);
        assert!(shared.asleep.load(Relaxed));
    }
}
