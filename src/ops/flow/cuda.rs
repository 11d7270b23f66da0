//! CUDA launches of flow dynamics: the layers of the field are those of `ops::linear`; what stands between them is
//! `nn/flow.cu`. As on the CPU what the fixed inputs add to the first product is computed once, the reverse pass
//! computes stages again, one substep at a time, and takes the weights' gradients over all stages of a substep at once.

use super::matching::{Interpolate, InterpolateGrad, VelocityError, VelocityErrorGrad};
use super::simplex::{Project, ProjectGrad, Tangent};
use super::{Flow, FlowDims, FlowGrad, GradOutput, InputPart};
use crate::config::Precision;
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, MapElement, Out, Table};
use crate::device::cuda::matmul::Matmul;
use crate::ops::linear::cuda::{
    Layer, SUMS, columns, columns_workspace, grad_rows, input_gradient, norm_columns, norm_columns_workspace,
    row_blocks, rows, weight_gradient,
};
use crate::ops::linear::product::{
    Product, TmaMatrix, fills_tma, pack_rows, round_rows, rounded, rounded_workspace, split_workspace,
};
use crate::ops::loss::cuda::{basic::total, segments};
use crate::ops::loss::slices;
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "nn/flow.cu";
    fn flow_stage[256](x: In, v: In, u: Out, tau: Out, c: f32, time: f32, n: u32, rows: u32);
    fn flow_bias[256](bias: In, out: Out, width: u32, n: u32);
    fn flow_advance[256](x: In, v: In, out: Out, kept: Out, w: Table, stages: u32, n: u32);
    fn flow_back[256](
        g: In, so_far: In, du: In, next: Out, dv: Out, w: f32, c: f32, group: u32, n: u32,
    );
    fn flow_gather[256](h: In, out: Out, stages: u32, accumulate: u32, n: u32);
    fn flow_put[256](x: In, out: Out, accumulate: u32, n: u32);
    fn tangent[256](x: In, y: Out, group: u32, accumulate: u32, groups: u32);
    fn simplex_project[256](x: In, y: Out, group: u32, groups: u32);
    fn simplex_project_grad[256](dy: In, y: In, dx: Out, group: u32, accumulate: u32, groups: u32);
    fn interpolate[256](z0: In, z1: In, tau: In, out: Out, d: u32, n: u32);
    fn interpolate_grad[256](c: In, tau: In, out: Out, d: u32, accumulate: u32, n: u32);
    fn velocity_error_parts[256](v: In, z0: In, z1: In, parts: Out, w: Table, slice: u32);
    fn velocity_error_grad[256](c: In, v: In, z0: In, z1: In, out: Out, w: Table, slice: u32, accumulate: u32);
}

/// Columns of a group whose mean the last product removes itself.
const TANGENT_OF_PRODUCT: usize = 8;

/// Where the parts of the scratch memory begin.
#[derive(Clone, Debug, Default)]
struct FlowScratch {
    /// States `[S, M, D]` and model times `[S, M]` of the stages.
    u: usize,
    tau: usize,
    /// What fixed inputs and bias add to the first layer's product, `[M, n]`.
    fixed: usize,
    /// For each layer its product, then its cotangent, and its result, `[S, M, n]` each; the last results are
    /// velocities. The forward pass keeps no products, and of all but the velocities one stage at a time.
    h: Vec<usize>,
    y: Vec<usize>,
    /// Cotangents: of the substep's end and start, of a stage's state, of a layer's result, of the first product in
    /// all.
    g: [usize; 2],
    du: usize,
    dy: usize,
    dfixed: usize,
    /// Latents between substeps `[K - 1, M, D]`, if they are not kept.
    between: usize,
    /// For each layer, stage and block of rows: cotangents of gain and shift.
    sums: Vec<usize>,
    /// Sums of columns and of weights' gradients on the way.
    columns: usize,
    parts: usize,
    /// A rounded copy of a product's rows.
    rounded: usize,
    /// The column of model time of a weight whose transposed copy is a rounded one.
    time: usize,
    /// The state's columns of the first weight for the copy unit, and their transpose.
    packed: [usize; 2],
    total: usize,
}

