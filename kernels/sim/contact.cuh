// The ground at one point of a body, and its adjoint. Mathematics: src/sim/contact.rs.
#pragma once
#include "sim/body.cuh"

// Minus the wrench of the ground at one point. Without a branch: a point in the air has no depth, so no force, and the
// points of a body are computed side by side.
DEVICE S6 contact(const Body& b, V3 point, float radius, float stiffness, float damping, float viscosity, float friction,
                  float ground) {
    float height = dot(b.rot.r[1], point) + (b.p.y - radius - ground);
    V3 x = v3(dot(b.rot.r[0], point) + b.p.x, height + ground, dot(b.rot.r[2], point) + b.p.z);
    float depth = height < 0.f ? -height : 0.f;
    V3 u = cross_add(b.v.a, x, b.v.l);
    float normal = depth * fmaf(damping, -(u.y < 0.f ? u.y : 0.f), stiffness);
    float square = fmaf(u.x, u.x, u.z * u.z);
    bool sliding = 0.f < square;
    float inverse = inverse_sqrt(sliding ? square : 1.f), cap = friction * depth, drag = viscosity * (square * inverse);
    float ratio = sliding ? (drag < cap ? viscosity : cap * inverse) : 0.f;
    V3 f = v3(ratio * u.x, -normal, ratio * u.z);
    return {cross(x, f), f};
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
    float inverse = inverse_sqrt(sliding ? square : 1.f), cap = friction * depth, drag = viscosity * (square * inverse);
    bool viscous = drag < cap;
    float ratio = sliding ? (viscous ? viscosity : cap * inverse) : 0.f;
    V3 f = v3(ratio * u.x, -(depth * push), ratio * u.z);

    V3 g = cross_add(f_bar.a, x, f_bar.l), x_bar = cross(f, f_bar.a);
    float dx = u.x * inverse, dz = u.z * inverse, along = fmaf(g.x, dx, g.z * dz);
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
