// One environment step: 16 substeps of the dynamics, observation, reward, termination; and its adjoint. State, bodies,
// mass matrix and its factor stay in registers from the first substep to the last.
#include "sim/observe.cuh"
#include "sim/substep.cuh"

// Dynamics, observation, reward and flags. `evaluate`: environments that are not alive stay as they are.
DEVICE void env_step(const float* action, float* q, float* qd, float* obs, u32* progress, const float* alive,
                     float* before, float* reward, float* done, float* terminated, u32 evaluate, u32 n) {
    __shared__ Constants c;
    load_constants(c);
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    bool live = index < n && !(evaluate && alive[e] == 0.f);
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT, obs += (size_t)e * OBS;
    before += (size_t)e * OBS;
    State s = load(q, qd, lane);
    float act[DEPTH], actuation[DEPTH], squares = 0.f;
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        float a = action[lane * DEPTH + d];
        act[d] = a < -1.f ? -1.f : (1.f < a ? 1.f : a);
        actuation[d] = act[d] * ACTION_SCALE;
        squares = fmaf(act[d], act[d], squares);
    }
    // The reward is that of the observation before the step.
    float r = obs[5] + UP_SCALE * obs[root_entry(11)] + obs[root_entry(12)] + (obs[0] - TERMINATION_HEIGHT) +
              ACTION_PENALTY * over_chains(squares);
    V3 origin = ABOUT_TORSO ? s.p : v3(0.f, 0.f, 0.f);
    shift_state(s, origin);
    Factor L;
    for (int k = 0; k < SUBSTEPS; k++) substep(c, lane, s, actuation, -origin.y, k % REBUILD_EVERY == 0, L);
    shift_state(s, -origin);
    float o[13];
    observe_root(s, o);
    bool sane = finite(r);
#pragma unroll
    for (int i = 0; i < 13; i++) sane = sane && fabsf(o[i]) < 1e6f;
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
        sane = sane && fabsf(s.q[d]) < 1e6f && fabsf(JOINT_VEL_SCALE * s.qd[d]) < 1e6f && (!ACTION_IN_OBS || finite(act[d]));
    sane = over_chains(sane ? 0.f : 1.f) == 0.f;
    // Everyone has read the old observation before it is overwritten.
    __syncwarp();
    if (!live) return;
    bool fallen = !sane || (EARLY_TERMINATION && o[0] < TERMINATION_HEIGHT);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        int k = lane * DEPTH + d;
        q[7 + k] = s.q[d];
        qd[6 + k] = s.qd[d];
        float values[3] = {s.q[d], JOINT_VEL_SCALE * s.qd[d], ACTION_IN_OBS ? act[d] : 0.f};
        int places[3] = {11 + k, 11 + HINGES + k, 13 + 2 * HINGES + k};
#pragma unroll
        for (int i = 0; i < 3; i++) before[places[i]] = obs[places[i]] = sane ? values[i] : 0.f;
    }
    if (lane != 0) return;
    q[0] = s.p.x, q[1] = s.p.y, q[2] = s.p.z, q[3] = s.r.v.x, q[4] = s.r.v.y, q[5] = s.r.v.z, q[6] = s.r.w;
    qd[0] = s.omega.x, qd[1] = s.omega.y, qd[2] = s.omega.z, qd[3] = s.v.x, qd[4] = s.v.y, qd[5] = s.v.z;
#pragma unroll
    for (int i = 0; i < 13; i++) before[root_entry(i)] = obs[root_entry(i)] = sane ? o[i] : 0.f;
    u32 steps = progress[e] + 1;
    progress[e] = steps;
    reward[e] = sane ? r : 0.f;
    terminated[e] = fallen ? 1.f : 0.f;
    // 2 marks a blown-up state until the books are kept.
    done[e] = !sane ? 2.f : (fallen || steps + 1 > EPISODE_LENGTH ? 1.f : 0.f);
}

constexpr int ADJOINT_THREADS = 32;

