// Matrix products C = A B^T of large matrices on the tensor cores of compute capability 9.0, in tf32 or bf16 with sums
// in single precision. It computes what nn/product.cu computes; when this is the better one: src/ops/linear/product.rs.
//
// A block computes 128 x BN numbers of C. One warp group fills a ring of STAGES buffers through the copy unit, 128
// bytes along k for each row of A and B; two others multiply, 64 rows each, straight from the ring. Barriers say when a
// buffer is full and when it is free. Both matrices are K-major: in tf32 they are the numbers themselves, which the
// copy unit rounds, in bf16 rounded copies.
//
// CLUSTER blocks side by side make a cluster. With LayerNorm in the epilogue the cluster holds whole rows of C, and
// each block reads the others' moments of a row from their shared memory.
#include "common/epilogue.cuh"
#include "common/hopper.cuh"
#include "common/math.cuh"
#include "common/reduce.cuh"

struct ProductTma {
    float* c;                   // or null, if only `y` is wanted
    const float* bias;          // of each column, `scale` times; or null
    const float* addend;        // laid out as C; or null
    float* y;                   // the epilogue's result, laid out as C
    const float *gain, *shift;  // of each column, as `bias`
    u64 c_stride, bias_stride;
    u32 m, n;  // rows and columns of C
    u32 k[3];  // extent along k of each piece of A
    u32 ldc;
    u32 summed;              // products that add up in one result
    u32 a_shared, b_shared;  // one A, one B for the whole batch
    u32 accumulate;
    float scale;
};

#ifdef CUDA_ON_CPU
#define HOPPER 1
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#endif

// Mean and 1 / sqrt(variance + epsilon) of the rows h = 0, 1 of sums, acc[4j + 2h] and acc[4j + 2h + 1], which four
// neighbouring lanes share. `seen` and `seen + 8` receive this block's moments of the two rows. At the end the thread
// has arrived at a barrier of the cluster, whose other blocks may still read them; the caller waits there before it
// returns.
template <int BN, int CLUSTER>
static __device__ void row_moments(const float (&acc)[BN / 2], Two* seen, float (&mean)[2], float (&rstd)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = 0.f, squares = 0.f;
#pragma unroll
        for (int i = 2 * h; i < BN / 2; i += 4) sum += acc[i] + acc[i + 1];
        mean[h] = quad_sum(sum) * (1.f / BN);
#pragma unroll
        for (int i = 2 * h; i < BN / 2; i += 4) {
            float d0 = acc[i] - mean[h], d1 = acc[i + 1] - mean[h];
            squares += d0 * d0 + d1 * d1;
        }
        rstd[h] = quad_sum(squares);
        if (CLUSTER > 1 && (threadIdx.x & 3) == 0) seen[8 * h] = {mean[h], rstd[h]};
    }
    if constexpr (CLUSTER > 1) {
        cluster_arrive();
        cluster_wait();
        // Moments of equally many numbers each, merged in the same order in all blocks (Chan et al.).
#pragma unroll
        for (int h = 0; h < 2; h++) {
            Two all = cluster_read(seen + 8 * h, 0);
#pragma unroll
            for (int r = 1; r < CLUSTER; r++) {
                Two part = cluster_read(seen + 8 * h, r);
                float d = part.x - all.x;
                all.x += d * (1.f / (r + 1));
                all.y += part.y + d * d * ((float)BN * r / (r + 1));
            }
            mean[h] = all.x, rstd[h] = all.y;
        }
        cluster_arrive();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) rstd[h] = 1.f / sqrtf(rstd[h] * (1.f / (BN * CLUSTER)) + NORM_EPSILON);
}

// The epilogue, in place; ends as `row_moments` does. `gain` and `shift` begin at the first of the thread's
// columns, pairs of which lie eight apart.
template <int BN, int EPILOGUE, int CLUSTER>
static __device__ void epilogue(float (&acc)[BN / 2], Two* seen, const float* gain, const float* shift) {
    if constexpr (EPILOGUE == MISH_NORM) {
#pragma unroll
        for (int i = 0; i < BN / 2; i++) acc[i] = mish(acc[i]);
    }
    float mean[2], rstd[2];
    row_moments<BN, CLUSTER>(acc, seen, mean, rstd);
#pragma unroll
    for (int j = 0; j < BN / 8; j++) {
        // One by one: a parameter begins where the one before it ends, which need not be a multiple of eight bytes.
        Two g = {gain[8 * j], gain[8 * j + 1]}, s = {shift[8 * j], shift[8 * j + 1]};
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float &u = acc[4 * j + 2 * h], &v = acc[4 * j + 2 * h + 1];
            u = (u - mean[h]) * rstd[h] * g.x + s.x;
            v = (v - mean[h]) * rstd[h] * g.y + s.y;
            if constexpr (EPILOGUE == NORM_MISH) u = mish(u), v = mish(v);
            if constexpr (EPILOGUE == NORM_SIMPLEX) {
                // Groups of eight columns.
                float top = quad_max(fmaxf(u, v));
                u = expf(u - top), v = expf(v - top);
                float sum = quad_sum(u + v);
                u /= sum, v /= sum;
            }
        }
    }
}

