// A body of any robot: its inertia, the wrench that its motion takes, and the adjoints of both. Mathematics:
// src/sim/inertia.rs.
// defines: Root Body Inertial Bar and their functions
#pragma once
#include "common/math.cuh"
#include "common/reduce.cuh"
#include "common/spatial.cuh"
#include "robot.cuh"

// Numbers of a contact point.
enum { POINT, RADIUS = 3, STIFFNESS, CONTACT_DAMPING, VISCOSITY, FRICTION, CONTACT };

// The free root of a robot, as all threads of its environment know it: position, quaternion and twist in world axes,
// about the reference point.
struct Root {
    V3 p;
    Q4 r;
    V3 omega, v;
};
DEVICE void load_root(const float* q, const float* qd, Root& s) {
    s.p = v3(q), s.r = q4(q + 3), s.omega = v3(qd), s.v = v3(qd + 3);
}
DEVICE void store_root(const Root& s, float* q, float* qd) {
    q[0] = s.p.x, q[1] = s.p.y, q[2] = s.p.z, q[3] = s.r.v.x, q[4] = s.r.v.y, q[5] = s.r.v.z, q[6] = s.r.w;
    qd[0] = s.omega.x, qd[1] = s.omega.y, qd[2] = s.omega.z, qd[3] = s.v.x, qd[4] = s.v.y, qd[5] = s.v.z;
}

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

// Cotangents of a body; those of com and back follow from p and rot. `f`: of its wrench, a twist.
struct Bar {
    V3 p;
    Q4 q;
    M3 rot;
    S6 v, a, f;
};
DEVICE Bar bar_zero() { return {v3(0.f, 0.f, 0.f), q4_zero(), m3_zero(), s6_zero(), s6_zero(), s6_zero()}; }

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
