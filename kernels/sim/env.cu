// One environment step: substeps of the dynamics, observation, reward, termination; and its adjoint. sim/step.cuh lays
// the robot over the threads. What it shows and earns is computed by functions of `task.cuh`, which the program writes
// (src/env/formulas.rs). Threads call them for the coordinates, dofs and entries of the action that they own:
//
// | functions | |
// |---|---|
// | clip(a), clip_adjoint(a, bar) | of an entry of the action |
// | add_square(a, sum) | the squares of the clipped action, which the reward may cost |
// | observe_coordinate(k, q, put), observe_dof, observe_action, observe_root(s, put) | `put(i, x)` for every entry |
// | observe_coordinate_adjoint(k, bar, sum), ... | `sum` with the cotangents `bar(i)` of those entries |
// | observe_coordinate_curved_adjoint(k, q, bar, sum) | of those whose derivative depends on the coordinate |
// | observe_root_adjoint(s, bar, t) | adds to the cotangents `t` of the root |
// | reward_of(obs, squares) | the reward for an observation and the action on it |
// | reward_adjoint(k, bar, obs) | the cotangent of entry k; `obs` is read if the derivative depends on it |
// | reward_action_adjoint(a, bar, sum) | `sum` with the cotangent of an entry of the clipped action |
#include "sim/drive.cuh"
#include "task.cuh"

// Dynamics, observation, reward and flags. `evaluate`: environments that are not alive stay as they are.
DEVICE void env_step(const float* action, float* q, float* qd, float* obs, u32* progress, const float* alive,
                     float* before, float* reward, float* done, float* terminated, u32 evaluate, u32 n) {
    __shared__ StepMemory memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    bool live = index < n && !(evaluate && alive[e] == 0.f);
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT_WIDTH, obs += (size_t)e * OBS_WIDTH;
    before += (size_t)e * OBS_WIDTH;
    State s = load_state(q, qd, lane);
    float act[SLOTS_QD], actuation[SLOTS_QD], squares = 0.f;
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int i = action_of(dof(lane, d));
        act[d] = actuation[d] = 0.f;
        if (!driven(i)) continue;
        act[d] = clip(action[i]);
        actuation[d] = act[d] * gain(i);
        squares = add_square(act[d], squares);
    }
    // The reward is that of the observation before the step.
    float r = reward_of(obs, env_sum(squares));
    step(memory, lane, s, actuation);
    // A thread that sees a state that left physics adds 64, one that sees the entry below its bound adds 1: there are
    // at most 32 threads, so the sum tells which it was.
    bool sane = finite(r), low = false;
    auto look = [&](int i, float x) {
        sane = sane && fabsf(x) < BLOWN_UP;
        low = low || (TERMINATES && i == TERMINATION_ENTRY && x < TERMINATION_BELOW);
    };
    if (FREE_ROOT) observe_root(s, look);
#pragma unroll
    for (int d = 0; d < SLOTS_Q; d++)
        if (owned(coordinate(lane, d))) observe_coordinate(coordinate(lane, d), s.q[d], look);
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        if (owned(dof(lane, d))) observe_dof(dof(lane, d), s.qd[d], look);
        if (driven(action_of(dof(lane, d)))) observe_action(action_of(dof(lane, d)), act[d], look);
    }
    float verdict = env_sum(sane ? (low ? 1.f : 0.f) : 64.f);
    sane = verdict < 64.f;
    // All threads have read the old observation before it is overwritten.
    __syncwarp();
    if (!live) return;
    bool fallen = verdict > 0.f;
    auto put = [&](int i, float x) { before[i] = obs[i] = sane ? x : 0.f; };
