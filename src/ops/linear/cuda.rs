//! CUDA launches of fully connected layers: which kernels make a layer and its adjoint.
//!
//! | layer | launches |
//! |---|---|
//! | a few inputs | `linear`: product and epilogue, eight rows a block; a k this small is not worth two launches |
//! | a few outputs, no norm | `narrow`: a warp a row; tiles would be nearly empty |
//! | many rows, a norm, clusters of blocks | `product_tma` with the epilogue: [`Product::cluster`] |
//! | else | `product` into the place of `h`, then `linear_rows` over its rows, several of which make a block's width |
//!
//! The last two rows are most of the work: rows of a wide layer are longer than any tile with enough neighbours for
//! tensor cores, so a block alone cannot see the whole row that LayerNorm needs.

use super::product::{
    FusedEpilogue, Major, Piece, Product, TmaMatrix, narrow, round_rows, rounded, rounded_workspace, split_workspace,
    transpose_round,
};
use super::{Epilogue, GradOutput, LayerDims, Linear, LinearGrad, Transpose, first_x};
use crate::config::Precision;
use crate::device::cuda::Launch;
use crate::device::cuda::estimate::Work;
use crate::device::cuda::launch::{In, MapElement, Out};
use crate::device::cuda::matmul::Matmul;
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "nn/linear.cu";
    fn linear[256]<N, K0, K1, K2, EPILOGUE, G>(
        wt: In, bias: In, gain: In, shift: In, x0: In, x1: In, x2: In, y: Out, saved: Out, m: u32, shared: u32,
    );
    fn linear_rows[256]<N, EPILOGUE, G, R>(h: In, gain: In, shift: In, y: Out, m: u32);
    fn linear_grad_rows[256]<N, EPILOGUE, G, R>(
        dy: In, h: In, y: In, gain: In, shift: In, dh: Out, sums: Out, m: u32,
    );
    fn column_sums[256](x: In, out: Out, rows: u32, n: u32, chunk: u32, accumulate: u32);
    fn norm_sums[256](x: In, gain: Out, shift: Out, bias: Out, rows: u32, n: u32, accumulate: u32);
    fn transpose[256](w: In, out: Out, n: u32, k: u32);
}

/// Input parts that a launch takes; the products of more follow one after another.
pub(in crate::ops) const PARTS: usize = 3;
/// The most inputs that count as few, the most outputs that do, and the most outputs of a layer that one block holds.
const FEW_INPUTS: usize = 64;
const FEW_OUTPUTS: usize = 16;
const FUSED: usize = 512;
/// Rows of a block of `linear`.
const ROWS: usize = 8;

/// Rows of a block that goes over the rows of a layer: few where there are few, so that the blocks are many.
fn rows_of_block(m: usize) -> usize {
    match m {
        0..512 => 1,
        512..2048 => 4,
        _ => 8,
    }
}

/// Blocks that go over `m` rows.
pub(in crate::ops) fn row_blocks(m: usize) -> usize {
    m.div_ceil(rows_of_block(m))
}

/// Sums that a block of `linear_grad_rows` leaves of each column: gain, shift, bias.
pub(in crate::ops) const SUMS: usize = 3;

impl Epilogue {
    /// Its number in the kernels.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Bias => 0,
            Self::NormMish => 1,
            Self::NormSimplex { .. } => 2,
            Self::MishNorm => 3,
        }
    }
}

/// Number of the epilogue in the kernels, and its group.
fn code(e: Epilogue) -> (i64, i64) {
    let group = if let Epilogue::NormSimplex { group } = e { group as i64 } else { 1 };
    (e.code(), group)
}

/// `y = epilogue(h)` for `m` rows of each of `e` layers of an ensemble; `h` may be `y`.
#[allow(clippy::too_many_arguments, reason = "sizes and operands of one kernel")]
pub(in crate::ops) fn rows(e: usize, m: usize, n: usize, epilogue: Epilogue, h: In, gains: (In, In), y: Out) -> Launch {
    let ((number, group), r) = (code(epilogue), rows_of_block(m));
    linear_rows([m.div_ceil(r), e, 1], [n as i64, number, group, r as i64], h, gains.0, gains.1, y, m as u32)
        .with_work(over_rows(2 * e * m * n, 5 + loads(r, n)))
}

