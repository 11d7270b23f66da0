// An environment step of a root with equal chains, and its adjoint: the substeps in order.
#pragma once
#include "sim/chains_substep.cuh"

// What a block needs on chip: constants.
typedef Constants StepMemory;
DEVICE void begin(StepMemory& m) { load_constants(m); }

DEVICE V3 reference_point(const State& s) { return ABOUT_ROOT ? s.p : v3(0.f, 0.f, 0.f); }

DEVICE void step(const StepMemory& c, int lane, State& s, const float (&actuation)[SLOTS_QD]) {
    V3 origin = reference_point(s);
    shift_state(s, origin);
    Factor L;
    for (int k = 0; k < SUBSTEPS; k++) substep(c, lane, s, actuation, -origin.y, k % REBUILD_EVERY == 0, L);
    shift_state(s, -origin);
}

// And for the adjoint, for each thread: in shared memory, because registers do not suffice.
template <int THREADS>
struct AdjointMemory {
    Constants c;
    Frame frames[THREADS];
    Factor factors[THREADS];
    MassBar masses[THREADS];
};
template <int THREADS>
DEVICE void begin(AdjointMemory<THREADS>& m) {
    load_constants(m.c);
    m.masses[threadIdx.x] = MassBar{};
}

// The adjoint needs the forces in three places, and registers for other things than three copies of them.
static __device__ __noinline__ void forces_again(const Constants& c, int lane, const State& s,
                                                 const float (&actuation)[DEPTH], float ground, Frame& f) {
    forces(c, lane, s, actuation, ground, f);
}
static __device__ __noinline__ void mass_matrix_again(const Frame& f, Factor& L) {
    mass_matrix(f.root, f.body, f.inertial, f.axis, f.armature, L);
}

// States and accelerations of the substeps: in memory, as loops index them.
struct Kept {
    State state[SUBSTEPS];
    float accelerations[SUBSTEPS][DEPTH], root_accelerations[SUBSTEPS][6];
};

template <int THREADS>
DEVICE void step_keeping(AdjointMemory<THREADS>& m, int lane, State& s, const float (&actuation)[SLOTS_QD], Kept& kept) {
    Frame& f = m.frames[threadIdx.x];
    Factor& L = m.factors[threadIdx.x];
    V3 origin = reference_point(s);
    shift_state(s, origin);
#pragma unroll 1
    for (int k = 0; k < SUBSTEPS; k++) {
        kept.state[k] = s;
        forces_again(m.c, lane, s, actuation, -origin.y, f);
        if (k % REBUILD_EVERY == 0) mass_matrix_again(f, L);
        solve(L, f.tau, f.b);
        for (int d = 0; d < DEPTH; d++) kept.accelerations[k][d] = f.tau[d];
        for (int i = 0; i < 6; i++) kept.root_accelerations[k][i] = f.b[i];
        integrate(s, f.tau, f.b);
    }
    shift_state(s, -origin);
}

template <int THREADS>
DEVICE void step_adjoint(AdjointMemory<THREADS>& m, int lane, const float (&actuation)[SLOTS_QD], const Kept& kept,
                         const State& before, const State& next, StateBar& t) {
    Frame& f = m.frames[threadIdx.x];
    Factor& L = m.factors[threadIdx.x];
    MassBar& mass = m.masses[threadIdx.x];
    V3 origin = reference_point(before), moved = v3(0.f, 0.f, 0.f);
    if (ABOUT_ROOT) {
        // p' = p1' + o, v' = v1' - omega' x o.
        moved = t.s.p + cross(next.omega, t.s.v);
        t.s.omega = t.s.omega - cross(origin, t.s.v);
    }
    int built = (SUBSTEPS - 1) / REBUILD_EVERY * REBUILD_EVERY;
#pragma unroll 1
    for (int k = SUBSTEPS - 1; k >= 0; k--) {
        int first = k / REBUILD_EVERY * REBUILD_EVERY;
        if (first != built) {
            forces_again(m.c, lane, kept.state[first], actuation, -origin.y, f);
            mass_matrix_again(f, L);
            built = first;
        }
        forces_again(m.c, lane, kept.state[k], actuation, -origin.y, f);
        substep_adjoint(m.c, lane, kept.state[k], -origin.y, first == k, f, L, mass, kept.accelerations[k],
                        kept.root_accelerations[k], t);
    }
    if (ABOUT_ROOT) {
        // p1 = p - o, v1 = v + omega x o, the ground at -o.y, and o = p.
        t.s.omega = t.s.omega + cross(origin, t.s.v);
        moved = moved + cross(t.s.v, before.omega);
        moved.y -= env_sum(t.ground);
        t.s.p = moved;
    }
}
