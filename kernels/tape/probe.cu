// Measures of a model that nothing is trained by: one block each.
#include "common/reduce.cuh"

// out [5]: means of x and y, variances of both, their covariance.
DEVICE void covariance(const float* x, const float* y, float* out, u32 n) {
    float mean[2] = {0.f, 0.f};
    for (u32 i = threadIdx.x; i < n; i += 256) mean[0] += x[i], mean[1] += y[i];
    block_sums<256, 2>(mean);
    mean[0] /= (float)n, mean[1] /= (float)n;
    float second[3] = {0.f, 0.f, 0.f};
    for (u32 i = threadIdx.x; i < n; i += 256) {
        float dx = x[i] - mean[0], dy = y[i] - mean[1];
        second[0] += dx * dx, second[1] += dy * dy, second[2] += dx * dy;
    }
    block_sums<256, 3>(second);
    if (threadIdx.x != 0) return;
    out[0] = mean[0], out[1] = mean[1];
    for (int k = 0; k < 3; k++) out[2 + k] = second[k] / (float)n;
}

// out [1]: the largest distance from 1 of the sum of any `group` consecutive numbers.
DEVICE void group_drift(const float* z, float* out, u32 group, u32 groups) {
    __shared__ float part[256];
    float worst = 0.f;
    for (u32 g = threadIdx.x; g < groups; g += 256) {
        float sum = 0.f;
        for (u32 i = 0; i < group; i++) sum += z[(size_t)g * group + i];
        worst = fmaxf(worst, fabsf(sum - 1.f));
    }
    part[threadIdx.x] = worst;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (u32 i = 1; i < 256; i++) worst = fmaxf(worst, part[i]);
    out[0] = worst;
}
