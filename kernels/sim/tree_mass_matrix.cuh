// Mass matrix of any tree, its factor, the solve, and the adjoint. Mathematics: src/sim/mass_matrix.rs. The factor is
// gathered: an entry takes what its row's descendants leave of it, once those of all deeper levels are there.
#pragma once
#include "sim/tree_forces.cuh"

// Inertia of each body with all that it carries.
DEVICE void composite_inertia(Tree& t, int lane) {
    EACH(i, BODIES) t.composite[i] = spatial_inertia(inertial(i), t.body[i]);
#pragma unroll 1
    for (int level = LEVELS - 2; level >= 0; level--) {
        __syncwarp();
        EACH_BODY(i, level) {
            I6 sum = t.composite[i];
            for (int k = CHILD_START[i]; k < CHILD_START[i + 1]; k++) sum = sum + t.composite[CHILD[k]];
            t.composite[i] = sum;
        }
    }
    __syncwarp();
}

// The mass matrix and its factor.
static __device__ __noinline__ void mass_matrix(Tree& t, int lane) {
    composite_inertia(t, lane);
    EACH(row, NQD) {
        S6 momentum = mul(t.composite[DOF_BODY[row]], t.axis[row]);
        t.factor[entry(row, row)] = dot(t.axis[row], momentum) + ARMATURE[row];
        for (int n = ANCESTOR_START[row]; n < ANCESTOR_START[row + 1]; n++)
            t.factor[entry(row, ANCESTOR[n])] = dot(t.axis[ANCESTOR[n]], momentum);
    }
#pragma unroll 1
    for (int level = DOF_LEVELS - 1; level >= 0; level--) {
        __syncwarp();
        for (int n = ENTRY_ROW_START[level] + lane; n < ENTRY_ROW_START[level + 1]; n += LANES) {
            int row = ENTRY_ROW[n], column = ENTRY_COLUMN[n];
            float x = t.factor[entry(row, column)];
            for (int d = DESCENDANT_START[row]; d < DESCENDANT_START[row + 1]; d++) {
                int k = DESCENDANT[d];
                x = fmaf(-t.factor[entry(k, row)], t.factor[entry(k, column)], x);
            }
            t.factor[entry(row, column)] = x;
        }
        __syncwarp();
        for (int n = ENTRY_ROW_START[level] + lane; n < ENTRY_ROW_START[level + 1]; n += LANES) {
            int row = ENTRY_ROW[n], column = ENTRY_COLUMN[n];
            float pivot = inverse_sqrt(t.factor[entry(row, row)]);
            if (row == column) t.pivot[row] = pivot;
            else t.factor[entry(row, column)] *= pivot;
        }
    }
    __syncwarp();
}

// x <- (L^T L)^-1 x.
static __device__ __noinline__ void solve(const Tree& t, int lane, float* x) {
#pragma unroll 1
    for (int level = DOF_LEVELS - 1; level >= 0; level--) {
        __syncwarp();
        EACH_DOF(i, level) {
            float y = x[i];
            for (int d = DESCENDANT_START[i]; d < DESCENDANT_START[i + 1]; d++)
                y = fmaf(-t.factor[entry(DESCENDANT[d], i)], x[DESCENDANT[d]], y);
            x[i] = y * t.pivot[i];
        }
    }
#pragma unroll 1
    for (int level = 0; level < DOF_LEVELS; level++) {
        __syncwarp();
        EACH_DOF(i, level) {
            float y = x[i];
            for (int n = ANCESTOR_START[i]; n < ANCESTOR_START[i + 1]; n++)
                y = fmaf(-t.factor[entry(i, ANCESTOR[n])], x[ANCESTOR[n]], y);
            x[i] = y * t.pivot[i];
        }
    }
    __syncwarp();
}

// Adjoint of the factor and of a solution `b.qdd`: `b.tau` turns from its cotangent into that of the forces, and the
// mass matrix' is added to.
static __device__ __noinline__ void solve_adjoint(const Tree& t, TreeBar& b, int lane) {
    solve(t, lane, b.tau);
    EACH(n, ENTRIES) {
        int row = ENTRY_ROW[n], column = ENTRY_COLUMN[n];
        float other = row == column ? 0.f : b.qdd[row] * b.tau[column];
        b.mass[entry(row, column)] -= fmaf(b.tau[row], b.qdd[column], other);
    }
    __syncwarp();
}

// Sends the mass matrix' cotangents to bodies and axes, and clears them.
static __device__ __noinline__ void mass_matrix_adjoint(Tree& t, TreeBar& b, int lane) {
    composite_inertia(t, lane);
    EACH(row, NQD) {
        S6 twist = t.axis[row] * b.mass[entry(row, row)];
        for (int n = ANCESTOR_START[row]; n < ANCESTOR_START[row + 1]; n++)
            twist = twist + t.axis[ANCESTOR[n]] * b.mass[entry(row, ANCESTOR[n])];
        b.row.momentum[row] = mul(t.composite[DOF_BODY[row]], t.axis[row]);
        b.row.twist[row] = twist;
    }
    __syncwarp();
    EACH(column, NQD) {
        S6 sum = b.axis[column] + b.row.momentum[column] * b.mass[entry(column, column)];
        for (int d = DESCENDANT_START[column]; d < DESCENDANT_START[column + 1]; d++)
            sum = sum + b.row.momentum[DESCENDANT[d]] * b.mass[entry(DESCENDANT[d], column)];
        b.axis[column] = sum + mul(t.composite[DOF_BODY[column]], b.row.twist[column]);
    }
    // What a composite inertia sends to each body that it is the sum of.
#pragma unroll 1
    for (int level = 0; level < LEVELS; level++) {
        __syncwarp();
        EACH_BODY(i, level) {
            I6 g = PARENT[i] >= 0 ? t.composite[PARENT[i]] : I6{m3_zero(), m3_zero(), m3_zero()};
            for (int row = QD_AT[i]; row < QD_AT[i + 1]; row++) add_row(g, b.row.twist[row], t.axis[row]);
            t.composite[i] = g;
        }
    }
    __syncwarp();
    EACH(i, BODIES) spatial_inertia_adjoint(inertial(i), t.body[i], t.composite[i], b.body[i]);
    EACH(n, TRIANGLE) b.mass[n] = 0.f;
    __syncwarp();
}
