// One substep of semi-implicit Euler and its adjoint: forces, solve, integration. Mathematics: src/sim/step.rs.
#pragma once
#include "sim/chains_mass_matrix.cuh"

DEVICE void forces(const Constants& c, int lane, const State& s, const float (&actuation)[DEPTH], float ground, Frame& f) {
    Body& root = f.root;
    root.p = s.p;
    root.q = s.r;
    root.rot = matrix(s.r);
    root.v = {s.omega, s.v};
    root.a = s6_zero();
    place(root, root_inertial());
    bias(root, root_inertial());
    // The threads share out the root's contact points.
    S6 ground_force = s6_zero();
#pragma unroll
    for (int first = 0; first < ROOT_POINTS; first += LANES) {
        int i = first + lane;
        const float* k = c.root[i < ROOT_POINTS ? i : first];
        S6 one = contact(root, v3(k), k[RADIUS], k[STIFFNESS], k[CONTACT_DAMPING], k[VISCOSITY], k[FRICTION], ground);
        ground_force = ground_force + (i < ROOT_POINTS ? one : s6_zero());
    }
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        const Body& parent = d == 0 ? root : f.body[d == 0 ? 0 : d - 1];
        Body& b = f.body[d];
        V3 hinge = v3(OF(AXIS), OF(AXIS + 1), OF(AXIS + 2));
        b.p = mul_add(parent.rot, v3(OF(POSITION), OF(POSITION + 1), OF(POSITION + 2)), parent.p);
        V3 ang = mul(parent.rot, hinge);
        f.axis[d] = {ang, cross(b.p, ang)};
        S6 rate = f.axis[d] * s.qd[d];
        b.v = parent.v + rate;
        b.a = parent.a + cross_motion(b.v, rate);
        b.q = parent.q * about(hinge, s.q[d]);
        b.rot = matrix(b.q);
        f.inertial[d] = {OF(MASS), v3(OF(COM), OF(COM + 1), OF(COM + 2)),
                         {{v3(OF(INERTIA), OF(INERTIA + 1), OF(INERTIA + 2)),
                           v3(OF(INERTIA + 3), OF(INERTIA + 4), OF(INERTIA + 5)),
                           v3(OF(INERTIA + 6), OF(INERTIA + 7), OF(INERTIA + 8))}}};
        place(b, f.inertial[d]);
        bias(b, f.inertial[d]);
        S6 sum = s6_zero();
#pragma unroll
        for (int i = 0; i < POINTS; i++)
            sum = sum + contact(b, v3(AT(POINT), AT(POINT + 1), AT(POINT + 2)), AT(RADIUS), AT(STIFFNESS),
                                AT(CONTACT_DAMPING), AT(VISCOSITY), AT(FRICTION), ground);
        b.f = b.f + sum;
    }
    // A barrier without an exchange: the compiler does not schedule across it, and so keeps fewer numbers alive at
    // once.
    __syncwarp();
    // Joint forces, leaves to root.
    S6 total = s6_zero();
#pragma unroll
    for (int d = DEPTH - 1; d >= 0; d--) {
        total = f.body[d].f + total;
        f.total[d] = total;
        float x = s.q[d], lower = OF(LOWER), upper = OF(UPPER);
        float bound = x < lower ? lower : (upper < x ? upper : x);
        float passive = OF(LIMIT_STIFFNESS) * (bound - x) - OF(DRIVE_STIFFNESS) * (x - OF(TARGET)) - OF(DAMPING) * s.qd[d];
        f.tau[d] = actuation[d] + passive - dot(f.axis[d], total);
        f.armature[d] = OF(ARMATURE);
    }
    total = root.f + env_sum(total + ground_force);
#pragma unroll
    for (int k = 0; k < 6; k++) f.b[k] = -part(total, k);
}

