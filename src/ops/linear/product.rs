//! Products of matrices on a GPU: which kernel, which tile, how a sum is split. The one place that decides it.
//!
//! | product | A: rows, k | B: rows, k |
//! |---|---|---|
//! | `h = x Wᵀ` | `x` `[M, K]`, K-major | `Wᵀ` `[K, N]`, MN-major |
//! | `dx = dh W` | `dh` `[M, N]`, K-major | `W` `[N, K]`, MN-major |
//! | `dW = dhᵀ x` | `dh` `[M, N]`, MN-major | `x` `[M, K]`, MN-major |
//!
//! A matrix is K-major if neighbours along k, the summed index, lie side by side in memory. The transposed copy of a
//! weight serves `h` because its rows are as long as a layer is wide, which is nearly always a multiple of four
//! numbers; those of the weight itself are as long as the layer's inputs, which often are not.
//!
//! `nn/product_tma.cu` wants both matrices K-major, in rows of multiples of 16 bytes: `h` takes the weight itself
//! then, `dx` its transposed copy. In bf16 it wants numbers that are rounded already: those of a large weight are, both
//! ways round, in the place of its transposed copy ([`rounded`]), those of A are copied before each product.

use super::Epilogue;
use crate::config::Precision;
use crate::device::cuda::Launch;
use crate::device::cuda::estimate::{Units, Work};
use crate::device::cuda::launch::{In, KernelArg, MapElement, Out, TensorMap};
use crate::device::cuda::matmul::{Matmul, MmaPath};
use crate::tape::cuda::cover;
use bytemuck::{Pod, Zeroable};

crate::cuda_kernels! {
    "nn/product.cu";
    fn product[256]<BM, BN, BK, STAGES, WM, WN, WK, A, B, A_WIDE, B_WIDE, PRECISION, GROUP>(x: Arguments,);
    fn sum_splits[256](
        part: In, out: Out, splits: u32, rows: u32, width: u32, ld: u32, out_stride: u32, accumulate: u32,
    );
    fn narrow[256](
        w: In, bias: In, x0: In, x1: In, x2: In, y: Out, m: u32, n: u32, k0: u32, k1: u32, k2: u32, shared: u32,
    );
}

crate::cuda_kernels! {
    "nn/product_tma.cu";
    fn product_tma[384]<BN, STAGES, PRECISION, GROUP, EPILOGUE, CLUSTER>(
        a0: TensorMap, a1: TensorMap, a2: TensorMap, b: TensorMap, x: TmaArguments,
    );
    fn round_rows[256](
        x0: In, x1: In, x2: In, out: Out, k0: u32, k1: u32, k2: u32, ld0: u32, ld: u32, n: u32,
    );
    fn pack_rows[256](x: In, out: Out, width: u32, ld: u32, n: u32);
    fn transpose_round[256](w: In, out: Out, n: u32, k: u32, out_stride: u64);
}

/// `Product` of `nn/product.cu`, field by field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct Arguments {
    a: [u64; 3],
    b: u64,
    c: u64,
    bias: u64,
    addend: u64,
    a_stride: u64,
    b_stride: u64,
    c_stride: u64,
    bias_stride: u64,
    c_split: u64,
    m: u32,
    n: u32,
    k: [u32; 3],
    lda: [u32; 3],
    ldb: u32,
    ldc: u32,
    summed: u32,
    splits: u32,
    chunk: u32,
    accumulate: u32,
    wide: u32,
    scale: f32,
}

impl KernelArg for Arguments {
    const C: &'static str = "Product";
    fn bytes(self) -> Vec<u8> {
        bytemuck::bytes_of(&self).to_vec()
    }
}

/// `ProductTma` of `nn/product_tma.cu`, field by field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct TmaArguments {
    c: u64,
    bias: u64,
    addend: u64,
    y: u64,
    gain: u64,
    shift: u64,
    c_stride: u64,
    bias_stride: u64,
    m: u32,
    n: u32,
    k: [u32; 3],
    ldc: u32,
    summed: u32,
    a_shared: u32,
    b_shared: u32,
    accumulate: u32,
    scale: f32,
    filler: u32,
}

impl KernelArg for TmaArguments {
    const C: &'static str = "ProductTma";
    fn bytes(self) -> Vec<u8> {
        bytemuck::bytes_of(&self).to_vec()
    }
}

