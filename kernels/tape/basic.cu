// Copies, counters, sums: one thread an element, except for the total.
#include "common/math.cuh"
#include "common/reduce.cuh"

DEVICE void fill(float* out, float value, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = value;
}

DEVICE void copy(const float* from, float* to, u32 n) {
    u32 i = ELEMENT;
    if (i < n) to[i] = from[i];
}

DEVICE void increment(u32* counter) {
    if (ELEMENT == 0) counter[0] += 1;
}

DEVICE void clamp_below(float* x, float low, u32 n) {
    u32 i = ELEMENT;
    if (i < n && x[i] < low) x[i] = low;
}

// Values that are not finite become 0.
DEVICE void clip(const float* x, float* y, float limit, u32 n) {
    u32 i = ELEMENT;
    if (i < n) y[i] = clampf(finite(x[i]) ? x[i] : 0.f, -limit, limit);
}

DEVICE void accumulate(const float* x, float* slot, u32 replace) {
    if (ELEMENT == 0) slot[0] = replace ? x[0] : slot[0] + x[0];
}

DEVICE void sum(const float* a, const float* b, float* out, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = a[i] + b[i];
}

// Adjoint of either side.
DEVICE void sum_grad(const float* c, float* out, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, c[i], accumulate);
}

// One block: the sum of n numbers.
DEVICE void total(const float* parts, float* out, u32 n) {
    float s = 0.f;
    for (u32 i = threadIdx.x; i < n; i += 256) s += parts[i];
    s = block_sum<256>(s);
    if (threadIdx.x == 0) out[0] = s;
}