#pragma unroll
    for (int d = 0; d < SLOTS_Q; d++)
        if (owned(coordinate(lane, d))) {
            q[coordinate(lane, d)] = s.q[d];
            observe_coordinate(coordinate(lane, d), s.q[d], put);
        }
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        if (owned(dof(lane, d))) {
            qd[dof(lane, d)] = s.qd[d];
            observe_dof(dof(lane, d), s.qd[d], put);
        }
        if (driven(action_of(dof(lane, d)))) observe_action(action_of(dof(lane, d)), act[d], put);
    }
    for (int i = OBS + lane; i < OBS_WIDTH; i += LANES) before[i] = obs[i] = 0.f;
    if (lane != 0) return;
    if (FREE_ROOT) {
        store_root(s, q, qd);
        observe_root(s, put);
    }
    u32 steps = progress[e] + 1;
    progress[e] = steps;
    reward[e] = sane ? r : 0.f;
    terminated[e] = fallen ? 1.f : 0.f;
    // 2 marks a blown-up state until its episode is ended.
    done[e] = !sane ? 2.f : (fallen || steps + 1 > EPISODE_LENGTH ? 1.f : 0.f);
}

// Adjoint of env_step at the state (q, qd) before it, `before` and `done` of what it gave; `seen` is the observation
// before the step, read if the reward's derivative depends on it. Cotangents that are null are zero, results that are
// null are not wanted; bits of `accumulate`: add to action, q, qd, obs. The gradient of an environment that is longer than `bound` is scaled
// down (flag 1), one that is not finite becomes zero (flag 2).
DEVICE void env_adjoint(const float* action, const float* q, const float* qd, const float* before, const float* done,
                        const float* seen, const float* q_bar, const float* qd_bar, const float* obs_bar,
                        const float* before_bar, const float* reward_bar, float* to_action, float* to_q, float* to_qd,
                        float* to_obs, float* flags, u32 accumulate, float bound, u32 n) {
    __shared__ AdjointMemory<ADJOINT_THREADS> memory;
    begin(memory);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT_WIDTH, before += (size_t)e * OBS_WIDTH;

    // A row of zeros is a state that left physics: no gradient flows through it. A reset cuts the gradient of what
    // comes after it.
    float there = 0.f;
    for (int i = lane; i < OBS; i += LANES) there += before[i] != 0.f ? 1.f : 0.f;
    bool gone = env_sum(there) == 0.f, cut = gone || done[e] != 0.f;
    auto from = [&](const float* x, bool none, int width, int i) { return x && !none ? x[(size_t)e * width + i] : 0.f; };
    auto observed = [&](int i) { return from(obs_bar, cut, OBS_WIDTH, i) + from(before_bar, gone, OBS_WIDTH, i); };
    StateBar t = {};
    if (FREE_ROOT) {
        t.s.p = v3(from(q_bar, cut, NQ, 0), from(q_bar, cut, NQ, 1), from(q_bar, cut, NQ, 2));
        t.s.r.v = v3(from(q_bar, cut, NQ, 3), from(q_bar, cut, NQ, 4), from(q_bar, cut, NQ, 5));
        t.s.r.w = from(q_bar, cut, NQ, 6);
        t.s.omega = v3(from(qd_bar, cut, NQD, 0), from(qd_bar, cut, NQD, 1), from(qd_bar, cut, NQD, 2));
        t.s.v = v3(from(qd_bar, cut, NQD, 3), from(qd_bar, cut, NQD, 4), from(qd_bar, cut, NQD, 5));
    }
    float reward = from(reward_bar, gone, 1, 0);
    float raw[SLOTS_QD], actuation[SLOTS_QD], act_bar[SLOTS_QD];
#pragma unroll
    for (int d = 0; d < SLOTS_Q; d++) {
        int k = coordinate(lane, d);
        if (owned(k)) t.s.q[d] = observe_coordinate_adjoint(k, observed, from(q_bar, cut, NQ, k));
    }
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d), i = action_of(k);
        raw[d] = actuation[d] = act_bar[d] = 0.f;
        if (owned(k)) t.s.qd[d] = observe_dof_adjoint(k, observed, from(qd_bar, cut, NQD, k));
        if (!driven(i)) continue;
        raw[d] = action[i];
        float act = clip(raw[d]);
        actuation[d] = act * gain(i);
        act_bar[d] = observe_action_adjoint(i, observed, reward_action_adjoint(act, reward, 0.f));
    }

    // Forward once more, keeping states and accelerations.
    State before_step = load_state(q, qd, lane), s = before_step;
    Kept kept;
    step_keeping(memory, lane, s, actuation, kept);
    if (FREE_ROOT) observe_root_adjoint(s, observed, t.s);
