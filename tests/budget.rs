//! A plan accepts a budget if and only if a run under it trains. In a file of its own: the allocator that enforces the
//! budget serves the whole process.

mod support;

use crate::support::random_config;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::random_config::Draw;
use pwm::algo::{Runner, TrainError};
use pwm::app::train::{self, TrainArgs};
use pwm::backend::Target;
use pwm::config::{Bytes, load};
use pwm::io::metrics::{FILE_NAME, column, read_metrics};
use pwm::run::plan::{ArenaPlace, DoesNotFit, Planner};
use pwm::run::session::SessionError;
use pwm::run::signals::StopFlag;

/// The system's allocator with an end.
struct Capped;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CAP: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Takes `size` bytes of the budget, if they are there.
fn take(size: usize) -> bool {
    let now = LIVE.fetch_add(size, Relaxed) + size;
    if now > CAP.load(Relaxed) {
        LIVE.fetch_sub(size, Relaxed);
        return false;
    }
    PEAK.fetch_max(now, Relaxed);
    true
}

// SAFETY: every call goes to the system's allocator unchanged, or fails as an allocator may.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        if take(layout.size()) { unsafe { System.alloc(layout) } } else { null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        if take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { null_mut() }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new block may live side by side while one is copied to the other.
        if !take(size) {
            return null_mut();
        }
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static CAPPED: Capped = Capped;

/// Runs `f` with at most `bytes` more than are live now; returns also the most that were.
fn capped<T>(bytes: u64, f: impl FnOnce() -> T) -> (T, u64) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    CAP.store(before.saturating_add(bytes as usize), Relaxed);
    let result = f();
    CAP.store(usize::MAX, Relaxed);
    (result, (PEAK.load(Relaxed) - before) as u64)
}

/// A network of one unit may learn nothing, which ends a run too: not for want of memory.
fn trained(ended: anyhow::Result<()>) {
    if let Err(e) = ended {
        assert!(matches!(e.downcast_ref(), Some(SessionError::DeadSignal { .. })), "{e:#}");
    }
}

// Without the test harness (Cargo.toml), whose threads allocate too.
fn main() {
    // On a disk: a folder for passing files may lie in main memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut draw, mut accepted, mut refused, mut unbound, mut closest) = (Draw::new(77), 0, 0, 0, 0.0f64);
    for i in 0..50 {
        let mut settings = random_config::settings(&mut draw);
        let run = dir.path().join(i.to_string());
        settings.extend(
            ["max_epochs=12", "eval_every=6", "save_every=6", "log_every=1", "wm_iterations=1", "critic_iterations=1"]
                .map(Into::into),
        );
        settings.extend(["wm_bootstrap_iterations=2".into(), "replay_unfinished=true".into()]);
        settings.push(format!("run_dir={}", run.display()));
        let c = load(&settings).unwrap();
        let plan = Planner::new(&c, ArenaPlace::Host).least();
        // From well below to well above, and in every third case as close as can be.
        let need = plan.host();
        let budget = match i % 3 {
            0 => need - u64::from(i % 2 == 0),
            _ => (need as f64 * draw.number(70, 130) as f64 / 100.0) as u64,
        };
        // Code and stacks are no business of the allocator.
        let elsewhere: u64 = plan.fixed.iter().filter(|f| ["code", "stacks"].contains(&f.name)).map(|f| f.bytes).sum();
        let args = TrainArgs { overrides: settings, mem: Some(Bytes(budget)), ..TrainArgs::default() };
        let accepts = budget >= need;
        // Planning takes the tables, which the rest of a budget that is refused may not hold.
        // The allocator counts workspaces in the round sizes they are taken in.
        let cap = if accepts { budget - elsewhere + plan.unused } else { u64::MAX / 2 };
        let (ended, peak) = capped(cap, || train::run(&args, &mut std::io::sink(), &StopFlag::detached()));
        if accepts {
            trained(ended);
            let rows = read_metrics(&run.join(FILE_NAME)).unwrap();
            assert!(
                !column(&rows, "loss/dynamics").is_empty(),
                "configuration {i} has learned: {settings:?}",
                settings = args.overrides
            );
            // Nor does it take more to go on from its checkpoint.
            let on = TrainArgs { overrides: vec!["max_epochs=14".into()], resume: Some(run), ..args };
            let (ended, again) = capped(cap, || train::run(&on, &mut std::io::sink(), &StopFlag::detached()));
            trained(ended);
            accepted += 1;
            closest = closest.max(peak.max(again) as f64 / (need - elsewhere + plan.unused) as f64);
        } else {
            let refusal = ended.unwrap_err();
            assert!(refusal.is::<DoesNotFit>(), "{refusal:#}");
            assert!(!run.exists(), "a run that is refused leaves nothing");
            let tables = plan.fixed.iter().find(|f| f.name == "tables").unwrap().bytes;
            assert!(peak < 4 * tables + (1 << 20), "a refusal took {peak} bytes, the tables are {tables}");
            refused += 1;
            // And rightly: without the plan the system would refuse the arena. A budget below the tables ends earlier.
            let arena = plan.arena_bytes();
            if arena > tables {
                let bind = || Runner::<f32>::from_plan(&c, &Target::Cpu, &plan.exec_plan()).map(drop);
                let (bound, _) = capped(arena - 1, bind);
                assert!(matches!(bound, Err(TrainError::Memory(_))), "configuration {i}: {bound:?}");
                unbound += 1;
            }
        }
    }
    assert!(accepted > 10 && refused > 10 && unbound > 5, "{accepted} accepted, {refused} refused, {unbound} unbound");
    println!(
        "fifty_budgets_hold ... ok ({accepted} trained, {refused} refused, at most {:.0} % used)",
        100.0 * closest
    );
}
