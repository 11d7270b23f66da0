// Matrix products by groups of four warps (wgmma) from shared memory, the copy unit (TMA) that fills it in boxes, and
// the barriers on which that reports: compute capability 9.0 alone. The tests give each function a plain twin
// (tests/standin/hopper.hpp).
// defines: TensorMap barrier_init barrier_fence barrier_expect barrier_arrive barrier_wait copy_box prefetch_map
//          matrix_descriptor wgmma_fence wgmma_commit wgmma_wait wgmma_settle wgmma_tf32 wgmma_bf16 fewer_registers
//          more_registers CLUSTER cluster_arrive cluster_wait cluster_read
#pragma once
#include "common/mma.cuh"

// Blocks of an entry point that run side by side and see each other's shared memory.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CLUSTER(n) __cluster_dims__(n, 1, 1)
#else
#define CLUSTER(n)
#endif

// A box of a matrix in memory, as the driver encodes it. Kernels take it by value, in memory of the launch.
struct __align__(64) TensorMap {
    u64 words[16];
};

// Where a tile begins, for wgmma: rows of 128 bytes in groups of eight, one after another, chunks of 16 bytes exchanged
// within each group (the swizzle of 128 bytes). Steps along k are steps of the address.
DEVICE u64 matrix_descriptor(u32 address) {
    return (u64)(address >> 4 & 0x3fff)  // where it begins
           | (u64)1 << 16                // between chunks along a row: not read with a swizzle
           | (u64)(1024 >> 4) << 32      // between groups of eight rows
           | (u64)1 << 62;               // the swizzle
}

#ifndef CUDA_ON_CPU

// A barrier for `count` arrivals a phase. Phases are told apart by parity, the first is 0.
DEVICE void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(count) : "memory");
}
// After barriers were made, before threads and the copy unit see them.
DEVICE void barrier_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;\n" ::: "memory");
}
// Arrives, and lets the phase wait for `bytes` more of copies.
DEVICE void barrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
}
DEVICE void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// Waits until the phase of this parity is over.
DEVICE void barrier_wait(u32 barrier, u32 parity) {
    u32 done = 0;
    while (!done)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity)
                     : "memory");
}

// Copies the box of `map` at (column x, row y, matrix z) to shared memory, with zeros for what lies outside the matrix.
DEVICE void copy_box(u32 to, const TensorMap* map, int x, int y, int z, u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];\n" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier)
        : "memory");
}
DEVICE void prefetch_map(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory"); }

// Registers of a thread, for all of its group of four warps: given back, or taken.
template <int N>
DEVICE void fewer_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(N));
#endif
}
template <int N>
DEVICE void more_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(N));
#endif
}

// A barrier of all threads of a cluster that have not ended, in two halves: what was written before the first is there
// after the second.
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;\n" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory"); }
// Two numbers of block `rank` of the cluster, where this block has `at`.
DEVICE Two cluster_read(const Two* at, u32 rank) {
    Two v;
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %2, %3;\nld.shared::cluster.v2.f32 {%0, %1}, [there];\n}\n"
        : "=f"(v.x), "=f"(v.y)
        : "r"(shared_address(at)), "r"(rank)
        : "memory");
    return v;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// Orders earlier uses of the registers of sums before wgmma writes them.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
// Closes a group of wgmma instructions.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
// Waits for all groups but the last N; until then no thread may touch their sums or what they read.
template <int N>
DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
}

// After the last wait, before sums are read: the compiler does not know that wgmma wrote them in the meantime.
template <int N>
DEVICE void wgmma_settle(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i]));
}

// Operands of the instruction: sums by number, then as registers.
#define N64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
    ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define N112 \
    N64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
    ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95" \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define N128 \
    N112 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define R4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define R16(i) R4(i), R4(i + 4), R4(i + 8), R4(i + 12)
#define R64 R16(0), R16(16), R16(32), R16(48)
#define R112 R64, R16(64), R16(80), R16(96)
#define R128 R112, R16(112)
// D = A B^T, or D += A B^T with `add`: 64 rows, as many columns as 2 numbers of each thread make, 32 bytes along k.
// Of warp w, lane 4g + t, d[4j + i] is row 16w + g + 8 (i / 2), column 8j + 2t + i % 2.
// The operands after the sums: A and B, then `add`; neither is negated (1, 1); `more` says how they lie.
#define WGMMA(type, sums, shape, ab, third, more)                                  \
    DEVICE void wgmma_##type(float (&d)[sums], u64 a, u64 b, u32 add) {            \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " third ", 0;\n"            \
                     "wgmma.mma_async.sync.aligned." shape ".f32." #type "." #type \
                     " {" N##sums "}, " ab ", p, 1, 1" more ";\n}\n"               \
                     : R##sums                                                     \
                     : "l"(a), "l"(b), "r"(add));                                  \
    }
WGMMA(tf32, 64, "m64n128k8", "%64, %65", "%66", "")
WGMMA(tf32, 112, "m64n224k8", "%112, %113", "%114", "")
WGMMA(tf32, 128, "m64n256k8", "%128, %129", "%130", "")
// In bf16 either may be transposed: 0, 0 says that neither is.
WGMMA(bf16, 64, "m64n128k16", "%64, %65", "%66", ", 0, 0")
WGMMA(bf16, 112, "m64n224k16", "%112, %113", "%114", ", 0, 0")
WGMMA(bf16, 128, "m64n256k16", "%128, %129", "%130", ", 0, 0")
#undef WGMMA
#undef R4
#undef R16
#endif
#endif