impl FlowScratch {
    fn forward(d: &FlowDims) -> Self {
        let mut at = Self::default();
        let (m, s) = (d.rows, d.stages().len());
        at.u = at.take(m * d.state);
        at.tau = at.take(m);
        at.fixed = at.take(m * d.widths[0]);
        for (l, n) in d.widths.iter().enumerate() {
            let y = at.take(if l + 1 == d.layers() { s } else { 1 } * m * n);
            at.y.push(y);
        }
        at.copies(d);
        at
    }

    /// Scratch for rounded copies that matrix products take.
    fn copies(&mut self, d: &FlowDims) {
        let (m, n) = (d.rows, d.widths[0]);
        let inputs = |l: usize| if l == 0 { d.state } else { d.fan_in(l) };
        let workspace = |(l, &n): (usize, &usize)| {
            rounded_workspace(m, n, inputs(l), 1, 1).max(rounded_workspace(m, inputs(l), n, 1, 1))
        };
        let fixed = d.fixed.iter().map(|&k| rounded_workspace(m, n, k, 1, 1).max(rounded_workspace(m, k, n, 1, 1)));
        self.rounded = self.take(d.widths.iter().enumerate().map(workspace).chain(fixed).max().unwrap_or(0));
        self.time = self.take(n);
        let large = rounded_workspace(m, n, d.state, 1, 1).max(rounded_workspace(m, d.state, n, 1, 1)) > 0;
        let padded = |k: usize| k.next_multiple_of(8) / 2;
        let sizes = if large { [n * d.state.max(padded(d.state)), d.state * padded(n)] } else { [0, 0] };
        self.packed = sizes.map(|n| self.take(n));
    }

    fn reverse(d: &FlowDims, kept: bool) -> Self {
        let mut at = Self::default();
        let (m, s) = (d.rows, d.stages().len());
        at.u = at.take(s * m * d.state);
        at.tau = at.take(s * m);
        at.fixed = at.take(m * d.widths[0]);
        for n in &d.widths {
            let (h, y, sums) = (at.take(s * m * n), at.take(s * m * n), at.take(s * row_blocks(m) * SUMS * n));
            at.h.push(h);
            at.y.push(y);
            at.sums.push(sums);
        }
        at.g = [at.take(m * d.state), at.take(m * d.state)];
        at.du = at.take(m * d.state);
        at.dy = at.take(m * d.widest());
        at.dfixed = at.take(m * d.widths[0]);
        at.between = at.take(if kept { 0 } else { (d.steps.substeps - 1) * m * d.state });
        let layers = || d.widths.iter().enumerate();
        let column_sums = |(l, &n): (usize, &usize)| match d.epilogues[l].has_norm() {
            true => norm_columns_workspace(1, s * row_blocks(m), n),
            false => columns_workspace(1, s * m, n),
        };
        at.columns = at.take(layers().map(column_sums).max().unwrap_or(0));
        let fixed = d.fixed.iter().map(|&k| split_workspace(d.widths[0], k, m, 1));
        let of_layer = |(l, &n): (usize, &usize)| match l {
            0 => split_workspace(n, d.state, s * m, 1).max(split_workspace(n, 1, s * m, 1)),
            _ => split_workspace(n, d.fan_in(l), s * m, 1),
        };
        at.parts = at.take(layers().map(of_layer).chain(fixed).max().unwrap_or(0));
        at.copies(d);
        at
    }

    /// Each begins where sixteen bytes can be moved as one.
    fn take(&mut self, n: usize) -> usize {
        let from = self.total;
        self.total += n.next_multiple_of(4);
        from
    }
}