/// What a pass over rows does: numbers that are moved, and steps of a block, which are loads, sums over a row, stores.
fn over_rows(numbers: usize, steps: usize) -> Work {
    let bytes = (4 * numbers) as f64;
    Work { bytes, distinct: bytes, steps: steps as f64, ..Work::default() }
}

/// Steps in which a thread of a block loads its numbers of `r` rows, four at a time.
fn loads(r: usize, n: usize) -> usize {
    (r * n.div_ceil(256)).div_ceil(4)
}

/// Adjoint of [`rows`]: `dh`, which may be `h`, and `[e, row_blocks(m), SUMS, n]` sums.
#[allow(clippy::too_many_arguments, reason = "sizes and operands of one kernel")]
pub(in crate::ops) fn grad_rows(
    e: usize,
    m: usize,
    n: usize,
    epilogue: Epilogue,
    [dy, h, y]: [In; 3],
    gains: (In, In),
    dh: Out,
    sums: Out,
) -> Launch {
    let ((number, group), r) = (code(epilogue), rows_of_block(m));
    let template = [n as i64, number, group, r as i64];
    linear_grad_rows([m.div_ceil(r), e, 1], template, dy, h, y, gains.0, gains.1, dh, sums, m as u32)
        .with_work(over_rows(4 * e * m * n, 7 + 3 * loads(r, n)))
}

/// Rows that a block adds up; more of them go in two steps.
const COLUMN_ROWS: usize = 256;

/// Numbers that [`columns`] needs.
pub(in crate::ops) fn columns_workspace(e: usize, rows: usize, n: usize) -> usize {
    let chunks = rows.div_ceil(COLUMN_ROWS);
    if chunks > 1 { e * chunks * n } else { 0 }
}

/// `out[e, c] (+)=` the sum of `x[e, row, c]` over rows, in a fixed order; `workspace` holds
/// [`columns_workspace`] numbers.
#[allow(clippy::too_many_arguments, reason = "a matrix with its sizes")]
pub(in crate::ops) fn columns(
    list: &mut Vec<Launch>,
    e: usize,
    rows: usize,
    n: usize,
    x: In,
    workspace: Out,
    out: Out,
    accumulate: bool,
) {
    let (blocks, chunks) = (n.div_ceil(32), rows.div_ceil(COLUMN_ROWS).max(1));
    let (n, chunk, add) = (n as u32, COLUMN_ROWS as u32, accumulate.into());
    let work = |rows: usize| over_columns(e * rows * n as usize, rows.min(COLUMN_ROWS));
    if chunks == 1 {
        let all = column_sums([blocks, e, 1], [], x, out, rows as u32, n, chunk, add);
        return list.push(all.with_work(work(rows)));
    }
    let parts = column_sums([blocks, e, chunks], [], x, workspace, rows as u32, n, chunk, 0);
    let total = column_sums([blocks, e, 1], [], workspace.into(), out, chunks as u32, n, chunks as u32, add);
    list.extend([parts.with_work(work(rows)), total.with_work(work(chunks))]);
}

/// Numbers that [`norm_columns`] needs.
pub(in crate::ops) fn norm_columns_workspace(e: usize, rows: usize, n: usize) -> usize {
    columns_workspace(e, rows, SUMS * n)
}

