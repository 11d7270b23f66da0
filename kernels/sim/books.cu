// Episodes: starts, returns, stats, resets.
#include "common/philox.cuh"
#include "sim/observe.cuh"

// Adds up how many gradients were scaled down and how many were not finite: one block.
DEVICE void env_count(const float* flags, float* counts, u32 n) {
    float sums[2] = {0.f, 0.f};
    for (u32 e = threadIdx.x; e < n; e += 128) {
        sums[0] += flags[e] == 1.f ? 1.f : 0.f;
        sums[1] += flags[e] == 2.f ? 1.f : 0.f;
    }
    block_sums<128, 2>(sums);
    if (threadIdx.x < 2) counts[threadIdx.x] += threadIdx.x == 0 ? sums[0] : sums[1];
}

struct D4 {
    double x, y, z, w;
};
DEVICE D4 product(D4 a, D4 b) {
    return {a.y * b.z - a.z * b.y + b.x * a.w + a.x * b.w, a.z * b.x - a.x * b.z + b.y * a.w + a.y * b.w,
            a.x * b.y - a.y * b.x + b.z * a.w + a.z * b.w, a.w * b.w - (a.x * b.x + a.y * b.y + a.z * b.z)};
}

// Starts a new episode of environment e: the start state in double precision, rounded once, and its observation.
static __device__ void begin(const Philox& rng, u32 e, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                             float* total, float* alive) {
    double x[NQ], xd[NQD];
    u32 episode = episodes[e];
#pragma unroll
    for (int k = 0; k < NQ; k++) x[k] = START[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) xd[k] = 0.0;
    if (STOCHASTIC_INIT) {
        // In this order: position 3, angle 1, axis 3, hinges, velocities.
        constexpr int COUNT = 7 + HINGES + NQD, BLOCKS = ceil_div(COUNT, 4);
        double u[BLOCKS * 4];
#pragma unroll
        for (u32 k = 0; k < BLOCKS; k++) {
            Bits bits = rng.bits(episode, e * BLOCKS + k);
#pragma unroll
            for (int i = 0; i < 4; i++) u[4 * k + i] = Philox::unit(bits.v[i]) - 0.5;
        }
#pragma unroll
        for (int k = 0; k < 3; k++) x[k] += 0.2 * u[k];
        double norm = sqrt(u[4] * u[4] + u[5] * u[5] + u[6] * u[6]), inverse = norm > 0.0 ? 1.0 / norm : 0.0;
        double half = u[3] * (3.141592653589793 / 12.0) * 0.5, sine = sin(half);
        D4 turn = {u[4] * inverse * sine, u[5] * inverse * sine, u[6] * inverse * sine, cos(half)};
        D4 r = product({x[3], x[4], x[5], x[6]}, turn);
        x[3] = r.x, x[4] = r.y, x[5] = r.z, x[6] = r.w;
#pragma unroll
        for (int k = 0; k < HINGES; k++) x[7 + k] += 0.4 * u[7 + k];
#pragma unroll
        for (int k = 0; k < NQD; k++) xd[k] = 0.5 * u[7 + HINGES + k];
    }
    q += (size_t)e * NQ, qd += (size_t)e * NQD, obs += (size_t)e * OBS;
#pragma unroll
    for (int k = 0; k < NQ; k++) q[k] = (float)x[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) qd[k] = (float)xd[k];
    Root s;
    load_root(q, qd, s);
    float o[13];
    observe_root(s, o);
#pragma unroll
    for (int i = 0; i < 13; i++) obs[root_entry(i)] = o[i];
#pragma unroll
    for (int k = 0; k < HINGES; k++) {
        obs[11 + k] = q[7 + k];
        obs[11 + HINGES + k] = JOINT_VEL_SCALE * qd[6 + k];
        obs[13 + 2 * HINGES + k] = 0.f;
    }
    episodes[e] = episode + 1;
    progress[e] = 0;
    total[e] = 0.f;
    alive[e] = 1.f;
}

// All environments start; evaluation starts are the same every time.
DEVICE void env_reset(float* q, float* qd, float* obs, u32* progress, u32* episodes, float* total, float* alive,
                      float* stats, u64 seed, u32 stream, u32 evaluate, u32 n) {
    u32 e = ELEMENT;
    if (e < 4) stats[e] = 0.f;
    if (e >= n) return;
    if (evaluate) episodes[e] = 0;
    begin(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
}

// Episode returns, stats and resets: one block, so that sums have one order.
DEVICE void env_books(const float* reward, float* done, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                      float* total, float* alive, float* stats, u64 seed, u32 stream, u32 evaluate, u32 n) {
    // Episodes, returns, lengths, blown-up states.
    float sums[4] = {0.f, 0.f, 0.f, 0.f};
    for (u32 e = threadIdx.x; e < n; e += 128) {
        if (evaluate && alive[e] == 0.f) continue;
        float sum = total[e] + reward[e];
        total[e] = sum;
        if (done[e] == 0.f) continue;
        sums[3] += done[e] == 1.f ? 0.f : 1.f;
        done[e] = 1.f;
        sums[0] += 1.f;
        sums[1] += sum;
        sums[2] += (float)progress[e];
        if (evaluate) alive[e] = 0.f;
        else begin(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
    }
    block_sums<128, 4>(sums);
    if (threadIdx.x == 0)
        for (int i = 0; i < 4; i++) stats[i] += sums[i];
}