/// Launches in the making, and where their operands lie.
struct Draft<'a> {
    d: &'a FlowDims,
    x: &'a Operands<'a>,
    at: FlowScratch,
    list: Vec<Launch>,
}

impl<'a> Draft<'a> {
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
        self.scratch(self.at.sums[l] + s * row_blocks(self.d.rows) * SUMS * self.d.widths[l])
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

    /// Layer `l` on input `x`, which meets the weight's columns from `column` on.
    fn layer(&self, l: usize, (k, x): (usize, In), column: usize, y: Out, saved: Out) -> Layer {
        let (d, at) = (self.d, self.d.operand(l));
        Layer {
            e: 1,
            m: d.rows,
            n: d.widths[l],
            epilogue: d.epilogues[l],
            parts: [(k, x), Default::default(), Default::default()],
            shared_input: true,
            inputs: d.fan_in(l),
            column,
            weight: self.x.input(at),
            transposed: self.x.input(at + 1),
            bias: self.x.input(at + 2),
            gains: self.gains(l),
            y,
            saved,
        }
    }

    fn how(&self) -> &'a Matmul {
        self.x.matmul()
    }

    /// Whether the first weight has a rounded transposed copy.
    fn rounded(&self) -> bool {
        rounded(self.how(), self.d.widths[0], self.d.fan_in(0))
    }

    /// The column of model time in the first weight.
    fn time(&self) -> In {
        let (d, column) = (self.d, self.d.column(InputPart::Time));
        if self.rounded() {
            self.scratch(self.at.time).into()
        } else {
            self.x.input(d.operand(0) + 1).at(column * d.widths[0])
        }
    }

    /// The state's columns of the first weight packed by themselves, if `product_tma` may take them: the weight's own
    /// rows are as long as all inputs together, which with a column for time is seldom a multiple of what the copy unit
    /// needs.
    fn state_weight(&self, element: MapElement) -> Option<TmaMatrix> {
        let (d, ld) =
            (self.d, if element == MapElement::Tf32 { self.d.state } else { self.d.state.next_multiple_of(8) });
        let at = self.scratch(self.at.packed[0]).0;
        fills_tma(self.how(), d.rows, d.widths[0]).then_some(TmaMatrix { at, element, ld, stride: 0 })
    }

    /// The same of the transposed weight, in bf16: in tf32 it can be taken as it is.
    fn state_weight_back(&self) -> Option<TmaMatrix> {
        let (d, at) = (self.d, self.scratch(self.at.packed[1]).0);
        let ld = d.widths[0].next_multiple_of(8);
        fills_tma(self.how(), d.rows, d.state).then_some(TmaMatrix { at, element: MapElement::Bf16, ld, stride: 0 })
    }

    /// Copies the first weight's columns into the forms that the matrix products take, for all stages and substeps.
    fn pack(&mut self, reverse: bool) {
        let (d, how) = (self.d, *self.how());
        let (n, inputs, state) = (d.widths[0], d.fan_in(0), d.column(InputPart::State));
        let (w, wt) = (self.x.input(d.operand(0)), self.x.input(d.operand(0) + 1));
        let pack = |x: In, to: Out, width: usize| {
            pack_rows(cover(n * width, 256), [], x, to, width as u32, inputs as u32, (n * width) as u32)
        };
        let round = |x: In, to: TmaMatrix, rows: usize, width: usize, ld: usize| {
            let (none, pairs, out) = (In::default(), rows * to.ld / 2, Out(to.at));
            let [width, ld, padded] = [width, ld, to.ld].map(|n| n as u32);
            round_rows(cover(pairs, 256), [], x, none, none, out, width, 0, 0, ld, padded, pairs as u32)
        };
        if self.rounded() {
            if d.parts.contains(&InputPart::Time) {
                let to = self.scratch(self.at.time);
                self.list.push(pack(w.at(d.column(InputPart::Time)), to, 1));
            }
            return;
        }
        match how.precision {
            Precision::Fp32 => {}
            Precision::Tf32 => {
                if let Some(packed) = self.state_weight(MapElement::Tf32) {
                    self.list.push(pack(w.at(state), Out(packed.at), d.state));
                }
            }
            Precision::Bf16 => {
                if let Some(packed) = self.state_weight(MapElement::Bf16) {
                    self.list.push(round(w.at(state), packed, n, d.state, inputs));
                }
                if let Some(packed) = self.state_weight_back().filter(|_| reverse) {
                    self.list.push(round(wt.at(state * n), packed, d.state, n, n));
                }
            }
        }
    }

    /// What fixed inputs and bias add to the first product: the same for all stages and substeps.
    fn prepare(&mut self, reverse: bool) {
        self.pack(reverse);
        let (d, to) = (self.d, self.scratch(self.at.fixed));
        let workspace = self.scratch(self.at.rounded);
        if d.fixed.is_empty() {
            let (n, bias) = (d.rows * d.widths[0], self.x.input(d.operand(0) + 2));
            return self.list.push(flow_bias(cover(n, 256), [], bias, to, d.widths[0] as u32, n as u32));
        }
        for (i, &width) in d.fixed.iter().enumerate() {
            let layer = self.layer(0, (width, self.x.input(1 + i)), d.column(InputPart::Fixed(i)), to, Out::default());
            let bias = if i == 0 { layer.bias } else { In::default() };
            let product = Product { bias, accumulate: i > 0, ..layer.product(self.how(), to) };
            product.launch(self.how(), workspace, &mut self.list);
        }
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
        if own {
            // Times of rows are for the gradient of their column.
            let times = if save { tau } else { Out::default() };
            self.list.push(flow_stage(cover(n.max(m), 256), [], x, v, u, times, c, time, n as u32, m as u32));
        }
        let mut input: In = if own { u.into() } else { x };
        let (how, workspace) = (*self.how(), self.scratch(self.at.rounded));
        for l in 0..=last {
            // Velocities of earlier stages are still needed.
            let y = self.y(l, if l == last { s } else { place(s) });
            let saved = if save && self.norm(l) { self.h(l, s) } else { Out::default() };
            let h = if saved == Out::default() { y } else { saved };
            // The mean of a group is removed where the last product is written, if it can be.
            let tangent = l == last && d.tangent == Some(TANGENT_OF_PRODUCT);
            if l == 0 {
                let layer = self.layer(l, (d.state, input), d.column(InputPart::State), y, saved);
                // The column of model time, which all rows of a stage share, is a bias that grows with it.
                let timed = d.parts.contains(&InputPart::Time);
                let (bias, scale) = if timed { (self.time(), time) } else { (In::default(), 1.0) };
                let addend = self.scratch(self.at.fixed).into();
                let product = Product { bias, scale, addend, tangent, ..layer.product(&how, h) };
                let b_tma = match how.precision {
                    _ if self.rounded() => product.b_tma,
                    Precision::Fp32 => None,
                    Precision::Tf32 => self.state_weight(MapElement::Tf32),
                    Precision::Bf16 => self.state_weight(MapElement::Bf16),
                };
                Product { b_tma, ..product }.launch(&how, workspace, &mut self.list);
                if self.norm(l) {
                    self.list.push(rows(1, m, d.widths[l], d.epilogues[l], h.into(), layer.gains, y));
                }
            } else {
                let layer = self.layer(l, (d.fan_in(l), input), 0, y, saved);
                if tangent {
                    let product = Product { bias: layer.bias, tangent, ..layer.product(&how, h) };
                    product.launch(&how, workspace, &mut self.list);
                } else {
                    self.list.extend(layer.launches(&how, workspace));
                }
            }
            input = y.into();
        }
        if let Some(group) = d.tangent.filter(|&g| g != TANGENT_OF_PRODUCT) {
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
        let (how, workspace) = (*self.how(), self.scratch(self.at.rounded));
        let (w, wt) = (self.x.input(d.operand(l)), self.x.input(d.operand(l) + 1));
        let product = input_gradient(&how, (d.rows, d.widths[l], width), dh, w, wt, (d.fan_in(l), offset));
        let of_state = l == 0 && offset == d.column(InputPart::State) && width == d.state;
        let packed = of_state && how.precision == Precision::Bf16 && !self.rounded();
        let b_tma = if packed { self.state_weight_back() } else { product.b_tma };
        Product { c: dx, accumulate, b_tma, ..product }.launch(&how, workspace, &mut self.list);
    }

    /// Where the cotangent of the result of stage `s` of layer `l` goes: without a norm it is that of the product.
    fn cotangent(&self, l: usize, s: usize) -> Out {
        if self.norm(l) { self.scratch(self.at.dy) } else { self.h(l, s) }
    }

    /// From the cotangent of stage `s`'s velocity to that of its state, in `du`; products become their cotangents.
    fn pull(&mut self, s: usize) {
        let (d, m) = (self.d, self.d.rows);
        for l in (0..d.layers()).rev() {
            let (h, dy) = (self.h(l, s), self.cotangent(l, s));
            if self.norm(l) {
                let (operands, sums) = ([dy.into(), h.into(), self.y(l, s).into()], self.sums(l, s));
                self.list.push(grad_rows(1, m, d.widths[l], d.epilogues[l], operands, self.gains(l), h, sums));
            }
            if l == 0 {
                self.back(l, h.into(), d.column(InputPart::State), d.state, self.scratch(self.at.du), false);
            } else {
                self.back(l, h.into(), 0, d.fan_in(l), self.cotangent(l - 1, s), false);
            }
        }
    }

    /// `dW = dhᵀ x`, or added to it, over `rows` rows: columns `offset..offset + width` of layer `l`'s weight.
    #[allow(clippy::too_many_arguments, reason = "three matrices with their sizes")]
    fn weight(&mut self, l: usize, dh: Out, x: In, offset: usize, width: usize, rows: usize, to: Out, add: bool) {
        let d = self.d;
        let product = weight_gradient(d.widths[l], width, rows, dh.into(), x);
        let product = Product { c: to.at(offset), ldc: d.fan_in(l), accumulate: add, ..product };
        let parts = self.scratch(self.at.parts);
        product.launch_split(self.x.matmul(), parts, &mut self.list);
    }

    /// Gradients of layer `l`'s parameters from substep `k`; the last substep comes first.
    fn parameters(&mut self, l: usize, k: usize, [weight, bias, gain, shift]: [Option<GradOutput>; 4]) {
        let (d, m, s) = (self.d, self.d.rows, self.d.stages().len());
        let more = k + 1 < d.steps.substeps;
        let (dh, n) = (self.h(l, 0), d.widths[l]);
        if let Some(GradOutput { output, accumulate }) = weight {
            let (to, add) = (self.x.out(output), accumulate || more);
            if l > 0 {
                let x = self.y(l - 1, 0);
                self.weight(l, dh, x.into(), 0, d.fan_in(l), s * m, to, add);
            } else {
                for &part in &d.parts {
                    let (column, width) = (d.column(part), d.width_of(part));
                    match part {
                        InputPart::State => {
                            let u = self.scratch(self.at.u).into();
                            self.weight(l, dh, u, column, width, s * m, to, add);
                        }
                        InputPart::Time => {
                            let tau = self.scratch(self.at.tau).into();
                            self.weight(l, dh, tau, column, width, s * m, to, add);
                        }
                        InputPart::Fixed(i) if k == 0 => {
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
                        InputPart::Fixed(_) => {}
                    }
                }
            }
        }
        let target = |g: Option<GradOutput>| g.map(|g| (self.x.out(g.output), g.accumulate || more));
        let workspace = self.scratch(self.at.columns);
        if self.norm(l) {
            let (from, to) = (self.sums(l, 0).into(), [gain, shift, bias].map(target));
            norm_columns(&mut self.list, 1, s * row_blocks(m), n, from, workspace, to);
        } else if let Some((out, add)) = target(bias) {
            columns(&mut self.list, 1, s * m, n, dh.into(), workspace, out, add);
        }
    }
}

impl Flow {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let d = &self.dims;
        let mut l = Draft { d, x, at: FlowScratch::forward(d), list: vec![] };
        l.prepare(false);
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
        l.list
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        FlowScratch::forward(&self.dims).total
    }
}

