// A body: its inertia, the wrench that its motion takes, and the adjoints of both. Mathematics: src/sim/mass_matrix.rs.
#pragma once
#include "sim/chains.cuh"

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

DEVICE Inertial root_inertial() {
    return {ROOT_MASS, v3(ROOT_COM_X, ROOT_COM_Y, ROOT_COM_Z),
            {{v3(ROOT_I00, ROOT_I01, ROOT_I02), v3(ROOT_I10, ROOT_I11, ROOT_I12), v3(ROOT_I20, ROOT_I21, ROOT_I22)}}};
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
