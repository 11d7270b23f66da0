// One environment step: 16 substeps of the dynamics, observation, reward, termination, reset; and its adjoint.
// Mathematics: src/sim.
//
// The robot is a free body with LANES equal chains of DEPTH hinged bodies, and one thread carries one chain: LANES
// threads are an environment. Each computes the root too, so that only what the chains hand to the root is exchanged
// (wrenches, composite inertias, the solve), by shuffles. State, bodies, mass matrix and its factor stay in registers
// from the first substep to the last; the constants of the chains lie in shared memory. `robot.cuh` is written by
// src/env/cuda.rs from the robot.
#include "common/math.cuh"
#include "common/philox.cuh"
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

// A body in the middle of a substep, world axes, positions relative to the reference point.
struct Body {
    V3 p;
    Q4 q;
    M3 rot;
    V3 com, back;
    S6 v, a, f;
};

struct Inertial {
    float mass;
    V3 com;
    M3 inertia;
};

DEVICE void place(Body& b, const Inertial& c) {
    b.com = mul_add(b.rot, c.com, b.p);
    b.back = -tmul(b.rot, b.com);
}

// Angular part of a twist in body axes, and the momentum G x about the centre of mass.
struct Local {
    V3 ang, torque, force;
};
DEVICE Local local(const Inertial& c, const Body& b, S6 x) {
    V3 ang = tmul(b.rot, x.a), lin = tmul_add(b.rot, x.l, cross(b.back, ang)), force = lin * c.mass;
    return {ang, mul_add(c.inertia, ang, cross(force, b.back)), force};
}
DEVICE S6 turned(const Body& b, const Local& at) { return {mul(b.rot, at.torque), mul(b.rot, at.force)}; }

// G x without forming G.
DEVICE S6 apply_inertia(const Inertial& c, const Body& b, S6 x) { return turned(b, local(c, b, x)); }

DEVICE I6 spatial_inertia(const Inertial& c, const Body& b) {
    M3 turned = transpose(b.rot), lever = skew(b.back);
    M3 inner = c.inertia + mul(lever, lever) * -c.mass;
    return {mul(mul(b.rot, inner), turned), mul(mul(b.rot, lever * -c.mass), turned), mul(b.rot * c.mass, turned)};
}

// The wrench that would leave the body with its velocity-product acceleration.
DEVICE void bias(Body& b, const Inertial& c) {
    V3 weight = v3(GRAVITY_X, GRAVITY_Y, GRAVITY_Z) * c.mass;
    S6 momentum = apply_inertia(c, b, b.v);
    S6 rate = apply_inertia(c, b, b.a) + cross_force(b.v, momentum);
    b.f = rate - S6{cross(b.com, weight), weight};
}

// Minus the wrench of the ground at one point.
DEVICE S6 contact(const Body& b, V3 point, float radius, float stiffness, float damping, float viscosity, float friction,
                  float ground) {
    float height = dot(b.rot.r[1], point) + (b.p.y - radius - ground);
    if (!(height < 0.f)) return s6_zero();
    V3 x = v3(dot(b.rot.r[0], point) + b.p.x, height + ground, dot(b.rot.r[2], point) + b.p.z);
    float depth = -height;
    V3 u = cross_add(b.v.a, x, b.v.l);
    float normal = depth * fmaf(damping, -(u.y < 0.f ? u.y : 0.f), stiffness);
    float square = fmaf(u.x, u.x, u.z * u.z);
    bool sliding = 0.f < square;
    float speed = sqrtf(sliding ? square : 1.f), cap = friction * depth, drag = viscosity * speed;
    float ratio = sliding ? (drag < cap ? drag : cap) / speed : 0.f;
    V3 f = v3(ratio * u.x, -normal, ratio * u.z);
    return {cross(x, f), f};
}

DEVICE Inertial root_inertial() {
    return {ROOT_MASS, v3(ROOT_COM_X, ROOT_COM_Y, ROOT_COM_Z),
            {{v3(ROOT_I00, ROOT_I01, ROOT_I02), v3(ROOT_I10, ROOT_I11, ROOT_I12), v3(ROOT_I20, ROOT_I21, ROOT_I22)}}};
}

// Factor of the mass matrix, H + armature = L^T L: the chain's rows, then the root's lower triangle.
struct Factor {
    float root[DEPTH][6], chain[DEPTH][DEPTH], pivot[DEPTH];
    float base[6][6], base_pivot[6];
};