// Velocities first, then positions with the new velocities.
DEVICE void integrate(State& s, const float (&qdd)[DEPTH], const float (&b)[6]) {
    s.omega = scale_add(v3(b[0], b[1], b[2]), H, s.omega);
    s.v = scale_add(v3(b[3], b[4], b[5]), H, s.v);
    s.p = scale_add(cross_add(s.omega, s.p, s.v), H, s.p);
    Q4 spin = Q4{s.omega * (H * 0.5f), 0.f} * s.r;
    s.r = normalised({s.r.v + spin.v, s.r.w + spin.w});
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        s.qd[d] = fmaf(qdd[d], H, s.qd[d]);
        s.q[d] = fmaf(s.qd[d], H, s.q[d]);
    }
}

// One substep of semi-implicit Euler; `rebuild` the factor or keep it.
DEVICE void substep(const Constants& c, int lane, State& s, const float (&actuation)[DEPTH], float ground, bool rebuild,
                    Factor& L) {
    Frame f;
    forces(c, lane, s, actuation, ground, f);
    if (rebuild) mass_matrix(f.root, f.body, f.inertial, f.axis, f.armature, L);
    solve(L, f.tau, f.b);
    integrate(s, f.tau, f.b);
}

// The adjoint. A thread holds the root's cotangents, as all threads of its environment do, and those of its own chain;
// what chains and contact points send to the root is added up over the threads.

// Cotangents of the state, as a thread sees it, and of its chain's actuation; summed over all substeps, of the ground.
struct StateBar {
    State s;
    float actuation[DEPTH], ground;
};

// Adjoint of one substep from `s`, of which `f` holds the forces and (qdd, b) the accelerations.
static __device__ __noinline__ void substep_adjoint(const Constants& c, int lane, const State& s, float ground, bool rebuilt,
                                       const Frame& f, const Factor& L, MassBar& m, const float (&qdd)[DEPTH],
                                       const float (&b)[6], StateBar& to) {
    // Integration.
    State& t = to.s;
    V3 omega = scale_add(v3(b[0], b[1], b[2]), H, s.omega), moved = t.p * H;
    t.p = t.p + cross(moved, omega);
    Q4 a = {omega * (0.5f * H), 0.f}, sum = s.r + a * s.r, sum_bar = normalised_adjoint(sum, t.r);
    t.r = sum_bar + conj(a) * sum_bar;
    t.omega = t.omega + scale_add((sum_bar * conj(s.r)).v, 0.5f * H, cross(s.p, moved));
    t.v = t.v + moved;
    // Solve: forces' cotangents, and the mass matrix'.
    float x[DEPTH], y[6] = {t.omega.x * H, t.omega.y * H, t.omega.z * H, t.v.x * H, t.v.y * H, t.v.z * H};
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        t.qd[d] = fmaf(t.q[d], H, t.qd[d]);
        x[d] = t.qd[d] * H;
    }
    solve(L, x, y);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
#pragma unroll
        for (int k = 0; k < 6; k++) m.root[d][k] -= fmaf(x[d], b[k], qdd[d] * y[k]);
#pragma unroll
        for (int e = 0; e < d; e++) m.chain[d][e] -= fmaf(x[d], qdd[e], qdd[d] * x[e]);
        m.chain[d][d] -= x[d] * qdd[d];
    }
#pragma unroll
    for (int i = 0; i < 6; i++) {
#pragma unroll
        for (int k = 0; k < i; k++) m.base[i][k] -= fmaf(y[i], b[k], b[i] * y[k]);
        m.base[i][i] -= y[i] * b[i];
    }
    // Joint forces, root to leaves: a wrench meets every joint between its body and the root.
    Bar root = bar_zero(), bar[DEPTH];
    S6 axis_bar[DEPTH], twist = s6_zero() - s6(y), root_twist = twist;
