// Distributional reward head: one warp a row of logits, softmax computed where it is needed.
#include "common/math.cuh"
#include "common/reduce.cuh"

// Bins at equal distances from vmin to vmax.
struct Bins {
    double vmin, step;
    float low, high;
    u32 count;
    __device__ Bins(double vmin, double vmax, u32 count)
        : vmin(vmin), step((vmax - vmin) / (double)(count - 1)), low((float)vmin), high((float)vmax), count(count) {}
    __device__ float value(u32 i) const { return (float)(vmin + step * (double)i); }
    // Weight 1 - f on bin k, f on bin k + 1; outside the bins the nearest one; NaN stays NaN.
    __device__ u32 encode(float x, float* f) const {
        float at = (clampf(x, low, high) - low) / (float)step;
        u32 k = at > 0.f ? (u32)at : 0u;
        k = k < count - 2 ? k : count - 2;
        *f = at - (float)k;
        return k;
    }
};

DEVICE float symlog(float x) { return x < 0.f ? -log1pf(-x) : log1pf(x); }
DEVICE float symexp(float x) { return x < 0.f ? -expm1f(-x) : expm1f(x); }

// Largest logit and 1 / sum of exp(logit - largest).
DEVICE void softmax(const float* logits, u32 n, float* top, float* sum) {
    u32 lane = threadIdx.x & 31;
    float t = logits[0];
    for (u32 i = lane; i < n; i += 32) t = t < logits[i] ? logits[i] : t;
    t = warp_max(t);
    float s = 0.f;
    for (u32 i = lane; i < n; i += 32) s += expf(logits[i] - t);
    *top = t;
    *sum = warp_sum(s);
}

DEVICE float expectation(const float* logits, const Bins& bins, float top, float sum) {
    float e = 0.f;
    for (u32 i = threadIdx.x & 31; i < bins.count; i += 32) e += expf(logits[i] - top) / sum * bins.value(i);
    return warp_sum(e);
}

#define ROW (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32)

DEVICE void two_hot_decode(const float* logits, float* y, double vmin, double vmax, u32 bins_, u32 exponential, u32 rows) {
    u32 r = ROW;
    if (r >= rows) return;
    Bins bins(vmin, vmax, bins_);
    const float* l = logits + (size_t)r * bins_;
    float top, sum;
    softmax(l, bins_, &top, &sum);
    float e = expectation(l, bins, top, sum);
    if ((threadIdx.x & 31) == 0) y[r] = exponential ? symexp(e) : e;
}

DEVICE void two_hot_decode_grad(const float* dy, const float* logits, float* out, double vmin, double vmax, u32 bins_,
                                u32 exponential, u32 accumulate, u32 rows) {
    u32 r = ROW;
    if (r >= rows) return;
    Bins bins(vmin, vmax, bins_);
    const float* l = logits + (size_t)r * bins_;
    float top, sum;
    softmax(l, bins_, &top, &sum);
    float e = expectation(l, bins, top, sum);
    float d = dy[r] * (exponential ? expf(fabsf(e)) : 1.f);
    for (u32 i = threadIdx.x & 31; i < bins_; i += 32)
        put(out + (size_t)r * bins_ + i, d * (expf(l[i] - top) / sum) * (bins.value(i) - e), accumulate);
}

// Cross-entropy of each row, times the weight of its step; summed by `total`.
DEVICE void two_hot_loss_rows(const float* logits, const float* reward, float* ce, Table w, double vmin, double vmax,
                              u32 bins_, u32 batch, u32 rows) {
    u32 r = ROW;
    if (r >= rows) return;
    Bins bins(vmin, vmax, bins_);
    const float* l = logits + (size_t)r * bins_;
    float top, sum, f;
    softmax(l, bins_, &top, &sum);
    u32 k = bins.encode(symlog(reward[r]), &f);
    if ((threadIdx.x & 31) == 0) ce[r] = w.v[r / batch] * (top + logf(sum) - ((1.f - f) * l[k] + f * l[k + 1]));
}

DEVICE void two_hot_loss_grad(const float* c, const float* logits, const float* reward, float* out, Table w, double vmin,
                              double vmax, u32 bins_, u32 batch, u32 accumulate, u32 rows) {
    u32 r = ROW;
    if (r >= rows) return;
    Bins bins(vmin, vmax, bins_);
    const float* l = logits + (size_t)r * bins_;
    float top, sum, f;
    softmax(l, bins_, &top, &sum);
    u32 k = bins.encode(symlog(reward[r]), &f);
    float d = c[0] * w.v[r / batch];
    for (u32 i = threadIdx.x & 31; i < bins_; i += 32) {
        float target = i == k ? 1.f - f : (i == k + 1 ? f : 0.f);
        put(out + (size_t)r * bins_ + i, d * (expf(l[i] - top) / sum - target), accumulate);
    }
}
