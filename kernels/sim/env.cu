// One environment step: substeps of the dynamics, observation, reward, termination; and its adjoint. How the robot lies over
// the threads is the business of sim/step.cuh.
#include "sim/observe.cuh"

// Dynamics, observation, reward and flags. `evaluate`: environments that are not alive stay as they are.
DEVICE void env_step(const float* action, float* q, float* qd, float* obs, u32* progress, const float* alive,
                     float* before, float* reward, float* done, float* terminated, u32 evaluate, u32 n) {
    __shared__ StepMemory memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    bool live = index < n && !(evaluate && alive[e] == 0.f);
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT, obs += (size_t)e * OBS;
    before += (size_t)e * OBS;
    State s = load_state(q, qd, lane);
    float act[SLOTS_QD], actuation[SLOTS_QD], squares = 0.f;
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d) - 6;
        float a = owned(k) ? action[k] : 0.f;
        act[d] = a < -1.f ? -1.f : (1.f < a ? 1.f : a);
        actuation[d] = act[d] * ACTION_SCALE;
        squares = fmaf(act[d], act[d], squares);
    }
    // The reward is that of the observation before the step.
    float r = obs[5] + UP_SCALE * obs[root_entry(11)] + obs[root_entry(12)] + (obs[0] - TERMINATION_HEIGHT) +
              ACTION_PENALTY * env_sum(squares);
    step(memory, lane, s, actuation);
    float o[13];
    observe_root(s, o);
    bool sane = finite(r);
#pragma unroll
    for (int i = 0; i < 13; i++) sane = sane && fabsf(o[i]) < 1e6f;
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++)
        sane = sane && fabsf(s.q[d]) < 1e6f && fabsf(JOINT_VEL_SCALE * s.qd[d]) < 1e6f && (!ACTION_IN_OBS || finite(act[d]));
    sane = env_sum(sane ? 0.f : 1.f) == 0.f;
    // Everyone has read the old observation before it is overwritten.
    __syncwarp();
    if (!live) return;
    bool fallen = !sane || (EARLY_TERMINATION && o[0] < TERMINATION_HEIGHT);
    store_state(s, q, qd, lane);
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d) - 6;
        if (!owned(k)) continue;
        float values[3] = {s.q[d], JOINT_VEL_SCALE * s.qd[d], ACTION_IN_OBS ? act[d] : 0.f};
        int places[3] = {11 + k, 11 + HINGES + k, 13 + 2 * HINGES + k};
#pragma unroll
        for (int i = 0; i < 3; i++) before[places[i]] = obs[places[i]] = sane ? values[i] : 0.f;
    }
    if (lane != 0) return;
#pragma unroll
    for (int i = 0; i < 13; i++) before[root_entry(i)] = obs[root_entry(i)] = sane ? o[i] : 0.f;
    u32 steps = progress[e] + 1;
    progress[e] = steps;
    reward[e] = sane ? r : 0.f;
    terminated[e] = fallen ? 1.f : 0.f;
    // 2 marks a blown-up state until the books are kept.
    done[e] = !sane ? 2.f : (fallen || steps + 1 > EPISODE_LENGTH ? 1.f : 0.f);
}