/// The sums of [`grad_rows`], of `rows` blocks, added up: where the gradients of gain, shift and bias go, if anywhere,
/// and whether they are added to what is there. One launch, or two; `workspace` holds [`norm_columns_workspace`] numbers.
pub(in crate::ops) fn norm_columns(
    list: &mut Vec<Launch>,
    e: usize,
    rows: usize,
    n: usize,
    sums: In,
    workspace: Out,
    to: [Option<(Out, bool)>; SUMS],
) {
    if to.iter().all(Option::is_none) {
        return;
    }
    let (mut from, mut count, width) = (sums, rows, SUMS * n);
    if rows > COLUMN_ROWS {
        count = rows.div_ceil(COLUMN_ROWS);
        let (grid, width, chunk) = ([width.div_ceil(32), e, count], width as u32, COLUMN_ROWS as u32);
        let parts = column_sums(grid, [], sums, workspace, rows as u32, width, chunk, 0);
        list.push(parts.with_work(over_columns(e * rows * SUMS * n, COLUMN_ROWS)));
        from = workspace.into();
    }
    let [gain, shift, bias] = to.map(|to| to.map_or(Out::default(), |to| to.0));
    let accumulate = to.iter().enumerate().map(|(i, to)| u32::from(to.is_some_and(|to| to.1)) << i).sum();
    let total = norm_sums([width.div_ceil(32), e, 1], [], from, gain, shift, bias, count as u32, n as u32, accumulate);
    list.push(total.with_work(over_columns(e * count * width, count)));
}

/// What adding up columns of `rows` rows does: eight threads share a column, and a thread has eight loads under way.
fn over_columns(numbers: usize, rows: usize) -> Work {
    over_rows(numbers, 3 + rows.div_ceil(8 * 8))
}

/// A layer, or `e` of an ensemble, with `m` rows each, and where its operands lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Layer {
    pub e: usize,
    pub m: usize,
    pub n: usize,
    pub epilogue: Epilogue,
    /// Width and place of each input part; the rest are `Default`. One input for the whole ensemble, or a single part
    /// for each member.
    pub parts: [(usize, In); PARTS],
    pub shared_input: bool,
    /// All inputs of the weight, and the first of those that are used.
    pub inputs: usize,
    pub column: usize,
    pub weight: In,
    pub transposed: In,
    pub bias: In,
    /// Gain and shift; null without a norm.
    pub gains: (In, In),
    pub y: Out,
    /// Keeps the product; null for not.
    pub saved: Out,
}

impl Layer {
    fn k(&self) -> usize {
        self.parts.iter().map(|p| p.0).sum()
    }

    /// What a kernel does whose blocks take [`ROWS`] rows each, and all of the weight, a thread so many steps of it: four
    /// of its loads are under way.
    fn on_plain_units(&self, grid: [usize; 3], steps: usize) -> Work {
        let (k, blocks) = (self.k(), grid[0] * grid[1]);
        let numbers = blocks * (k * self.n + ROWS * (k + self.n));
        Work { flops: 2.0 * (self.e * self.m * self.n * k) as f64, ..over_rows(numbers, 4 + steps) }
    }

    /// `workspace` is for as many numbers as [`rounded_workspace`] says.
    pub fn launches(&self, how: &Matmul, workspace: Out) -> Vec<Launch> {
        let [(k0, x0), (k1, x1), (k2, x2)] = self.parts;
        let (m, n, shared) = (self.m as u32, self.n, u32::from(self.shared_input));
        if self.k() <= FEW_INPUTS && n <= FUSED {
            let (epilogue, group) = code(self.epilogue);
            let template = [n as i64, k0 as i64, k1 as i64, k2 as i64, epilogue, group];
            let (wt, bias, (gain, shift)) = (self.transposed, self.bias, self.gains);
            let grid = [self.m.div_ceil(ROWS), self.e, 1];
            let launch = linear(grid, template, wt, bias, gain, shift, x0, x1, x2, self.y, self.saved, m, shared);
            return vec![launch.with_work(self.on_plain_units(grid, self.k().div_ceil(4)))];
        }
        if n <= FEW_OUTPUTS && !self.epilogue.has_norm() {
            let [n, k0, k1, k2] = [n, k0, k1, k2].map(|n| n as u32);
            let (grid, w) = ([self.m.div_ceil(ROWS), self.e, 1], self.weight);
            let launch = narrow(grid, [], w, self.bias, x0, x1, x2, self.y, m, n, k0, k1, k2, shared);
            return vec![launch.with_work(self.on_plain_units(grid, self.n * (1 + self.k().div_ceil(32 * 4))))];
        }
        let mut list = vec![];
        let (gain, shift) = self.gains;
        let whole = Product {
            bias: self.bias,
            epilogue: Some(FusedEpilogue { epilogue: self.epilogue, gain, shift, y: self.y }),
            ..self.product(how, self.saved)
        };
        if whole.cluster(how, self.epilogue).is_some() {
            whole.launch(how, workspace, &mut list);
            return list;
        }
        let h = if self.saved == Out::default() { self.y } else { self.saved };
        Product { bias: self.bias, ..self.product(how, h) }.launch(how, workspace, &mut list);
        if self.epilogue.has_norm() {
            list.push(rows(self.e, self.m, n, self.epilogue, h.into(), self.gains, self.y));
        }
        list
    }

