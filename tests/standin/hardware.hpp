// Plain twins of the instructions in kernels/common/mma.cuh, after the PTX specification.
#pragma once

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

inline char* dynamic_shared() { return shim::block->dynamic; }

// Asynchronous copies: the source is read when the copy is begun, the destination is poison until its group has been
// waited for. Each thread has its own groups.
namespace shim {
inline void inside_shared(const void* p, size_t n) {
    const char* at = (const char*)p;
    if (at < block->dynamic || at + n > block->dynamic + block->dynamic_bytes) fail("an access misses shared memory");
}
inline void copy_async(void* to, const void* from, uint32_t size, uint32_t bytes) {
    if ((uintptr_t)to % size || (uintptr_t)from % size) fail("an asynchronous copy is not aligned");
    if (bytes > size) fail("an asynchronous copy reads more than it writes");
    inside_shared(to, size);
    Copy c = {to, size, {}};
    memcpy(c.data, from, bytes);
    memset(to, 0xff, size);
    fiber->open.push_back(c);
}
}  // namespace shim
inline void copy_async_16(void* to, const float* from, uint32_t bytes) { shim::copy_async(to, from, 16, bytes); }
inline void copy_async_4(void* to, const float* from, uint32_t bytes) { shim::copy_async(to, from, 4, bytes); }
inline void copy_commit() {
    shim::fiber->groups.push_back(shim::fiber->open);
    shim::fiber->open.clear();
}
template <int N>
inline void copy_wait() {
    auto& groups = shim::fiber->groups;
    while ((int)groups.size() > N) {
        for (auto& c : groups.front()) memcpy(c.to, c.data, c.size);
        groups.pop_front();
    }
}

// tf32 keeps 10 bits of mantissa: conversion rounds half away from zero, products ignore the other 13 bits.
inline uint32_t to_tf32(float x) {
    uint32_t u = __float_as_uint(x);
    if ((u & 0x7f800000) == 0x7f800000) return u & 0x7fffff ? 0x7fffffff : u;
    return (u + 0x1000) & ~0x1fffu;
}
inline uint32_t to_bf16(float x) {
    uint32_t u = __float_as_uint(x);
    if ((u & 0x7f800000) == 0x7f800000 && (u & 0x7fffff)) return 0x7fff;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }
namespace shim {
inline float tf32(uint32_t u) { return __uint_as_float(u & ~0x1fffu); }
inline float bf16(uint32_t u) { return __uint_as_float(u << 16); }

struct Mma {
    float* d[4];
    const uint32_t *a, *b;
};
// Sums of a product in the instruction's own order, which is not said; here one after another.
template <int K>
inline void mma_all(Warp& w, uint32_t) {
    float a[16][K], b[8][K];
    for (int lane = 0; lane < 32; lane++) {
        Mma* m = (Mma*)w.slot[lane];
        int g = lane >> 2, t = lane & 3;
        for (int r = 0; r < 4; r++) {
            int row = g + (r & 1) * 8;
            if (K == 8) a[row][t + (r >> 1) * 4] = tf32(m->a[r]);
            else for (int h = 0; h < 2; h++) a[row][(2 * t + h + (r >> 1) * 8) % K] = bf16(m->a[r] >> 16 * h);
        }
        for (int r = 0; r < 2; r++) {
            if (K == 8) b[g][t + r * 4] = tf32(m->b[r]);
            else for (int h = 0; h < 2; h++) b[g][(2 * t + h + r * 8) % K] = bf16(m->b[r] >> 16 * h);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        Mma* m = (Mma*)w.slot[lane];
        for (int i = 0; i < 4; i++) {
            int row = (lane >> 2) + (i >> 1) * 8, column = (lane & 3) * 2 + (i & 1);
            float s = *m->d[i];
            for (int k = 0; k < K; k++) s += a[row][k] * b[column][k];
            *m->d[i] = s;
        }
    }
}
template <int K>
inline void mma(float& d0, float& d1, float& d2, float& d3, const uint32_t* a, const uint32_t* b) {
    Mma m = {{&d0, &d1, &d2, &d3}, a, b};
    collective(~0u, &m, mma_all<K>);
}
}  // namespace shim
inline void mma_tf32(float& d0, float& d1, float& d2, float& d3, const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    shim::mma<8>(d0, d1, d2, d3, a, b);
}
inline void mma_bf16(float& d0, float& d1, float& d2, float& d3, const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    shim::mma<16>(d0, d1, d2, d3, a, b);
}
