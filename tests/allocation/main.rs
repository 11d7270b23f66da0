//! Neither the training loop nor what it writes touches the heap. A program of its own: the counter sees the whole
//! process.

mod metrics;
#[path = "../support/mod.rs"]
mod support;

use crate::support::tiny;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use pwm::algo::Runner;
use pwm::config::Integrator;
use pwm::device::Real;
use pwm::device::cpu::packing;
use pwm::device::cpu::team::Team;
use pwm::io::metrics::{FILE_NAME, read_metrics};
use pwm::ops::flow::matching::velocity_error;
use pwm::ops::flow::{InputPart, Steps, VelocityField, integrate};
use pwm::ops::linear::{Epilogue, LayerVals, transpose};
use pwm::run::folder::{RunFolder, RunInfo};
use pwm::run::session::Session;
use pwm::tape::{DType, Machine, Program, Region, Vars, grad};

struct Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Whether blocks are filled with this byte; the last of them.
static PAINT: AtomicBool = AtomicBool::new(false);
const PAINTED: u8 = 0xa5;
static LAST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LAST_LEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        let p = unsafe { System.alloc(layout) };
        if PAINT.load(Ordering::Relaxed) && !p.is_null() {
            // SAFETY: the block that was just made.
            unsafe { p.write_bytes(PAINTED, layout.size()) };
            LAST.store(p, Ordering::Relaxed);
            LAST_LEN.store(layout.size(), Ordering::Relaxed);
        }
        p
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

// Without the test harness (Cargo.toml), whose main thread allocates at moments of its own.
fn main() {
    metrics::rows_and_progress_lines_do_not_allocate();
    println!("rows_and_progress_lines_do_not_allocate ... ok");
    epochs_allocate_nothing();
    println!("epochs_allocate_nothing ... ok");
    flows_pack_into_what_is_reserved();
    println!("flows_pack_into_what_is_reserved ... ok");
    products_fit_into_what_is_reserved();
    println!("products_fit_into_what_is_reserved ... ok");
}

fn epochs_allocate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A row of metrics every epoch; evaluations and checkpoints are not part of the promise.
    let c = tiny::config(&["max_epochs=200", "eval_every=1000", "save_every=1000", "log_every=1"]);
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let metrics = folder.file(FILE_NAME);
    let mut session = Session::begin(Runner::<f32>::new(&c).unwrap(), folder, RunInfo::begin(c.seed)).unwrap();
    // The library of products packs into a buffer that each worker allocates with its first wide product, which on a
    // busy machine may come late.
    for _ in 0..30 {
        session.epoch().unwrap();
    }
    assert!(session.runner.bootstrapped(), "every program has run once");
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 30..130 {
        session.epoch().unwrap();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    // The row before the first epoch, and one for each.
    assert_eq!(read_metrics(&metrics).unwrap().len(), 131);
}

/// Programs of a flow alone, there and back: no other product of theirs reserves what it needs.
fn flows_pack_into_what_is_reserved() {
    const ROWS: usize = 4000;
    const STATE: usize = 8;
    const HIDDEN: usize = 600;
    for back in [false, true] {
        let (mut vars, mut p) = (Vars::default(), Program::new("flow"));
        let mut count = 0;
        let mut add = |region, shape: &[usize]| {
            count += 1;
            vars.add(region, format!("variable {count}"), DType::Real, shape)
        };
        let start = add(Region::RolloutBuffers, &[ROWS, STATE]);
        // Weight and bias of each layer; the first also takes the time.
        let shapes = [vec![HIDDEN, STATE + 1], vec![HIDDEN], vec![STATE, HIDDEN], vec![STATE]];
        let parameters: Vec<_> = shapes.iter().map(|s| add(Region::Parameters, s)).collect();
        let gradients: Vec<_> = shapes.iter().map(|s| add(Region::Gradients, s)).collect();

        let v: Vec<_> = parameters.iter().map(|&x| p.var(&vars, x)).collect();
        let layers: Vec<_> = (v.chunks(2))
            .map(|v| {
                (
                    LayerVals { weight: v[0], transposed: transpose(&mut p, v[0]), bias: v[1], norm: None },
                    Epilogue::Bias,
                )
            })
            .collect();
        let field = VelocityField { layers: &layers, parts: &[InputPart::State, InputPart::Time], tangent: None };
        let steps = Steps { integrator: Integrator::Heun, substeps: 2 };
        let start = p.var(&vars, start);
        let end = integrate(&mut p, &field, steps, start, &[], true, None);
        let error = velocity_error(&mut p, end, start, start, vec![1.0]);
        if back {
            let wrt: Vec<_> = v.iter().zip(&gradients).map(|(&v, &g)| (v, p.var(&vars, g))).collect();
            grad(&mut p, &[(error, 1.0)], &wrt);
        }
        let mut m = Machine::<f32>::new(vars, vec![p], Arc::new(Team::new(1).unwrap())).unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        m.run(m.program(0)).unwrap();
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "back: {back}");
    }
}

/// Products of the widest shipped layers, forward and backward, in both precisions: they touch no more than is counted.
fn products_fit_into_what_is_reserved() {
    // Rows of a task, depth, columns: forward, to the input, and to the weights, whose depth is a batch of windows.
    let shapes = [
        (64, 776, 1792),
        (64, 1792, 1792),
        (64, 1792, 768),
        (64, 1792, 8),
        (64, 16_384, 1792),
        (8, 4096, 64),
        (32, 56, 400),
        (32, 128, 128),
        (32, 2048, 36),
        (32, 4096, 512),
        (64, 512, 512),
        (1, 37, 1),
    ];
    for (m, k, n) in shapes {
        fits::<f32>(m, k, n);
        fits::<f64>(m, k.min(2048), n);
    }
}

fn fits<F: Real>(m: usize, k: usize, n: usize) {
    let (a, b, mut c) = (vec![F::one(); m * k], vec![F::one(); k * n], vec![F::zero(); m * n]);
    let bytes = packing::bytes(m, k, n, size_of::<F>());
    PAINT.store(true, Ordering::Relaxed);
    packing::reserve::<F>(bytes, &[]);
    PAINT.store(false, Ordering::Relaxed);
    let (workspace, len) = (LAST.load(Ordering::Relaxed), LAST_LEN.load(Ordering::Relaxed));
    assert_eq!(len, packing::taken(bytes));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for transposed in [false, true] {
        let (row, column) = if transposed { (1, m) } else { (k, 1) };
        // SAFETY: a, b and c hold m x k, k x n and m x n numbers.
        unsafe { F::gemm((m, k, n), (a.as_ptr(), row, column), (b.as_ptr(), n, 1), false, (c.as_mut_ptr(), n, 1)) };
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{m} x {k} times {k} x {n}");
    assert!(c.iter().all(|x| x.value() == k as f64));
    // SAFETY: this thread's workspace, which no product is using.
    let workspace = unsafe { std::slice::from_raw_parts(workspace, len) };
    let touched = workspace.iter().rposition(|b| *b != PAINTED).map_or(0, |at| at + 1);
    println!("{m} x {k} times {k} x {n}: {touched} of {bytes} bytes");
    assert!(touched <= bytes, "{m} x {k} times {k} x {n}: {touched} bytes touched, {bytes} counted");
}