/// Which of a matrix's two indices, its row or k, runs fastest in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ops) enum Major {
    /// Neighbours along k side by side.
    #[default]
    K,
    /// Neighbouring rows (m of A, n of B) side by side.
    MN,
}

/// A matrix, or a piece of it: where it lies, its extent along k, and its leading dimension.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ops) struct Piece {
    pub at: In,
    pub k: usize,
    pub ld: usize,
}

/// B as the copy unit reads it: K-major.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct TmaMatrix {
    /// Where the numbers of `element` begin.
    pub at: u64,
    pub element: MapElement,
    /// Leading dimension and batch stride.
    pub ld: usize,
    pub stride: usize,
}

/// The epilogue of each row of C in the same launch: LayerNorm and an activation. See [`Product::cluster`].
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct FusedEpilogue {
    pub epilogue: Epilogue,
    /// Of each column, with the batch stride of the bias.
    pub gain: In,
    pub shift: In,
    /// Laid out as C.
    pub y: Out,
}

/// `C (+)= A Bᵀ + scale bias + addend`, for each entry of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ops) struct Product {
    /// Rows and columns of C.
    pub m: usize,
    pub n: usize,
    /// Up to three pieces of A side by side along k; the rows of B follow on.
    pub a: [Piece; 3],
    pub a_major: Major,
    pub b: In,
    pub ldb: usize,
    pub b_major: Major,
    /// B again, if it also lies K-major somewhere.
    pub b_tma: Option<TmaMatrix>,
    /// Null if only the epilogue's result is wanted.
    pub c: Out,
    pub ldc: usize,
    /// Of each column; null for none.
    pub bias: In,
    pub scale: f32,
    /// As C; null for none.
    pub addend: In,
    /// Results, and products that add up in each of them.
    pub batch: usize,
    pub summed: usize,
    /// Batch strides: numbers from one matrix to the next.
    pub a_stride: usize,
    pub b_stride: usize,
    pub c_stride: usize,
    pub bias_stride: usize,
    pub accumulate: bool,
    /// Whether the mean of every eight columns is removed.
    pub tangent: bool,
    /// Only where [`Product::cluster`] finds it possible.
    pub epilogue: Option<FusedEpilogue>,
}

/// A tile of C and how the warps of a block share it: see `nn/product.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Tile {
    m: usize,
    n: usize,
    depth: usize,
    stages: usize,
    warps: [usize; 3],
}

/// From the one with the most arithmetic for each number that is fetched to the one that makes the most blocks.
const TILES: [Tile; 3] = [
    Tile { m: 128, n: 128, depth: 32, stages: 3, warps: [2, 4, 1] },
    Tile { m: 64, n: 64, depth: 32, stages: 4, warps: [2, 2, 2] },
    Tile { m: 32, n: 32, depth: 64, stages: 4, warps: [1, 1, 4] },
];

/// Steps of a block before and after those along k: the first tiles come, sums are put together, results go.
const START: usize = 4;
/// Rows of a tile of `product_tma`.
const TMA_ROWS: usize = 128;
/// Tiles of it, of 128 columns, that are worth it: fewer leave more of the GPU idle than `mma.sync` is slower.
const TMA_TILES: usize = 64;
/// Tiles of 256 columns that are at least two for each multiprocessor: then their better ratio of arithmetic to what is
/// fetched counts more than that the last ones leave some idle.
const WAVES: usize = 264;
/// Columns of a tile of it where LayerNorm follows, and how many such tiles may share a row. Sixteen to eighteen
/// multiprocessors see each other's memory: of sixteen at most one is left idle. Eight are what every whole GPU takes.
const SHARES: [usize; 3] = [256, 224, 128];
const CLUSTERS: [usize; 6] = [1, 2, 3, 4, 5, 8];

/// Whether a product has tiles enough for `product_tma`.
fn fills(m: usize, n: usize, batch: usize) -> bool {
    Product::tma_tiles(m, n, 128) * batch >= TMA_TILES
}

/// Whether a single product runs on `product_tma`, if its matrices lie as that wants them.
pub(in crate::ops) fn fills_tma(how: &Matmul, m: usize, n: usize) -> bool {
    how.path >= MmaPath::Wgmma && fills(m, n, 1)
}

