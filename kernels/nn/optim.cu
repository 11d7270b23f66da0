// Global-norm clipping and Adam over one flat group of parameters.
#include "common/math.cuh"
#include "common/numerics.cuh"
#include "common/reduce.cuh"

// Sum of squares of 16,384 elements a block.
DEVICE void adam_squares(const float* g, float* parts, u32 n) {
    float s = 0.f;
    u32 from = blockIdx.x * 16384;
    for (u32 k = 0; k < 64; k++) {
        u32 i = from + k * 256 + threadIdx.x;
        if (i < n) s += g[i] * g[i];
    }
    s = block_sum<256>(s);
    if (threadIdx.x == 0) parts[blockIdx.x] = s;
}

// One block. factors: clip (negative: skip this update), rate with bias correction, 1 / sqrt(1 - beta2^t).
DEVICE void adam_factors(const float* parts, const float* rate, float* norm_out, u32* step, u32* skipped, float* factors,
                         u32 chunks, double beta1, double beta2, float max_norm) {
    float s = 0.f;
    for (u32 i = threadIdx.x; i < chunks; i += 256) s += parts[i];
    float norm = sqrtf(block_sum<256>(s));
    if (threadIdx.x != 0) return;
    norm_out[0] = norm;
    if (!finite(norm)) {
        skipped[0] += 1;
        factors[0] = -1.f;
        return;
    }
    double t = (double)(step[0] += 1);
    float clip = max_norm / (norm + CLIP_EPSILON);
    factors[0] = clip < 1.f ? clip : 1.f;
    factors[1] = rate[0] * (float)(1.0 / (1.0 - pow(beta1, t)));
    factors[2] = (float)(1.0 / sqrt(1.0 - pow(beta2, t)));
}

DEVICE void adam_apply(const float* g, const float* factors, float* p, float* m, float* v, float b1, float b2, float c1,
                       float c2, u32 n) {
    u32 i = ELEMENT;
    float clip = factors[0];
    if (i >= n || clip < 0.f) return;
    float x = g[i] * clip;
    float mi = b1 * m[i] + c1 * x, vi = b2 * v[i] + c2 * x * x;
    m[i] = mi;
    v[i] = vi;
    p[i] -= factors[1] * mi / (sqrtf(vi) * factors[2] + ADAM_EPSILON);
}