#pragma unroll 1
    for (int d = 0; d < DEPTH; d++) {
        twist = twist + f.axis[d] * -x[d];
        bar[d] = bar_zero();
        bar[d].f = twist;
        axis_bar[d] = f.total[d] * -x[d];
        float at = s.q[d], lower = OF(LOWER), upper = OF(UPPER);
        bool outside = at < lower || upper < at, beyond = at <= lower || upper <= at;
        float stiffness = OF(DRIVE_STIFFNESS) + (outside ? 1.f : (beyond ? TIE : 0.f)) * OF(LIMIT_STIFFNESS);
        t.q[d] = fmaf(stiffness, -x[d], t.q[d]);
        t.qd[d] = fmaf(OF(DAMPING), -x[d], t.qd[d]);
        to.actuation[d] += x[d];
    }
    Bar own = bar_zero();
    if (rebuilt) {
        mass_matrix_adjoint(f, m, own, bar, axis_bar);
        m = MassBar{};
    }
    // Bodies from leaves to root.
    float ground_bar = 0.f;
#pragma unroll 1
    for (int d = DEPTH - 1; d >= 0; d--) {
        const Body& body = f.body[d];
        const Body& parent = d == 0 ? f.root : f.body[d == 0 ? 0 : d - 1];
        Bar& k = bar[d];
#pragma unroll 1
        for (int i = 0; i < POINTS; i++)
            contact_adjoint(body, v3(AT(POINT), AT(POINT + 1), AT(POINT + 2)), AT(RADIUS), AT(STIFFNESS),
                            AT(CONTACT_DAMPING), AT(VISCOSITY), AT(FRICTION), ground, k.f, k, ground_bar);
        bias_adjoint(body, f.inertial[d], k);
        // Kinematics: V = V_p + S qd, A = A_p + V x S qd.
        V3 hinge = v3(OF(AXIS), OF(AXIS + 1), OF(AXIS + 2));
        S6 axis = f.axis[d], v_bar = k.v + cross_force(axis * s.qd[d], k.a), rate_bar = v_bar - cross_force(body.v, k.a);
        t.qd[d] += dot(axis, rate_bar);
        S6 of_axis = rate_bar * s.qd[d] + axis_bar[d];
        Q4 q_bar = k.q + matrix_adjoint(body.q, k.rot), turn = about(hinge, s.q[d]), turn_bar = conj(parent.q) * q_bar;
        t.q[d] += 0.5f * (turn.w * dot(turn_bar.v, hinge) - dot(turn.v, hinge) * turn_bar.w);
        V3 p_bar = k.p + cross(axis.a, of_axis.l);
        Bar& p = d == 0 ? root : bar[d == 0 ? 0 : d - 1];
        p.p = p.p + p_bar;
        p.q = p.q + q_bar * conj(turn);
        add_outer(p.rot, cross_add(of_axis.l, body.p, of_axis.a), hinge);
        add_outer(p.rot, p_bar, v3(OF(POSITION), OF(POSITION + 1), OF(POSITION + 2)));
        p.v = p.v + v_bar;
        p.a = p.a + k.a;
    }
    // What each thread knows of the root: its chain's part and that of the contact points it computes.
#pragma unroll 1
    for (int i = lane; i < ROOT_POINTS; i += LANES) {
        const float* k = c.root[i];
        contact_adjoint(f.root, v3(k), k[RADIUS], k[STIFFNESS], k[CONTACT_DAMPING], k[VISCOSITY], k[FRICTION], ground,
                        root_twist, root, ground_bar);
    }
    to.ground += ground_bar;
    own.p = own.p + env_sum(root.p);
    own.q = own.q + Q4{env_sum(root.q.v), env_sum(root.q.w)};
    own.rot = own.rot + env_sum(root.rot);
    own.v = own.v + env_sum(root.v);
    own.f = root_twist;
    bias_adjoint(f.root, root_inertial(), own);
    t.r = t.r + own.q + matrix_adjoint(f.root.q, own.rot);
    t.p = t.p + own.p;
    t.omega = t.omega + own.v.a;
    t.v = t.v + own.v.l;
}
