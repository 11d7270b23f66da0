// The root's part of an observation, and its adjoint. Mathematics: src/env/ant/task.rs.
#pragma once
#include "sim/step.cuh"

constexpr int HINGES = NQD - 6, ACT = HINGES, OBS = 13 + 3 * HINGES;

// The observation entries that belong to the root: height, orientation, velocities, upright and heading.
DEVICE void observe_root(const Root& s, float (&o)[13]) {
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

// From the cotangents of the root's 13 observation entries.
DEVICE void observe_root_adjoint(const Root& s, const float (&o)[13], Root& t) {
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