/// Numbers that rounded copies of `matrices` matrices A `[m, k]` take, if their product, of `batch` results, may need
/// them on some GPU.
pub(in crate::ops) fn rounded_workspace(m: usize, n: usize, k: usize, batch: usize, matrices: usize) -> usize {
    if fills(m, n, batch) { matrices * m * k.next_multiple_of(8) / 2 } else { 0 }
}

/// Whether a weight `[n, k]` has copies in bf16 in the place of its transposed copy, which holds just as many bytes as
/// two of them: the weight, then its transpose.
pub(in crate::ops) fn rounded(how: &Matmul, n: usize, k: usize) -> bool {
    let large = |n: usize| n >= 256 && n.is_multiple_of(8);
    how.path >= MmaPath::Wgmma && how.precision == Precision::Bf16 && large(n) && large(k)
}

/// Blocks that keep a GPU of 100 to 150 multiprocessors busy. A constant, so that bits do not depend on the GPU.
const BUSY: usize = 96;

impl Tile {
    /// The largest tile that `blocks` says makes enough blocks, else the smallest.
    fn largest(blocks: impl Fn(&Tile) -> usize) -> Tile {
        *TILES.iter().find(|t| blocks(t) >= BUSY).unwrap_or(&TILES[TILES.len() - 1])
    }

    /// Tiles that cover a matrix.
    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.m) * n.div_ceil(self.n)
    }

    fn threads(&self) -> u32 {
        32 * self.warps.iter().product::<usize>() as u32
    }

    /// Bytes on chip.
    fn shared(&self) -> u32 {
        (4 * self.stages * self.depth * (self.m + self.n)) as u32
    }
}

/// Whether sixteen bytes can be moved as one from every row: where a matrix begins, and its strides.
fn wide(at: u64, steps: &[usize]) -> bool {
    at.is_multiple_of(16) && steps.iter().all(|s| s.is_multiple_of(4))
}

/// Number of a precision in the kernels.
fn code(p: Precision) -> i64 {
    match p {
        Precision::Fp32 => 0,
        Precision::Tf32 => 1,
        Precision::Bf16 => 2,
    }
}

impl Product {
    fn k(&self) -> usize {
        self.a.iter().map(|p| p.k).sum()
    }

    /// Multiplies; `workspace` is for as many numbers as [`rounded_workspace`] says.
    pub fn launch(&self, how: &Matmul, workspace: Out, list: &mut Vec<Launch>) {
        if let Some(b) = self.b_tma.filter(|b| self.fits_tma(how, b)) {
            return self.launch_tma(how, &b, workspace, list);
        }
        assert!(self.epilogue.is_none(), "invariant: only clusters run an epilogue");
        let tile = Tile::largest(|t| t.count(self.m, self.n) * self.batch);
        list.push(self.launch_tile(how, tile, 1, self.k(), 0));
    }

    /// Columns of a tile, and tiles that share a row, if the epilogue can run in the same launch. Such tiles are wide,
    /// and must fill the GPU all the same: multiprocessors that idle cost more than a second launch for the rows.
    pub fn cluster(&self, how: &Matmul, epilogue: Epilogue) -> Option<[usize; 2]> {
        let fuses = match epilogue {
            Epilogue::Bias => false,
            Epilogue::NormSimplex { group } => group == 8,
            Epilogue::NormMish | Epilogue::MishNorm => true,
        };
        let b = self.b_tma.as_ref()?;
        if how.path < MmaPath::Clusters || !fuses || !self.fits_tma(how, b) {
            return None;
        }
        let clusters = |columns: &usize| {
            let tiles = Self::tma_tiles(self.m, self.n, *columns) * self.batch;
            let cluster = self.n / columns;
            (self.n.is_multiple_of(*columns) && CLUSTERS.contains(&cluster) && tiles >= BUSY)
                .then_some([*columns, cluster])
        };
        SHARES.iter().find_map(clusters)
    }

