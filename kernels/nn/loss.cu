// Weighted sums of squared errors. A slice of the prediction has one weight.
#include "common/reduce.cuh"

// Block (chunk, slice): the weighted sum of 4096 elements of one slice into parts[slice, chunk].
// `targets` is 0 if one slice of targets serves all slices, else the length of a slice.
DEVICE void squared_error_parts(const float* pred, const float* target, float* parts, Table w, u32 slice, u32 targets) {
    u32 t = blockIdx.y, from = blockIdx.x * 4096;
    float s = 0.f;
    for (u32 k = 0; k < 16; k++) {
        u32 i = from + k * 256 + threadIdx.x;
        if (i < slice) {
            float d = pred[(size_t)t * slice + i] - target[(size_t)t * targets + i];
            s += d * d;
        }
    }
    s = block_sum<256>(s);
    if (threadIdx.x == 0) parts[t * gridDim.x + blockIdx.x] = s * w.v[t];
}

// Adjoint: 2 w_t (pred - target) c.
DEVICE void squared_error_grad(const float* c, const float* pred, const float* target, float* out, Table w, u32 slice,
                               u32 targets, u32 accumulate) {
    u32 t = blockIdx.y, i = ELEMENT;
    if (i >= slice) return;
    size_t at = (size_t)t * slice + i;
    put(out + at, 2.f * w.v[t] * c[0] * (pred[at] - target[(size_t)t * targets + i]), accumulate);
}
