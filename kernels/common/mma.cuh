// Instructions of the hardware that C++ has no word for, each behind a function: copies that run beside the arithmetic,
// and products of small matrices by a warp. The tests give each a plain twin (tests/standin/hardware.hpp).
// defines: Precision Four Two dynamic_shared shared_address copy_async_16 copy_async_4 copy_commit copy_wait to_tf32
//          pack_bf16 mma_tf32 mma_bf16
#pragma once
#include "common/types.cuh"

// What factors are rounded to, in the numbers that instances of kernels have.
enum Precision { FP32, TF32, BF16 };

// 16 and 8 bytes that are moved as one.
struct __align__(16) Four {
    float v[4];
};
struct __align__(8) Two {
    float x, y;
};

#ifndef CUDA_ON_CPU

// The shared memory that a launch asks for, aligned as the widest swizzle needs it.
DEVICE char* dynamic_shared() {
    extern __shared__ __align__(1024) char dynamic[];
    return dynamic;
}

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Copies `bytes` (0 to 16) of the 16 at `from` to shared memory and zeros for the rest, beside what follows. Both
// addresses are multiples of 16; with no bytes nothing is read.
DEVICE void copy_async_16(void* to, const float* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
// The same for one number, wherever it lies.
DEVICE void copy_async_4(void* to, const float* from, u32 bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
// Closes a group of copies.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits for all of this thread's groups but the last N.
template <int N>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// Rounded to the 10 bits of mantissa that tf32 has, half away from zero.
DEVICE u32 to_tf32(float x) {
    u32 r;
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(r) : "f"(x));
    return r;
}
// Two numbers rounded to bf16, half to even; `low` is the first in memory.
DEVICE u32 pack_bf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// D += A B, 16 x 8 with k = 8: with g = lane / 4 and t = lane % 4, d are (g, 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1); a are (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b are (t, g), (t + 4, g).
DEVICE void mma_tf32(float& d0, float& d1, float& d2, float& d3, const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// The same with k = 16; every register of a and b holds two, with 2t and 2t + 1 in place of t, 2t + 8 and
// 2t + 9 in place of t + 4.
DEVICE void mma_bf16(float& d0, float& d1, float& d2, float& d3, const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
