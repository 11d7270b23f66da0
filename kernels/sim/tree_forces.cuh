// Forces of a substep of any tree, and their adjoint: frames and twists, inertia, ground, joints. Mathematics:
// src/sim/kinematics.rs, inertia.rs, contact.rs, joint.rs.
#pragma once
#include "sim/tree.cuh"

// A joint's frame before its own motion, and the twist of what carries it.
struct JointFrame {
    V3 p;
    Q4 q;
    M3 rot;
};
DEVICE JointFrame joint_frame(const Tree& t, int i) {
    const float* c = numbers(i);
    JointFrame f = {v3(c + POSITION), {v3(0.f, 0.f, 0.f), 1.f}, {{v3(1.f, 0.f, 0.f), v3(0.f, 1.f, 0.f), v3(0.f, 0.f, 1.f)}}};
    if (PARENT[i] >= 0) {
        const Body& b = t.body[PARENT[i]];
        f = {mul_add(b.rot, f.p, b.p), b.q, b.rot};
    }
    if (TURNED[i]) {
        f.q = f.q * q4(c + ROTATION);
        f.rot = matrix(f.q);
    }
    return f;
}

DEVICE S6 unit(int k) { return {v3(k == 0, k == 1, k == 2), v3(k == 3, k == 4, k == 5)}; }

// Frame, twist and velocity-product acceleration of body i, and its joint's axes, from those of its parent.
DEVICE void kinematics(Tree& t, int i) {
    JointFrame f = joint_frame(t, i);
    Body& b = t.body[i];
    V3 axis = v3(numbers(i) + AXIS);
    const float *q = t.q + Q_AT[i], *qd = t.qd + QD_AT[i];
    S6* s = t.axis + QD_AT[i];
    S6 rate = s6_zero();
    b.p = f.p, b.q = f.q, b.rot = f.rot;
    switch (KIND[i]) {
    case FREE:
        b.p = mul_add(f.rot, v3(q), f.p);
        b.q = f.q * q4(q + 3);
        b.rot = matrix(b.q);
        for (int k = 0; k < 6; k++) s[k] = unit(k);
        rate = s6(qd);
        break;
    case BALL:
        for (int k = 0; k < 3; k++) {
            V3 ang = column(f.rot, k);
            s[k] = {ang, cross(f.p, ang)};
            rate = rate + s[k] * qd[k];
        }
        b.q = f.q * q4(q);
        b.rot = matrix(b.q);
        break;
    case HINGE: {
        V3 ang = mul(f.rot, axis);
        s[0] = {ang, cross(f.p, ang)};
        rate = s[0] * qd[0];
        b.q = f.q * about(axis, q[0]);
        b.rot = matrix(b.q);
        break;
    }
    case SLIDE: {
        V3 lin = mul(f.rot, axis);
        s[0] = {v3(0.f, 0.f, 0.f), lin};
        rate = s[0] * qd[0];
        b.p = scale_add(lin, q[0], f.p);
        break;
    }
    default: break;
    }
    b.v = rate, b.a = s6_zero();
    if (PARENT[i] >= 0) {
        const Body& p = t.body[PARENT[i]];
        b.v = p.v + rate;
        b.a = p.a;
    }
    if (KIND[i] != FREE) b.a = b.a + cross_motion(b.v, rate);
    place(b, inertial(i));
}

// The ground on all bodies: LANES points at a time, then every body adds up its own.
DEVICE void contacts(Tree& t, int lane, S6* wrench, float ground) {
#pragma unroll 1
    for (int first = 0; first < POINTS; first += LANES) {
        int k = first + lane;
        if (k < POINTS) {
            const float* c = POINT_NUMBERS + k * CONTACT;
            wrench[lane] = contact(t.body[POINT_BODY[k]], v3(c), c[RADIUS], c[STIFFNESS], c[CONTACT_DAMPING], c[VISCOSITY],
                                   c[FRICTION], ground);
        }
        __syncwarp();
        EACH(i, BODIES) {
            int from = POINT_START[i] > first ? POINT_START[i] : first;
            int to = POINT_START[i + 1] < first + LANES ? POINT_START[i + 1] : first + LANES;
            for (int p = from; p < to; p++) t.body[i].f = t.body[i].f + wrench[p - first];
        }
        __syncwarp();
    }
}

