// Mean, variance and count of Chan et al., and their update by more numbers.
// defines: merge moments
#pragma once
#include "common/math.cuh"
#include "common/reduce.cuh"

// The update of one quantity by k numbers of mean m and population variance v.
DEVICE void merge(float* s, float m, float v, float k, float decay) {
    float n = s[2] * decay, d = m - s[0], tot = n + k;
    s[0] = s[0] + d * k / tot;
    s[1] = (s[1] * n + v * k + d * d * n * k / tot) / tot;
    s[2] = tot;
}

// Moments of x[from], x[from + stride], ... (k of them), to every thread of a block.
template <int T>
static __device__ void moments(const float* x, u32 from, u32 stride, u32 k, float* m, float* v) {
    float sum = 0.f;
    for (u32 i = threadIdx.x; i < k; i += T) sum += x[from + (size_t)i * stride];
    *m = block_sum<T>(sum) / (float)k;
    sum = 0.f;
    for (u32 i = threadIdx.x; i < k; i += T) {
        float d = x[from + (size_t)i * stride] - *m;
        sum += d * d;
    }
    *v = block_sum<T>(sum) / (float)k;
}
