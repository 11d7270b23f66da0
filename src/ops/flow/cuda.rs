//! CUDA launches of flow dynamics: the layers of the field are those of `ops::linear`, one launch each; what stands
//! between them is `nn/flow.cu`. As on the CPU the reverse pass computes stages again, one substep at a time, and takes
//! the weights' gradients over all stages of a substep at once.

use super::matching::{Interpolate, InterpolateGrad, VelocityError, VelocityErrorGrad};
use super::simplex::{Project, ProjectGrad, Tangent};
use super::{Dims, Flow, FlowGrad, Part, Target};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out, Table};
use crate::ops::linear::cuda::{
    ROWS, TILE, code, column_sums, linear, linear_grad_input, linear_grad_rows, linear_grad_weight,
};
use crate::ops::loss::cuda::{basic::total, segments};
use crate::ops::loss::slices;
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "nn/flow.cu";
    fn flow_stage[256](x: In, v: In, u: Out, tau: Out, c: f32, time: f32, n: u32, rows: u32);
    fn flow_advance[256](x: In, v: In, out: Out, kept: Out, w: Table, stages: u32, n: u32);
    fn flow_pull[256](g: In, du: In, dv: Out, w: f32, c: f32, n: u32);
    fn flow_add[256](a: In, b: In, out: Out, n: u32);
    fn flow_put[256](x: In, out: Out, accumulate: u32, n: u32);
    fn tangent[256](x: In, y: Out, group: u32, accumulate: u32, groups: u32);
    fn simplex_project[256](x: In, y: Out, group: u32, groups: u32);
    fn simplex_project_grad[256](dy: In, y: In, dx: Out, group: u32, accumulate: u32, groups: u32);
    fn interpolate[256](z0: In, z1: In, tau: In, out: Out, d: u32, n: u32);
    fn interpolate_grad[256](c: In, tau: In, out: Out, d: u32, accumulate: u32, n: u32);
    fn velocity_error_parts[256](v: In, z0: In, z1: In, parts: Out, w: Table, slice: u32);
    fn velocity_error_grad[256](c: In, v: In, z0: In, z1: In, out: Out, w: Table, slice: u32, accumulate: u32);
}

/// Input parts that the kernel of a layer takes.
const PARTS: usize = 3;

/// Where the parts of the scratch memory begin.
#[derive(Clone, Debug, Default)]
struct Scratch {
    /// States `[S, M, D]` and model times `[S, M]` of the stages.
    u: usize,
    tau: usize,
    /// For each layer its product, then its cotangent, and its result, `[S, M, n]` each; the last results are velocities.
    /// The forward pass keeps no products, and of all but the velocities one stage at a time.
    h: Vec<usize>,
    y: Vec<usize>,
    /// Cotangents: of the substep's end and start, of a stage's state, of a layer's result, of the first product in all.
    g: [usize; 2],
    du: usize,
    dy: usize,
    dfixed: usize,
    /// Latents between substeps `[K - 1, M, D]`, if they are not kept.
    between: usize,
    /// For each layer, stage and block of rows: cotangents of gain and shift.
    sums: Vec<usize>,
    total: usize,
}

impl Scratch {
    fn forward(d: &Dims) -> Self {
        let mut at = Self::default();
        let (m, s) = (d.rows, d.stages().len());
        at.u = at.take(m * d.state);
        at.tau = at.take(m);
        for (l, n) in d.widths.iter().enumerate() {
            let y = at.take(if l + 1 == d.layers() { s } else { 1 } * m * n);
            at.y.push(y);
        }
        at
    }

    fn reverse(d: &Dims, kept: bool) -> Self {
        let mut at = Self::default();
        let (m, s) = (d.rows, d.stages().len());
        at.u = at.take(s * m * d.state);
        at.tau = at.take(s * m);
        for n in &d.widths {
            let (h, y, sums) = (at.take(s * m * n), at.take(s * m * n), at.take(s * m.div_ceil(ROWS) * 2 * n));
            at.h.push(h);
            at.y.push(y);
            at.sums.push(sums);
        }
        at.g = [at.take(m * d.state), at.take(m * d.state)];
        at.du = at.take(m * d.state);
        at.dy = at.take(m * d.widest());
        at.dfixed = at.take(m * d.widths[0]);
        at.between = at.take(if kept { 0 } else { (d.steps.substeps - 1) * m * d.state });
        at
    }

