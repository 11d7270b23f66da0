//! Flow: a velocity field, integrated over one unit of model time.
//!
//! ```text
//! dx/dτ = v(x, c, τ),   τ from 0 to 1 in K substeps of h = 1/K,   x [M, D], c [M, ..] held fixed
//! u_1 = x_k,  u_i = x_k + h a_i v_(i-1),  v_i = v(u_i, c, τ_k + h a_i),  x_(k+1) = x_k + h sum_i b_i v_i
//! ```
//!
//! | method | a | b | order |
//! |---|---|---|---|
//! | `euler` | 0 | 1 | 1 |
//! | `heun` | 0, 1 | 1/2, 1/2 | 2 |
//! | `rk4` | 0, 1/2, 1/2, 1 | 1/6, 1/3, 1/3, 1/6 | 4 |
//!
//! The field is a stack of fully connected layers. All substeps, stages and layers are *one* operation: rows do not
//! depend on each other, so a task takes a tile of rows through everything without meeting the others, and what the
//! fixed inputs `c` add to the first layer is computed once.
//!
//! The reverse pass differentiates the discrete steps exactly. Only latents between substeps are kept (or, if asked,
//! nothing at all: they are then integrated again); stages and activations are computed again, one substep at a time,
//! so that scratch memory does not grow with K. Gradients of weights are products over all stages of a substep at once.

mod cpu;
mod cpu_grad;
mod cuda;
pub mod matching;
pub mod simplex;

use crate::config::Integrator;
use crate::device::cpu::packing;
use crate::device::cuda::Launch;
use crate::ops::linear::{Epilogue, GradOutput, LayerVals};
use crate::tape::cuda::Operands;
use crate::tape::grad::Sink;
use crate::tape::{Adjoint, Op, Program, Val};

/// A stage of a method: where it stands inside the substep, and its weight. It starts from the velocity of the stage
/// before it.
#[derive(Clone, Copy, Debug)]
struct Stage {
    a: f64,
    b: f64,
}

const fn stage(a: f64, b: f64) -> Stage {
    Stage { a, b }
}

const EULER: &[Stage] = &[stage(0.0, 1.0)];
const HEUN: &[Stage] = &[stage(0.0, 0.5), stage(1.0, 0.5)];
const RK4: &[Stage] = &[stage(0.0, 1.0 / 6.0), stage(0.5, 1.0 / 3.0), stage(0.5, 1.0 / 3.0), stage(1.0, 1.0 / 6.0)];

fn stages(i: Integrator) -> &'static [Stage] {
    match i {
        Integrator::Euler => EULER,
        Integrator::Heun => HEUN,
        Integrator::Rk4 => RK4,
    }
}

/// Velocity evaluations of one integration.
pub fn evaluations(integrator: Integrator, substeps: usize) -> usize {
    stages(integrator).len() * substeps
}

/// A group of input columns of the field's first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputPart {
    /// What is integrated.
    State,
    /// The fixed input of this number.
    Fixed(usize),
    /// Model time, one column.
    Time,
}

/// A velocity field inside a program.
#[derive(Clone, Copy, Debug)]
pub struct VelocityField<'a> {
    pub layers: &'a [(LayerVals, Epilogue)],
    /// Input columns of the first layer, in order.
    pub parts: &'a [InputPart],
    /// Size of the groups whose mean is removed from the velocity; none for no removal.
    pub tangent: Option<usize>,
}

/// How a field is integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub integrator: Integrator,
    pub substeps: usize,
}

