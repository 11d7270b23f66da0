//! A group of parameters: everything one optimiser owns, laid out as one flat variable.
//!
//! Parameters, gradients and both Adam moments are four variables of the same layout, so that clipping and the update
//! are single passes. Names of parameters are those of checkpoints.

use crate::device::philox::{Philox, Stream};
use crate::ops::optim::{AdamSpec, AdamVals, adam};
use crate::tape::{DType, Machine, Program, Region, TapeReal, Val, VarId, Vars, grad};

/// How a parameter starts. Fan-in is the width of the layer's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Constant(f64),
    /// Normal with this deviation (the reference truncates at 100 deviations: in effect not at all).
    Normal(f64),
    /// Uniform within plus or minus `gain / sqrt(fan_in)`.
    UniformFanIn {
        fan_in: usize,
        gain: f64,
    },
    /// Orthogonal rows or columns times `gain`, for each member of an ensemble.
    Orthogonal {
        gain: f64,
    },
}

#[derive(Clone, Debug)]
pub struct ParamEntry {
    pub name: String,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub init: Init,
}

impl ParamEntry {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A parameter of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param(usize);

/// Collects the parameters of a group.
#[derive(Debug, Default)]
pub struct GroupBuilder {
    entries: Vec<ParamEntry>,
    len: usize,
}

impl GroupBuilder {
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Param {
        let entry = ParamEntry { name: name.into(), offset: self.len, shape: shape.to_vec(), init };
        self.len += entry.len();
        self.entries.push(entry);
        Param(self.entries.len() - 1)
    }

    /// Lets the parameter called `name` start at zero.
    pub fn zero(&mut self, name: &str) {
        let entry = self.entries.iter_mut().find(|e| e.name == name);
        entry.expect("invariant: the parameter exists").init = Init::Constant(0.0);
    }

    /// Makes the variables. `name` prefixes them.
    pub fn finish(self, vars: &mut Vars, name: &'static str, adam: AdamSpec) -> ParamGroup {
        let mut real = |region, what: &str| vars.add(region, format!("{name}.{what}"), DType::Real, &[self.len]);
        let params = real(Region::Parameters, "params");
        let grads = real(Region::Gradients, "grads");
        let (m, v) = (real(Region::Optimiser, "adam.m"), real(Region::Optimiser, "adam.v"));
        let step = vars.add(Region::Optimiser, format!("{name}.adam.step"), DType::Index, &[1]);
        let skipped = vars.add(Region::Control, format!("{name}.skipped"), DType::Index, &[1]);
        let rate = vars.add(Region::Control, format!("{name}.rate"), DType::Real, &[1]);
        let norm = vars.add(Region::Control, format!("{name}.grad_norm"), DType::Real, &[1]);
        ParamGroup { name, entries: self.entries, len: self.len, adam, params, grads, m, v, step, skipped, rate, norm }
    }
}

/// Parameters with their optimiser.
#[derive(Clone, Debug)]
pub struct ParamGroup {
    pub name: &'static str,
    pub entries: Vec<ParamEntry>,
    pub len: usize,
    pub adam: AdamSpec,
    pub params: VarId,
    pub grads: VarId,
    pub m: VarId,
    pub v: VarId,
    pub step: VarId,
    /// Index `[1]`: updates skipped because the gradient was not finite.
    pub skipped: VarId,
    /// `[1]`: learning rate, written by the host before an epoch.
    pub rate: VarId,
    /// `[1]`: gradient norm before clipping, of the latest update.
    pub norm: VarId,
}

impl ParamGroup {
    /// The value of a parameter in a program.
    pub fn val(&self, p: &mut Program, vars: &Vars, param: Param) -> Val {
        let e = &self.entries[param.0];
        p.var_at(vars, self.params, e.offset, &e.shape)
    }

    /// Appends the reverse pass of `roots` with respect to every parameter, clipping and an Adam step.
    pub fn update(&self, p: &mut Program, vars: &Vars, roots: &[(Val, f64)]) {
        self.gradient(p, vars, roots);
        let vals = AdamVals {
            params: p.var(vars, self.params),
            grads: p.var(vars, self.grads),
            m: p.var(vars, self.m),
            v: p.var(vars, self.v),
            step: p.var(vars, self.step),
            rate: p.var(vars, self.rate),
            norm: p.var(vars, self.norm),
            skipped: p.var(vars, self.skipped),
        };
        adam(p, self.adam, &vals);
    }

    /// Appends the reverse pass alone: gradients land in the group's gradient variable.
    pub fn gradient(&self, p: &mut Program, vars: &Vars, roots: &[(Val, f64)]) {
        let wrt: Vec<(Val, Val)> = (self.entries.iter())
            .map(|e| (p.var_at(vars, self.params, e.offset, &e.shape), p.var_at(vars, self.grads, e.offset, &e.shape)))
            .collect();
        grad(p, roots, &wrt);
    }

