// Semi-implicit Euler for any tree, and its adjoint. Mathematics: src/sim/integrate.rs.
#pragma once
#include "sim/tree.cuh"

// Velocities first, then positions with the new velocities.
DEVICE void integrate(Tree& t, int lane) {
    EACH(k, NQD) t.qd[k] = fmaf(t.qdd[k], H, t.qd[k]);
    __syncwarp();
    EACH(i, BODIES) {
        float *q = t.q + Q_AT[i], *qd = t.qd + QD_AT[i];
        int kind = KIND[i];
        if (kind == HINGE || kind == SLIDE) q[0] = fmaf(qd[0], H, q[0]);
        if (kind != FREE && kind != BALL) continue;
        V3 omega = v3(qd);
        if (kind == FREE) {
            V3 p = v3(q);
            store(scale_add(cross_add(omega, p, v3(qd + 3)), H, p), q);
            q += 3;
        }
        Q4 r = q4(q), spin = Q4{omega * (H * 0.5f), 0.f} * r;
        store(normalised(r + spin), q);
    }
    __syncwarp();
}

// From cotangents of the new state to those of the old one, which `t` holds, and of the accelerations into `b.tau`.
DEVICE void integrate_adjoint(const Tree& t, TreeBar& b, int lane) {
    EACH(i, BODIES) {
        const float *q = t.q + Q_AT[i], *qd = t.qd + QD_AT[i], *qdd = b.qdd + QD_AT[i];
        float *q_bar = b.q + Q_AT[i], *qd_bar = b.qd + QD_AT[i];
        int kind = KIND[i];
        if (kind == HINGE || kind == SLIDE) qd_bar[0] = fmaf(q_bar[0], H, qd_bar[0]);
        if (kind != FREE && kind != BALL) continue;
        V3 omega = scale_add(v3(qdd), H, v3(qd)), omega_bar = v3(qd_bar);
        if (kind == FREE) {
            // p' = p + h (v' + omega' x p)
            V3 p_bar = v3(q_bar), moved = p_bar * H;
            store(p_bar + cross(moved, omega), q_bar);
            store(v3(qd_bar + 3) + moved, qd_bar + 3);
            omega_bar = omega_bar + cross(v3(q), moved);
            q += 3, q_bar += 3;
        }
        // r' = normalise(r + a r), a = (h/2 omega', 0)
        Q4 r = q4(q), a = {omega * (H * 0.5f), 0.f};
        Q4 sum_bar = normalised_adjoint(r + a * r, q4(q_bar));
        store(sum_bar + conj(a) * sum_bar, q_bar);
        store(scale_add((sum_bar * conj(r)).v, H * 0.5f, omega_bar), qd_bar);
    }
    __syncwarp();
    EACH(k, NQD) b.tau[k] = b.qd[k] * H;
    __syncwarp();
}
