// Types and constants that every kernel file uses. Kernels include nothing from outside this folder: the compiler
// needs no toolkit, and the tests compile the same text as C++ (they define CUDA_ON_CPU).
// defines: u32 u64 Table Span DEVICE ELEMENT ceil_div put
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

// Constants of a launch, passed by value.
struct Table {
    float v[64];
};

// A place in memory, how many words lie there, and where in a row they belong.
struct Span {
    u64 at;
    u32 len, place;
};

#define DEVICE static __device__ __forceinline__

// Number of this thread in a grid along x.
#define ELEMENT (blockIdx.x * blockDim.x + threadIdx.x)

DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Writes a cotangent, or adds to the one that is there.
DEVICE void put(float* to, float x, u32 accumulate) { *to = accumulate ? *to + x : x; }