    /// Draws every parameter anew; the moments become zero. A function of `seed` and the group's name and layout.
    pub fn init<F: TapeReal>(&self, machine: &mut Machine<F>, seed: u64) {
        let rng = Philox::new(seed, Stream::Init);
        let tag = self.name.bytes().fold(0u64, |h, b| h.wrapping_mul(131).wrapping_add(u64::from(b))) << 20;
        for (i, e) in self.entries.iter().enumerate() {
            draw(e, &rng, tag + i as u64, &mut machine.real_mut(self.params)[e.offset..e.offset + e.len()]);
        }
        self.reset(machine);
    }

    /// The optimiser as it was before its first step.
    pub fn reset<F: TapeReal>(&self, machine: &mut Machine<F>) {
        for var in [self.m, self.v] {
            machine.real_mut(var).fill(F::default());
        }
        machine.index_mut(self.step)[0] = 0;
    }

    /// The first tensor with a number that is infinite or not a number, among parameters and then moments.
    pub fn non_finite<F: TapeReal>(&self, machine: &Machine<F>) -> Option<String> {
        // No early exit: a sum of tests is what vectorises, and as good as always all are fine.
        let fine = |x: &[F]| x.iter().fold(true, |fine, x| fine & x.value().is_finite());
        for (var, what) in [(self.params, ""), (self.m, ", first moment"), (self.v, ", second moment")] {
            let all = machine.real(var);
            if !fine(all) {
                let entry = self.entries.iter().find(|e| !fine(&all[e.offset..e.offset + e.len()]));
                return Some(format!("{}.{}{what}", self.name, entry.map_or("params", |e| &e.name)));
            }
        }
        None
    }
}

/// Fills a parameter. Only an orthogonal matrix is held beside it, one of an ensemble at a time.
fn draw<F: TapeReal>(e: &ParamEntry, rng: &Philox, step: u64, out: &mut [F]) {
    let normal = |i: usize| rng.normal(step, i as u32);
    let each = |out: &mut [F], value: &dyn Fn(usize) -> f64| {
        out.iter_mut().enumerate().for_each(|(i, o)| *o = F::of(value(i)));
    };
    match e.init {
        Init::Constant(c) => out.fill(F::of(c)),
        Init::Normal(deviation) => each(out, &|i| deviation * normal(i)),
        Init::UniformFanIn { fan_in, gain } => {
            let bound = gain / (fan_in as f64).sqrt();
            each(out, &|i| bound * (2.0 * rng.uniform(step, i as u32) - 1.0));
        }
        Init::Orthogonal { gain } => {
            let (rows, cols) = (e.shape[e.shape.len() - 2], e.shape[e.shape.len() - 1]);
            let len = rows * cols;
            for (member, out) in out.chunks_exact_mut(len).enumerate() {
                let mut a: Vec<f64> = (member * len..(member + 1) * len).map(normal).collect();
                orthogonalise(&mut a, rows, cols);
                each(out, &|i| gain * a[i]);
            }
        }
    }
}

/// Makes the rows of a `rows x cols` matrix orthonormal, or its columns if there are fewer of them: modified
/// Gram-Schmidt, each vector twice ("twice is enough", Giraud et al. 2005).
fn orthogonalise(a: &mut [f64], rows: usize, cols: usize) {
    let (count, len, step, stride) = if rows <= cols { (rows, cols, cols, 1) } else { (cols, rows, 1, cols) };
    let at = |v: usize, i: usize| v * step + i * stride;
    for v in 0..count {
        for _ in 0..2 {
            for u in 0..v {
                let dot: f64 = (0..len).map(|i| a[at(u, i)] * a[at(v, i)]).sum();
                for i in 0..len {
                    a[at(v, i)] -= dot * a[at(u, i)];
                }
            }
        }
        let norm = (0..len).map(|i| a[at(v, i)] * a[at(v, i)]).sum::<f64>().sqrt();
        for i in 0..len {
            a[at(v, i)] /= norm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_both_ways() {
        for (rows, cols) in [(5, 9), (9, 5), (4, 4)] {
            let e = ParamEntry {
                name: "w".into(),
                offset: 0,
                shape: vec![rows, cols],
                init: Init::Orthogonal { gain: 1.0 },
            };
            let mut a = vec![0.0; rows * cols];
            draw(&e, &Philox::new(1, Stream::Init), 0, &mut a);
            let by_rows = rows <= cols;
            let (count, len) = if by_rows { (rows, cols) } else { (cols, rows) };
            let get = |v: usize, i: usize| if by_rows { a[v * cols + i] } else { a[i * cols + v] };
            for u in 0..count {
                for v in 0..count {
                    let dot: f64 = (0..len).map(|i| get(u, i) * get(v, i)).sum();
                    assert!((dot - f64::from(u8::from(u == v))).abs() < 1e-12, "{rows}x{cols} {u} {v}: {dot}");
                }
            }
        }
    }
}
