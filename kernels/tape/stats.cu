// Running mean, variance and count, and normalisation by them.
#include "common/moments.cuh"
#include "common/numerics.cuh"

// stats [D, 3] by x [rows, D]: one block a column.
DEVICE void update_stats(const float* x, float* stats, float decay, u32 rows) {
    float m, v;
    moments<256>(x, blockIdx.x, gridDim.x, rows, &m, &v);
    if (threadIdx.x == 0) merge(stats + 3 * blockIdx.x, m, v, (float)rows, decay);
}

DEVICE void normalise(const float* x, const float* stats, float* y, u32 center, u32 d, u32 n) {
    u32 i = ELEMENT;
    if (i >= n) return;
    const float* s = stats + 3 * (i % d);
    float z = (x[i] - (center ? s[0] : 0.f)) / sqrtf(s[1] + STATS_EPSILON);
    // Like the CPU: what is not a number becomes the bound that the comparison falls to.
    z = -NORMALISED_BOUND < z ? z : -NORMALISED_BOUND;
    y[i] = z < NORMALISED_BOUND ? z : NORMALISED_BOUND;
}

// A clamped number has no derivative; the statistics are constants.
DEVICE void normalise_grad(const float* c, const float* stats, const float* y, float* x_bar, u32 accumulate, u32 d, u32 n) {
    u32 i = ELEMENT;
    if (i >= n) return;
    float deviation = sqrtf(stats[3 * (i % d) + 1] + STATS_EPSILON);
    put(x_bar + i, fabsf(y[i]) < NORMALISED_BOUND ? c[i] / deviation : 0.f, accumulate);
}