// Force of each dof of body i's joint, `total` being the wrench of all that the joint carries.
DEVICE void joint_force(const Tree& t, int i, S6 total, float* tau) {
    const float* c = numbers(i);
    int k = QD_AT[i];
    switch (KIND[i]) {
    case FREE:
        for (int d = 0; d < 6; d++) tau[k + d] = -part(total, d);
        break;
    case BALL:
        for (int d = k; d < k + 3; d++) tau[d] = t.actuation[d] - c[DAMPING] * t.qd[d] - dot(t.axis[d], total);
        break;
    case HINGE:
    case SLIDE: {
        float x = t.q[Q_AT[i]], bound = x < c[LOWER] ? c[LOWER] : (c[UPPER] < x ? c[UPPER] : x);
        float passive = c[LIMIT_STIFFNESS] * (bound - x) - c[DRIVE_STIFFNESS] * (x - c[TARGET]) - c[DAMPING] * t.qd[k];
        tau[k] = t.actuation[k] + passive - dot(t.axis[k], total);
        break;
    }
    default: break;
    }
}

// Everything up to the forces of the joints, which go into `qdd`. `wrench`: LANES of them, of this environment.
static __device__ __noinline__ void forces(Tree& t, int lane, S6* wrench, float ground) {
#pragma unroll 1
    for (int level = 0; level < LEVELS; level++) {
        EACH_BODY(i, level) kinematics(t, i);
        __syncwarp();
    }
    EACH(i, BODIES) bias(t.body[i], inertial(i));
    contacts(t, lane, wrench, ground);
#pragma unroll 1
    for (int level = LEVELS - 1; level >= 0; level--) {
        __syncwarp();
        EACH_BODY(i, level) {
            S6 total = t.body[i].f;
            for (int k = CHILD_START[i]; k < CHILD_START[i + 1]; k++) total = total + t.body[CHILD[k]].f;
            t.body[i].f = total;
            joint_force(t, i, total, t.qdd);
        }
    }
    __syncwarp();
}

// Adjoint of `joint_force` of body i: begins its cotangents, the wrench's from that of its parent's, and those of its
// axes.
DEVICE void joint_force_adjoint(const Tree& t, TreeBar& b, int i) {
    const float* c = numbers(i);
    int at = Q_AT[i], k = QD_AT[i];
    S6 twist = PARENT[i] >= 0 ? b.body[PARENT[i]].f : s6_zero(), total = t.body[i].f;
    switch (KIND[i]) {
    case FREE:
        twist = twist - s6(b.tau + k);
        for (int d = k; d < k + 6; d++) b.axis[d] = s6_zero();
        break;
    case BALL:
        for (int d = k; d < k + 3; d++) {
            float minus = -b.tau[d];
            twist = twist + t.axis[d] * minus;
            b.axis[d] = total * minus;
            b.qd[d] = fmaf(c[DAMPING], minus, b.qd[d]);
            b.actuation[d] -= minus;
        }
        break;
    case HINGE:
    case SLIDE: {
        float minus = -b.tau[k], x = t.q[at];
        twist = twist + t.axis[k] * minus;
        b.axis[k] = total * minus;
        bool outside = x < c[LOWER] || c[UPPER] < x, beyond = x <= c[LOWER] || c[UPPER] <= x;
        float stiffness = c[DRIVE_STIFFNESS] + (outside ? 1.f : (beyond ? TIE : 0.f)) * c[LIMIT_STIFFNESS];
        b.q[at] = fmaf(stiffness, minus, b.q[at]);
        b.qd[k] = fmaf(c[DAMPING], minus, b.qd[k]);
        b.actuation[k] -= minus;
        break;
    }
    default: break;
    }
    b.body[i] = bar_zero();
    b.body[i].f = twist;
}

DEVICE void contacts_adjoint(const Tree& t, TreeBar& b, int lane, float ground, float& ground_bar) {
#pragma unroll 1
    for (int first = 0; first < POINTS; first += LANES) {
        int k = first + lane;
        if (k < POINTS) {
            const float* c = POINT_NUMBERS + k * CONTACT;
            int i = POINT_BODY[k];
            Bar bar = bar_zero();
            contact_adjoint(t.body[i], v3(c), c[RADIUS], c[STIFFNESS], c[CONTACT_DAMPING], c[VISCOSITY], c[FRICTION], ground,
                            b.body[i].f, bar, ground_bar);
            b.touch[lane] = {bar.p, bar.rot, bar.v};
        }
        __syncwarp();
        EACH(i, BODIES) {
            Bar& bar = b.body[i];
            int from = POINT_START[i] > first ? POINT_START[i] : first;
            int to = POINT_START[i + 1] < first + LANES ? POINT_START[i + 1] : first + LANES;
            for (int p = from; p < to; p++) {
                const Touch& touch = b.touch[p - first];
                bar.p = bar.p + touch.p;
                bar.rot = bar.rot + touch.rot;
                bar.v = bar.v + touch.v;
            }
        }
        __syncwarp();
    }
}

