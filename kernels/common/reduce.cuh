// Sums in a fixed order: lanes of a warp by halves, then warps one after another.
// defines: warp_sum warp_max quad_sum quad_max block_sum block_sums
#pragma once
#include "common/types.cuh"

#define ALL_LANES 0xffffffffu

DEVICE float warp_sum(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    return v;
}

DEVICE float warp_max(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
        float other = __shfl_xor_sync(ALL_LANES, v, o);
        v = v < other ? other : v;
    }
    return v;
}

// Over four neighbouring lanes.
DEVICE float quad_sum(float v) {
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}
DEVICE float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

// The sums of R numbers over a block of T threads, to every thread.
template <int T, int R>
static __device__ void block_sums(float (&v)[R]) {
    constexpr int WARPS = T / 32;
    __shared__ float part[WARPS][R];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int r = 0; r < R; r++) v[r] = warp_sum(v[r]);
    __syncthreads();  // an earlier sum may still be read
    if (lane == 0) {
#pragma unroll
        for (int r = 0; r < R; r++) part[warp][r] = v[r];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < R; r++) {
        float s = 0.f;
        for (int w = 0; w < WARPS; w++) s += part[w][r];
        v[r] = s;
    }
}

template <int T>
static __device__ float block_sum(float x) {
    float v[1] = {x};
    block_sums<T, 1>(v);
    return v[0];
}
