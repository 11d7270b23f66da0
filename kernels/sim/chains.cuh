// How a robot lies over the threads: a free body with LANES equal chains of DEPTH hinged bodies, a thread for each chain.
// LANES threads are an environment. Each computes the root too, so that only what the chains hand to the root is exchanged
// (wrenches, composite inertias, the solve), by shuffles. `robot.cuh` is written by src/env/cuda.rs from the robot; its
// constants of the chains lie in shared memory.
// defines: sizes of state and observation, Constants, OF, AT, State, over_chains
#pragma once
#include "common/math.cuh"
#include "common/reduce.cuh"
#include "common/spatial.cuh"
#include "robot.cuh"

constexpr int HINGES = LANES * DEPTH, NQ = 7 + HINGES, NQD = 6 + HINGES, ACT = HINGES, OBS = 13 + 3 * HINGES;
constexpr int THREADS = 64;
static_assert(32 % LANES == 0, "the threads of an environment lie in one warp");

// Constants of a hinged body, in the order of CHAIN; then POINTS contact points of CONTACT numbers.
enum Constant {
    POSITION, AXIS = 3, LOWER = 6, UPPER, LIMIT_STIFFNESS, DRIVE_STIFFNESS, TARGET, DAMPING, ARMATURE, MASS, COM = 14,
    INERTIA = 17, CONTACTS = 26
};
enum { POINT, RADIUS = 3, STIFFNESS, CONTACT_DAMPING, VISCOSITY, FRICTION, CONTACT };
constexpr int BODY = CONTACTS + POINTS * CONTACT;

// Constants on chip: those of a chain side by side with those of the others.
struct Constants {
    float chain[DEPTH][BODY][LANES];
    float root[ROOT_POINTS][CONTACT];
};

// Sum over the threads of an environment, to all of them, in the same order everywhere.
DEVICE float over_chains(float x) {
#pragma unroll
    for (int o = 1; o < LANES; o <<= 1) x += __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}
DEVICE V3 over_chains(V3 x) { return {over_chains(x.x), over_chains(x.y), over_chains(x.z)}; }
DEVICE S6 over_chains(S6 x) { return {over_chains(x.a), over_chains(x.l)}; }
DEVICE M3 over_chains(const M3& m) { return {{over_chains(m.r[0]), over_chains(m.r[1]), over_chains(m.r[2])}}; }

DEVICE float largest_over_chains(float x) {
#pragma unroll
    for (int o = 1; o < LANES; o <<= 1) {
        float other = __shfl_xor_sync(ALL_LANES, x, o);
        x = x < other ? other : x;
    }
    return x;
}

// The state of an environment as one of its threads sees it: the root's and its own chain's.
struct State {
    V3 p;
    Q4 r;
    V3 omega, v;
    float q[DEPTH], qd[DEPTH];
};

// The reference point moves to `origin`.
DEVICE void shift_state(State& s, V3 origin) {
    s.v = cross_add_exact(s.omega, origin, s.v);
    s.p = s.p - origin;
}

DEVICE State load(const float* q, const float* qd, int lane) {
    State s;
    s.p = v3(q), s.r = q4(q + 3), s.omega = v3(qd), s.v = v3(qd + 3);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        s.q[d] = q[7 + lane * DEPTH + d];
        s.qd[d] = qd[6 + lane * DEPTH + d];
    }
    return s;
}

// Moves the constants on chip; ends with a barrier.
DEVICE void load_constants(Constants& c) {
    float* to = &c.chain[0][0][0];
    for (u32 i = threadIdx.x; i < DEPTH * BODY * LANES; i += blockDim.x) to[i] = CHAIN[i];
    to = &c.root[0][0];
    for (u32 i = threadIdx.x; i < ROOT_POINTS * CONTACT; i += blockDim.x) to[i] = ROOT_CONTACTS[i];
    __syncthreads();
}

// Constants of body `d` of a chain, and of its contact point `i`.
#define OF(field) c.chain[d][field][lane]
#define AT(field) OF(CONTACTS + i * CONTACT + field)
