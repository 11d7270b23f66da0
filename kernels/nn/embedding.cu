// Rows by number; each forward stands beside its adjoint. What the numbers mean: src/ops/embedding.
#include "common/math.cuh"
#include "common/reduce.cuh"

// The tasks of rows that lie task by task.
DEVICE void task_ids(u32* out, u32 first, u32 each, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = first + i / each;
}

// The same behind each other until n are full.
DEVICE void repeat_ids(const u32* ids, u32* out, u32 m, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = ids[i % m];
}

DEVICE void gather_rows(const float* x, const u32* index, float* out, u32 w, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = x[(size_t)index[i / w] * w + i % w];
}

// One block a row of x, a thread a column: the m cotangents in the order of their indices.
DEVICE void gather_rows_grad(const float* c, const u32* index, float* out, u32 w, u32 m, u32 accumulate) {
    for (u32 k = threadIdx.x; k < w; k += 128) {
        float s = 0.f;
        for (u32 i = 0; i < m; i++)
            if (index[i] == blockIdx.x) s += c[(size_t)i * w + k];
        put(out + (size_t)blockIdx.x * w + k, s, accumulate);
    }
}

// One block a row: scaled down to `norm` where it is longer than `most`.
DEVICE void cap_rows(float* table, float norm, float most, u32 w) {
    float* row = table + (size_t)blockIdx.x * w;
    float s = 0.f;
    for (u32 k = threadIdx.x; k < w; k += 128) s += row[k] * row[k];
    __shared__ float scale;
    s = sqrtf(block_sum<128>(s));
    if (threadIdx.x == 0) scale = s > most ? norm / (s + 1e-7f) : 1.f;
    __syncthreads();
    if (scale == 1.f) return;
    for (u32 k = threadIdx.x; k < w; k += 128) row[k] *= scale;
}

// x where something is kept, which may be NaN elsewhere.
DEVICE void mask(const float* x, const float* keep, float* out, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = keep[i] == 0.f ? 0.f : x[i];
}

DEVICE void mask_grad(const float* c, const float* keep, float* out, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, keep[i] == 0.f ? 0.f : c[i], accumulate);
}
