// Matrix products C = A B^T of any size, from numbers in single precision: on fused multiply-adds, or on tensor cores
// in tf32 or bf16 with sums in single precision. When which kernel is taken: src/ops/linear/product.rs.
//
// A block computes a tile of C. Slices of A and B, BK deep along k, come through a ring of STAGES buffers on chip
// (cp.async), so that copies run beside the arithmetic. Warps stand WM x WN over the tile; WK of them share a part of
// the tile and divide the depth of a slice among them; at the end their sums are added in their order, on chip.
//
// A warp works on pieces of 32 rows, 32 columns and 16 steps of k, of which each thread holds 4 x 4 numbers of A and of
// B: four rows at four neighbouring k. The sum does not depend on how rows and k are numbered, as long as A and B
// agree. So thread (g, t) of a warp takes rows 4g to 4g + 3 and k 4t to 4t + 3 and passes them off as those that the
// instruction wants. Then both operands come by loads of 16 bytes whichever way they lie in memory, in as many of them
// as `ldmatrix` would take, the same for all precisions, and results leave in rows of eight neighbours.
#include "common/mma.cuh"
#include "common/reduce.cuh"

// Which of a matrix's two indices, its row (of A or B) or k, runs fastest in memory.
enum Major { K_MAJOR, MN_MAJOR };

struct Product {
    // Up to three pieces of A side by side, one after another along k; rows of B follow on. Null for none.
    const float* a[3];
    const float* b;
    float* c;
    const float* bias;    // of each column, `scale` times; or null
    const float* addend;  // laid out as C; or null
    // Batch strides: numbers from one matrix to the next, and between the parts of a split sum.
    u64 a_stride, b_stride, c_stride, bias_stride, c_split;
    u32 m, n;    // rows and columns of C
    u32 k[3];    // extent along k of each piece
    u32 lda[3];  // leading dimensions
    u32 ldb, ldc;
    u32 summed;         // products that add up in one result
    u32 splits, chunk;  // blocks that share a sum over the first piece, k of each
    u32 accumulate;     // into C
    u32 wide;           // C can be written by four numbers at a time
    float scale;
};

// Where the four numbers from (row, k) on begin: neighbours along k, which is a multiple of four, if MAJOR is K_MAJOR,
// along the row, then a multiple of four, else. Chunks of 16 bytes are exchanged so that the eight threads of a quarter
// of a warp, two g and four t, always meet different banks, as do those that copy.
template <int COUNT, int MAJOR>
DEVICE int offset_of(int row, int k) {
    if constexpr (MAJOR == K_MAJOR) {
        int turn = (row >> 2 & 1) << 2 | (row >> 3 & 3);
        return ((k >> 5) * COUNT + row) * 32 + ((k >> 2 & 7) ^ turn) * 4;
    } else {
        return k * COUNT + ((row >> 2) ^ (k >> 2 & 3) << 1) * 4;
    }
}

// v[j][i] = number (row + j, k + i) of a slice on chip; both multiples of four.
template <int COUNT, int MAJOR>
DEVICE void load(float (&v)[4][4], const float* slice, int row, int k) {
    if constexpr (MAJOR == K_MAJOR) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            Four x = *(const Four*)(slice + offset_of<COUNT, MAJOR>(row + j, k));
#pragma unroll
            for (int i = 0; i < 4; i++) v[j][i] = x.v[i];
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Four x = *(const Four*)(slice + offset_of<COUNT, MAJOR>(row, k + i));
#pragma unroll
            for (int j = 0; j < 4; j++) v[j][i] = x.v[j];
        }
    }
}

// Begins to copy COUNT rows by BK from (row, k) on; zeros beyond `rows` and `end`. WIDE: rows of memory begin at
// multiples of 16 bytes; else numbers come one by one.
template <int T, int COUNT, int BK, int MAJOR, int WIDE>
DEVICE void fetch(float* slice, const float* from, u32 ld, u32 row, u32 rows, u32 k, u32 end) {
    constexpr int ALONG = (MAJOR == K_MAJOR ? BK : COUNT) / 4;
    constexpr int CHUNKS = COUNT * BK / 4;
#pragma unroll
    for (int c = 0; c < CHUNKS; c += T) {
        int i = c + threadIdx.x;
        if (CHUNKS % T != 0 && i >= CHUNKS) break;
        int near = i % ALONG * 4, far = i / ALONG;
        int r = MAJOR == K_MAJOR ? far : near, p = MAJOR == K_MAJOR ? near : far;
        float* to = slice + offset_of<COUNT, MAJOR>(r, p);
        u32 outer = MAJOR == K_MAJOR ? row + r : k + p, outer_end = MAJOR == K_MAJOR ? rows : end;
        u32 at = MAJOR == K_MAJOR ? k + p : row + r, width = MAJOR == K_MAJOR ? end : rows;
        u32 there = outer < outer_end && at < width ? (width - at < 4 ? width - at : 4) : 0;
        const float* x = there ? from + (size_t)outer * ld + at : from;
        if constexpr (WIDE) {
            copy_async_16(to, x, there * 4);
        } else {
#pragma unroll
            for (u32 u = 0; u < 4; u++) copy_async_4(to + u, u < there ? x + u : from, u < there ? 4 : 0);
        }
    }
}

