// CUDA C++ on a CPU: what a kernel file needs to be compiled as C++ and run. One OS thread runs a block; its threads
// are fibers, made when they first run. Shared memory is thread-local memory of the module, poisoned before each block;
// the blocks of a cluster run in turns, so they may use none but what their launch asks for.
#pragma once
#define CUDA_ON_CPU 1
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <type_traits>
#include <utility>
#include <vector>
#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
struct dim3 {
    uint32_t x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint32_t __float_as_uint(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }

namespace shim {
enum { MAX_THREADS = 1024 };
enum State : uint8_t { NEW, RUNNING, DONE };
struct Copy {
    void* to;
    uint32_t size;
    char data[16];
};
// A box that the copy unit is to bring, and products of a group of warps that are under way: see hopper.hpp.
struct Box {
    uint32_t to;
    const void* map;
    int at[3];
    uint32_t barrier;
};
struct InFlight {
    uint64_t a, b;
    uint32_t add;
    int n, k;
    uint32_t group;
};
struct alignas(64) Fiber {
    void* sp;
    dim3 thread;
    uint32_t index;
    State state;
    const uint32_t* waits_for;  // a generation counter: the fiber goes on once it differs from `seen`
    uint32_t seen;
    std::vector<Copy> open;                // asynchronous copies of this thread that are under way
    std::deque<std::vector<Copy>> groups;  // and its closed groups of them, the oldest first
    std::deque<InFlight> products;
    std::vector<float> sums;  // of them, while the registers `into` must not be touched
    float* into;
    uint32_t committed;
    bool fenced;
    bool between;  // the halves of a barrier of the cluster, whose phase was:
    uint32_t phase;
};
struct Warp {
    uint32_t mask, arrived, generation;
    void* slot[32];
};
struct Block;
struct Cluster {
    uint32_t size, live, arrived, generation;
    Block* block[8];
};
struct Block {
    Cluster* cluster;
    dim3 block, block_dim, grid_dim;
    uint32_t threads, live, arrived, generation;
    Warp warp[MAX_THREADS / 32];
    Fiber fiber[MAX_THREADS];
    char* stacks;
    uint32_t stacks_used, done;
    void* spare;  // the stack of a thread that has ended
    bool mine;    // the stack of the thread that ends is free for one that begins
    int order;    // of a sweep over the threads, with the step from one to the next and how many turns are over
    uint32_t step, turn;
    void* scheduler;
    void (*body)(void**);
    void** args;
    const char* error;
    char* dynamic;  // shared memory that the launch asked for
    size_t dynamic_bytes;
    std::vector<Box> boxes;
};
extern Block* block;
extern Fiber* fiber;
void wait_for(const uint32_t* generation);
[[noreturn]] void fail(const char* message);

// The last lane of `mask` to arrive does the work of all.
inline void collective(uint32_t mask, void* mine, void (*work)(Warp&, uint32_t)) {
    Warp& w = block->warp[fiber->index >> 5];
    uint32_t lane = fiber->index & 31, bit = 1u << lane;
    if (!(mask & bit)) fail("a lane is not in its own mask");
    if (w.arrived && w.mask != mask) fail("lanes of a warp meet with different masks");
    w.mask = mask, w.arrived |= bit, w.slot[lane] = mine;
    if (w.arrived != mask) return wait_for(&w.generation);
    work(w, mask);
    w.arrived = 0, w.generation++;
}
struct Shuffle {
    uint32_t value, out;
    int source;
};
inline void shuffle_all(Warp& w, uint32_t mask) {
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Shuffle* s = (Shuffle*)w.slot[i];
        if (!(mask >> s->source & 1)) fail("a shuffle reads a lane that does not take part");
        s->out = ((Shuffle*)w.slot[s->source])->value;
    }
}
template <class T>
inline T shuffle(uint32_t mask, T v, int source) {
    static_assert(sizeof(T) == 4);
    Shuffle s;
    memcpy(&s.value, &v, 4);
    s.source = source;
    collective(mask, &s, shuffle_all);
    T r;
    memcpy(&r, &s.out, 4);
    return r;
}
inline void nothing(Warp&, uint32_t) {}

template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** a, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A>*)a[I]...);
}
template <class... A>
inline void invoke(void (*kernel)(A...), void** a) { call(kernel, a, std::index_sequence_for<A...>{}); }
template <class... A>
inline int sizes(void (*)(A...), const uint32_t** p) {
    static const uint32_t s[] = {sizeof(A)..., 0};
    *p = s;
    return sizeof...(A);
}
}  // namespace shim

#define threadIdx (shim::fiber->thread)
#define blockIdx (shim::block->block)
#define blockDim (shim::block->block_dim)
#define gridDim (shim::block->grid_dim)
inline void __syncthreads() {
    shim::Block* b = shim::block;
    if (++b->arrived == b->live) b->arrived = 0, b->generation++;
    else shim::wait_for(&b->generation);
}
inline void __syncwarp(uint32_t mask = ~0u) { shim::collective(mask, nullptr, shim::nothing); }
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T v, int x) { return shim::shuffle(mask, v, (int)((shim::fiber->index & 31) ^ x)); }

#include "hardware.hpp"
#include "hopper.hpp"

// What the driver looks up for an entry point.
#define EXPORT(name, cluster)                                                           \
    extern "C" void name##_call(void** a) { shim::invoke(name, a); }                     \
    extern "C" int name##_sizes(const uint32_t** p) { return shim::sizes(name, p); }     \
    extern "C" int name##_cluster() { return cluster; }