    /// `h = x Wᵀ`.
    pub fn product(&self, how: &Matmul, h: Out) -> Product {
        let own = self.e > 1 && !self.shared_input;
        assert!(!own || self.parts[1].0 == 0, "invariant: members with inputs of their own have them in one part");
        let (n, inputs, whole) = (self.n, self.inputs, self.n * self.inputs);
        let rounded = rounded(how, n, inputs);
        let b = self.weight.at(self.column);
        let (b, ldb, b_major) =
            if rounded { (b, inputs, Major::K) } else { (self.transposed.at(self.column * n), n, Major::MN) };
        let b_tma = match how.precision {
            Precision::Fp32 => None,
            Precision::Bf16 if !rounded => None,
            Precision::Tf32 => {
                let at = self.weight.at(self.column).0;
                Some(TmaMatrix {
                    at,
                    element: MapElement::Tf32,
                    ld: inputs,
                    stride: if self.e > 1 { whole } else { 0 },
                })
            }
            Precision::Bf16 => {
                let at = self.transposed.0 + 2 * self.column as u64;
                Some(TmaMatrix {
                    at,
                    element: MapElement::Bf16,
                    ld: inputs,
                    stride: if self.e > 1 { 2 * whole } else { 0 },
                })
            }
        };
        Product {
            m: self.m,
            n,
            a: self.parts.map(|(k, at)| Piece { at, k, ld: k }),
            a_stride: if own { self.m * self.k() } else { 0 },
            b,
            ldb,
            b_major,
            b_tma,
            b_stride: whole,
            c: h,
            ldc: n,
            c_stride: self.m * n,
            bias_stride: n,
            scale: 1.0,
            batch: self.e,
            summed: 1,
            ..Product::default()
        }
    }
}

impl Linear {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let d = &self.dims;
        let norm = d.epilogue.has_norm();
        let first = first_x(d.epilogue);
        let parts: Vec<(usize, In)> = d.parts.iter().enumerate().map(|(i, &k)| (k, x.input(first + i))).collect();
        let of = |parts: &[(usize, In)]| std::array::from_fn(|i| parts.get(i).copied().unwrap_or_default());
        let layer = Layer {
            e: d.ensemble,
            m: d.m,
            n: d.n,
            epilogue: d.epilogue,
            parts: of(&parts),
            shared_input: d.shared_input,
            inputs: d.k(),
            column: 0,
            weight: x.input(0),
            transposed: x.input(1),
            bias: x.input(2),
            gains: if norm { (x.input(3), x.input(4)) } else { Default::default() },
            y: x.out(0),
            saved: if norm && x.outputs_len() > 1 { x.out(1) } else { Out::default() },
        };
        let workspace = if self.cuda_workspace() > 0 { x.scratch() } else { Out::default() };
        if parts.len() <= PARTS {
            return layer.launches(x.matmul(), workspace);
        }
        let h = if layer.saved == Out::default() { layer.y } else { layer.saved };
        let (mut list, mut column) = (vec![], 0);
        for (i, parts) in parts.chunks(PARTS).enumerate() {
            let some = Layer { parts: of(parts), column, ..layer };
            let bias = if i == 0 { layer.bias } else { In::default() };
            let product = Product { bias, accumulate: i > 0, ..some.product(x.matmul(), h) };
            product.launch(x.matmul(), workspace, &mut list);
            column += some.k();
        }
        if norm {
            list.push(rows(layer.e, layer.m, layer.n, layer.epilogue, h.into(), layer.gains, layer.y));
        }
        list
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        let d = &self.dims;
        rounded_workspace(d.m, d.n, d.k(), d.ensemble, if d.shared_input { 1 } else { d.ensemble })
    }
}

