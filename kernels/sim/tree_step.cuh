// An environment step of any tree, and its adjoint: the substeps in order. Mathematics: src/sim/step.rs, adjoint.rs.
#pragma once
#include "sim/tree_integrate.cuh"
#include "sim/tree_mass_matrix.cuh"

// What a block has on chip: its environments, and a wrench for each thread.
struct StepMemory {
    Tree tree[STEP_THREADS / LANES];
    S6 wrench[STEP_THREADS];
};
DEVICE void begin(StepMemory&) {}

DEVICE void step(StepMemory& m, int lane, State& s, const float (&actuation)[SLOTS_QD]) {
    Tree& t = m.tree[threadIdx.x / LANES];
    S6* wrench = m.wrench + threadIdx.x / LANES * LANES;
    store_state(s, t.q, t.qd, lane);
    store_actuation(actuation, t, lane);
    __syncwarp();
    V3 origin = reference_point(t);
    shift_state(t, lane, origin);
    float slid = off_rail(t.q, lane);
#pragma unroll 1
    for (int k = 0; k < SUBSTEPS; k++) {
        forces(t, lane, wrench, -origin.y);
        if (k % REBUILD_EVERY == 0) mass_matrix(t, lane);
        solve(t, lane, t.qdd);
        integrate(t, lane);
    }
    on_rail(slid, t.q, lane);
    shift_state(t, lane, -origin);
    __syncwarp();
    s = load_state(t.q, t.qd, lane);
}

// Adjoint of one substep, of which `t` holds the state and the forces, and `b` the accelerations. With `rebuilt` it
// built its mass matrix.
DEVICE void substep_adjoint(Tree& t, TreeBar& b, int lane, float ground, bool rebuilt, float& ground_bar) {
    integrate_adjoint(t, b, lane);
    solve_adjoint(t, b, lane);
#pragma unroll 1
    for (int level = 0; level < LEVELS; level++) {
        EACH_BODY(i, level) joint_force_adjoint(t, b, i);
        __syncwarp();
    }
    if (rebuilt) mass_matrix_adjoint(t, b, lane);
    contacts_adjoint(t, b, lane, ground, ground_bar);
    EACH(i, BODIES) bias_adjoint(t.body[i], inertial(i), b.body[i]);
#pragma unroll 1
    for (int level = LEVELS - 1; level >= 0; level--) {
        __syncwarp();
        EACH_BODY(i, level) kinematics_adjoint(t, b, i);
    }
    __syncwarp();
}

template <int THREADS>
struct AdjointMemory {
    Tree tree[THREADS / LANES];
    TreeBar bar[THREADS / LANES];
};
template <int THREADS>
DEVICE void begin(AdjointMemory<THREADS>&) {}

// States and accelerations of the substeps, dealt out to the threads.
struct Kept {
    static constexpr int Q = ceil_div(NQ, LANES), QD = ceil_div(NQD, LANES);
    V3 origin;
    float q[SUBSTEPS][Q], qd[SUBSTEPS][QD], qdd[SUBSTEPS][QD];
};
DEVICE void keep(Kept& kept, const Tree& t, int lane, int substep) {
    for (int i = 0; i < Kept::Q; i++)
        if (lane + i * LANES < NQ) kept.q[substep][i] = t.q[lane + i * LANES];
    for (int i = 0; i < Kept::QD; i++) {
        int k = lane + i * LANES;
        if (k < NQD) kept.qd[substep][i] = t.qd[k], kept.qdd[substep][i] = t.qdd[k];
    }
}
// The state of a substep again; its accelerations into `qdd`.
DEVICE void recall(const Kept& kept, Tree& t, float* qdd, int lane, int substep) {
    __syncwarp();
    for (int i = 0; i < Kept::Q; i++)
        if (lane + i * LANES < NQ) t.q[lane + i * LANES] = kept.q[substep][i];
    for (int i = 0; i < Kept::QD; i++) {
        int k = lane + i * LANES;
        if (k < NQD) t.qd[k] = kept.qd[substep][i], qdd[k] = kept.qdd[substep][i];
    }
    __syncwarp();
}