    /// Whether the copy unit can bring both matrices, and there are tiles enough for it.
    fn fits_tma(&self, how: &Matmul, b: &TmaMatrix) -> bool {
        let a = match b.element {
            MapElement::Tf32 => self.a.iter().all(|p| wide(p.at.0, &[p.ld, self.a_stride])),
            // A is copied, so only its batch stride matters.
            MapElement::Bf16 => self.a_stride == 0 || self.a_stride == self.m * self.a[0].ld,
        };
        let per_chunk = match b.element {
            MapElement::Tf32 => 4,
            MapElement::Bf16 => 8,
        };
        let b_fits = b.at.is_multiple_of(16) && [b.ld, b.stride].iter().all(|n| n.is_multiple_of(per_chunk));
        // Results go two at a time.
        let y = self.epilogue.map_or(0, |f| f.y.0);
        let c = [self.c.0, self.addend.0, y].iter().all(|a| a.is_multiple_of(8))
            && [self.n, self.ldc, self.c_stride].iter().all(|n| n.is_multiple_of(2));
        how.path >= MmaPath::Wgmma && self.a_major == Major::K && a && b_fits && c && fills(self.m, self.n, self.batch)
    }

    fn launch_tma(&self, how: &Matmul, b: &TmaMatrix, workspace: Out, list: &mut Vec<Launch>) {
        let matrices = self.batch * self.summed;
        let ([bytes, per_row], units) = match b.element {
            MapElement::Tf32 => ([4, 32], Units::WgmmaTf32),
            MapElement::Bf16 => ([2, 64], Units::WgmmaBf16),
        };
        let matrix = |at: u64, size: [usize; 3], ld: usize, stride: usize, rows: usize| TensorMap {
            element: b.element,
            address: at,
            size,
            // The driver checks the stride of a single matrix too, which is never used.
            step: [bytes * ld, if stride == 0 { bytes * ld * size[1] } else { bytes * stride }],
            part: [per_row, rows, 1],
        };
        let a_shared = self.a_stride == 0;
        let a_batch = if a_shared { 1 } else { matrices };
        let (mut pieces, mut a_stride) = (self.a, self.a_stride);
        if b.element == MapElement::Bf16 {
            let (k, [x0, x1, x2]) = (self.k(), self.a);
            let padded = k.next_multiple_of(8);
            let n = a_batch * self.m * padded / 2;
            let [k0, k1, k2] = self.a.map(|p| p.k as u32);
            let (ld0, ld) = (x0.ld as u32, padded as u32);
            list.push(round_rows(cover(n, 256), [], x0.at, x1.at, x2.at, workspace, k0, k1, k2, ld0, ld, n as u32));
            pieces = [Piece { at: workspace.into(), k, ld: padded }, Piece::default(), Piece::default()];
            a_stride = if a_shared { 0 } else { self.m * padded };
        }
        // The kernel never reads a piece that is not there; its tensor map must be valid all the same.
        let piece = |i: usize| if pieces[i].k > 0 { pieces[i] } else { pieces[0] };
        let a = |i: usize| {
            let p = piece(i);
            matrix(p.at.0, [p.k, self.m, a_batch], p.ld, a_stride, TMA_ROWS)
        };
        let b_shared = b.stride == 0;
        let wide = || Self::tma_tiles(self.m, self.n, 256) * self.batch >= WAVES;
        let [columns, cluster] = match self.epilogue {
            Some(f) => self.cluster(how, f.epilogue).expect("invariant: the epilogue was found possible"),
            None => [if wide() { 256 } else { 128 }, 1],
        };
        let b_size = [self.k(), self.n, if b_shared { 1 } else { matrices }];
        let b = matrix(b.at, b_size, b.ld, b.stride, columns);
        let arguments = TmaArguments {
            c: self.c.0,
            bias: self.bias.0,
            addend: self.addend.0,
            y: self.epilogue.map_or(0, |f| f.y.0),
            gain: self.epilogue.map_or(0, |f| f.gain.0),
            shift: self.epilogue.map_or(0, |f| f.shift.0),
            c_stride: self.c_stride as u64,
            bias_stride: self.bias_stride as u64,
            m: self.m as u32,
            n: self.n as u32,
            k: pieces.map(|p| p.k as u32),
            ldc: self.ldc as u32,
            summed: self.summed as u32,
            a_shared: a_shared.into(),
            b_shared: b_shared.into(),
            accumulate: self.accumulate.into(),
            scale: self.scale,
            filler: 0,
        };
        let stages = if columns == 128 { 6 } else { 4 };
        // Stages at multiples of 1024 bytes, then two barriers for each, then two numbers for each row.
        let seen = if cluster > 1 { 8 * TMA_ROWS } else { 0 };
        let shared = 1024 + stages * (TMA_ROWS + columns) * 128 + 16 * stages + seen;
        let epilogue = self.epilogue.map_or(Epilogue::Bias, |f| f.epilogue).code();
        let group = if self.tangent { 8 } else { 0 };
        let template = [columns as i64, stages as i64, code(how.precision), group, epilogue, cluster as i64];
        let grid = [Self::tma_tiles(self.m, self.n, columns), self.batch, 1];
        list.push(
            product_tma(grid, template, a(0), a(1), a(2), b, arguments)
                .with_shared(shared as u32)
                .with_cluster(cluster as u32)
                .with_work(self.work(units, grid, [TMA_ROWS, columns], [per_row * stages, bytes])),
        );
    }