// Adjoint of env_step at the state (q, qd) before it, `before` and `done` of what it gave. Cotangents that are null are
// zero, results that are null are not wanted; bits of `accumulate`: add to action, q, qd, obs. The gradient of an
// environment that is longer than `bound` is scaled down (flag 1), one that is not finite becomes zero (flag 2).
DEVICE void env_adjoint(const float* action, const float* q, const float* qd, const float* before, const float* done,
                        const float* q_bar, const float* qd_bar, const float* obs_bar, const float* before_bar,
                        const float* reward_bar, float* to_action, float* to_q, float* to_qd, float* to_obs, float* flags,
                        u32 accumulate, float bound, u32 n) {
    __shared__ Constants c;
    // On chip, but not in registers: there would not be enough.
    __shared__ Frame frames[ADJOINT_THREADS];
    __shared__ Factor factors[ADJOINT_THREADS];
    __shared__ MassBar masses[ADJOINT_THREADS];
    load_constants(c);
    Frame& f = frames[threadIdx.x];
    Factor& L = factors[threadIdx.x];
    MassBar& mass = masses[threadIdx.x];
    mass = MassBar{};
    u32 index = ELEMENT / LANES, e = index < n ? index : n - 1;
    int lane = threadIdx.x % LANES;
    q += (size_t)e * NQ, qd += (size_t)e * NQD, action += (size_t)e * ACT, before += (size_t)e * OBS;

    // A row of zeros is a state that left physics: no function of anything. A reset cuts what comes after it.
    float seen = 0.f;
    for (int i = lane; i < OBS; i += LANES) seen += before[i] != 0.f ? 1.f : 0.f;
    bool gone = over_chains(seen) == 0.f, cut = gone || done[e] != 0.f;
    auto from = [&](const float* x, bool none, int width, int i) { return x && !none ? x[(size_t)e * width + i] : 0.f; };
    auto observed = [&](int i) { return from(obs_bar, cut, OBS, i) + from(before_bar, gone, OBS, i); };
    StateBar t = {};
    t.s.p = v3(from(q_bar, cut, NQ, 0), from(q_bar, cut, NQ, 1), from(q_bar, cut, NQ, 2));
    t.s.r.v = v3(from(q_bar, cut, NQ, 3), from(q_bar, cut, NQ, 4), from(q_bar, cut, NQ, 5));
    t.s.r.w = from(q_bar, cut, NQ, 6);
    t.s.omega = v3(from(qd_bar, cut, NQD, 0), from(qd_bar, cut, NQD, 1), from(qd_bar, cut, NQD, 2));
    t.s.v = v3(from(qd_bar, cut, NQD, 3), from(qd_bar, cut, NQD, 4), from(qd_bar, cut, NQD, 5));
    float reward = from(reward_bar, gone, 1, 0), root_obs[13];
    float raw[DEPTH], actuation[DEPTH], act_bar[DEPTH];
#pragma unroll
    for (int i = 0; i < 13; i++) root_obs[i] = observed(root_entry(i));
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        int k = lane * DEPTH + d;
        raw[d] = action[k];
        float act = raw[d] < -1.f ? -1.f : (1.f < raw[d] ? 1.f : raw[d]);
        actuation[d] = act * ACTION_SCALE;
        act_bar[d] = 2.f * ACTION_PENALTY * reward * act + (ACTION_IN_OBS ? observed(13 + 2 * HINGES + k) : 0.f);
        t.s.q[d] = from(q_bar, cut, NQ, 7 + k) + observed(11 + k);
        t.s.qd[d] = from(qd_bar, cut, NQD, 6 + k) + JOINT_VEL_SCALE * observed(11 + HINGES + k);
    }

    // Forward once more, keeping states and accelerations.
    State s = load(q, qd, lane), kept[SUBSTEPS];
    float accelerations[SUBSTEPS][DEPTH], root_accelerations[SUBSTEPS][6];
    V3 origin = ABOUT_TORSO ? s.p : v3(0.f, 0.f, 0.f), omega = s.omega;
    shift_state(s, origin);
