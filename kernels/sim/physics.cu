// The physics alone, without a task: an environment step of any robot, and its adjoint.
#include "sim/step.cuh"

DEVICE void load_actuation(const float* row, int lane, float (&actuation)[SLOTS_QD]) {
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++) {
        int k = dof(lane, i);
        actuation[i] = owned(k) ? row[k] : 0.f;
    }
}

// From (q, qd) to (next_q, next_qd) under forces on the dofs.
DEVICE void physics_step(const float* actuation, const float* q, const float* qd, float* next_q, float* next_qd, u32 n) {
    __shared__ StepMemory memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    float own[SLOTS_QD];
    load_actuation(actuation + (size_t)e * NQD, lane, own);
    State s = load_state(q + (size_t)e * NQ, qd + (size_t)e * NQD, lane);
    step(memory, lane, s, own);
    if (index < n) store_state(s, next_q + (size_t)e * NQ, next_qd + (size_t)e * NQD, lane);
}

// Cotangents of what went into a step, from those of what came out; bits of `accumulate`: add to actuation, q, qd.
// Those that are null are zero, or not wanted.
DEVICE void physics_adjoint(const float* actuation, const float* q, const float* qd, const float* q_bar,
                            const float* qd_bar, float* to_actuation, float* to_q, float* to_qd, u32 accumulate, u32 n) {
    __shared__ AdjointMemory<ADJOINT_THREADS> memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    float own[SLOTS_QD];
    load_actuation(actuation + (size_t)e * NQD, lane, own);
    State before = load_state(q + (size_t)e * NQ, qd + (size_t)e * NQD, lane), s = before;
    Kept kept;
    step_keeping(memory, lane, s, own, kept);
    StateBar t = {};
    auto from = [&](const float* x, int width, int k) { return x ? x[(size_t)e * width + k] : 0.f; };
    if (FREE_ROOT) {
        float root_q[7], root_qd[6];
        for (int k = 0; k < 7; k++) root_q[k] = from(q_bar, NQ, k);
        for (int k = 0; k < 6; k++) root_qd[k] = from(qd_bar, NQD, k);
        load_root(root_q, root_qd, t.s);
    }
#pragma unroll
    for (int i = 0; i < SLOTS_Q; i++)
        if (owned(coordinate(lane, i))) t.s.q[i] = from(q_bar, NQ, coordinate(lane, i));
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++)
        if (owned(dof(lane, i))) t.s.qd[i] = from(qd_bar, NQD, dof(lane, i));
    step_adjoint(memory, lane, own, kept, before, s, t);
    if (index >= n) return;
    auto give = [&](float* to, int width, int k, float x, u32 bit) {
        if (to) put(to + (size_t)e * width + k, x, accumulate & bit);
    };
    if (FREE_ROOT && lane == 0) {
        float root_q[7], root_qd[6];
        store_root(t.s, root_q, root_qd);
        for (int k = 0; k < 7; k++) give(to_q, NQ, k, root_q[k], 2);
        for (int k = 0; k < 6; k++) {
            give(to_qd, NQD, k, root_qd[k], 4);
            give(to_actuation, NQD, k, 0.f, 1);
        }
    }
#pragma unroll
    for (int i = 0; i < SLOTS_Q; i++)
        if (owned(coordinate(lane, i))) give(to_q, NQ, coordinate(lane, i), t.s.q[i], 2);
#pragma unroll
    for (int i = 0; i < SLOTS_QD; i++) {
        if (!owned(dof(lane, i))) continue;
        give(to_qd, NQD, dof(lane, i), t.s.qd[i], 4);
        give(to_actuation, NQD, dof(lane, i), t.actuation[i], 1);
    }
}