#pragma unroll
    for (int d = 0; d < SLOTS_Q; d++) {
        int k = coordinate(lane, d);
        if (owned(k)) t.s.q[d] = observe_coordinate_curved_adjoint(k, s.q[d], observed, t.s.q[d]);
    }
    step_adjoint(memory, lane, actuation, kept, before_step, s, t);
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int i = action_of(dof(lane, d));
        if (driven(i)) act_bar[d] = clip_adjoint(raw[d], fmaf(t.actuation[d], gain(i), act_bar[d]));
    }

    // The bound: by the largest first, as squares of large numbers overflow. The root counts once.
    float root[13] = {t.s.p.x, t.s.p.y, t.s.p.z, t.s.r.v.x, t.s.r.v.y, t.s.r.v.z, t.s.r.w,
                      t.s.omega.x, t.s.omega.y, t.s.omega.z, t.s.v.x, t.s.v.y, t.s.v.z};
    float largest = 0.f, lost = 0.f, sum = 0.f;
    auto each = [&](auto visit) {
#pragma unroll
        for (int d = 0; d < SLOTS_Q; d++) visit(t.s.q[d]);
#pragma unroll
        for (int d = 0; d < SLOTS_QD; d++) visit(t.s.qd[d]);
#pragma unroll
        for (int d = 0; d < SLOTS_QD; d++) visit(act_bar[d]);
    };
    auto look = [&](float x) {
        lost = finite(x) ? lost : 1.f;
        largest = largest < fabsf(x) ? fabsf(x) : largest;
    };
    for (int i = 0; i < 13 && FREE_ROOT; i++) look(root[i]);
    each(look);
    largest = env_max(largest);
    lost = env_sum(lost);
    float scale = largest > 0.f ? largest : 1.f;
    for (int i = 0; i < 13 && FREE_ROOT; i++) sum += lane == 0 ? (root[i] / scale) * (root[i] / scale) : 0.f;
    each([&](float x) { sum += (x / scale) * (x / scale); });
    float length = sqrtf(env_sum(sum)), flag = lost != 0.f ? 2.f : (largest * length <= bound ? 0.f : 1.f);
    auto bounded = [&](float x) { return flag == 0.f ? x : (flag == 1.f ? x / scale * (bound / length) : 0.f); };

    if (index >= n) return;
#pragma unroll
    for (int d = 0; d < SLOTS_Q; d++) {
        int k = coordinate(lane, d);
        if (to_q && owned(k)) put(to_q + (size_t)e * NQ + k, bounded(t.s.q[d]), accumulate & 2);
    }
#pragma unroll
    for (int d = 0; d < SLOTS_QD; d++) {
        int k = dof(lane, d), i = action_of(k);
        if (to_qd && owned(k)) put(to_qd + (size_t)e * NQD + k, bounded(t.s.qd[d]), accumulate & 4);
        if (to_action && driven(i)) put(to_action + (size_t)e * ACT_WIDTH + i, bounded(act_bar[d]), accumulate & 1);
    }
    for (int i = ACT + lane; i < ACT_WIDTH && to_action; i += LANES)
        put(to_action + (size_t)e * ACT_WIDTH + i, 0.f, accumulate & 1);
#pragma unroll 1
    for (int i = lane; i < OBS_WIDTH && to_obs; i += LANES)
        put(to_obs + (size_t)e * OBS_WIDTH + i, i < OBS ? reward_adjoint(i, reward, seen + (size_t)e * OBS_WIDTH) : 0.f,
            accumulate & 8);
    if (lane != 0) return;
    for (int i = 0; i < 7 && to_q && FREE_ROOT; i++) put(to_q + (size_t)e * NQ + i, bounded(root[i]), accumulate & 2);
    for (int i = 0; i < 6 && to_qd && FREE_ROOT; i++) put(to_qd + (size_t)e * NQD + i, bounded(root[7 + i]), accumulate & 4);
    flags[e] = flag;
}