    fn take(&mut self, n: usize) -> usize {
        self.total += n;
        self.total - n
    }
}

/// Launches in the making, and where their operands lie.
struct Draft<'a> {
    d: &'a Dims,
    x: &'a Operands<'a>,
    at: Scratch,
    list: Vec<Launch>,
}

impl Draft<'_> {
    fn scratch(&self, at: usize) -> Out {
        self.x.scratch().at(at)
    }

    /// Stage `s` of layer `l`: its product, its result, its cotangents of gain and shift.
    fn h(&self, l: usize, s: usize) -> Out {
        self.scratch(self.at.h[l] + s * self.d.rows * self.d.widths[l])
    }

    fn y(&self, l: usize, s: usize) -> Out {
        self.scratch(self.at.y[l] + s * self.d.rows * self.d.widths[l])
    }

    fn sums(&self, l: usize, s: usize) -> Out {
        self.scratch(self.at.sums[l] + s * self.d.rows.div_ceil(ROWS) * 2 * self.d.widths[l])
    }

    /// Numbers of a state.
    fn n(&self) -> usize {
        self.d.rows * self.d.state
    }

    fn norm(&self, l: usize) -> bool {
        self.d.epilogues[l].has_norm()
    }

    /// Gain and shift of a layer; null without a norm.
    fn gains(&self, l: usize) -> (In, In) {
        let at = self.d.operand(l);
        if self.norm(l) { (self.x.input(at + 3), self.x.input(at + 4)) } else { Default::default() }
    }

    /// Velocity of stage `s` of substep `k`, which starts at `x`, into the last layer's results; with `save` the states
    /// of all stages and the products of all layers stay.
    fn evaluate(&mut self, k: usize, s: usize, x: In, save: bool) {
        let (d, m) = (self.d, self.d.rows);
        let place = |s: usize| if save { s } else { 0 };
        let u = self.scratch(self.at.u + place(s) * self.n());
        let tau = self.scratch(self.at.tau + place(s) * m);
        let last = d.layers() - 1;
        let v: In = if s == 0 { In::default() } else { self.y(last, s - 1).into() };
        // A stage that starts where the substep does has no state of its own, unless it is to stay.
        let own = save || s > 0;
        let (c, time, n) = ((d.h() * d.stages()[s].a) as f32, d.tau(k, s) as f32, self.n());
        let to = if own { u } else { Out::default() };
        self.list.push(flow_stage(cover(n.max(m), 256), [], x, v, to, tau, c, time, n as u32, m as u32));
        let mut input: In = if own { u.into() } else { x };
        for l in 0..=last {
            let (epilogue, group) = code(d.epilogues[l]);
            let part = |i: usize| match (l, d.parts.get(i)) {
                (0, Some(&part)) => {
                    let values = match part {
                        Part::State => input,
                        Part::Fixed(f) => self.x.input(1 + f),
                        Part::Time => tau.into(),
                    };
                    (d.width_of(part) as i64, values)
                }
                (1.., _) if i == 0 => (d.fan_in(l) as i64, input),
                _ => (0, In::default()),
            };
            let [(k0, x0), (k1, x1), (k2, x2)] = [part(0), part(1), part(2)];
            let (operand, (gain, shift)) = (d.operand(l), self.gains(l));
            let (wt, bias) = (self.x.input(operand + 1), self.x.input(operand + 2));
            // Velocities of earlier stages are still needed.
            let y = self.y(l, if l == last { s } else { place(s) });
            let saved = if save && self.norm(l) { self.h(l, s) } else { Out::default() };
            let template = [d.widths[l] as i64, k0, k1, k2, epilogue, group];
            let grid = [m.div_ceil(ROWS), 1, 1];
            self.list.push(linear(grid, template, wt, bias, gain, shift, x0, x1, x2, y, saved, m as u32, 0));
            input = y.into();
        }
        if let Some(group) = d.tangent {
            self.remove_means(self.y(last, s), group);
        }
    }

    fn remove_means(&mut self, v: Out, group: usize) {
        let groups = self.n() / group;
        self.list.push(tangent(cover(groups, 256), [], v.into(), v, group as u32, 0, groups as u32));
    }

    /// End of a substep that starts at `x`, from the velocities of its stages.
    fn advance(&mut self, x: In, out: Out, kept: Out) {
        let d = self.d;
        let v = self.y(d.layers() - 1, 0);
        let w = Table::new(d.stages().iter().map(|s| d.h() * s.b));
        let (stages, n) = (d.stages().len() as u32, self.n());
        self.list.push(flow_advance(cover(n, 256), [], x, v.into(), out, kept, w, stages, n as u32));
    }

    fn put(&mut self, x: In, out: Out, accumulate: bool, n: usize) {
        self.list.push(flow_put(cover(n, 256), [], x, out, accumulate.into(), n as u32));
    }

    /// `dx = dh W`, or added to it, for columns `offset..offset + width` of layer `l`'s weight.
    fn back(&mut self, l: usize, dh: In, offset: usize, width: usize, dx: Out, accumulate: bool) {
        let d = self.d;
        let template = [d.widths[l], d.fan_in(l), offset, width].map(|n| n as i64);
        let (grid, w) = ([d.rows.div_ceil(ROWS), 1, 1], self.x.input(d.operand(l)));
        self.list.push(linear_grad_input(grid, template, dh, w, dx, d.rows as u32, 1, accumulate.into()));
    }

    /// From the cotangent of stage `s`'s velocity, in `dy`, to that of its state, in `du`; products become their
    /// cotangents.
    fn pull(&mut self, s: usize) {
        let (d, m) = (self.d, self.d.rows);
        let (du, dy) = (self.scratch(self.at.du), self.scratch(self.at.dy));
        if let Some(group) = d.tangent {
            self.remove_means(dy, group);
        }
        for l in (0..d.layers()).rev() {
            let h = self.h(l, s);
            if self.norm(l) {
                let (epilogue, group) = code(d.epilogues[l]);
                let y = self.y(l, s);
                let (sums, (gain, shift)) = (self.sums(l, s), self.gains(l));
                let (grid, template) = ([m.div_ceil(ROWS), 1, 1], [d.widths[l] as i64, epilogue, group]);
                let (dy, y) = (dy.into(), y.into());
                self.list.push(linear_grad_rows(grid, template, dy, h.into(), y, gain, shift, h, sums, m as u32));
            } else {
                self.put(dy.into(), h, false, m * d.widths[l]);
            }
            if l == 0 {
                self.back(l, h.into(), d.column(Part::State), d.state, du, false);
            } else {
                self.back(l, h.into(), 0, d.fan_in(l), dy, false);
            }
        }
    }

    /// `dW = dhᵀ x`, or added to it, over `rows` rows: columns `offset..offset + width` of layer `l`'s weight.
    #[allow(clippy::too_many_arguments, reason = "three matrices with their sizes")]
    fn weight(&mut self, l: usize, dh: Out, x: In, offset: usize, width: usize, rows: usize, to: Out, add: bool) {
        let d = self.d;
        let template = [d.widths[l], d.fan_in(l), offset, width].map(|n| n as i64);
        let grid = [width.div_ceil(TILE.1) * d.widths[l].div_ceil(TILE.0), 1, 1];
        self.list.push(linear_grad_weight(grid, template, dh.into(), x, to, rows as u32, 0, add.into()));
    }

    fn columns(&mut self, x: Out, to: Out, rows: usize, n: usize, stride: usize, add: bool) {
        let grid = [n.div_ceil(32), 1, 1];
        self.list.push(column_sums(grid, [], x.into(), to, rows as u32, n as u32, stride as u32, add.into()));
    }

    /// Gradients of layer `l`'s parameters from substep `k`; the last substep comes first.
    fn parameters(&mut self, l: usize, k: usize, [weight, bias, gain, shift]: [Option<Target>; 4]) {
        let (d, m, s) = (self.d, self.d.rows, self.d.stages().len());
        let more = k + 1 < d.steps.substeps;
        let (dh, n) = (self.h(l, 0), d.widths[l]);
        if let Some(Target { output, accumulate }) = weight {
            let (to, add) = (self.x.out(output), accumulate || more);
            if l > 0 {
                let x = self.y(l - 1, 0);
                self.weight(l, dh, x.into(), 0, d.fan_in(l), s * m, to, add);
            } else {
                for &part in &d.parts {
                    let (column, width) = (d.column(part), d.width_of(part));
                    match part {
                        Part::State => {
                            let u = self.scratch(self.at.u).into();
                            self.weight(l, dh, u, column, width, s * m, to, add);
                        }
                        Part::Time => {
                            let tau = self.scratch(self.at.tau).into();
                            self.weight(l, dh, tau, column, width, s * m, to, add);
                        }
                        Part::Fixed(i) if k == 0 => {
                            self.weight(
                                l,
                                self.scratch(self.at.dfixed),
                                self.x.input(1 + i),
                                column,
                                width,
                                m,
                                to,
                                accumulate,
                            );
                        }
                        Part::Fixed(_) => {}
                    }
                }
            }
        }
        if let Some(Target { output, accumulate }) = bias {
            self.columns(dh, self.x.out(output), s * m, n, n, accumulate || more);
        }
        for (which, target) in [gain, shift].into_iter().enumerate() {
            if let Some(Target { output, accumulate }) = target {
                let (from, rows) = (self.sums(l, 0).at(which * n), s * m.div_ceil(ROWS));
                self.columns(from, self.x.out(output), rows, n, 2 * n, accumulate || more);
            }
        }
    }
}