DEVICE float part(S6 s, int k) {
    return k == 0 ? s.a.x : k == 1 ? s.a.y : k == 2 ? s.a.z : k == 3 ? s.l.x : k == 4 ? s.l.y : s.l.z;
}

// The state of an environment as one of its threads sees it: the root's and its own chain's.
struct State {
    V3 p;
    Q4 r;
    V3 omega, v;
    float q[DEPTH], qd[DEPTH];
};

DEVICE void mass_matrix(const Body& root, const Body (&body)[DEPTH], const Inertial (&c)[DEPTH], const S6 (&axis)[DEPTH],
                        const float (&armature)[DEPTH], Factor& L) {
    I6 composite = {};
#pragma unroll
    for (int d = DEPTH - 1; d >= 0; d--) {
        I6 own = spatial_inertia(c[d], body[d]);
        composite = d == DEPTH - 1 ? own : own + composite;
        S6 momentum = mul(composite, axis[d]);
#pragma unroll
        for (int e = 0; e <= d; e++) L.chain[d][e] = dot(axis[e], momentum);
        L.chain[d][d] += armature[d];
#pragma unroll
        for (int k = 0; k < 6; k++) L.root[d][k] = part(momentum, k);
    }
    I6 all = spatial_inertia(root_inertial(), root) +
             I6{over_chains(composite.aa), over_chains(composite.al), over_chains(composite.ll)};
#pragma unroll
    for (int i = 0; i < 6; i++) {
        S6 unit = {v3(i == 0, i == 1, i == 2), v3(i == 3, i == 4, i == 5)}, momentum = mul(all, unit);
#pragma unroll
        for (int k = 0; k <= i; k++) L.base[i][k] = part(momentum, k);
    }
    // Leaves to root. What the chains take from the root's block is added up over the threads.
    float taken[6][6] = {};
#pragma unroll
    for (int d = DEPTH - 1; d >= 0; d--) {
        float diagonal = sqrtf(L.chain[d][d]);
        L.pivot[d] = 1.f / diagonal;
#pragma unroll
        for (int e = 0; e < d; e++) L.chain[d][e] *= L.pivot[d];
#pragma unroll
        for (int k = 0; k < 6; k++) L.root[d][k] *= L.pivot[d];
#pragma unroll
        for (int e = d - 1; e >= 0; e--) {
#pragma unroll
            for (int f = 0; f <= e; f++) L.chain[e][f] = fmaf(-L.chain[d][e], L.chain[d][f], L.chain[e][f]);
#pragma unroll
            for (int k = 0; k < 6; k++) L.root[e][k] = fmaf(-L.chain[d][e], L.root[d][k], L.root[e][k]);
        }
#pragma unroll
        for (int i = 0; i < 6; i++)
#pragma unroll
            for (int k = 0; k <= i; k++) taken[i][k] = fmaf(L.root[d][i], L.root[d][k], taken[i][k]);
    }
#pragma unroll
    for (int i = 0; i < 6; i++)
#pragma unroll
        for (int k = 0; k <= i; k++) L.base[i][k] -= over_chains(taken[i][k]);
#pragma unroll
    for (int i = 5; i >= 0; i--) {
        L.base_pivot[i] = 1.f / sqrtf(L.base[i][i]);
#pragma unroll
        for (int k = 0; k < i; k++) L.base[i][k] *= L.base_pivot[i];
#pragma unroll
        for (int k = i - 1; k >= 0; k--)
#pragma unroll
            for (int j = 0; j <= k; j++) L.base[k][j] = fmaf(-L.base[i][k], L.base[i][j], L.base[k][j]);
    }
}

// x <- (L^T L)^-1 x for the chain's forces and the root's.
DEVICE void solve(const Factor& L, float (&x)[DEPTH], float (&b)[6]) {
    float given[6] = {};
#pragma unroll
    for (int d = DEPTH - 1; d >= 0; d--) {
        x[d] *= L.pivot[d];
#pragma unroll
        for (int e = 0; e < d; e++) x[e] = fmaf(-L.chain[d][e], x[d], x[e]);
#pragma unroll
        for (int k = 0; k < 6; k++) given[k] = fmaf(L.root[d][k], x[d], given[k]);
    }
#pragma unroll
    for (int k = 0; k < 6; k++) b[k] -= over_chains(given[k]);
#pragma unroll
    for (int i = 5; i >= 0; i--) {
        b[i] *= L.base_pivot[i];
#pragma unroll
        for (int k = 0; k < i; k++) b[k] = fmaf(-L.base[i][k], b[i], b[k]);
    }
#pragma unroll
    for (int i = 0; i < 6; i++) {
#pragma unroll
        for (int k = 0; k < i; k++) b[i] = fmaf(-L.base[i][k], b[k], b[i]);
        b[i] *= L.base_pivot[i];
    }
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
#pragma unroll
        for (int k = 0; k < 6; k++) x[d] = fmaf(-L.root[d][k], b[k], x[d]);
#pragma unroll
        for (int e = 0; e < d; e++) x[d] = fmaf(-L.chain[d][e], x[e], x[d]);
        x[d] *= L.pivot[d];
    }
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

