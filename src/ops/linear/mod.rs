//! Fully connected layers with their epilogues, and their reverse pass.
//!
//! `h = x Wᵀ + b` for rows `x`, then one of
//!
//! | epilogue | result | used by |
//! |---|---|---|
//! | `Bias` | `h` | output layers |
//! | `NormMish` | `mish(LN(h))` | world-model hidden layers |
//! | `NormSimplex` | softmax over groups of `LN(h)` (SimNorm) | latents |
//! | `MishNorm` | `LN(mish(h))` | actor and critic hidden layers |
//!
//! `LN(u) = gain * (u - mean u) / sqrt(var u + 1e-5) + shift`, over a row, population variance.
//! The input may come in parts (`[z, a]` without a copy), and a whole ensemble of layers may run as one operation.
//! Only `h` is kept for the reverse pass; row statistics and activations are computed again from it.

mod cpu;
pub(super) mod cuda;
pub(super) mod product;

pub(crate) use cpu::{epilogue, row_grad};

use crate::device::cpu::packing;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::grad::Sink;
use crate::tape::{Adjoint, Op, Program, Val};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    Bias,
    NormMish,
    NormSimplex { group: usize },
    MishNorm,
}

impl Epilogue {
    pub fn has_norm(self) -> bool {
        self != Epilogue::Bias
    }
}

/// The parameters of a layer, as values of a program. With an ensemble of E > 1 every one has a leading axis E.
#[derive(Clone, Copy, Debug)]
pub struct LayerVals {
    /// `[N, K]`.
    pub weight: Val,
    /// `[K, N]`: see [`transpose`].
    pub transposed: Val,
    /// `[N]`.
    pub bias: Val,
    /// LayerNorm gain and shift, `[N]` each.
    pub norm: Option<(Val, Val)>,
}

/// Sizes that both directions share.
#[derive(Clone, Debug)]
pub(crate) struct LayerDims {
    pub ensemble: usize,
    /// Rows of each member.
    pub m: usize,
    /// Outputs.
    pub n: usize,
    /// Width of each input part.
    pub parts: Vec<usize>,
    /// One input for all members, or one each.
    pub shared_input: bool,
    pub epilogue: Epilogue,
}

impl LayerDims {
    /// Inputs in all.
    pub fn k(&self) -> usize {
        self.parts.iter().sum()
    }

    /// Multiplications and additions of the product with the weights.
    pub fn product(&self) -> usize {
        2 * self.ensemble * self.m * self.k() * self.n
    }

    /// Rows a task takes. Depends on shapes only.
    pub fn tile(&self) -> usize {
        if self.m <= 256 { 32 } else { 64 }
    }

    pub fn tiles(&self) -> usize {
        self.m.div_ceil(self.tile())
    }

    /// Outputs a task takes when weights are summed up.
    pub fn out_tile(&self) -> usize {
        if self.n <= 256 { 32 } else { 64 }
    }

    pub fn out_tiles(&self) -> usize {
        self.n.div_ceil(self.out_tile())
    }
}

/// Appends `y = epilogue(concat(xs) Wᵀ + b)`; returns `y`: `[M, N]`, or `[E, M, N]` for an ensemble.
/// `save` keeps what the reverse pass needs. `out`, if given, is where `y` is written.
pub fn linear(p: &mut Program, xs: &[Val], layer: &LayerVals, epilogue: Epilogue, save: bool, out: Option<Val>) -> Val {
    let w = p.shape(layer.weight).to_vec();
    let (ensemble, n) = if w.len() == 3 { (w[0], w[1]) } else { (1, w[0]) };
    let x0 = p.shape(xs[0]).to_vec();
    let shared_input = ensemble == 1 || x0.len() == 2;
    let m = x0[x0.len() - 2];
    let parts: Vec<usize> = xs.iter().map(|&x| *p.shape(x).last().expect("invariant: rows have a width")).collect();
    assert_eq!(
        parts.iter().sum::<usize>(),
        *w.last().expect("invariant: weights have inputs"),
        "invariant: widths match"
    );
    assert_eq!(epilogue.has_norm(), layer.norm.is_some(), "invariant: a norm has its parameters");
    let dims = LayerDims { ensemble, m, n, parts, shared_input, epilogue };
    let shape = if ensemble > 1 { vec![ensemble, m, n] } else { vec![m, n] };
    let y = out.unwrap_or_else(|| p.real(&shape));
    let mut inputs = vec![layer.weight, layer.transposed, layer.bias];
    if let Some((gain, shift)) = layer.norm {
        inputs.extend([gain, shift]);
    }
    inputs.extend_from_slice(xs);
    let mut outputs = vec![y];
    if save && epilogue.has_norm() {
        outputs.push(p.real(&shape));
    }
    p.push(Linear { dims }, &inputs, &outputs);
    y
}

/// Appends `Wᵀ` of `[N, K]` (or `[E, N, K]`): products with the small side contiguous are twice as fast, and a
/// program uses each weight many times. No cotangent flows through the copy; it flows to `W`.
pub fn transpose(p: &mut Program, w: Val) -> Val {
    let s = p.shape(w).to_vec();
    let t = match s[..] {
        [n, k] => p.real(&[k, n]),
        [e, n, k] => p.real(&[e, k, n]),
        _ => panic!("invariant: weights have two axes, or three for an ensemble"),
    };
    transpose_to(p, w, t);
    t
}

/// As [`transpose`], into `t`, which may be a variable: for a weight that several programs read and none of them
/// changes.
pub fn transpose_to(p: &mut Program, w: Val, t: Val) {
    p.push(Transpose, &[w], &[t]);
}