// Position along the sum: product, piece of A, k.
struct Cursor {
    u32 e, p, k;
};

// C (+)= A B^T + scale bias + addend, less the mean of each GROUP of eight columns if GROUP is not 0.
template <int BM, int BN, int BK, int STAGES, int WM, int WN, int WK, int A, int B, int A_WIDE, int B_WIDE, int PRECISION,
          int GROUP>
static __device__ void product(Product x) {
    constexpr int T = 32 * WM * WN * WK, MB = BM / WM / 32, SLICE = (BM + BN) * BK, STEPS = BK / 16 / WK;
    static_assert(BN == 32 * WN && BM == 32 * MB * WM && STEPS * 16 * WK == BK && BK % 32 == 0, "warps cover the tile");
    static_assert((WK - 1) * 32 * WM * WN * MB * 32 <= STAGES * SLICE, "sums of a part of the tile meet where slices were");
    static_assert(GROUP == 0 || GROUP == 8, "groups of eight columns lie in a thread or in two");
    float* ring = (float*)dynamic_shared();
    u32 across = (x.n + BN - 1) / BN;
    u32 row = blockIdx.x / across * BM, column = blockIdx.x % across * BN;
    u32 batch = blockIdx.y / x.splits, split = blockIdx.y % x.splits;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int wk = warp / (WM * WN), wm = warp / WN % WM, wn = warp % WN, g = lane >> 2, t = lane & 3;

    u32 from = split * x.chunk;
    u32 to = x.splits > 1 ? (x.k[0] - from < x.chunk ? x.k[0] : from + x.chunk) : x.k[0];
    u32 slices = (to - from + BK - 1) / BK;
    for (int p = 1; p < 3; p++)
        if (x.a[p]) slices += (x.k[p] + BK - 1) / BK;
    slices *= x.summed;

    Cursor next = {0, 0, from};
    auto issue = [&](u32 s) {
        if (s < slices) {
            u32 before = next.p == 0 ? 0 : (next.p == 1 ? x.k[0] : x.k[0] + x.k[1]);
            const float* pa = next.p == 0 ? x.a[0] : (next.p == 1 ? x.a[1] : x.a[2]);
            u32 lda = next.p == 0 ? x.lda[0] : (next.p == 1 ? x.lda[1] : x.lda[2]);
            u32 end = next.p == 0 ? to : (next.p == 1 ? x.k[1] : x.k[2]);
            pa += (size_t)(batch * x.summed + next.e) * x.a_stride;
            const float* pb = x.b + (size_t)(batch * x.summed + next.e) * x.b_stride;
            pb += B == K_MAJOR ? (size_t)before : (size_t)before * x.ldb;
            float* slice = ring + s % STAGES * SLICE;
            fetch<T, BM, BK, A, A_WIDE>(slice, pa, lda, row, x.m, next.k, end);
            fetch<T, BN, BK, B, B_WIDE>(slice + BM * BK, pb, x.ldb, column, x.n, next.k, end);
            next.k += BK;
            if (next.k >= end) {
                next.k = 0;
                next.p++;
                if (next.p == 3 || !(next.p == 1 ? x.a[1] : x.a[2])) next.p = 0, next.e++;
            }
        }
        // A group for each slice, empty ones too: waiting counts groups.
        copy_commit();
    };

    float acc[MB][4][8] = {};
#pragma unroll
    for (u32 s = 0; s < STAGES - 1; s++) issue(s);
#pragma unroll 1
    for (u32 s = 0; s < slices; s++) {
        copy_wait<STAGES - 2>();
        // The copies of all threads have arrived, and no thread still reads the buffer that is filled next.
        __syncthreads();
        issue(s + STAGES - 1);
        const float* sa = ring + s % STAGES * SLICE;
        const float* sb = sa + BM * BK;
        int r = wm * MB * 32, c = wn * 32;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            int k = (step * WK + wk) * 16;
            if constexpr (PRECISION == FP32) {
                // Thread (g, t): rows 4g to 4g + 3 of each 32, columns 4t to 4t + 3 and those 16 further on.
#pragma unroll
                for (int k4 = 0; k4 < 16; k4 += 4) {
                    float b[2][4][4];
#pragma unroll
                    for (int u = 0; u < 2; u++) load<BN, B>(b[u], sb, c + 16 * u + 4 * t, k + k4);
#pragma unroll
                    for (int mb = 0; mb < MB; mb++) {
                        float a[4][4];
                        load<BM, A>(a, sa, r + 32 * mb + 4 * g, k + k4);
#pragma unroll
                        for (int i = 0; i < 4; i++)
#pragma unroll
                            for (int j = 0; j < 4; j++)
#pragma unroll
                                for (int q = 0; q < 8; q++)
                                    acc[mb][j][q] = fmaf(a[j][i], b[q >> 2][q & 3][i], acc[mb][j][q]);
                    }
                }
            } else {
                // Columns 4 (column of the instruction) + tile: the thread ends with columns 8t to 8t + 7.
                float b[4][4];
                load<BN, B>(b, sb, c + 4 * g, k + 4 * t);
                u32 fb[4][2][2];
#pragma unroll
                for (int nt = 0; nt < 4; nt++)
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        if constexpr (PRECISION == TF32) {
                            fb[nt][h][0] = to_tf32(b[nt][2 * h]);
                            fb[nt][h][1] = to_tf32(b[nt][2 * h + 1]);
                        } else {
                            fb[nt][0][h] = pack_bf16(b[nt][2 * h], b[nt][2 * h + 1]);
                        }
                    }
#pragma unroll
                for (int mb = 0; mb < MB; mb++) {
                    float a[4][4];
                    load<BM, A>(a, sa, r + 32 * mb + 4 * g, k + 4 * t);
#pragma unroll
                    for (int mt = 0; mt < 2; mt++) {
                        float(&up)[4] = a[2 * mt];
                        float(&down)[4] = a[2 * mt + 1];
#pragma unroll
                        for (int h = 0; h < (PRECISION == TF32 ? 2 : 1); h++) {
                            u32 fa[4];
                            if constexpr (PRECISION == TF32) {
                                fa[0] = to_tf32(up[2 * h]), fa[1] = to_tf32(down[2 * h]);
                                fa[2] = to_tf32(up[2 * h + 1]), fa[3] = to_tf32(down[2 * h + 1]);
                            } else {
                                fa[0] = pack_bf16(up[0], up[1]), fa[1] = pack_bf16(down[0], down[1]);
                                fa[2] = pack_bf16(up[2], up[3]), fa[3] = pack_bf16(down[2], down[3]);
                            }
#pragma unroll
                            for (int nt = 0; nt < 4; nt++) {
                                float(&d)[4][8] = acc[mb];
                                float &d0 = d[2 * mt][nt], &d1 = d[2 * mt][4 + nt];
                                float &d2 = d[2 * mt + 1][nt], &d3 = d[2 * mt + 1][4 + nt];
                                if constexpr (PRECISION == TF32) mma_tf32(d0, d1, d2, d3, fa, fb[nt][h]);
                                else mma_bf16(d0, d1, d2, d3, fa, fb[nt][0]);
                            }
                        }
                    }
                }
            }
        }
    }

    if constexpr (WK > 1) {
        copy_wait<0>();
        __syncthreads();
        constexpr int SUMS = MB * 32;
        float* mine = ring + (wm * WN + wn) * 32 + lane;
#pragma unroll 1
        for (int w = 1; w < WK; w++)
            if (wk == w)
#pragma unroll
                for (int i = 0; i < SUMS; i++)
                    mine[((w - 1) * SUMS + i) * 32 * WM * WN] = acc[i / 32][i / 8 % 4][i % 8];
        __syncthreads();
        if (wk > 0) return;
#pragma unroll
        for (int w = 1; w < WK; w++)
#pragma unroll
            for (int i = 0; i < SUMS; i++) acc[i / 32][i / 8 % 4][i % 8] += mine[((w - 1) * SUMS + i) * 32 * WM * WN];
    }

    float* out = x.c + (size_t)batch * x.c_stride + (size_t)split * x.c_split;
    u32 c[2];
    // All rows of a thread have the same columns. The bias is read here, once: after a store the compiler would read it
    // again.
    float bias[2][4] = {};
