// Matrix products C = A B^T of large matrices on the tensor cores of compute capability 9.0, in tf32 or bf16 with sums in
// single precision. What is computed is what nn/product.cu computes; when this is the better one: src/ops/linear/product.rs.
//
// A block computes 128 x BN numbers of C. One warp group fills a ring of STAGES buffers through the copy unit, a line of
// 128 bytes of products for each row of A and B; two others multiply, 64 rows each, straight from the ring. Barriers say
// when a buffer is full and when it is free. Both matrices lie by products: in tf32 they are the numbers themselves, which
// the copy unit rounds, in bf16 rounded copies.
#include "common/hopper.cuh"

struct ProductTma {
    float* c;
    const float* bias;    // of each column, `scale` times; or null
    const float* addend;  // laid out as C; or null
    u64 c_member, bias_member;
    u32 m, n;  // rows and columns of C
    u32 k[3];  // products of each piece of A; rows of B follow on
    u32 ldc;
    u32 members;             // that add up in one block
    u32 a_shared, b_shared;  // one A, one B for all members
    u32 accumulate;
    float scale;
};

#ifdef CUDA_ON_CPU
#define HOPPER 1
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#endif

// C (+)= A B^T + scale bias + addend, less the mean of each GROUP of eight columns if GROUP is not 0.
template <int BN, int STAGES, int PRECISION, int GROUP>
static __device__ void product_tma(const TensorMap& a0, const TensorMap& a1, const TensorMap& a2, const TensorMap& b,
                                   ProductTma x) {
#ifdef HOPPER
    constexpr int BM = 128, LINE = 128, BK = PRECISION == TF32 ? 32 : 64, STAGE = (BM + BN) * LINE;
    static_assert(GROUP == 0 || GROUP == 8, "groups of eight columns lie in four neighbouring threads");
    // The swizzle goes by addresses, so buffers begin at multiples of eight lines.
    u32 ring = (shared_address(dynamic_shared()) + 1023) & ~1023u;
    u32 full = ring + STAGES * STAGE, free = full + 8 * STAGES;
    u32 across = (x.n + BN - 1) / BN, member = blockIdx.y;
    u32 row = blockIdx.x / across * BM, column = blockIdx.x % across * BN;
    int group = threadIdx.x >> 7, lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;

    u32 slices = 0;
    for (int p = 0; p < 3; p++) slices += (x.k[p] + BK - 1) / BK;
    slices *= x.members;

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
                // The first round finds all buffers free.
                if (s >= STAGES) barrier_wait(free + 8 * at, s / STAGES - 1 & 1);
                barrier_expect(full + 8 * at, STAGE);
                const TensorMap* a = p == 0 ? &a0 : (p == 1 ? &a1 : &a2);
                u32 z = member * x.members + e;
                copy_box(to, a, k, row, x.a_shared ? 0 : z, full + 8 * at);
                copy_box(to + BM * LINE, &b, before + k, column, x.b_shared ? 0 : z, full + 8 * at);
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
        u64 da = matrix_descriptor(from + (group - 1) * 64 * LINE), db = matrix_descriptor(from + BM * LINE);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < LINE / 32; step++) {
            // 32 bytes further on.
            if constexpr (PRECISION == TF32) wgmma_tf32(acc, da + 2 * step, db + 2 * step, 1);
            else wgmma_bf16(acc, da + 2 * step, db + 2 * step, 1);
        }
        wgmma_commit();
        // The products of the slice before are done: its buffer is free.
        wgmma_wait<1>();
        if (s > 0 && lane == 0) barrier_arrive(free + 8 * ((s - 1) % STAGES));
    }
    wgmma_wait<0>();
    wgmma_settle(acc);

    int g = lane >> 2, t = lane & 3;
    float* out = x.c + (size_t)member * x.c_member;
    const float* bias = x.bias ? x.bias + (size_t)member * x.bias_member : nullptr;
    // Everything is read before anything is written: behind what is written the compiler reads one after another.
    const bool in_row[2] = {row + 64 * (group - 1) + 16 * warp + g < x.m, row + 64 * (group - 1) + 16 * warp + g + 8 < x.m};
    size_t line = (size_t)(row + 64 * (group - 1) + 16 * warp + g) * x.ldc, below = (size_t)8 * x.ldc;
    // Adds two neighbours of each pair of columns, from `from` as C lies, to the sums.
    auto add = [&](const float* from) {
#pragma unroll
        for (int j = 0; j < BN / 8; j++) {
            u32 c = column + 8 * j + 2 * t;  // n is even
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (c >= x.n || !in_row[h]) continue;
                Two v = *(const Two*)(from + line + h * below + c);
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
            float sum = acc[i] + acc[i + 1];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            acc[i] -= sum * 0.125f, acc[i + 1] -= sum * 0.125f;
        }
    }
    if (x.accumulate) add(out);
#pragma unroll
    for (int j = 0; j < BN / 8; j++) {
        u32 c = column + 8 * j + 2 * t;
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (c < x.n && in_row[h]) *(Two*)(out + line + h * below + c) = {acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]};
    }
#endif
}

// Rows of up to three matrices side by side, rounded to bf16, `line` numbers (a multiple of eight) each with zeros at the
// end. `ld0` is what lies between rows of x0; those of x1 and x2 are as long as they are wide.
DEVICE void round_rows(const float* x0, const float* x1, const float* x2, float* out, u32 k0, u32 k1, u32 k2, u32 ld0,
                       u32 line, u32 n) {
    u32 i = ELEMENT;  // two numbers each
    if (i >= n) return;
    u32 r = i / (line / 2), c = i % (line / 2) * 2;
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

// Rows of a matrix, `ld` numbers apart, without what lies between them.
DEVICE void pack_rows(const float* x, float* out, u32 width, u32 ld, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = x[(size_t)(i / width) * ld + i % width];
}

// out[e, c, r] = w[e, r, c] rounded to bf16, n even: tiles of 32 x 32.
DEVICE void transpose_round(const float* w, float* out, u32 n, u32 k, u64 out_member) {
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
            ((u32*)(out + e * out_member))[((size_t)col * n + r) / 2] =
                pack_bf16(tile[(threadIdx.x & 15) * 2][i], tile[(threadIdx.x & 15) * 2 + 1][i]);
    }
}
