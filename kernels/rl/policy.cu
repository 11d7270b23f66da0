// From network outputs to actions and values; each forward stands beside its adjoint.
#include "common/math.cuh"
#include "common/reduce.cuh"

// a = tanh(mean + exp(logstd) noise), or tanh(mean) without noise. w: width of an action.
DEVICE void squash(const float* mean, const float* logstd, const float* noise, float* out, u32 w, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = tanhf(noise ? mean[i] + expf(logstd[i % w]) * noise[i] : mean[i]);
}

DEVICE void squash_grad_mean(const float* c, const float* y, float* out, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, c[i] * (1.f - y[i] * y[i]), accumulate);
}

// One block a column of [rows, w].
DEVICE void squash_grad_std(const float* c, const float* y, const float* logstd, const float* noise, float* out,
                            u32 accumulate, u32 rows) {
    u32 w = gridDim.x, col = blockIdx.x;
    float s = 0.f;
    for (u32 r = threadIdx.x; r < rows; r += 256) {
        size_t i = (size_t)r * w + col;
        s += c[i] * (1.f - y[i] * y[i]) * noise[i];
    }
    s = block_sum<256>(s);
    if (threadIdx.x == 0) put(out + col, s * expf(logstd[col]), accumulate);
}

// exp(logstd) noise.
DEVICE void spread(const float* logstd, const float* noise, float* out, u32 w, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = expf(logstd[i % w]) * noise[i];
}

// One block a column of [rows, w].
DEVICE void spread_grad(const float* c, const float* y, float* out, u32 accumulate, u32 rows) {
    u32 w = gridDim.x, col = blockIdx.x;
    float s = 0.f;
    for (u32 r = threadIdx.x; r < rows; r += 256) s += c[(size_t)r * w + col] * y[(size_t)r * w + col];
    s = block_sum<256>(s);
    if (threadIdx.x == 0) put(out + col, s, accumulate);
}

// The first of the smallest of e numbers that lie m apart.
DEVICE u32 smallest(const float* v, u32 e, u32 m, u32 i) {
    u32 best = 0;
    for (u32 k = 1; k < e; k++)
        if (v[k * m + i] < v[best * m + i]) best = k;
    return best;
}

DEVICE void ensemble_min(const float* v, float* out, float scale, u32 e, u32 m) {
    u32 i = ELEMENT;
    if (i < m) out[i] = v[smallest(v, e, m, i) * m + i] * scale;
}

DEVICE void ensemble_min_grad(const float* c, const float* v, float* out, float scale, u32 e, u32 m, u32 accumulate) {
    u32 i = ELEMENT;
    if (i >= m) return;
    u32 best = smallest(v, e, m, i);
    for (u32 k = 0; k < e; k++) put(out + k * m + i, k == best ? c[i] * scale : 0.f, accumulate);
}

// Rows of a where the mask is set or `anchored`, of b elsewhere.
DEVICE void select_rows(const float* mask, const float* a, const float* b, float* out, u32 anchored, u32 w, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = anchored || mask[i / w] != 0.f ? a[i] : b[i];
}

// The cotangent of the rows whose mask is `keep`.
DEVICE void select_rows_grad(const float* mask, const float* c, float* out, u32 keep, u32 accumulate, u32 w, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, (mask[i / w] != 0.f) == (keep != 0) ? c[i] : 0.f, accumulate);
}
