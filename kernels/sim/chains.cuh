// How a robot lies over the threads: a free body with LANES equal chains of DEPTH hinged bodies, a thread for each
// chain. LANES threads are an environment. Each computes the root too, so that only what the chains hand to the root is
// exchanged (wrenches, composite inertias, the solve), by shuffles. `robot.cuh` is written by src/sim/cuda.rs from the
// robot; its constants of the chains lie in shared memory. State, bodies, mass matrix and its factor stay in registers
// from the first substep to the last.
// defines: SLOTS EVEN coordinate dof Constants OF AT State shift_state load_state store_state load_constants
#pragma once
#include "sim/contact.cuh"
#include "sim/sums.cuh"

// Slot d of a thread is hinge number d of its chain: one coordinate, one dof, no slot empty.
constexpr int SLOTS_Q = DEPTH, SLOTS_QD = DEPTH;
constexpr bool EVEN = true;
DEVICE int coordinate(int lane, int d) { return 7 + lane * DEPTH + d; }
DEVICE int dof(int lane, int d) { return 6 + lane * DEPTH + d; }

// The state of an environment as one of its threads sees it: the root's and its own chain's.
struct State : Root {
    float q[SLOTS_Q], qd[SLOTS_QD];
};

// Constants of a hinged body, in the order of CHAIN; then POINTS contact points of CONTACT numbers.
enum Constant {
    POSITION, AXIS = 3, LOWER = 6, UPPER, LIMIT_STIFFNESS, DRIVE_STIFFNESS, TARGET, DAMPING, ARMATURE, MASS, COM = 14,
    INERTIA = 17, CONTACTS = 26
};
constexpr int BODY = CONTACTS + POINTS * CONTACT;

// Constants on chip: those of a chain side by side with those of the others.
struct Constants {
    float chain[DEPTH][BODY][LANES];
    float root[ROOT_POINTS][CONTACT];
};

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

// The reference point moves to `origin`.
DEVICE void shift_state(State& s, V3 origin) {
    s.v = cross_add_exact(s.omega, origin, s.v);
    s.p = s.p - origin;
}

DEVICE State load_state(const float* q, const float* qd, int lane) {
    State s;
    load_root(q, qd, s);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        s.q[d] = q[coordinate(lane, d)];
        s.qd[d] = qd[dof(lane, d)];
    }
    return s;
}

DEVICE void store_state(const State& s, float* q, float* qd, int lane) {
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        q[coordinate(lane, d)] = s.q[d];
        qd[dof(lane, d)] = s.qd[d];
    }
    if (lane == 0) store_root(s, q, qd);
}

DEVICE Inertial root_inertial() {
    return {ROOT_MASS, v3(ROOT_COM_X, ROOT_COM_Y, ROOT_COM_Z),
            {{v3(ROOT_I00, ROOT_I01, ROOT_I02), v3(ROOT_I10, ROOT_I11, ROOT_I12), v3(ROOT_I20, ROOT_I21, ROOT_I22)}}};
}

// What a substep computes on the way: everything up to the forces of the joints.
struct Frame {
    Body root, body[DEPTH];
    Inertial inertial[DEPTH];
    // Of each hinge: its axis, the wrench of all that it carries, the force on it.
    S6 axis[DEPTH], total[DEPTH];
    float tau[DEPTH], armature[DEPTH];
    // Of the root.
    float b[6];
};