#define OF(field) c.chain[d][field][lane]
#define AT(field) OF(CONTACTS + i * CONTACT + field)

DEVICE void forces(const Constants& c, int lane, const State& s, const float (&actuation)[DEPTH], float ground, Frame& f) {
    Body& root = f.root;
    root.p = s.p + v3(ROOT_X, ROOT_Y, ROOT_Z);
    root.q = s.r;
    root.rot = matrix(s.r);
    root.v = {s.omega, s.v};
    root.a = s6_zero();
    place(root, root_inertial());
    bias(root, root_inertial());
    // The threads share out the root's contact points.
    S6 ground_force = s6_zero();
    for (int i = lane; i < ROOT_POINTS; i += LANES) {
        const float* k = c.root[i];
        ground_force = ground_force + contact(root, v3(k), k[RADIUS], k[STIFFNESS], k[CONTACT_DAMPING], k[VISCOSITY],
                                              k[FRICTION], ground);
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
    total = root.f + over_chains(total + ground_force);
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

// The observation entries that belong to the root: height, orientation, velocities, upright and heading.
DEVICE void observe_root(const State& s, float (&o)[13]) {
    V3 velocity = cross_add_exact(s.omega, s.p, s.v);
    M3 turned = matrix(s.r * Q4{v3(-START_X, -START_Y, -START_Z), START_W});
    V3 target = v3(1e4f - s.p.x, 0.f, -s.p.z), heading = column(turned, 0);
    float distance = sqrtf(dot(target, target));
    o[0] = s.p.y;
    o[1] = s.r.v.x, o[2] = s.r.v.y, o[3] = s.r.v.z, o[4] = s.r.w;
    o[5] = velocity.x, o[6] = velocity.y, o[7] = velocity.z;
    o[8] = s.omega.x, o[9] = s.omega.y, o[10] = s.omega.z;
    o[11] = turned.r[1].y;
    o[12] = dot(heading, target) / (distance > 1e-9f ? distance : 1e-9f);
}

// Place of root entry i in an observation.
DEVICE constexpr int root_entry(int i) { return i < 11 ? i : i - 11 + 11 + 2 * HINGES; }

// Moves the constants on chip; ends with a barrier.
DEVICE void load_constants(Constants& c) {
    float* to = &c.chain[0][0][0];
    for (u32 i = threadIdx.x; i < DEPTH * BODY * LANES; i += blockDim.x) to[i] = CHAIN[i];
    to = &c.root[0][0];
    for (u32 i = threadIdx.x; i < ROOT_POINTS * CONTACT; i += blockDim.x) to[i] = ROOT_CONTACTS[i];
    __syncthreads();
}

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

// The adjoint. A thread holds the root's cotangents, as all threads of its environment do, and those of its own chain;
// what chains and contact points send to the root is added up over the threads.

// Cotangents of a body; those of com and back follow from p and rot. `f`: of its wrench, a twist.
struct Bar {
    V3 p;
    Q4 q;
    M3 rot;
    S6 v, a, f;
};
DEVICE Bar bar_zero() { return {v3(0.f, 0.f, 0.f), q4_zero(), m3_zero(), s6_zero(), s6_zero(), s6_zero()}; }

// Cotangents of the mass matrix, both halves together, where the factor has entries. Summed over the substeps that
// share one.
struct MassBar {
    float root[DEPTH][6], chain[DEPTH][DEPTH], base[6][6];
};

// Of back = -R^T com and com = R com_body + p.
DEVICE void lever_adjoint(const Inertial& c, const Body& b, V3 back, V3 com, Bar& bar) {
    com = com - mul(b.rot, back);
    add_outer(bar.rot, -b.com, back);
    add_outer(bar.rot, com, c.com);
    bar.p = bar.p + com;
}

DEVICE void bias_adjoint(const Body& b, const Inertial& c, Bar& bar) {
    S6 momentum_bar = cross_motion(bar.f, b.v);
    Local v = local(c, b, b.v), a = local(c, b, b.a), f = local(c, b, bar.f), m = local(c, b, momentum_bar);
    S6 momentum = turned(b, v);
    bar.a = bar.a + turned(b, f);
    bar.v = bar.v + (turned(b, m) - cross_force(bar.f, momentum));
    V3 back = cross(a.ang, f.force) + cross(f.ang, a.force) + cross(v.ang, m.force) + cross(m.ang, v.force);
    add_outer(bar.rot, b.a.a, f.torque);
    add_outer(bar.rot, b.a.l, f.force);
    add_outer(bar.rot, bar.f.a, a.torque);
    add_outer(bar.rot, bar.f.l, a.force);
    add_outer(bar.rot, b.v.a, m.torque);
    add_outer(bar.rot, b.v.l, m.force);
    add_outer(bar.rot, momentum_bar.a, v.torque);
    add_outer(bar.rot, momentum_bar.l, v.force);
    lever_adjoint(c, b, back, cross(bar.f.a, v3(GRAVITY_X, GRAVITY_Y, GRAVITY_Z) * c.mass), bar);
}

// `f_bar`: cotangent of the body's wrench. TIE and STILL are the sub-gradients at ties and at rest.
DEVICE void contact_adjoint(const Body& b, V3 point, float radius, float stiffness, float damping, float viscosity,
                            float friction, float ground, S6 f_bar, Bar& bar, float& ground_bar) {
    float height = dot(b.rot.r[1], point) + (b.p.y - radius - ground);
    if (!(height < 0.f)) return;
    V3 x = v3(dot(b.rot.r[0], point) + b.p.x, height + ground, dot(b.rot.r[2], point) + b.p.z);
    float depth = -height;
    V3 u = cross_add(b.v.a, x, b.v.l);
    float push = fmaf(damping, -(u.y < 0.f ? u.y : 0.f), stiffness);
    float square = fmaf(u.x, u.x, u.z * u.z);
    bool sliding = 0.f < square;
    float speed = sqrtf(sliding ? square : 1.f), cap = friction * depth, drag = viscosity * speed;
    bool viscous = drag < cap;
    float ratio = sliding ? (viscous ? viscosity : cap / speed) : 0.f;
    V3 f = v3(ratio * u.x, -(depth * push), ratio * u.z);

    V3 g = cross_add(f_bar.a, x, f_bar.l), x_bar = cross(f, f_bar.a);
    float dx = u.x / speed, dz = u.z / speed, along = fmaf(g.x, dx, g.z * dz);
    float capped = sliding && !viscous ? along * (drag <= cap ? 1.f - TIE : 1.f) : 0.f;
    float turn = -(ratio * capped), grip = sliding ? ratio : STILL * viscosity;
    float approach = u.y < 0.f ? damping : (u.y <= 0.f ? TIE * damping : 0.f);
    V3 u_bar = v3(fmaf(grip, g.x, turn * dx), depth * approach * g.y, fmaf(grip, g.z, turn * dz));
    float depth_bar = fmaf(friction, capped, -(push * g.y));
    bar.v.a = bar.v.a + cross(x, u_bar);
    bar.v.l = bar.v.l + u_bar;
    x_bar = cross_add(u_bar, b.v.a, x_bar);
    x_bar.y -= depth_bar;
    bar.p = bar.p + x_bar;
    add_outer(bar.rot, x_bar, point);
    ground_bar += depth_bar;
}

DEVICE M3 both(const M3& m) { return m + transpose(m); }
DEVICE M3 odd(const M3& m) { return transpose(m) + m * -1.f; }

// Of the symmetric off-diagonal blocks, g.al is the cotangent of both together.
DEVICE void spatial_inertia_adjoint(const Inertial& c, const Body& b, const I6& g, Bar& bar) {
    M3 turn = transpose(b.rot), lever = skew(b.back), back = transpose(lever);
    M3 inner = c.inertia + mul(lever, lever) * -c.mass, across = lever * -c.mass;
    bar.rot = bar.rot + mul(mul(both(g.aa), b.rot), inner) + mul(mul(odd(g.al), b.rot), across) +
              mul(both(g.ll), b.rot) * c.mass;
    M3 of_inner = mul(mul(turn, g.aa), b.rot), of_across = mul(mul(turn, g.al), b.rot);
    M3 of_lever = (mul(of_inner, back) + mul(back, of_inner) + of_across) * -c.mass;
    lever_adjoint(c, b, skew_adjoint(of_lever), v3(0.f, 0.f, 0.f), bar);
}

// The cotangent of the inertia G that a row H_rk = S_k . G S_r sees, with x the sum of its columns' axes.
DEVICE void add_row(I6& g, S6 x, S6 s) {
    add_outer(g.aa, x.a, s.a);
    add_outer(g.al, x.a, s.l);
    add_outer(g.al, s.a, x.l);
    add_outer(g.ll, x.l, s.l);
}

DEVICE S6 s6(const float* x) { return {v3(x), v3(x + 3)}; }

// Sends the mass matrix' cotangents to bodies and axes.
static __device__ __noinline__ void mass_matrix_adjoint(const Frame& f, const MassBar& m, Bar& root, Bar (&bar)[DEPTH],
                                           S6 (&axis_bar)[DEPTH]) {
    I6 g = {m3_zero(), m3_zero(), m3_zero()};
#pragma unroll 1
    for (int i = 0; i < 6; i++) {
        float x[6], unit[6];
#pragma unroll 1
        for (int k = 0; k < 6; k++) x[k] = k <= i ? m.base[i][k] : 0.f, unit[k] = k == i ? 1.f : 0.f;
        add_row(g, s6(x), s6(unit));
    }
    spatial_inertia_adjoint(root_inertial(), f.root, g, root);
#pragma unroll 1
    for (int d = 0; d < DEPTH; d++) {
        I6 composite = spatial_inertia(f.inertial[d], f.body[d]);
#pragma unroll 1
        for (int e = d + 1; e < DEPTH; e++) composite = composite + spatial_inertia(f.inertial[e], f.body[e]);
        S6 momentum = mul(composite, f.axis[d]), x = s6(m.root[d]);
#pragma unroll 1
        for (int e = 0; e <= d; e++) {
            x = x + f.axis[e] * m.chain[d][e];
            axis_bar[e] = axis_bar[e] + momentum * m.chain[d][e];
        }
        axis_bar[d] = axis_bar[d] + mul(composite, x);
        add_row(g, x, f.axis[d]);
        spatial_inertia_adjoint(f.inertial[d], f.body[d], g, bar[d]);
    }
}

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
    own.p = own.p + over_chains(root.p);
    own.q = own.q + Q4{over_chains(root.q.v), over_chains(root.q.w)};
    own.rot = own.rot + over_chains(root.rot);
    own.v = own.v + over_chains(root.v);
    own.f = root_twist;
    bias_adjoint(f.root, root_inertial(), own);
    t.r = t.r + own.q + matrix_adjoint(f.root.q, own.rot);
    t.p = t.p + own.p;
    t.omega = t.omega + own.v.a;
    t.v = t.v + own.v.l;
}
#undef AT
#undef OF

// From the cotangents of the root's 13 observation entries.
DEVICE void observe_root_adjoint(const State& s, const float (&o)[13], State& t) {
    V3 velocity = v3(o[5], o[6], o[7]);
    t.v = t.v + velocity;
    t.omega = t.omega + v3(o[8], o[9], o[10]) + cross(s.p, velocity);
    V3 p_bar = cross(velocity, s.omega);
    p_bar.y += o[0];
    Q4 start = {v3(START_X, START_Y, START_Z), START_W}, q = s.r * conj(start);
    V3 target = v3(1e4f - s.p.x, 0.f, -s.p.z), heading = column(matrix(q), 0);
    float norm = sqrtf(dot(target, target));
    bool far = 1e-9f < norm;
    float inverse = 1.f / (far ? norm : 1e-9f);
    V3 unit = target * inverse, first = unit * o[12];
    V3 target_bar = (heading - unit * (far ? dot(heading, unit) : 0.f)) * (o[12] * inverse);
    p_bar.x -= target_bar.x;
    p_bar.z -= target_bar.z;
    M3 m = {{v3(first.x, 0.f, 0.f), v3(first.y, o[11], 0.f), v3(first.z, 0.f, 0.f)}};
    t.r = t.r + Q4{v3(o[1], o[2], o[3]), o[4]} + matrix_adjoint(q, m) * start;
    t.p = t.p + p_bar;
}

DEVICE float largest_over_chains(float x) {
#pragma unroll
    for (int o = 1; o < LANES; o <<= 1) {
        float other = __shfl_xor_sync(ALL_LANES, x, o);
        x = x < other ? other : x;
    }
    return x;
}

constexpr int ADJOINT_THREADS = 32;

// The adjoint needs the forces in three places, and registers for other things than three copies of them.
static __device__ __noinline__ void forces_again(const Constants& c, int lane, const State& s,
                                                 const float (&actuation)[DEPTH], float ground, Frame& f) {
    forces(c, lane, s, actuation, ground, f);
}
static __device__ __noinline__ void mass_matrix_again(const Frame& f, Factor& L) {
    mass_matrix(f.root, f.body, f.inertial, f.axis, f.armature, L);
}

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

// Adds up how many gradients were scaled down and how many were not finite: one block.
DEVICE void env_count(const float* flags, float* counts, u32 n) {
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

// Starts a new episode of environment e: the start state in double precision, rounded once, and its observation.
static __device__ void begin(const Philox& rng, u32 e, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                             float* total, float* alive) {
    double x[NQ], xd[NQD];
    u32 episode = episodes[e];
#pragma unroll
    for (int k = 0; k < NQ; k++) x[k] = START[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) xd[k] = 0.0;
    if (STOCHASTIC_INIT) {
        // In this order: position 3, angle 1, axis 3, hinges, velocities.
        constexpr int COUNT = 7 + HINGES + NQD, BLOCKS = ceil_div(COUNT, 4);
        double u[BLOCKS * 4];
#pragma unroll
        for (u32 k = 0; k < BLOCKS; k++) {
            Bits bits = rng.bits(episode, e * BLOCKS + k);
#pragma unroll
            for (int i = 0; i < 4; i++) u[4 * k + i] = Philox::unit(bits.v[i]) - 0.5;
        }
#pragma unroll
        for (int k = 0; k < 3; k++) x[k] += 0.2 * u[k];
        double norm = sqrt(u[4] * u[4] + u[5] * u[5] + u[6] * u[6]), inverse = norm > 0.0 ? 1.0 / norm : 0.0;
        double half = u[3] * (3.141592653589793 / 12.0) * 0.5, sine = sin(half);
        D4 turn = {u[4] * inverse * sine, u[5] * inverse * sine, u[6] * inverse * sine, cos(half)};
        D4 r = product({x[3], x[4], x[5], x[6]}, turn);
        x[3] = r.x, x[4] = r.y, x[5] = r.z, x[6] = r.w;
#pragma unroll
        for (int k = 0; k < HINGES; k++) x[7 + k] += 0.4 * u[7 + k];
#pragma unroll
        for (int k = 0; k < NQD; k++) xd[k] = 0.5 * u[7 + HINGES + k];
    }
    q += (size_t)e * NQ, qd += (size_t)e * NQD, obs += (size_t)e * OBS;
#pragma unroll
    for (int k = 0; k < NQ; k++) q[k] = (float)x[k];
#pragma unroll
    for (int k = 0; k < NQD; k++) qd[k] = (float)xd[k];
    State s = load(q, qd, 0);
    float o[13];
    observe_root(s, o);
#pragma unroll
    for (int i = 0; i < 13; i++) obs[root_entry(i)] = o[i];
#pragma unroll
    for (int k = 0; k < HINGES; k++) {
        obs[11 + k] = q[7 + k];
        obs[11 + HINGES + k] = JOINT_VEL_SCALE * qd[6 + k];
        obs[13 + 2 * HINGES + k] = 0.f;
    }
    episodes[e] = episode + 1;
    progress[e] = 0;
    total[e] = 0.f;
    alive[e] = 1.f;
}

// All environments start; evaluation starts are the same every time.
DEVICE void env_reset(float* q, float* qd, float* obs, u32* progress, u32* episodes, float* total, float* alive,
                      float* meters, u64 seed, u32 stream, u32 evaluate, u32 n) {
    u32 e = ELEMENT;
    if (e < 4) meters[e] = 0.f;
    if (e >= n) return;
    if (evaluate) episodes[e] = 0;
    begin(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
}

// Episode returns, meters and resets: one block, so that sums have one order.
DEVICE void env_books(const float* reward, float* done, float* q, float* qd, float* obs, u32* progress, u32* episodes,
                      float* total, float* alive, float* meters, u64 seed, u32 stream, u32 evaluate, u32 n) {
    // Episodes, returns, lengths, blown-up states.
    float sums[4] = {0.f, 0.f, 0.f, 0.f};
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
        else begin(Philox(seed, stream), e, q, qd, obs, progress, episodes, total, alive);
    }
    block_sums<128, 4>(sums);
    if (threadIdx.x == 0)
        for (int i = 0; i < 4; i++) meters[i] += sums[i];
}
