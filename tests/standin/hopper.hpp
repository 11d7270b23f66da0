// Plain twins of the functions in kernels/common/hopper.cuh, after the PTX specification. What hardware does in its own
// time happens here as late as it may: boxes arrive when no thread can go on without them, products are made when they
// are waited for. A buffer that is filled or freed too early, a wrong count of bytes, a wrong descriptor then show.
#pragma once
#include <cstdio>

struct TensorMap;
namespace shim {
// Where shared memory of the launch begins in the window of addresses: not at a multiple of what swizzles need.
enum { WINDOW = 3200 };
inline char* at_shared(uint32_t address, size_t n) {
    if (address < WINDOW || address + n > WINDOW + block->dynamic_bytes) fail("an address outside of shared memory");
    return block->dynamic + (address - WINDOW);
}

// What the driver's encoder writes into a tensor map: 128 bytes.
struct Encoded {
    uint64_t magic, address;
    uint32_t type, size, rank, swizzle;
    uint64_t dim[3], stride[2];  // stride in bytes, from the second dimension on
    uint32_t box[3], filler[11];
};
static_assert(sizeof(Encoded) == 128);
enum : uint64_t { MAP_MAGIC = 0x70616d726f736e74ull };
enum { BFLOAT16 = 9, FLOAT32 = 7, TFLOAT32 = 11 };  // as the driver numbers them

// A barrier in its eight bytes: phases that are over, then arrivals and bytes (in units of 16) that this one waits for.
struct Barrier {
    uint32_t over;
    uint8_t count, pending;
    int16_t bytes;
};
inline Barrier* barrier_at(uint32_t a) {
    if (a % 8) fail("a barrier is not aligned");
    return (Barrier*)at_shared(a, 8);
}
inline void settle(Barrier* b) {
    if (b->pending == 0 && b->bytes == 0) b->over++, b->pending = b->count;
}

// The 128-byte swizzle: chunks of 16 bytes exchanged by the row's number within its eight.
inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

inline void land(const Box& c) {
    Encoded m;
    memcpy(&m, c.map, sizeof m);
    uint32_t i = 0;
    for (uint32_t z = 0; z < m.box[2]; z++)
        for (uint32_t y = 0; y < m.box[1]; y++)
            for (uint32_t x = 0; x < m.box[0]; x++, i += m.size) {
                int64_t p[3] = {c.at[0] + (int64_t)x, c.at[1] + (int64_t)y, c.at[2] + (int64_t)z};
                bool in = true;
                for (int k = 0; k < 3; k++) in = in && p[k] >= 0 && (uint64_t)p[k] < m.dim[k];
                char v[4] = {};
                if (in) memcpy(v, (char*)m.address + p[0] * m.size + p[1] * m.stride[0] + p[2] * m.stride[1], m.size);
                if (m.type == TFLOAT32) {
                    float f;
                    memcpy(&f, v, 4);
                    uint32_t u = to_tf32(f);
                    memcpy(v, &u, 4);
                }
                uint32_t to = m.swizzle == 3 ? swizzled(c.to + i) : c.to + i;
                memcpy(at_shared(to, m.size), v, m.size);
            }
    Barrier* b = barrier_at(c.barrier);
    b->bytes -= i / 16;
    if (b->bytes < 0) block->error = "more bytes arrive than a barrier expects";
    settle(b);
}

// Products that are under way: read from shared memory when they are waited for.
template <class Bits>
inline float operand(uint64_t descriptor, int row, int k) {
    uint32_t start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1) fail("products read another swizzle than boxes are written in");
    if (descriptor >> 49 & 7) fail("products have a base offset, but buffers begin at multiples of it");
    Bits u;
    memcpy(&u, at_shared(swizzled(start + row / 8 * stride + row % 8 * 128 + k * sizeof u), sizeof u), sizeof u);
    return sizeof u == 4 ? tf32(u) : bf16(u);
}
template <class Bits>
inline void multiply_of(const InFlight& p) {
    const int K = 32 / sizeof(Bits);
    int thread = fiber->index & 127, lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
    float a[2][K], b[K];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < K; k++) a[h][k] = operand<Bits>(p.a, 16 * warp + g + 8 * h, k);
    for (int j = 0; j < p.n / 8; j++)
        for (int u = 0; u < 2; u++) {
            for (int k = 0; k < K; k++) b[k] = operand<Bits>(p.b, 8 * j + 2 * t + u, k);
            for (int h = 0; h < 2; h++) {
                float& sum = fiber->sums[4 * j + 2 * h + u];
                float s = p.add ? sum : 0.f;
                for (int k = 0; k < K; k++) s += a[h][k] * b[k];
                sum = s;
            }
        }
}
inline void multiply(const InFlight& p) { p.k == 8 ? multiply_of<uint32_t>(p) : multiply_of<uint16_t>(p); }
template <int N>
inline void begin(float (&d)[N], uint64_t a, uint64_t b, uint32_t add, int k) {
    Fiber& f = *fiber;
    if (!f.fenced) fail("products into registers that no fence has settled");
    if (f.into && f.into != d) fail("products into two sets of sums at once");
    if (!f.into) {
        f.sums.assign(d, d + N);
        for (float& x : d) x = __uint_as_float(0x7fffffff);
    }
    f.into = d;
    f.products.push_back({a, b, add, 2 * N, k, f.committed});
}
}  // namespace shim