/// Where the parts of the scratch memory begin.
struct LinearGradScratch {
    /// Sums of each block of rows.
    sums: usize,
    /// Sums of columns on the way.
    columns: usize,
    /// Sums of weight gradients on the way.
    parts: usize,
    /// A rounded copy of `dh`.
    rounded: usize,
    total: usize,
}

impl LinearGradScratch {
    fn new(d: &LayerDims) -> Self {
        let blocks = if d.epilogue.has_norm() { row_blocks(d.m) } else { 0 };
        let columns = d.ensemble * blocks * SUMS * d.n;
        let parts = columns
            + match d.epilogue.has_norm() {
                true => norm_columns_workspace(d.ensemble, blocks, d.n),
                false => columns_workspace(d.ensemble, d.m, d.n),
            };
        let workspace = d.parts.iter().map(|&k| split_workspace(d.n, k, d.m, d.ensemble)).max().unwrap_or(0);
        // Parts of a sum are written sixteen bytes at a time.
        let parts = parts.next_multiple_of(4);
        let rounded = (parts + workspace).next_multiple_of(4);
        let copies = d.parts.iter().map(|&k| rounded_workspace(d.m, k, d.n, d.ensemble, d.ensemble)).max().unwrap_or(0);
        Self { sums: 0, columns, parts, rounded, total: rounded + copies }
    }
}

impl LinearGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let d = &self.dims;
        let (e, m, n, k) = (d.ensemble, d.m, d.n, d.k());
        let norm = d.epilogue.has_norm();
        let at = LinearGradScratch::new(d);
        let scratch = |place: usize| if at.total > 0 { x.scratch().at(place) } else { Out::default() };
        let mut list = Vec::new();
        let dh: In = if norm {
            let (operands, gains) = ([x.input(0), x.input(1), x.input(2)], (x.input(4), x.input(5)));
            list.push(grad_rows(e, m, n, d.epilogue, operands, gains, x.out(0), scratch(at.sums)));
            x.out(0).into()
        } else {
            x.input(0)
        };
        let first = if norm { 6 } else { 4 };
        let transposed = x.input(first + d.parts.len());
        let batch_stride = |b: TmaMatrix| match (e, b.element) {
            (1, _) => 0,
            (_, MapElement::Tf32) => n * k,
            (_, MapElement::Bf16) => 2 * n * k,
        };
        let mut offset = 0;
        for (i, &width) in d.parts.iter().enumerate() {
            if let Some(GradOutput { output, accumulate }) = self.dx[i] {
                // Gradients of the members of an ensemble that share an input add up inside one block.
                let (batch, summed) = if self.joined() { (1, e) } else { (e, 1) };
                let product = Product {
                    a_stride: m * n,
                    b_stride: n * k,
                    c: x.out(output),
                    c_stride: m * width,
                    batch,
                    summed,
                    accumulate,
                    ..input_gradient(x.matmul(), (m, n, width), dh, x.input(3), transposed, (k, offset))
                };
                let product =
                    Product { b_tma: product.b_tma.map(|b| TmaMatrix { stride: batch_stride(b), ..b }), ..product };
                product.launch(x.matmul(), scratch(at.rounded), &mut list);
            }
            if let Some(GradOutput { output, accumulate }) = self.params[0] {
                let x_ = x.input(first + i);
                let product = Product {
                    c: x.out(output).at(offset),
                    ldc: k,
                    c_stride: n * k,
                    batch: e,
                    accumulate,
                    b_stride: if d.shared_input { 0 } else { m * width },
                    a_stride: m * n,
                    ..weight_gradient(n, width, m, dh, x_)
                };
                product.launch_split(x.matmul(), scratch(at.parts), &mut list);
            }
            offset += width;
        }
        let workspace = scratch(at.columns);
        let target = |i: usize| self.params[i].map(|g: GradOutput| (x.out(g.output), g.accumulate));
        if norm {
            let to = [target(2), target(3), target(1)];
            norm_columns(&mut list, e, row_blocks(m), n, scratch(at.sums).into(), workspace, to);
        } else if let Some((out, accumulate)) = target(1) {
            columns(&mut list, e, m, n, dh, workspace, out, accumulate);
        }
        list
    }

    /// Numbers of scratch memory that the kernels need.
    pub(super) fn cuda_workspace(&self) -> usize {
        LinearGradScratch::new(&self.dims).total
    }
}

