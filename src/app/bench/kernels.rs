//! Every operation of an epoch by itself, at the shapes of a configuration, forward and reverse: what it takes, beside
//! what its operands' bytes and its arithmetic would take at the limits of the device.

use super::epoch::until_it_learns;
use super::measure::Measurement;
use crate::algo::{Runner, target};
use crate::backend::Target;
use crate::config::{Config, Device};
use crate::tape::profile::OpKind;
use crate::tape::{Machine, ProgramId, RunError};
use std::time::Instant;

/// One kind of operation: the same operation on the same shapes.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// Program of the epoch that it belongs to.
    pub program: &'static str,
    pub op: &'static str,
    pub shapes: String,
    /// Calls in an epoch.
    pub calls: usize,
    /// Of one call: bytes of its operands, each once, and floating-point operations where they are counted.
    pub bytes: f64,
    pub flops: f64,
    pub timing: Measurement,
}

/// What a device can do at most: bytes and floating-point operations a second; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceilings {
    pub bytes: f64,
    pub flops: f64,
}

impl KernelTime {
    /// Shares of the two ceilings that a call reaches.
    pub fn shares(&self, c: Ceilings) -> [f64; 2] {
        [(self.bytes, c.bytes), (self.flops, c.flops)].map(|(x, most)| x / self.timing.median / most)
    }
}

/// How the operations are called whose arithmetic is counted, in multiply-adds: layers. Of the others only bytes are
/// known.
const COUNTED: &str = "linear";

/// Times the operations of an ordinary epoch of `c`, about `seconds` for each kind; on the processor on one thread.
pub fn kernels(c: &Config, seconds: f64) -> anyhow::Result<Vec<KernelTime>> {
    let mut all = vec![];
    each_program(c, &mut |machine, id, runs| {
        let program = machine.name(id);
        for k in machine.kinds(id, seconds)? {
            let counted = k.op.starts_with(COUNTED);
            all.push(KernelTime {
                program,
                op: k.op,
                calls: runs * k.calls,
                bytes: k.bytes as f64,
                flops: if counted { 2.0 * k.operations as f64 } else { f64::NAN },
                timing: Measurement::of(k.seconds),
                shapes: k.shapes,
            });
        }
        Ok(())
    })?;
    // What takes most of an epoch first.
    let share = |k: &KernelTime| k.calls as f64 * k.timing.median;
    all.sort_by(|a, b| share(b).total_cmp(&share(a)));
    Ok(all)
}

/// What is shown a kind of operation: the name of its program, the kind, and what runs it once.
pub type Visitor<'a> = &'a mut dyn FnMut(&str, &OpKind, &mut dyn FnMut());

/// Shows `visit` each kind of operation of an epoch on the processor.
pub fn visit(c: &Config, visit: Visitor) -> anyhow::Result<()> {
    each_program(&Config { device: Device::Cpu, ..c.clone() }, &mut |machine, id, _| {
        let program = machine.name(id);
        machine.visit_kinds(id, &mut |kind, run| visit(program, kind, run))
    })
}

type Each<'a> = &'a mut dyn FnMut(&mut Machine<f32>, ProgramId, usize) -> Result<(), RunError>;

/// The programs of an ordinary epoch of `c`, each with its runs, once the replay has something to learn from: shapes
/// never change, but what is drawn from an empty replay is not read.
fn each_program(c: &Config, each: Each) -> anyhow::Result<()> {
    let mut t = Runner::<f32>::on(c, &target(crate::env::device(c), c.precision)?)?;
    until_it_learns(&mut t)?;
    for (id, runs) in t.steps().to_vec() {
        each(&mut t.machine, id, runs)?;
    }
    Ok(())
}

/// What the device can do: a GPU by its clocks, the processor as one thread copies memory and multiplies matrices.
pub fn ceilings(c: &Config) -> anyhow::Result<Ceilings> {
    if let Target::Cuda(context, _) = target(crate::env::device(c), c.precision)? {
        let [bytes, flops] = context.info.ceilings();
        return Ok(Ceilings { bytes, flops });
    }
    const WORDS: usize = 16 << 20;
    let (from, mut to) = (vec![1.0f32; WORDS], vec![0.0f32; WORDS]);
    let copy = || {
        let start = Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
        Ok::<f64, anyhow::Error>(start.elapsed().as_secs_f64())
    };
    let copied = super::repeat(0.2, copy)?.min;
    let square = Config { threads: 1, wm_batch_size: 32, horizon: 16, units: vec![512], ..c.clone() };
    let (timing, tflops) = super::time_phase(super::Phase::Gemm, &square, 0.2)?;
    let flops = tflops.map_or(0.0, |t| t * 1e12 * timing.median / timing.min);
    Ok(Ceilings { bytes: 8.0 * WORDS as f64 / copied, flops })
}