impl Flow {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let d = &self.dims;
        if d.parts.len() > PARTS {
            return None;
        }
        let mut l = Draft { d, x, at: Scratch::forward(d), list: vec![] };
        let out = x.out(0);
        for k in 0..d.steps.substeps {
            let from: In = if k == 0 { x.input(0) } else { out.into() };
            for s in 0..d.stages().len() {
                l.evaluate(k, s, from, false);
            }
            let between = k + 1 < d.steps.substeps && x.outputs_len() > 1;
            let kept = if between { x.out(1).at(k * l.n()) } else { Out::default() };
            l.advance(from, out, kept);
        }
        Some(l.list)
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        Scratch::forward(&self.dims).total
    }
}

impl FlowGrad {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let d = &self.dims;
        if d.parts.len() > PARTS {
            return None;
        }
        let at = Scratch::reverse(d, self.kept);
        let (between, [g0, g1]) = (at.between, at.g);
        let mut l = Draft { d, x, at, list: vec![] };
        let (substeps, stages, n) = (d.steps.substeps, d.stages().len(), l.n());
        let start = |l: &Draft, k: usize| -> In {
            match k {
                0 => x.input(0),
                _ if self.kept => x.input(self.operands + 1).at((k - 1) * n),
                _ => l.scratch(between + (k - 1) * n).into(),
            }
        };
        if !self.kept {
            for k in 0..substeps - 1 {
                let from = start(&l, k);
                for s in 0..stages {
                    l.evaluate(k, s, from, false);
                }
                l.advance(from, l.scratch(between + k * n), Out::default());
            }
        }
        let (mut g, mut next) = (x.input(self.operands), l.scratch(g0));
        let (du, dy, dfixed) = (l.scratch(l.at.du), l.scratch(l.at.dy), l.scratch(l.at.dfixed));
        let wants_fixed = self.dfixed.iter().any(Option::is_some) || self.dlayers[0][0].is_some();
        for k in (0..substeps).rev() {
            let from = start(&l, k);
            for s in 0..stages {
                l.evaluate(k, s, from, true);
            }
            for s in (0..stages).rev() {
                let (last, w) = (s + 1 == stages, (d.h() * d.stages()[s].b) as f32);
                let (c, through) =
                    if last { (0.0, In::default()) } else { ((d.h() * d.stages()[s + 1].a) as f32, du.into()) };
                l.list.push(flow_pull(cover(n, 256), [], g, through, dy, w, c, n as u32));
                l.pull(s);
                let so_far: In = if last { g } else { next.into() };
                l.list.push(flow_add(cover(n, 256), [], so_far, du.into(), next, n as u32));
                if wants_fixed {
                    let (first, dh) = (last && k + 1 == substeps, l.h(0, s));
                    l.put(dh.into(), dfixed, !first, d.rows * d.widths[0]);
                }
            }
            for (layer, targets) in self.dlayers.iter().enumerate() {
                l.parameters(layer, k, *targets);
            }
            (g, next) = (next.into(), l.scratch([g0, g1][(substeps - k) % 2]));
        }
        if let Some(Target { output, accumulate }) = self.dstate {
            l.put(g, x.out(output), accumulate, n);
        }
        for (i, target) in self.dfixed.iter().enumerate() {
            if let Some(Target { output, accumulate }) = *target {
                let column = d.column(Part::Fixed(i));
                l.back(0, dfixed.into(), column, d.fixed[i], x.out(output), accumulate);
            }
        }
        Some(l.list)
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        Scratch::reverse(&self.dims, self.kept).total
    }
}