#[derive(Debug)]
struct Linear {
    dims: LayerDims,
}

/// Position of the first input part among the inputs.
fn first_x(epilogue: Epilogue) -> usize {
    if epilogue.has_norm() { 5 } else { 3 }
}

// SAFETY: tasks write their own rows of their own member.
unsafe impl Op for Linear {
    fn name(&self) -> &'static str {
        match self.dims.epilogue {
            Epilogue::Bias => "linear",
            Epilogue::NormMish => "linear_layernorm_mish",
            Epilogue::NormSimplex { .. } => "linear_layernorm_simnorm",
            Epilogue::MishNorm => "linear_mish_layernorm",
        }
    }

    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.dims.ensemble * self.dims.tiles()]
    }

    fn device_workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.cuda_workspace()
    }

    fn packing(&self, size: usize) -> usize {
        let d = &self.dims;
        d.parts.iter().map(|&k| packing::bytes(d.tile().min(d.m), k, d.n, size)).max().unwrap_or(0)
    }

    fn operations(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.dims.product()
    }

    fn adjoint(&self, a: &mut Adjoint) {
        let d = &self.dims;
        let Some(dy) = a.cotangent(0) else { return };
        let norm = d.epilogue.has_norm();
        let x0 = first_x(d.epilogue);
        let saved = if norm { a.output(1) } else { dy };
        let mut inputs = vec![dy, saved, a.output(0), a.input(0)];
        if norm {
            inputs.extend([a.input(3), a.input(4)]);
        }
        let x: Vec<Val> = (0..d.parts.len()).map(|i| a.input(x0 + i)).collect();
        inputs.extend(&x);
        inputs.push(a.input(1));
        let dx: Vec<Option<Sink>> = (0..d.parts.len()).map(|i| a.sink(x0 + i)).collect();
        let weights: Vec<Option<Sink>> = [0, 2, 3, 4][..if norm { 4 } else { 2 }].iter().map(|&i| a.sink(i)).collect();
        // Without an epilogue the cotangent of h is that of y.
        let shape = a.program.shape(dy).to_vec();
        let mut outputs = vec![];
        if norm {
            outputs.push(a.program.real(&shape));
        }
        let mut modes = |sinks: &[Option<Sink>]| {
            sinks
                .iter()
                .map(|s| {
                    s.map(|s| {
                        outputs.push(s.val);
                        GradOutput { output: outputs.len() - 1, accumulate: s.accumulate }
                    })
                })
                .collect::<Vec<_>>()
        };
        let (dx, params) = (modes(&dx), modes(&weights));
        a.push(LinearGrad { dims: d.clone(), dx, params }, &inputs, &outputs);
    }

    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// An output of a reverse operation that receives a gradient.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct GradOutput {
    pub output: usize,
    pub accumulate: bool,
}

/// Reverse of [`Linear`]. Inputs: dy, h, y, W, (gain, shift), x parts, Wᵀ. Outputs: (dh), then the targets that are
/// asked for.
#[derive(Debug)]
struct LinearGrad {
    dims: LayerDims,
    /// One for each input part.
    dx: Vec<Option<GradOutput>>,
    /// W, b, (gain, shift).
    params: Vec<Option<GradOutput>>,
}

impl LinearGrad {
    /// Members of the ensemble that one row task goes through: all of them if they add to one input cotangent.
    fn joined(&self) -> bool {
        self.dims.ensemble == 1 || self.dims.shared_input
    }

    fn row_tasks(&self) -> usize {
        let d = &self.dims;
        d.tiles() * if self.joined() { 1 } else { d.ensemble }
    }

    fn wants_params(&self) -> bool {
        self.params.iter().any(Option::is_some)
    }
}

// SAFETY: tasks of the first phase write their own rows and scratch, of the second the gradients of their own outputs,
// for which they read all rows shared.
unsafe impl Op for LinearGrad {
    fn name(&self) -> &'static str {
        "linear_grad"
    }

    fn packing(&self, size: usize) -> usize {
        let d = &self.dims;
        let rows = |width| packing::bytes(d.tile().min(d.m), d.n, width, size);
        let columns = |width| packing::bytes(d.out_tile().min(d.n), d.m, width, size);
        d.parts.iter().map(|&width| rows(width).max(columns(width))).max().unwrap_or(0)
    }

    fn operations(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        let products = usize::from(self.dx.iter().any(Option::is_some)) + usize::from(self.wants_params());
        products * self.dims.product()
    }

    fn workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        let d = &self.dims;
        if !d.epilogue.has_norm() {
            return 0;
        }
        // Two rows of temporaries a task, then column sums of each tile and member for gain and shift.
        self.row_tasks() * 2 * d.n + d.ensemble * d.tiles() * 2 * d.n
    }

    fn device_workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.cuda_workspace()
    }

    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        let d = &self.dims;
        let rows = if d.epilogue.has_norm() || self.dx.iter().any(Option::is_some) { self.row_tasks() } else { 0 };
        let mut phases = vec![rows];
        if self.wants_params() {
            phases.push(d.ensemble * d.out_tiles());
        }
        phases
    }

    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

#[derive(Debug)]
struct Transpose;

// SAFETY: tasks write the columns of the output that come from their own rows, element by element.
unsafe impl Op for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        let s = &inputs[0];
        let (e, n) = if s.len() == 3 { (s[0], s[1]) } else { (1, s[0]) };
        vec![e * n.div_ceil(cpu::TRANSPOSE_ROWS)]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