template <int THREADS>
DEVICE void step_keeping(AdjointMemory<THREADS>& m, int lane, State& s, const float (&actuation)[SLOTS_QD], Kept& kept) {
    Tree& t = m.tree[threadIdx.x / LANES];
    S6* wrench = m.bar[threadIdx.x / LANES].wrench;
    store_state(s, t.q, t.qd, lane);
    store_actuation(actuation, t, lane);
    __syncwarp();
    V3 origin = kept.origin = reference_point(t);
    shift_state(t, lane, origin);
    float slid = off_rail(t.q, lane);
#pragma unroll 1
    for (int k = 0; k < SUBSTEPS; k++) {
        forces(t, lane, wrench, -origin.y);
        if (k % REBUILD_EVERY == 0) mass_matrix(t, lane);
        solve(t, lane, t.qdd);
        keep(kept, t, lane, k);
        __syncwarp();
        integrate(t, lane);
    }
    on_rail(slid, t.q, lane);
    shift_state(t, lane, -origin);
    __syncwarp();
    s = load_state(t.q, t.qd, lane);
}

struct StateBar {
    State s;
    float actuation[SLOTS_QD];
};

template <int THREADS>
DEVICE void step_adjoint(AdjointMemory<THREADS>& m, int lane, const float (&actuation)[SLOTS_QD], const Kept& kept,
                         const State& before, const State& next, StateBar& bar) {
    Tree& t = m.tree[threadIdx.x / LANES];
    TreeBar& b = m.bar[threadIdx.x / LANES];
    store_state(bar.s, b.q, b.qd, lane);
    EACH(k, NQD) b.actuation[k] = 0.f;
    EACH(k, TRIANGLE) b.mass[k] = 0.f;
    V3 origin = kept.origin, moved = v3(0.f, 0.f, 0.f);
    float ground = 0.f;
    // How far the robot had slid comes out as it went in, and nothing else depends on it.
    __syncwarp();
    float slid_bar = b.q[RAIL];
    recall(kept, t, b.qdd, lane, SUBSTEPS - 1);
    if (ABOUT_ROOT) {
        // p' = p1' + o, v' = v1' - omega' x o.
        EACH(i, BODIES) {
            if (KIND[i] != FREE) continue;
            float *q_bar = b.q + Q_AT[i], *qd_bar = b.qd + QD_AT[i];
            V3 omega = scale_add(v3(b.qdd + QD_AT[i]), H, v3(t.qd + QD_AT[i])), v_bar = v3(qd_bar + 3);
            moved = moved + v3(q_bar) + cross(omega, v_bar);
            store(v3(qd_bar) - cross(origin, v_bar), qd_bar);
        }
    }
    int built = (SUBSTEPS - 1) / REBUILD_EVERY * REBUILD_EVERY;
#pragma unroll 1
    for (int k = SUBSTEPS - 1; k >= 0; k--) {
        int first = k / REBUILD_EVERY * REBUILD_EVERY;
        if (first != built) {
            recall(kept, t, b.qdd, lane, first);
            forces(t, lane, b.wrench, -origin.y);
            mass_matrix(t, lane);
            built = first;
        }
        recall(kept, t, b.qdd, lane, k);
        forces(t, lane, b.wrench, -origin.y);
        substep_adjoint(t, b, lane, -origin.y, first == k, ground);
    }
    __syncwarp();
    if (ABOUT_ROOT) {
        // p1 = p - o, v1 = v + omega x o, the ground at -o.y, and o = p of the first body: the cotangent of its p1
        // drops out.
        EACH(i, BODIES) {
            if (KIND[i] != FREE) continue;
            float *q_bar = b.q + Q_AT[i], *qd_bar = b.qd + QD_AT[i];
            V3 omega = v3(t.qd + QD_AT[i]), v_bar = v3(qd_bar + 3);
            store(v3(qd_bar) + cross(origin, v_bar), qd_bar);
            moved = moved + cross(v_bar, omega);
            if (i > 0) moved = moved - v3(q_bar);
        }
        moved = env_sum(moved);
        moved.y -= env_sum(ground);
        __syncwarp();
        if (lane == 0) store(moved, b.q);
    }
    __syncwarp();
    if (SLIDES && lane == 0) b.q[RAIL] = slid_bar;
    __syncwarp();
    bar.s = load_state(b.q, b.qd, lane);
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++)
        if (dof(lane, i) >= 0) bar.actuation[i] += b.actuation[dof(lane, i)];
}