#pragma unroll
    for (int u = 0; u < 2; u++) {
        c[u] = column + wn * 32 + (PRECISION == FP32 ? 16 * u + 4 * t : 8 * t + 4 * u);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (x.bias && c[u] + i < x.n) bias[u][i] = x.scale * x.bias[(size_t)batch * x.bias_stride + c[u] + i];
    }
#pragma unroll
    for (int mb = 0; mb < MB; mb++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            u32 r = row + wm * MB * 32 + 32 * mb + 4 * g + j;
            float* to = out + (size_t)r * x.ldc;
            float v[2][4];
#pragma unroll
            for (int u = 0; u < 2; u++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    v[u][i] = acc[mb][j][4 * u + i];
                    if (r >= x.m || c[u] + i >= x.n) continue;
                    v[u][i] += bias[u][i];
                    if (x.addend) v[u][i] += x.addend[(size_t)r * x.ldc + c[u] + i];
                }
            if constexpr (GROUP == 8) {
                float sum[2];
#pragma unroll
                for (int u = 0; u < 2; u++) sum[u] = (v[u][0] + v[u][1]) + (v[u][2] + v[u][3]);
                if constexpr (PRECISION == FP32) {
#pragma unroll
                    for (int u = 0; u < 2; u++) sum[u] += __shfl_xor_sync(ALL_LANES, sum[u], 1);
                } else {
                    sum[0] = sum[1] = sum[0] + sum[1];
                }
#pragma unroll
                for (int u = 0; u < 2; u++)
#pragma unroll
                    for (int i = 0; i < 4; i++) v[u][i] -= sum[u] * 0.125f;
            }
            if (r >= x.m) continue;
#pragma unroll
            for (int u = 0; u < 2; u++) {
                if (x.wide && c[u] + 4 <= x.n) {
                    Four* to4 = (Four*)(to + c[u]);
                    Four y = {{v[u][0], v[u][1], v[u][2], v[u][3]}};
                    if (x.accumulate) {
                        Four old = *to4;
#pragma unroll
                        for (int i = 0; i < 4; i++) y.v[i] += old.v[i];
                    }
                    *to4 = y;
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        if (c[u] + i < x.n) put(to + c[u] + i, v[u][i], x.accumulate);
                }
            }
        }
    }
}

