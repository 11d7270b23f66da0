// One environment step: 16 substeps of the dynamics, observation, reward, termination, reset. Mathematics: src/sim.
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

// G x without forming G.
DEVICE S6 apply_inertia(const Inertial& c, const Body& b, S6 x) {
    V3 ang = tmul(b.rot, x.a), lin = tmul_add(b.rot, x.l, cross(b.back, ang)), force = lin * c.mass;
    V3 torque = mul_add(c.inertia, ang, cross(force, b.back));
    return {mul(b.rot, torque), mul(b.rot, force)};
}

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

// One substep of semi-implicit Euler; `rebuild` the factor or keep it.
DEVICE void substep(const Constants& c, int lane, State& s, const float (&actuation)[DEPTH], float ground, bool rebuild,
                    Factor& L) {
    Body root, body[DEPTH];
    Inertial inertial[DEPTH];
    S6 axis[DEPTH];
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
#define OF(field) c.chain[d][field][lane]
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        const Body& parent = d == 0 ? root : body[d == 0 ? 0 : d - 1];
        Body& b = body[d];
        V3 hinge = v3(OF(AXIS), OF(AXIS + 1), OF(AXIS + 2));
        b.p = mul_add(parent.rot, v3(OF(POSITION), OF(POSITION + 1), OF(POSITION + 2)), parent.p);
        V3 ang = mul(parent.rot, hinge);
        axis[d] = {ang, cross(b.p, ang)};
        S6 rate = axis[d] * s.qd[d];
        b.v = parent.v + rate;
        b.a = parent.a + cross_motion(b.v, rate);
        b.q = parent.q * about(hinge, s.q[d]);
        b.rot = matrix(b.q);
        inertial[d] = {OF(MASS), v3(OF(COM), OF(COM + 1), OF(COM + 2)),
                       {{v3(OF(INERTIA), OF(INERTIA + 1), OF(INERTIA + 2)),
                         v3(OF(INERTIA + 3), OF(INERTIA + 4), OF(INERTIA + 5)),
                         v3(OF(INERTIA + 6), OF(INERTIA + 7), OF(INERTIA + 8))}}};
        place(b, inertial[d]);
        bias(b, inertial[d]);
        S6 sum = s6_zero();
#pragma unroll
        for (int i = 0; i < POINTS; i++) {
#define AT(field) OF(CONTACTS + i * CONTACT + field)
            sum = sum + contact(b, v3(AT(POINT), AT(POINT + 1), AT(POINT + 2)), AT(RADIUS), AT(STIFFNESS),
                                AT(CONTACT_DAMPING), AT(VISCOSITY), AT(FRICTION), ground);
#undef AT
        }
        b.f = b.f + sum;
    }
    // Joint forces, leaves to root.
    float tau[DEPTH], armature[DEPTH];
    S6 total = s6_zero();
#pragma unroll
    for (int d = DEPTH - 1; d >= 0; d--) {
        total = body[d].f + total;
        float x = s.q[d], lower = OF(LOWER), upper = OF(UPPER);
        float bound = x < lower ? lower : (upper < x ? upper : x);
        float passive = OF(LIMIT_STIFFNESS) * (bound - x) - OF(DRIVE_STIFFNESS) * (x - OF(TARGET)) - OF(DAMPING) * s.qd[d];
        tau[d] = actuation[d] + passive - dot(axis[d], total);
        armature[d] = OF(ARMATURE);
    }
#undef OF
    total = root.f + over_chains(total + ground_force);
    float b[6];
#pragma unroll
    for (int k = 0; k < 6; k++) b[k] = -part(total, k);
    if (rebuild) mass_matrix(root, body, inertial, axis, armature, L);
    solve(L, tau, b);
    // Velocities first, then positions with the new velocities.
    s.omega = scale_add(v3(b[0], b[1], b[2]), H, s.omega);
    s.v = scale_add(v3(b[3], b[4], b[5]), H, s.v);
    s.p = scale_add(cross_add(s.omega, s.p, s.v), H, s.p);
    Q4 spin = Q4{s.omega * (H * 0.5f), 0.f} * s.r;
    s.r = normalised({s.r.v + spin.v, s.r.w + spin.w});
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        s.qd[d] = fmaf(tau[d], H, s.qd[d]);
        s.q[d] = fmaf(s.qd[d], H, s.q[d]);
    }
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