// Adjoint of env_step at the state (q, qd) before it, `before` and `done` of what it gave. Cotangents that are null are
// zero, results that are null are not wanted; bits of `accumulate`: add to action, q, qd, obs. The gradient of an
// environment that is longer than `bound` is scaled down (flag 1), one that is not finite becomes zero (flag 2).
DEVICE void env_adjoint(const float* action, const float* q, const float* qd, const float* before, const float* done,
                        const float* q_bar, const float* qd_bar, const float* obs_bar, const float* before_bar,
                        const float* reward_bar, float* to_action, float* to_q, float* to_qd, float* to_obs, float* flags,
                        u32 accumulate, float bound, u32 n) {
    __shared__ AdjointMemory<ADJOINT_THREADS> memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT, before += (size_t)e * OBS;

    // A row of zeros is a state that left physics: no function of anything. A reset cuts what comes after it.
    float seen = 0.f;
    for (int i = lane; i < OBS; i += LANES) seen += before[i] != 0.f ? 1.f : 0.f;
    bool gone = env_sum(seen) == 0.f, cut = gone || done[e] != 0.f;
    auto from = [&](const float* x, bool none, int width, int i) { return x && !none ? x[(size_t)e * width + i] : 0.f; };
    auto observed = [&](int i) { return from(obs_bar, cut, OBS, i) + from(before_bar, gone, OBS, i); };
    StateBar t = {};
    t.s.p = v3(from(q_bar, cut, NQ, 0), from(q_bar, cut, NQ, 1), from(q_bar, cut, NQ, 2));
    t.s.r.v = v3(from(q_bar, cut, NQ, 3), from(q_bar, cut, NQ, 4), from(q_bar, cut, NQ, 5));
    t.s.r.w = from(q_bar, cut, NQ, 6);
    t.s.omega = v3(from(qd_bar, cut, NQD, 0), from(qd_bar, cut, NQD, 1), from(qd_bar, cut, NQD, 2));
    t.s.v = v3(from(qd_bar, cut, NQD, 3), from(qd_bar, cut, NQD, 4), from(qd_bar, cut, NQD, 5));
    float reward = from(reward_bar, gone, 1, 0), root_obs[13];
    float raw[SLOTS_QD], actuation[SLOTS_QD], act_bar[SLOTS_QD];
#pragma unroll
    for (int i = 0; i < 13; i++) root_obs[i] = observed(root_entry(i));
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d) - 6;
        raw[d] = actuation[d] = act_bar[d] = 0.f;
        if (!owned(k)) continue;
        raw[d] = action[k];
        float act = raw[d] < -1.f ? -1.f : (1.f < raw[d] ? 1.f : raw[d]);
        actuation[d] = act * ACTION_SCALE;
        act_bar[d] = 2.f * ACTION_PENALTY * reward * act + (ACTION_IN_OBS ? observed(13 + 2 * HINGES + k) : 0.f);
        t.s.q[d] = from(q_bar, cut, NQ, 7 + k) + observed(11 + k);
        t.s.qd[d] = from(qd_bar, cut, NQD, 6 + k) + JOINT_VEL_SCALE * observed(11 + HINGES + k);
    }

    // Forward once more, keeping states and accelerations.
    State s = load_state(q, qd, lane);
    Kept kept;
    step_keeping(memory, lane, s, actuation, kept);
    observe_root_adjoint(s, root_obs, t.s);
    step_adjoint(memory, lane, actuation, kept, s, t);
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        float bar = fmaf(t.actuation[d], ACTION_SCALE, act_bar[d]), size = fabsf(raw[d]);
        act_bar[d] = size < 1.f ? bar : (size <= 1.f ? (1.f - TIE) * bar : 0.f);
    }

    // The bound: by the largest first, as squares of large numbers overflow. The root counts once.
    float own[3 * SLOTS_QD], root[13] = {t.s.p.x, t.s.p.y, t.s.p.z, t.s.r.v.x, t.s.r.v.y, t.s.r.v.z, t.s.r.w,
                                      t.s.omega.x, t.s.omega.y, t.s.omega.z, t.s.v.x, t.s.v.y, t.s.v.z};
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) own[d] = t.s.q[d], own[SLOTS_QD + d] = t.s.qd[d], own[2 * SLOTS_QD + d] = act_bar[d];
    float largest = 0.f, lost = 0.f, sum = 0.f;
    auto look = [&](float x) {
        lost = finite(x) ? lost : 1.f;
        largest = largest < fabsf(x) ? fabsf(x) : largest;
    };
    for (int i = 0; i < 13; i++) look(root[i]);
    for (int i = 0; i < 3 * SLOTS_QD; i++) look(own[i]);
    largest = env_max(largest);
    lost = env_sum(lost);
    float scale = largest > 0.f ? largest : 1.f;
    for (int i = 0; i < 13; i++) sum += lane == 0 ? (root[i] / scale) * (root[i] / scale) : 0.f;
    for (int i = 0; i < 3 * SLOTS_QD; i++) sum += (own[i] / scale) * (own[i] / scale);
    float length = sqrtf(env_sum(sum)), flag = lost != 0.f ? 2.f : (largest * length <= bound ? 0.f : 1.f);
    auto bounded = [&](float x) { return flag == 0.f ? x : (flag == 1.f ? x / scale * (bound / length) : 0.f); };

    if (index >= n) return;
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d) - 6;
        if (!owned(k)) continue;
        if (to_action) put(to_action + (size_t)e * ACT + k, bounded(act_bar[d]), accumulate & 1);
        if (to_q) put(to_q + (size_t)e * NQ + 7 + k, bounded(t.s.q[d]), accumulate & 2);
        if (to_qd) put(to_qd + (size_t)e * NQD + 6 + k, bounded(t.s.qd[d]), accumulate & 4);
    }
    for (int i = lane; i < OBS && to_obs; i += LANES) {
        float entry = i == 0 || i == 5 || i == root_entry(12) ? reward : (i == root_entry(11) ? UP_SCALE * reward : 0.f);
        put(to_obs + (size_t)e * OBS + i, entry, accumulate & 8);
    }
    if (lane != 0) return;
    for (int i = 0; i < 7 && to_q; i++) put(to_q + (size_t)e * NQ + i, bounded(root[i]), accumulate & 2);
    for (int i = 0; i < 6 && to_qd; i++) put(to_qd + (size_t)e * NQD + i, bounded(root[7 + i]), accumulate & 4);
    flags[e] = flag;
}