// out[e, r, c] (+)= the sum over parts of part[e, s, r, c], in their order. `ld`, `out_stride`: leading dimension and
// batch stride of out.
DEVICE void sum_splits(const float* part, float* out, u32 splits, u32 rows, u32 width, u32 ld, u32 out_stride,
                       u32 accumulate) {
    u32 i = ELEMENT, n = rows * width;
    if (i >= n) return;
    part += (size_t)blockIdx.y * splits * n + i;
    float s = 0.f;
    for (u32 k = 0; k < splits; k++) s += part[(size_t)k * n];
    put(out + (size_t)blockIdx.y * out_stride + (size_t)(i / width) * ld + i % width, s, accumulate);
}

// y = x W^T + b for a few outputs: a warp takes a row, its lanes share out k. w [N, K] in up to three pieces of
// columns.
DEVICE void narrow(const float* w, const float* bias, const float* x0, const float* x1, const float* x2, float* y, u32 m,
                   u32 n, u32 k0, u32 k1, u32 k2, u32 shared) {
    u32 e = blockIdx.y, r = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31, k = k0 + k1 + k2;
    if (r >= m) return;
    size_t in = (shared ? 0 : (size_t)e * m) + r;
    for (u32 c = 0; c < n; c++) {
        const float* row = w + ((size_t)e * n + c) * k;
        float s = 0.f;
        for (u32 i = lane; i < k0; i += 32) s = fmaf(x0[in * k0 + i], row[i], s);
        for (u32 i = lane; i < k1; i += 32) s = fmaf(x1[in * k1 + i], row[k0 + i], s);
        for (u32 i = lane; i < k2; i += 32) s = fmaf(x2[in * k2 + i], row[k0 + k1 + i], s);
        s = warp_sum(s);
        if (lane == 0) y[((size_t)e * m + r) * n + c] = s + bias[e * n + c];
    }
}
