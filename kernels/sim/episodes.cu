// Episodes: starts, returns, stats, resets. Mathematics of starts: src/env/reset.rs.
#include "common/philox.cuh"
#include "task.cuh"

// Adds up how many gradients were scaled down and how many were not finite: one block.
DEVICE void count_bounded(const float* flags, float* counts, u32 n) {
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

// Moves the start state by uniform numbers less 1/2: rows I and on of DRAWS, from number AT on.
template <int I, int AT>
DEVICE void draw_start(const double* u, double* x, double* xd) {
    if constexpr (I < DRAW_COUNT) {
        constexpr Draw d = DRAWS[I];
        constexpr int COUNT = d.kind == POSITION_NOISE ? 3 : (d.kind == ROTATION_NOISE ? 4 : d.count);
        if constexpr (d.kind == ROTATION_NOISE) {
            const double* axis = u + AT + 1;
            double norm = sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]);
            double inverse = norm > 0.0 ? 1.0 / norm : 0.0, half = u[AT] * d.width * 0.5, sine = sin(half);
            D4 turn = {axis[0] * inverse * sine, axis[1] * inverse * sine, axis[2] * inverse * sine, cos(half)};
            double* r = x + DRAWN[d.first];
            D4 turned = product({r[0], r[1], r[2], r[3]}, turn);
            r[0] = turned.x, r[1] = turned.y, r[2] = turned.z, r[3] = turned.w;
        } else {
#pragma unroll
            for (int k = 0; k < COUNT; k++) {
                double moved = d.width * u[AT + k];
                if (d.kind == POSITION_NOISE) x[k] += moved;
                if (d.kind == COORDINATE_NOISE) x[DRAWN[d.first + k]] += moved;
                if (d.kind == VELOCITY_NOISE) xd[DRAWN[d.first + k]] = moved;
            }
        }
        draw_start<I + 1, AT + COUNT>(u, x, xd);
    }
}

// Starts a new episode of environment e: the start state in double precision, rounded once, and its observation.
static __device__ void begin_episode(const Philox& rng, u32 e, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                                     float* total, float* alive) {
    double x[NQ], xd[NQD];
    u32 episode = episodes[e];
#pragma unroll
    for (int k = 0; k < NQ; k++) x[k] = START[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) xd[k] = 0.0;
    if (UNIFORMS > 0) {
        constexpr u32 BLOCKS = ceil_div(UNIFORMS, 4);
        double u[BLOCKS * 4 + 1];
#pragma unroll
        for (u32 k = 0; k < BLOCKS; k++) {
            Bits bits = rng.bits(episode, FIRST_BLOCK + e * BLOCKS + k);
#pragma unroll
            for (int i = 0; i < 4; i++) u[4 * k + i] = Philox::unit(bits.v[i]) - 0.5;
        }
        draw_start<0, 0>(u, x, xd);
    }
    q += (size_t)e * NQ, qd += (size_t)e * NQD, obs += (size_t)e * OBS_WIDTH;
#pragma unroll
    for (int k = 0; k < NQ; k++) q[k] = (float)x[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) qd[k] = (float)xd[k];
    auto put = [=](int i, float x) { obs[i] = x; };
    if (FREE_ROOT) {
        Root s;
        load_root(q, qd, s);
        observe_root(s, put);
    }
#pragma unroll
    for (int k = FREE_ROOT ? 7 : 0; k < NQ; k++) observe_coordinate(k, q[k], put);
#pragma unroll
    for (int k = FREE_ROOT ? 6 : 0; k < NQD; k++) observe_dof(k, qd[k], put);
    for (int i = 0; i < ACT; i++) observe_action(i, 0.f, put);
    for (int i = OBS; i < OBS_WIDTH; i++) obs[i] = 0.f;
    episodes[e] = episode + 1;
    progress[e] = 0;
    total[e] = 0.f;
    alive[e] = 1.f;
}

// All environments start; evaluation starts are the same every time.
DEVICE void env_reset(float* q, float* qd, float* obs, u32* progress, u32* episodes, float* total, float* alive,
                      float* stats, u64 seed, u32 stream, u32 evaluate, u32 n) {
    u32 e = ELEMENT;
    if (e < STATS) stats[e] = 0.f;
    if (e >= n) return;
    if (evaluate) episodes[e] = 0;
    begin_episode(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
}

// Episode returns, stats and resets: one block, so that sums have one order.
DEVICE void end_episodes(const float* reward, float* done, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                         float* total, float* alive, float* stats, u64 seed, u32 stream, u32 evaluate, u32 n) {
    // Episodes, returns, lengths, blown-up states.
    float sums[STATS] = {0.f, 0.f, 0.f, 0.f};
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
        else begin_episode(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
    }
    block_sums<128, STATS>(sums);
    if (threadIdx.x == 0)
        for (int i = 0; i < STATS; i++) stats[i] += sums[i];
}