// Adjoint of `kinematics` of body i, whose children have been there: adds to the cotangents of its joint's coordinates,
// and leaves in place of the body's own cotangents what they send to the parent.
DEVICE void kinematics_adjoint(const Tree& t, TreeBar& b, int i) {
    JointFrame f = joint_frame(t, i);
    const Body& body = t.body[i];
    const S6* s = t.axis + QD_AT[i];
    V3 axis = v3(numbers(i) + AXIS);
    const float *q = t.q + Q_AT[i], *qd = t.qd + QD_AT[i];
    float *q_bar = b.q + Q_AT[i], *qd_bar = b.qd + QD_AT[i];
    Bar bar = b.body[i];
    for (int k = CHILD_START[i]; k < CHILD_START[i + 1]; k++) {
        const Bar& sent = b.body[CHILD[k]];
        bar.p = bar.p + sent.p;
        bar.q = bar.q + sent.q;
        bar.rot = bar.rot + sent.rot;
        bar.v = bar.v + sent.v;
        bar.a = bar.a + sent.a;
    }
    int kind = KIND[i], dofs = kind == BALL ? 3 : (kind == HINGE || kind == SLIDE ? 1 : 0);
    // V = V_p + S qd, A = A_p + V x S qd: cotangents of the rates and, in `rate_bar`, of S qd.
    S6 moved = s6_zero();
    for (int k = 0; k < dofs; k++) moved = moved + s[k] * qd[k];
    S6 v_bar = bar.v + cross_force(moved, bar.a), rate_bar = v_bar - cross_force(body.v, bar.a);
    for (int k = 0; k < dofs; k++) qd_bar[k] += dot(s[k], rate_bar);
    V3 p_bar = bar.p;
    // Cotangents of the joint frame's quaternion and matrix.
    Q4 frame_bar = bar.q;
    M3 rot_bar = bar.rot;
    if (kind == FREE || kind == BALL || kind == HINGE) {
        Q4 turned_bar = bar.q + matrix_adjoint(body.q, bar.rot);
        Q4 turn = kind == FREE ? q4(q + 3) : (kind == BALL ? q4(q) : about(axis, q[0]));
        Q4 turn_bar = conj(f.q) * turned_bar;
        frame_bar = turned_bar * conj(turn);
        rot_bar = m3_zero();
        if (kind == FREE) {
            store(q4(q_bar + 3) + turn_bar, q_bar + 3);
            store(tmul_add(f.rot, p_bar, v3(q_bar)), q_bar);
            store(v3(qd_bar) + v_bar.a, qd_bar);
            store(v3(qd_bar + 3) + v_bar.l, qd_bar + 3);
        } else if (kind == BALL) {
            store(q4(q_bar) + turn_bar, q_bar);
        } else {
            q_bar[0] += 0.5f * (turn.w * dot(turn_bar.v, axis) - dot(turn.v, axis) * turn_bar.w);
        }
        if (kind != FREE) {
            for (int k = 0; k < dofs; k++) {
                S6 of_axis = rate_bar * qd[k] + b.axis[QD_AT[i] + k];
                p_bar = p_bar + cross(s[k].a, of_axis.l);
                add_outer(rot_bar, cross_add(of_axis.l, body.p, of_axis.a), kind == BALL ? unit(k).a : axis);
            }
        }
    } else if (kind == SLIDE) {
        S6 of_axis = rate_bar * qd[0] + b.axis[QD_AT[i]];
        q_bar[0] += dot(s[0].l, p_bar);
        add_outer(rot_bar, scale_add(p_bar, q[0], of_axis.l), axis);
    }
    if (TURNED[i]) {
        frame_bar = (frame_bar + matrix_adjoint(f.q, rot_bar)) * conj(q4(numbers(i) + ROTATION));
        rot_bar = m3_zero();
    }
    add_outer(rot_bar, p_bar, v3(numbers(i) + POSITION));
    b.body[i] = {p_bar, frame_bar, rot_bar, v_bar, bar.a, bar.f};
}
