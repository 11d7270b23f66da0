// How any tree of bodies lies over the threads: LANES neighbouring threads share an environment, whose state and work
// lie in shared memory. Bodies of one level of the tree are computed side by side, a thread each, and so are dofs,
// entries of the mass matrix and contact points. No two threads add to the same number: a body gathers from its
// children, from its contact points and from its dofs, in the order of their numbers. `robot.cuh` is written by
// src/sim/cuda.rs from the robot.
// defines: SLOTS EVEN coordinate dof Constant State Tree TreeBar and the ways in and out of it
#pragma once
#include "sim/contact.cuh"
#include "sim/sums.cuh"

enum Kind { FREE, BALL, HINGE, SLIDE, FIXED };

// Numbers of a body in BODY_NUMBERS.
enum Constant {
    POSITION, ROTATION = 3, AXIS = 7, LOWER = 10, UPPER, LIMIT_STIFFNESS, DRIVE_STIFFNESS, TARGET, DAMPING, MASS, COM = 17,
    INERTIA = 20, BODY_SIZE = 29
};

// All coordinates but those of a free first body are dealt out to the threads.
constexpr int ROOT_Q = FREE_ROOT ? 7 : 0, ROOT_QD = FREE_ROOT ? 6 : 0;
DEVICE constexpr int at_least_one(int n) { return n < 1 ? 1 : n; }
constexpr int SLOTS_Q = at_least_one(ceil_div(NQ - ROOT_Q, LANES)), SLOTS_QD = at_least_one(ceil_div(NQD - ROOT_QD, LANES));
constexpr bool EVEN = false;
DEVICE int coordinate(int lane, int i) {
    int k = ROOT_Q + lane + i * LANES;
    return k < NQ ? k : -1;
}
DEVICE int dof(int lane, int i) {
    int k = ROOT_QD + lane + i * LANES;
    return k < NQD ? k : -1;
}

struct State : Root {
    float q[SLOTS_Q], qd[SLOTS_QD];
};

// Numbers i = lane, lane + LANES, ... below n.
#define EACH(i, n) for (int i = lane; i < (n); i += LANES)
// The bodies of a level of the tree, and the dofs of a level of the mass matrix: those with so many ancestors.
#define EACH_BODY(i, level) \
    for (int at_ = LEVEL_BODY_START[level] + lane, i; at_ < LEVEL_BODY_START[(level) + 1] && (i = LEVEL_BODY[at_], true); at_ += LANES)
#define EACH_DOF(i, level)                                                                                                \
    for (int at_ = LEVEL_DOF_START[level] + lane, i; at_ < LEVEL_DOF_START[(level) + 1] && (i = LEVEL_DOF[at_], true); \
         at_ += LANES)

// An entry of a lower triangle, k <= i.
DEVICE int entry(int i, int k) { return i * (i + 1) / 2 + k; }
constexpr int TRIANGLE = NQD * (NQD + 1) / 2;

// One environment in the middle of a substep. Positions are relative to the reference point. A body's f becomes the
// wrench of all that it carries.
struct Tree {
    float q[NQ], qd[NQD], qdd[NQD], actuation[NQD];
    S6 axis[NQD];
    Body body[BODIES];
    // Inertia of each body with all that it carries.
    I6 composite[BODIES];
    // Factor of the mass matrix, H + armature = L^T L: below the diagonal; of the diagonal the reciprocals.
    float factor[TRIANGLE], pivot[NQD];
};

// What a contact point sends to its body.
struct Touch {
    V3 p;
    M3 rot;
    S6 v;
};

// Cotangents of an environment, and accelerations of the substep that is at work.
struct TreeBar {
    float q[NQ], qd[NQD], qdd[NQD], actuation[NQD];
    // Of the forces of the dofs, first of their accelerations.
    float tau[NQD];
    S6 axis[NQD];
    Bar body[BODIES];
    // Of the mass matrix, both halves together, summed over the substeps that share a factor.
    float mass[TRIANGLE];
    // One at a time: contact points forward, contact points back, rows of the mass matrix.
    union {
        S6 wrench[LANES];
        Touch touch[LANES];
        struct {
            S6 momentum[NQD], twist[NQD];
        } row;
    };
};

DEVICE const float* numbers(int body) { return BODY_NUMBERS + body * BODY_SIZE; }

DEVICE Inertial inertial(int body) {
    const float* c = numbers(body);
    const float* m = c + INERTIA;
    return {c[MASS], v3(c + COM), {{v3(m), v3(m + 3), v3(m + 6)}}};
}

DEVICE State load_state(const float* q, const float* qd, int lane) {
    State s = {};
    if (FREE_ROOT) load_root(q, qd, s);
#pragma unroll
    for (int i = 0; i < SLOTS_Q; i++)
        if (coordinate(lane, i) >= 0) s.q[i] = q[coordinate(lane, i)];
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++)
        if (dof(lane, i) >= 0) s.qd[i] = qd[dof(lane, i)];
    return s;
}

DEVICE void store_state(const State& s, float* q, float* qd, int lane) {
#pragma unroll
    for (int i = 0; i < SLOTS_Q; i++)
        if (coordinate(lane, i) >= 0) q[coordinate(lane, i)] = s.q[i];
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++)
        if (dof(lane, i) >= 0) qd[dof(lane, i)] = s.qd[i];
    if (FREE_ROOT && lane == 0) store_root(s, q, qd);
}

DEVICE void store_actuation(const float (&actuation)[SLOTS_QD], Tree& t, int lane) {
    if (FREE_ROOT) EACH(k, 6) t.actuation[k] = 0.f;
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++)
        if (dof(lane, i) >= 0) t.actuation[dof(lane, i)] = actuation[i];
}

// Where the reference point of an environment step is: at the first body, if it moves with it.
DEVICE V3 reference_point(const Tree& t) { return ABOUT_ROOT ? v3(t.q) : v3(0.f, 0.f, 0.f); }

// Takes how far the robot has slid along the ground out of its coordinates, and puts it back: nothing depends on it.
DEVICE float off_rail(float* q, int lane) {
    if (!SLIDES) return 0.f;
    __syncwarp();
    float far = q[RAIL];
    __syncwarp();
    if (lane == 0) q[RAIL] = 0.f;
    __syncwarp();
    return far;
}
DEVICE void on_rail(float far, float* q, int lane) {
    if (!SLIDES) return;
    __syncwarp();
    if (lane == 0) q[RAIL] += far;
    __syncwarp();
}

// The reference point moves to `origin`.
DEVICE void shift_state(Tree& t, int lane, V3 origin) {
    if (!ABOUT_ROOT) return;
    __syncwarp();
    EACH(i, BODIES) {
        if (KIND[i] != FREE) continue;
        float *q = t.q + Q_AT[i], *qd = t.qd + QD_AT[i];
        store(cross_add_exact(v3(qd), origin, v3(qd + 3)), qd + 3);
        store(v3(q) - origin, q);
    }
    __syncwarp();
}