/// `dx = dh W` for `width` columns of W `[N, inputs]` from `column` on; without a destination, of one layer.
pub(in crate::ops) fn input_gradient(
    how: &Matmul,
    (m, n, width): (usize, usize, usize),
    dh: In,
    weight: In,
    transposed: In,
    (inputs, column): (usize, usize),
) -> Product {
    let tma = |at: u64, element: MapElement| TmaMatrix { at, element, ld: n, stride: 0 };
    let b_tma = match how.precision {
        Precision::Tf32 => Some(tma(transposed.at(column * n).0, MapElement::Tf32)),
        // After the rounded weight, two numbers in the place of one.
        Precision::Bf16 if rounded(how, n, inputs) => {
            Some(tma(transposed.0 + 2 * (n * inputs + column * n) as u64, MapElement::Bf16))
        }
        _ => None,
    };
    Product {
        m,
        n: width,
        a: [Piece { at: dh, k: n, ld: n }, Piece::default(), Piece::default()],
        b: weight.at(column),
        ldb: inputs,
        b_major: Major::MN,
        b_tma,
        ldc: width,
        batch: 1,
        summed: 1,
        ..Product::default()
    }
}

/// `dW = dhᵀ x` over `m` rows, without a destination.
pub(in crate::ops) fn weight_gradient(n: usize, width: usize, m: usize, dh: In, x: In) -> Product {
    Product {
        m: n,
        n: width,
        a: [Piece { at: dh, k: m, ld: n }, Piece::default(), Piece::default()],
        a_major: Major::MN,
        b: x,
        ldb: width,
        b_major: Major::MN,
        batch: 1,
        summed: 1,
        ..Product::default()
    }
}

impl Transpose {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let s = x.shape(0);
        let (n, k) = (s[s.len() - 2], s[s.len() - 1]);
        let e = if s.len() == 3 { s[0] } else { 1 };
        let grid = [k.div_ceil(32), n.div_ceil(32), e];
        if !rounded(x.matmul(), n, k) {
            return vec![transpose(grid, [], x.input(0), x.out(0), n as u32, k as u32)];
        }
        // The weight, then its transpose, in bf16: half the bytes each.
        let mut list =
            vec![transpose_round(grid, [], x.input(0), x.out(0).at(n * k / 2), n as u32, k as u32, (n * k) as u64)];
        for batch in 0..e {
            let (w, to) = (x.input(0).at(batch * n * k), x.out(0).at(batch * n * k));
            let (none, k_, pairs) = (In::default(), k as u32, n * k / 2);
            list.push(round_rows(cover(pairs, 256), [], w, none, none, to, k_, 0, 0, k_, k_, pairs as u32));
        }
        list
    }
}