/// Appends the integration of `field` from `state` `[M, D]` with fixed inputs `[M, ..]`; returns the end point, which
/// goes to `out` if given. `keep` keeps the latents between substeps for the reverse pass, `(K - 1) M D` numbers;
/// without it the reverse pass integrates again.
pub fn integrate(
    p: &mut Program,
    field: &VelocityField,
    steps: Steps,
    state: Val,
    fixed: &[Val],
    keep: bool,
    out: Option<Val>,
) -> Val {
    let shape = p.shape(state).to_vec();
    let widths: Vec<usize> = field.layers.iter().map(|(l, _)| p.shape(l.weight)[0]).collect();
    let fixed_widths: Vec<usize> = fixed.iter().map(|&c| p.len_of(c) / shape[0]).collect();
    let dims = FlowDims {
        rows: shape[0],
        state: shape[1],
        fixed: fixed_widths,
        parts: field.parts.to_vec(),
        widths,
        epilogues: field.layers.iter().map(|&(_, e)| e).collect(),
        tangent: field.tangent,
        steps,
    };
    assert_eq!(dims.inputs(), p.shape(field.layers[0].0.weight)[1], "invariant: the field takes these inputs");
    assert!(field.parts.contains(&InputPart::Time), "invariant: a velocity depends on time");
    assert_eq!(dims.widths.last(), Some(&dims.state), "invariant: a velocity has the state's width");
    let mut inputs = vec![state];
    inputs.extend(fixed);
    for (l, _) in field.layers {
        inputs.extend([l.weight, l.transposed, l.bias]);
        inputs.extend(l.norm.map(|(g, s)| [g, s]).into_iter().flatten());
    }
    let out = out.unwrap_or_else(|| p.real(&shape));
    let mut outputs = vec![out];
    if keep && steps.substeps > 1 {
        outputs.push(p.real(&[steps.substeps - 1, shape[0], shape[1]]));
    }
    p.push(Flow { dims }, &inputs, &outputs);
    out
}

/// Sizes that both directions share.
#[derive(Clone, Debug)]
struct FlowDims {
    rows: usize,
    state: usize,
    /// Width of each fixed input.
    fixed: Vec<usize>,
    parts: Vec<InputPart>,
    /// Outputs of each layer.
    widths: Vec<usize>,
    epilogues: Vec<Epilogue>,
    tangent: Option<usize>,
    steps: Steps,
}

impl FlowDims {
    fn stages(&self) -> &'static [Stage] {
        stages(self.steps.integrator)
    }

    /// Length of a substep.
    fn h(&self) -> f64 {
        1.0 / self.steps.substeps as f64
    }

    /// Model time of stage `s` of substep `k`.
    fn tau(&self, k: usize, s: usize) -> f64 {
        (k as f64 + self.stages()[s].a) * self.h()
    }

    fn layers(&self) -> usize {
        self.widths.len()
    }

    fn width_of(&self, part: InputPart) -> usize {
        match part {
            InputPart::State => self.state,
            InputPart::Fixed(i) => self.fixed[i],
            InputPart::Time => 1,
        }
    }

    /// Input columns of the first layer.
    fn inputs(&self) -> usize {
        self.parts.iter().map(|&p| self.width_of(p)).sum()
    }

    /// First column of a part.
    fn column(&self, part: InputPart) -> usize {
        self.parts.iter().take_while(|&&p| p != part).map(|&p| self.width_of(p)).sum()
    }

    /// Inputs of a layer.
    fn fan_in(&self, layer: usize) -> usize {
        if layer == 0 { self.inputs() } else { self.widths[layer - 1] }
    }

    /// Inputs and outputs of each product of a rows task: the first layer takes its parts one by one.
    fn products(&self) -> impl Iterator<Item = (usize, usize)> {
        let first = [self.state].into_iter().chain(self.fixed.iter().copied()).map(|k| (k, self.widths[0]));
        first.chain(self.widths.windows(2).map(|w| (w[0], w[1])))
    }

    /// Bytes that the products of a rows task pack.
    fn packing(&self, size: usize) -> usize {
        let rows = self.tile().min(self.rows);
        self.products().map(|(k, n)| packing::bytes(rows, k, n, size)).max().unwrap_or(0)
    }

    /// Widest output of a layer.
    fn widest(&self) -> usize {
        self.widths.iter().copied().max().unwrap_or(0)
    }

    /// Rows a task takes. Depends on shapes only.
    fn tile(&self) -> usize {
        if self.rows <= 256 { 32 } else { 64 }
    }

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile())
    }

    /// Position of a layer's weight among the operands; transposed, bias, gain and shift follow.
    fn operand(&self, layer: usize) -> usize {
        let of = |e: &Epilogue| if e.has_norm() { 5 } else { 3 };
        1 + self.fixed.len() + self.epilogues[..layer].iter().map(of).sum::<usize>()
    }
}