// C (+)= A B^T + scale bias + addend, less the mean of each GROUP of eight columns if GROUP is not 0; then the epilogue
// of each row, if it is not BIAS: CLUSTER blocks hold all columns.
template <int BN, int STAGES, int PRECISION, int GROUP, int EPILOGUE, int CLUSTER>
static __device__ void product_tma(const TensorMap& a0, const TensorMap& a1, const TensorMap& a2, const TensorMap& b,
                                   ProductTma x) {
#ifdef HOPPER
    constexpr int BM = 128, ROW = 128, BK = PRECISION == TF32 ? 32 : 64, STAGE = (BM + BN) * ROW;
    static_assert(GROUP == 0 || GROUP == 8, "groups of eight columns lie in four neighbouring threads");
    // The swizzle depends on the address, so buffers begin at multiples of eight rows.
    u32 ring = (shared_address(dynamic_shared()) + 1023) & ~1023u;
    u32 full = ring + STAGES * STAGE, free = full + 8 * STAGES, seen = free + 8 * STAGES;
    u32 across = (x.n + BN - 1) / BN, batch = blockIdx.y;
    u32 row = blockIdx.x / across * BM, column = blockIdx.x % across * BN;
    int group = threadIdx.x >> 7, lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;

    u32 slices = 0;
    for (int p = 0; p < 3; p++) slices += (x.k[p] + BK - 1) / BK;
    slices *= x.summed;

    if (threadIdx.x == 0) {
        for (u32 s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(free + 8 * s, 8);
        }
        barrier_fence();
    }
    __syncthreads();

    if (group == 0) {
        fewer_registers<40>();
        if (threadIdx.x == 0) {
            prefetch_map(&a0);
            prefetch_map(&b);
            u32 e = 0, p = 0, k = 0, before = 0;
            for (u32 s = 0; s < slices; s++) {
                u32 at = s % STAGES, to = ring + at * STAGE;
                // On its first way around the ring it finds all buffers free.
                if (s >= STAGES) barrier_wait(free + 8 * at, s / STAGES - 1 & 1);
                barrier_expect(full + 8 * at, STAGE);
                const TensorMap* a = p == 0 ? &a0 : (p == 1 ? &a1 : &a2);
                u32 z = batch * x.summed + e;
                copy_box(to, a, k, row, x.a_shared ? 0 : z, full + 8 * at);
                copy_box(to + BM * ROW, &b, before + k, column, x.b_shared ? 0 : z, full + 8 * at);
                u32 width = p == 0 ? x.k[0] : (p == 1 ? x.k[1] : x.k[2]);
                k += BK;
                if (k >= width) {
                    k = 0, before += width, p++;
                    if (p == 3 || (p == 1 ? x.k[1] : x.k[2]) == 0) p = 0, before = 0, e++;
                }
            }
        }
        return;
    }

    more_registers<232>();
    float acc[BN / 2];
#pragma unroll
    for (int i = 0; i < BN / 2; i++) acc[i] = 0.f;
#pragma unroll 1
    for (u32 s = 0; s < slices; s++) {
        u32 at = s % STAGES, from = ring + at * STAGE;
        barrier_wait(full + 8 * at, s / STAGES & 1);
        u64 da = matrix_descriptor(from + (group - 1) * 64 * ROW), db = matrix_descriptor(from + BM * ROW);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < ROW / 32; step++) {
            // 32 bytes further on.
            if constexpr (PRECISION == TF32) wgmma_tf32(acc, da + 2 * step, db + 2 * step, 1);
            else wgmma_bf16(acc, da + 2 * step, db + 2 * step, 1);
        }
        wgmma_commit();
        // The multiplications of the slice before are done: its buffer is free.
        wgmma_wait<1>();
        if (s > 0 && lane == 0) barrier_arrive(free + 8 * ((s - 1) % STAGES));
    }
    wgmma_wait<0>();
    wgmma_settle(acc);

    int g = lane >> 2, t = lane & 3;
    float* out = x.c + (size_t)batch * x.c_stride;
    const float* bias = x.bias ? x.bias + (size_t)batch * x.bias_stride : nullptr;
    // Everything is read before anything is written: after a store the compiler would not let loads overlap.
    const bool in_row[2] = {row + 64 * (group - 1) + 16 * warp + g < x.m, row + 64 * (group - 1) + 16 * warp + g + 8 < x.m};
    size_t at = (size_t)(row + 64 * (group - 1) + 16 * warp + g) * x.ldc, below = (size_t)8 * x.ldc;
    // Adds two neighbours of each pair of columns, from `from` as C lies, to the sums.
    auto add = [&](const float* from) {
#pragma unroll
        for (int j = 0; j < BN / 8; j++) {
            u32 c = column + 8 * j + 2 * t;  // n is even
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (c >= x.n || !in_row[h]) continue;
                Two v = *(const Two*)(from + at + h * below + c);
                acc[4 * j + 2 * h] += v.x, acc[4 * j + 2 * h + 1] += v.y;
            }
        }
    };
    if (bias) {
#pragma unroll
        for (int j = 0; j < BN / 8; j++) {
            u32 c = column + 8 * j + 2 * t;
            if (c >= x.n) continue;
            Two v = {x.scale * bias[c], x.scale * bias[c + 1]};
            acc[4 * j] += v.x, acc[4 * j + 1] += v.y, acc[4 * j + 2] += v.x, acc[4 * j + 3] += v.y;
        }
    }
    if (x.addend) add(x.addend);
    if constexpr (GROUP == 8) {
#pragma unroll
        for (int i = 0; i < BN / 2; i += 2) {
            float sum = quad_sum(acc[i] + acc[i + 1]);
            acc[i] -= sum * 0.125f, acc[i + 1] -= sum * 0.125f;
        }
    }
    if (x.accumulate) add(out);
    auto store = [&](float* to) {
#pragma unroll
        for (int j = 0; j < BN / 8; j++) {
            u32 c = column + 8 * j + 2 * t;
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (c < x.n && in_row[h]) *(Two*)(to + at + h * below + c) = {acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]};
        }
    };
    if (EPILOGUE == BIAS || x.c) store(out);
    if constexpr (EPILOGUE != BIAS) {
        size_t first = (size_t)batch * x.bias_stride + column + 2 * t;
        Two* mine = (Two*)(dynamic_shared() + (seen - shared_address(dynamic_shared()))) + 64 * (group - 1) + 16 * warp + g;
        epilogue<BN, EPILOGUE, CLUSTER>(acc, mine, x.gain + first, x.shift + first);
        store(x.y + (size_t)batch * x.c_stride);
        // No block ends while others still read its shared memory.
        if (CLUSTER > 1) cluster_wait();
    }
