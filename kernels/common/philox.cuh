// Philox4x32-10 (Salmon et al. 2011): the same integers, uniforms and normals as src/device/philox.rs.
// defines: Philox
#pragma once
#include "common/types.cuh"

struct Bits {
    u32 v[4];
};

// A random function of (step, index) under a seed and a stream.
struct Philox {
    u32 key0, key1, stream;

    __device__ Philox(u64 seed, u32 stream) : key0((u32)seed), key1((u32)(seed >> 32)), stream(stream) {}

    __device__ Bits bits(u64 step, u32 index) const {
        u32 c0 = index, c1 = (u32)step, c2 = (u32)(step >> 32), c3 = stream, k0 = key0, k1 = key1;
#pragma unroll
        for (int round = 0; round < 10; round++) {
            u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
            c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
            c1 = (u32)p1;
            c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
            c3 = (u32)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        return {{c0, c1, c2, c3}};
    }

    // Uniform in [0, 1), a multiple of 2^-24.
    static __device__ double unit(u32 bits) { return (double)(bits >> 8) * (1.0 / 16777216.0); }

    // The standard normals of indices 2 pair and 2 pair + 1, by Box-Muller in double precision.
    __device__ void normals(u64 step, u32 pair, float* even, float* odd) const {
        Bits b = bits(step, pair);
        double u = ((double)b.v[0] + 1.0) * (1.0 / 4294967296.0);
        double angle = (double)b.v[1] * (6.283185307179586476925286766559 / 4294967296.0);
        double radius = sqrt(-2.0 * log(u));
        *even = (float)(radius * cos(angle));
        *odd = (float)(radius * sin(angle));
    }
};