#[derive(Debug)]
struct Flow {
    dims: FlowDims,
}

// SAFETY: tasks write the rows of their own tile, in outputs and scratch.
unsafe impl Op for Flow {
    fn name(&self) -> &'static str {
        "flow"
    }

    fn workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.dims.rows * cpu::scratch_row(&self.dims)
    }

    fn device_workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.cuda_workspace()
    }

    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.dims.tiles()]
    }

    fn packing(&self, size: usize) -> usize {
        self.dims.packing(size)
    }

    fn adjoint(&self, a: &mut Adjoint) {
        let d = &self.dims;
        let Some(dy) = a.cotangent(0) else { return };
        let mut inputs: Vec<Val> = (0..a.inputs_len()).map(|i| a.input(i)).collect();
        let operands = inputs.len();
        inputs.push(dy);
        let kept = a.outputs_len() > 1;
        if kept {
            inputs.push(a.output(1));
        }
        let mut outputs = vec![];
        let mut target = |s: Option<Sink>| {
            s.map(|s| {
                outputs.push(s.val);
                GradOutput { output: outputs.len() - 1, accumulate: s.accumulate }
            })
        };
        let dstate = target(a.sink(0));
        let dfixed = (0..d.fixed.len()).map(|i| target(a.sink(1 + i))).collect();
        let dlayers = (0..d.layers())
            .map(|l| {
                let at = d.operand(l);
                let norm = d.epilogues[l].has_norm();
                [Some(at), Some(at + 2), norm.then_some(at + 3), norm.then_some(at + 4)]
                    .map(|i| i.and_then(|i| target(a.sink(i))))
            })
            .collect();
        a.push(FlowGrad { dims: d.clone(), operands, kept, dstate, dfixed, dlayers }, &inputs, &outputs);
    }

    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Reverse of [`Flow`]. Inputs: its operands, the cotangent of the end point, the latents between substeps if kept.
#[derive(Debug)]
struct FlowGrad {
    dims: FlowDims,
    /// Operands of the forward operation.
    operands: usize,
    kept: bool,
    dstate: Option<GradOutput>,
    dfixed: Vec<Option<GradOutput>>,
    /// Weight, bias, gain and shift of each layer.
    dlayers: Vec<[Option<GradOutput>; 4]>,
}

impl FlowGrad {
    fn wants_params(&self) -> bool {
        self.dlayers.iter().flatten().any(Option::is_some)
    }
}

// SAFETY: tasks of a phase write the rows of their own tile, or the gradients of their own columns, for which they read
// the scratch of all rows shared.
unsafe impl Op for FlowGrad {
    fn name(&self) -> &'static str {
        "flow_grad"
    }

    fn workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        cpu_grad::GradScratch::new(&self.dims, self.kept).total
    }

    fn device_workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.cuda_workspace()
    }

    /// For each substep, the last first: rows, then columns of the weights. Without weights rows go through all at
    /// once.
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        let d = &self.dims;
        if self.wants_params() {
            [d.tiles(), cpu_grad::column_tasks(d)].repeat(d.steps.substeps)
        } else {
            vec![d.tiles()]
        }
    }

    fn packing(&self, size: usize) -> usize {
        let d = &self.dims;
        let (rows, all) = (d.tile().min(d.rows), d.stages().len() * d.rows);
        let back = d.products().map(|(k, n)| packing::bytes(rows, n, k, size));
        let columns = |(k, n): (usize, usize)| packing::bytes(cpu_grad::out_tile(n).min(n), all, k, size);
        let weights = d.products().filter(|_| self.wants_params()).map(columns);
        back.chain(weights).max().unwrap_or(0).max(d.packing(size))
    }

    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