#endif
}

// Rows of up to three matrices side by side, rounded to bf16, `ld` numbers (a multiple of eight) each, with zeros at
// the end. `ld0` is the leading dimension of x0; rows of x1 and x2 lie right behind one another.
DEVICE void round_rows(const float* x0, const float* x1, const float* x2, float* out, u32 k0, u32 k1, u32 k2, u32 ld0,
                       u32 ld, u32 n) {
    u32 i = ELEMENT;  // two numbers each
    if (i >= n) return;
    u32 r = i / (ld / 2), c = i % (ld / 2) * 2;
    float v[2];
#pragma unroll
    for (u32 u = 0; u < 2; u++) {
        u32 k = c + u;
        v[u] = k < k0             ? x0[(size_t)r * ld0 + k]
               : k < k0 + k1      ? x1[(size_t)r * k1 + k - k0]
               : k < k0 + k1 + k2 ? x2[(size_t)r * k2 + k - k0 - k1]
                                  : 0.f;
    }
    ((u32*)out)[i] = pack_bf16(v[0], v[1]);
}

// The rows of a matrix with leading dimension `ld`, `width` numbers each, packed.
DEVICE void pack_rows(const float* x, float* out, u32 width, u32 ld, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = x[(size_t)(i / width) * ld + i % width];
}

// out[e, c, r] = w[e, r, c] rounded to bf16, n even: tiles of 32 x 32.
DEVICE void transpose_round(const float* w, float* out, u32 n, u32 k, u64 out_stride) {
    __shared__ float tile[32][33];
    u32 e = blockIdx.z, c = blockIdx.x * 32 + (threadIdx.x & 31);
    for (u32 i = threadIdx.x >> 5; i < 32; i += 8) {
        u32 r = blockIdx.y * 32 + i;
        if (r < n && c < k) tile[i][threadIdx.x & 31] = w[((size_t)e * n + r) * k + c];
    }
    __syncthreads();
    u32 r = blockIdx.y * 32 + (threadIdx.x & 15) * 2;
    for (u32 i = threadIdx.x >> 4; i < 32; i += 16) {
        u32 col = blockIdx.x * 32 + i;
        if (r < n && col < k)
            ((u32*)(out + e * out_stride))[((size_t)col * n + r) / 2] =
                pack_bf16(tile[(threadIdx.x & 15) * 2][i], tile[(threadIdx.x & 15) * 2 + 1][i]);
    }
}
