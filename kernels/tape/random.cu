// Noise and random orders from the counter-based generator.
#include "common/philox.cuh"

// One thread a pair of normals.
DEVICE void normal(const u32* step, float* out, u64 seed, u32 stream, u32 n) {
    u32 pair = ELEMENT;
    if (2 * pair >= n) return;
    float even, odd;
    Philox(seed, stream).normals(step[0], pair, &even, &odd);
    out[2 * pair] = even;
    if (2 * pair + 1 < n) out[2 * pair + 1] = odd;
}

// One thread four uniforms.
DEVICE void uniform(const u32* step, float* out, u64 seed, u32 stream, u32 n) {
    u32 four = ELEMENT;
    if (4 * four >= n) return;
    Bits b = Philox(seed, stream).bits(step[0], four);
    for (u32 i = 0; i < 4 && 4 * four + i < n; i++) out[4 * four + i] = (float)Philox::unit(b.v[i]);
}

// A random order of 0..N (Fisher-Yates), one block: all threads draw, one thread swaps on chip.
template <int N>
static __device__ void permutation(const u32* step, u32* out, u64 seed, u32 stream) {
    constexpr bool ON_CHIP = N <= 4096;
    __shared__ u32 order[ON_CHIP ? N : 1], partner[ON_CHIP ? N : 1];
    Philox rng(seed, stream);
    auto draw = [&](u32 i) {
        u32 bits = rng.bits(step[0], i / 4).v[i % 4];
        return (u32)(((u64)bits * ((u64)i + 1)) >> 32);
    };
    for (u32 i = threadIdx.x; i < N; i += blockDim.x) {
        if (ON_CHIP) {
            order[i] = i;
            partner[i] = draw(i);
        } else {
            out[i] = i;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        u32* o = ON_CHIP ? order : out;
        for (u32 i = N - 1; i > 0; i--) {
            u32 j = ON_CHIP ? partner[i] : draw(i);
            u32 t = o[i];
            o[i] = o[j];
            o[j] = t;
        }
    }
    __syncthreads();
    if (ON_CHIP)
        for (u32 i = threadIdx.x; i < N; i += blockDim.x) out[i] = order[i];
}