    /// What a launch does whose blocks each take a tile of C: every block reads its rows of A and of B, so that the
    /// second-level cache is asked for them many times. In a step it fetches so many numbers along k, of so many bytes.
    fn work(&self, units: Units, grid: [usize; 3], [m, n]: [usize; 2], [depth, bytes]: [usize; 2]) -> Work {
        let k = self.summed * self.k().div_ceil(grid[1] / self.batch);
        let (blocks, matrices) = (grid[0] * grid[1], self.batch * self.summed);
        let a = if self.a_stride == 0 { 1 } else { matrices };
        let operands = blocks * (m + n) * k * bytes;
        let results = 4 * blocks * m * n * (1 + usize::from(self.accumulate));
        Work {
            flops: 2.0 * (self.m * self.n * self.batch * self.summed * self.k()) as f64,
            units,
            bytes: (operands + results) as f64,
            distinct: ((a * self.m + matrices * self.n) * self.k() * bytes + results) as f64,
            steps: (START + k.div_ceil(depth)) as f64,
        }
    }

    fn tma_tiles(m: usize, n: usize, columns: usize) -> usize {
        m.div_ceil(TMA_ROWS) * n.div_ceil(columns)
    }

    /// Multiplies matrices with a large k and few results: blocks share a sum (split-K), and `parts`, of as many
    /// numbers as [`split_workspace`] says, holds the sum of each.
    pub fn launch_split(&self, how: &Matmul, parts: Out, list: &mut Vec<Launch>) {
        let (tile, splits, chunk) = split(self.m, self.n, self.k(), self.batch);
        if splits == 1 {
            return list.push(self.launch_tile(how, tile, 1, self.k(), 0));
        }
        let size = self.m * self.n;
        let shares = Self { c: parts, ldc: self.n, c_stride: splits * size, accumulate: false, ..*self };
        list.push(shares.launch_tile(how, tile, splits, chunk, size));
        let [x, _, _] = cover(size, 256);
        list.push(sum_splits(
            [x, self.batch, 1],
            [],
            parts.into(),
            self.c,
            splits as u32,
            self.m as u32,
            self.n as u32,
            self.ldc as u32,
            self.c_stride as u32,
            self.accumulate.into(),
        ));
    }

    fn launch_tile(&self, how: &Matmul, t: Tile, splits: usize, chunk: usize, c_split: usize) -> Launch {
        let a_wide = self.a.iter().all(|p| wide(p.at.0, &[p.ld, self.a_stride]));
        // Where the part of B that belongs to a later piece of A begins: so many numbers further along a K-major row.
        let offset = if self.b_major == Major::K { self.a[0].k | self.a[1].k } else { 0 };
        let b_wide = wide(self.b.0, &[self.ldb, self.b_stride, offset]);
        let template = [
            t.m as i64,
            t.n as i64,
            t.depth as i64,
            t.stages as i64,
            t.warps[0] as i64,
            t.warps[1] as i64,
            t.warps[2] as i64,
            self.a_major as i64,
            self.b_major as i64,
            a_wide.into(),
            b_wide.into(),
            code(how.precision),
            if self.tangent { 8 } else { 0 },
        ];
        let arguments = Arguments {
            a: self.a.map(|p| p.at.0),
            b: self.b.0,
            c: self.c.0,
            bias: self.bias.0,
            addend: self.addend.0,
            a_stride: self.a_stride as u64,
            b_stride: self.b_stride as u64,
            c_stride: self.c_stride as u64,
            bias_stride: self.bias_stride as u64,
            c_split: c_split as u64,
            m: self.m as u32,
            n: self.n as u32,
            k: self.a.map(|p| p.k as u32),
            lda: self.a.map(|p| p.ld as u32),
            ldb: self.ldb as u32,
            ldc: self.ldc as u32,
            summed: self.summed as u32,
            splits: splits as u32,
            chunk: chunk as u32,
            accumulate: self.accumulate.into(),
            wide: wide(self.c.0, &[self.ldc, self.c_stride, c_split]).into(),
            scale: self.scale,
        };
        let grid = [t.count(self.m, self.n), self.batch * splits, 1];
        let units = match how.precision {
            Precision::Fp32 => Units::Plain,
            Precision::Tf32 => Units::MmaTf32,
            Precision::Bf16 => Units::MmaBf16,
        };
        let work = self.work(units, grid, [t.m, t.n], [t.depth, 4]);
        product(grid, template, arguments).with_threads(t.threads()).with_shared(t.shared()).with_work(work)
    }
}