impl FlowGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let d = &self.dims;
        let at = FlowScratch::reverse(d, self.kept);
        let (between, [g0, g1]) = (at.between, at.g);
        let mut l = Draft { d, x, at, list: vec![] };
        l.prepare(true);
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
        let (du, dfixed) = (l.scratch(l.at.du), l.scratch(l.at.dfixed));
        let wants_fixed = self.dfixed.iter().any(Option::is_some) || self.dlayers[0][0].is_some();
        // Groups that lie whole in the blocks of the kernel; means of others are removed by a launch of their own.
        let (whole, others) = match d.tangent {
            Some(group) if 256usize.is_multiple_of(group) => (group as u32, None),
            others => (0, others),
        };
        let back = |g: In, so_far: In, du: In, next: Out, dv: Out, w: f64, c: f64| {
            flow_back(cover(n, 256), [], g, so_far, du, next, dv, w as f32, c as f32, whole, n as u32)
        };
        // Cotangents of the substep's end and, as far as its stages are through, of its start.
        let (mut g, mut next) = (x.input(self.operands), l.scratch(g0));
        let (none, nowhere) = (In::default(), Out::default());
        for k in (0..substeps).rev() {
            let from = start(&l, k);
            for s in 0..stages {
                l.evaluate(k, s, from, true);
            }
            for s in (0..stages).rev() {
                let (w, dv) = (d.h() * d.stages()[s].b, l.cotangent(d.layers() - 1, s));
                // What the stage before in this order, the later one in time, has added to so far.
                let so_far: In = if stages == 1 || s + 2 == stages { g } else { next.into() };
                if s + 1 < stages {
                    let c = d.h() * d.stages()[s + 1].a;
                    l.list.push(back(g, so_far, du.into(), next, dv, w, c));
                } else if k + 1 == substeps {
                    l.list.push(back(g, none, none, nowhere, dv, w, 0.0));
                } else {
                    l.list.push(back(none, so_far, du.into(), next, dv, w, 0.0));
                    (g, next) = (next.into(), l.scratch([g0, g1][(substeps - 1 - k) % 2]));
                }
                if let Some(group) = others {
                    l.remove_means(dv, group);
                }
                l.pull(s);
            }
            if wants_fixed {
                let (h, size) = (l.h(0, 0), d.rows * d.widths[0]);
                let accumulate = u32::from(k + 1 < substeps);
                let grid = cover(size, 256);
                l.list.push(flow_gather(grid, [], h.into(), dfixed, stages as u32, accumulate, size as u32));
            }
            for (layer, targets) in self.dlayers.iter().enumerate() {
                l.parameters(layer, k, *targets);
            }
        }
        let so_far: In = if stages == 1 { g } else { next.into() };
        l.list.push(back(none, so_far, du.into(), next, nowhere, 0.0, 0.0));
        g = next.into();
        if let Some(GradOutput { output, accumulate }) = self.dstate {
            l.put(g, x.out(output), accumulate, n);
        }
        for (i, target) in self.dfixed.iter().enumerate() {
            if let Some(GradOutput { output, accumulate }) = *target {
                let column = d.column(InputPart::Fixed(i));
                l.back(0, dfixed.into(), column, d.fixed[i], x.out(output), accumulate);
            }
        }
        l.list
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        FlowScratch::reverse(&self.dims, self.kept).total
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