impl Tangent {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let groups = x.len(0) / self.group;
        let (group, accumulate) = (self.group as u32, self.accumulate.into());
        vec![tangent(cover(groups, 256), [], x.input(0), x.out(0), group, accumulate, groups as u32)]
    }
}

impl Project {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let groups = x.len(0) / self.group;
        vec![simplex_project(cover(groups, 256), [], x.input(0), x.out(0), self.group as u32, groups as u32)]
    }
}

impl ProjectGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let groups = x.len(0) / self.group;
        let (group, accumulate) = (self.group as u32, self.accumulate.into());
        let grid = cover(groups, 256);
        vec![simplex_project_grad(grid, [], x.input(0), x.input(1), x.out(0), group, accumulate, groups as u32)]
    }
}

impl Interpolate {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, d) = (x.len(0), x.shape(0)[1] as u32);
        vec![interpolate(cover(n, 256), [], x.input(0), x.input(1), x.input(2), x.out(0), d, n as u32)]
    }
}

impl InterpolateGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, d) = (x.len(0), x.shape(0)[1] as u32);
        let accumulate = self.accumulate.into();
        vec![interpolate_grad(cover(n, 256), [], x.input(0), x.input(1), x.out(0), d, accumulate, n as u32)]
    }
}

impl VelocityError {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (slice, chunks) = slices(x.len(0), &self.weights);
        let mut list: Vec<_> = segments(&self.weights)
            .map(|(from, w)| {
                let [v, z0, z1] = [0, 1, 2].map(|i| x.input(i).at(from * slice));
                let (parts, table) = (x.scratch().at(from * chunks), Table::new(w.iter().copied()));
                velocity_error_parts([chunks, w.len(), 1], [], v, z0, z1, parts, table, slice as u32)
            })
            .collect();
        list.push(total([1, 1, 1], [], x.scratch().into(), x.out(0), (self.weights.len() * chunks) as u32));
        list
    }
}

impl VelocityErrorGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (slice, _) = slices(x.len(1), &self.weights);
        segments(&self.weights)
            .map(|(from, w)| {
                let [v, z0, z1] = [1, 2, 3].map(|i| x.input(i).at(from * slice));
                let (out, table) = (x.out(0).at(from * slice), Table::new(w.iter().copied()));
                let grid = [slice.div_ceil(256), w.len(), 1];
                let (size, accumulate) = (slice as u32, self.accumulate.into());
                velocity_error_grad(grid, [], x.input(0), v, z0, z1, out, table, size, accumulate)
            })
            .collect()
    }
}