inline uint32_t shared_address(const void* p) { return (uint32_t)((const char*)p - shim::block->dynamic) + shim::WINDOW; }

inline void barrier_init(uint32_t barrier, uint32_t count) {
    *shim::barrier_at(barrier) = {0, (uint8_t)count, (uint8_t)count, 0};
}
inline void barrier_fence() {}
inline void barrier_arrive(uint32_t barrier) {
    shim::Barrier* b = shim::barrier_at(barrier);
    if (b->pending == 0) shim::fail("more arrive at a barrier than it counts");
    b->pending--;
    shim::settle(b);
}
inline void barrier_expect(uint32_t barrier, uint32_t bytes) {
    shim::barrier_at(barrier)->bytes += bytes / 16;
    barrier_arrive(barrier);
}
inline void barrier_wait(uint32_t barrier, uint32_t parity) {
    shim::Barrier* b = shim::barrier_at(barrier);
    // The phase of this parity is over if the one under way has the other.
    while ((b->over & 1) == parity) shim::wait_for(&b->over);
}
inline void copy_box(uint32_t to, const TensorMap* map, int x, int y, int z, uint32_t barrier) {
    shim::Encoded m;
    memcpy(&m, map, sizeof m);
    if (m.magic != shim::MAP_MAGIC || (uintptr_t)map % 64) shim::fail("a box without a tensor map");
    if (to % 128 || (m.swizzle == 3 && to % 1024)) shim::fail("a box begins where its swizzle does not");
    shim::barrier_at(barrier);
    uint32_t bytes = m.box[0] * m.box[1] * m.box[2] * m.size;
    memset(shim::at_shared(to, bytes), 0xff, bytes);
    shim::block->boxes.push_back({to, map, {x, y, z}, barrier});
}
inline void prefetch_map(const TensorMap*) {}
template <int N>
inline void fewer_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256); }
template <int N>
inline void more_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256); }

// Threads that have ended are not waited for.
inline void cluster_arrive() {
    shim::Cluster* c = shim::block->cluster;
    if (shim::fiber->between) shim::fail("a thread arrives twice at a barrier of its cluster");
    shim::fiber->between = true, shim::fiber->phase = c->generation;
    if (++c->arrived == c->live) c->arrived = 0, c->generation++;
}
inline void cluster_wait() {
    if (!shim::fiber->between) shim::fail("a thread waits for a barrier of its cluster without having arrived");
    shim::Cluster* c = shim::block->cluster;
    while (c->generation == shim::fiber->phase) shim::wait_for(&c->generation);
    shim::fiber->between = false;
}
template <class Two>
inline Two cluster_read(const Two* at, uint32_t rank) {
    const shim::Cluster* c = shim::block->cluster;
    if (rank >= c->size) shim::fail("a cluster has fewer blocks");
    if (c->block[rank]->live == 0) shim::fail("shared memory is read of a block that has ended");
    shim::inside_shared(at, sizeof *at);
    Two v;
    memcpy(&v, c->block[rank]->dynamic + ((const char*)at - shim::block->dynamic), sizeof v);
    return v;
}

inline void wgmma_fence() { shim::fiber->fenced = true; }
inline void wgmma_commit() { shim::fiber->committed++; }
template <int N>
inline void wgmma_wait() {
    shim::Fiber& f = *shim::fiber;
    while (!f.products.empty() && f.products.front().group + N < f.committed) {
        shim::multiply(f.products.front());
        f.products.pop_front();
    }
    if (f.products.empty() && f.into) {
        memcpy(f.into, f.sums.data(), f.sums.size() * 4);
        f.into = nullptr, f.fenced = false;
    }
}
template <int N>
inline void wgmma_settle(float (&)[N]) {
    if (shim::fiber->into) shim::fail("sums are read before products into them are waited for");
}
template <int N>
inline void wgmma_tf32(float (&d)[N], uint64_t a, uint64_t b, uint32_t add) { shim::begin(d, a, b, add, 8); }
template <int N>
inline void wgmma_bf16(float (&d)[N], uint64_t a, uint64_t b, uint32_t add) { shim::begin(d, a, b, add, 16); }