#pragma unroll 1
    for (int k = 0; k < SUBSTEPS; k++) {
        kept[k] = s;
        forces_again(c, lane, s, actuation, -origin.y, f);
        if (k % REBUILD_EVERY == 0) mass_matrix_again(f, L);
        solve(L, f.tau, f.b);
        for (int d = 0; d < DEPTH; d++) accelerations[k][d] = f.tau[d];
        for (int i = 0; i < 6; i++) root_accelerations[k][i] = f.b[i];
        integrate(s, f.tau, f.b);
    }
    V3 last = s.omega, moved = v3(0.f, 0.f, 0.f);
    shift_state(s, -origin);
    observe_root_adjoint(s, root_obs, t.s);
    if (ABOUT_TORSO) {
        // p' = p1' + o, v' = v1' - omega' x o.
        moved = t.s.p + cross(last, t.s.v);
        t.s.omega = t.s.omega - cross(origin, t.s.v);
    }
    int built = (SUBSTEPS - 1) / REBUILD_EVERY * REBUILD_EVERY;
#pragma unroll 1
    for (int k = SUBSTEPS - 1; k >= 0; k--) {
        int first = k / REBUILD_EVERY * REBUILD_EVERY;
        if (first != built) {
            forces_again(c, lane, kept[first], actuation, -origin.y, f);
            mass_matrix_again(f, L);
            built = first;
        }
        forces_again(c, lane, kept[k], actuation, -origin.y, f);
        substep_adjoint(c, lane, kept[k], -origin.y, first == k, f, L, mass, accelerations[k], root_accelerations[k], t);
    }
    if (ABOUT_TORSO) {
        // p1 = p - o, v1 = v + omega x o, the ground at -o.y, and o = p.
        t.s.omega = t.s.omega + cross(origin, t.s.v);
        moved = moved + cross(t.s.v, omega);
        moved.y -= over_chains(t.ground);
        t.s.p = moved;
    }
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        float bar = fmaf(t.actuation[d], ACTION_SCALE, act_bar[d]), size = fabsf(raw[d]);
        act_bar[d] = size < 1.f ? bar : (size <= 1.f ? (1.f - TIE) * bar : 0.f);
    }

    // The bound: by the largest first, as squares of large numbers overflow. The root counts once.
    float own[3 * DEPTH], root[13] = {t.s.p.x, t.s.p.y, t.s.p.z, t.s.r.v.x, t.s.r.v.y, t.s.r.v.z, t.s.r.w,
                                      t.s.omega.x, t.s.omega.y, t.s.omega.z, t.s.v.x, t.s.v.y, t.s.v.z};
#pragma unroll
    for (int d = 0; d < DEPTH; d++) own[d] = t.s.q[d], own[DEPTH + d] = t.s.qd[d], own[2 * DEPTH + d] = act_bar[d];
    float largest = 0.f, lost = 0.f, sum = 0.f;
    auto look = [&](float x) {
        lost = finite(x) ? lost : 1.f;
        largest = largest < fabsf(x) ? fabsf(x) : largest;
    };
    for (int i = 0; i < 13; i++) look(root[i]);
    for (int i = 0; i < 3 * DEPTH; i++) look(own[i]);
    largest = largest_over_chains(largest);
    lost = over_chains(lost);
    float scale = largest > 0.f ? largest : 1.f;
    for (int i = 0; i < 13; i++) sum += lane == 0 ? (root[i] / scale) * (root[i] / scale) : 0.f;
    for (int i = 0; i < 3 * DEPTH; i++) sum += (own[i] / scale) * (own[i] / scale);
    float length = sqrtf(over_chains(sum)), flag = lost != 0.f ? 2.f : (largest * length <= bound ? 0.f : 1.f);
    auto bounded = [&](float x) { return flag == 0.f ? x : (flag == 1.f ? x / scale * (bound / length) : 0.f); };

    if (index >= n) return;
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        int k = lane * DEPTH + d;
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
