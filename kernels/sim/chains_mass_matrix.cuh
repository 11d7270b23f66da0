// Mass matrix of a root with equal chains, its factor, the solve, and the adjoint. Mathematics: src/sim/mass_matrix.rs.
#pragma once
#include "sim/chains.cuh"

// Factor of the mass matrix, H + armature = L^T L: the chain's rows, then the root's lower triangle.
struct Factor {
    float root[DEPTH][6], chain[DEPTH][DEPTH], pivot[DEPTH];
    float base[6][6], base_pivot[6];
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
             I6{env_sum(composite.aa), env_sum(composite.al), env_sum(composite.ll)};
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
        L.pivot[d] = inverse_sqrt(L.chain[d][d]);
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
        for (int k = 0; k <= i; k++) L.base[i][k] -= env_sum(taken[i][k]);
#pragma unroll
    for (int i = 5; i >= 0; i--) {
        L.base_pivot[i] = inverse_sqrt(L.base[i][i]);
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
    for (int k = 0; k < 6; k++) b[k] -= env_sum(given[k]);
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

// Cotangents of the mass matrix, both halves together, where the factor has entries. Summed over the substeps that
// share one.
struct MassBar {
    float root[DEPTH][6], chain[DEPTH][DEPTH], base[6][6];
};

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