/// The least k of one block of a split sum, and the most blocks that share a sum.
const LEAST: usize = 256;
const MOST: usize = 8;

/// How a product of `m x n` results, sums over `k`, is split: its tile, the blocks that share a sum, and the k of each.
fn split(m: usize, n: usize, k: usize, batch: usize) -> (Tile, usize, usize) {
    let most = (k / LEAST).clamp(1, MOST);
    let tile = Tile::largest(|t| t.count(m, n) * batch * most);
    let wanted = BUSY.div_ceil(tile.count(m, n) * batch).clamp(1, most);
    let chunk = k.div_ceil(wanted).next_multiple_of(tile.depth);
    (tile, k.div_ceil(chunk), chunk)
}

/// Numbers that [`Product::launch_split`] needs.
pub(in crate::ops) fn split_workspace(m: usize, n: usize, k: usize, batch: usize) -> usize {
    let (_, splits, _) = split(m, n, k, batch);
    if splits == 1 { 0 } else { splits * batch * m * n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_follow_shapes() {
        let tile = |m, n| Tile::largest(|t| t.count(m, n)).m;
        assert_eq!((tile(1024, 1792), tile(128, 1792), tile(128, 512), tile(1, 1)), (128, 32, 32, 32));
        // A weight of the large model needs no split, one of the 5M model over a batch of windows does.
        assert_eq!(split(1792, 1792, 16_384, 1).1, 1);
        let (t, splits, chunk) = split(512, 512, 4096, 1);
        assert!(t.m == 128 && splits == 6 && splits * chunk >= 4096 && chunk % t.depth == 0);
        assert_eq!(split_workspace(512, 512, 4096, 1), 6 * 512 * 512);
        assert!(fills(1024, 1792, 1) && !fills(128, 1792, 1) && fills(16_384, 512, 1));
    }

    #[test]
    fn clusters_share_rows_that_fill_a_gpu() {
        let how = Matmul { precision: Precision::Tf32, path: MmaPath::Clusters };
        let cluster = |m, n, epilogue| {
            let b = TmaMatrix { at: 0, element: MapElement::Tf32, ld: n, stride: 0 };
            let product = Product { m, n, batch: 1, ldc: n, b_tma: Some(b), ..Product::default() };
            product.cluster(&how, epilogue)
        };
        let [bias, norm] = [Epilogue::Bias, Epilogue::NormMish];
        assert_eq!(cluster(16_384, 1792, norm), Some([224, 8]));
        assert_eq!(cluster(16_384, 512, norm), Some([256, 2]));
        assert_eq!(cluster(3072, 512, norm), Some([128, 4]));
        assert_eq!(cluster(16_384, 768, Epilogue::NormSimplex { group: 8 }), Some([256, 3]));
        // Too few rows, a width that no tiles make up, groups that lie across threads, no norm that follows.
        assert_eq!(cluster(1024, 1792, norm), None);
        assert_eq!(cluster(16_384, 400, norm), None);
        assert_eq!(cluster(16_384, 768, Epilogue::NormSimplex { group: 4 }), None);
        assert_eq!(cluster(16_384, 1792, bias), None);
    }
}
