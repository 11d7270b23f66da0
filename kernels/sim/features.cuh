// What an environment shows, and the adjoint. Mathematics: src/env/feature.rs. What belongs to a coordinate, a dof or
// an entry of the action is computed by the thread that owns it, what belongs to the root by all.
// defines: observe_coordinate observe_dof observe_action observe_root and their adjoints, action_of, driven, gain
#pragma once
#include "sim/step.cuh"

// The entry of the action that drives a dof, if driven() says that there is one.
DEVICE constexpr int action_of(int dof) { return dof - ACTION_FIRST; }
DEVICE constexpr bool driven(int i) { return (EVEN && ALL_DRIVEN) || (i >= 0 && i < ACT); }
DEVICE float gain(int i) { return EQUAL_GAINS ? GAIN : GAINS[i]; }

DEVICE float clip(float a) { return a < -1.f ? -1.f : (1.f < a ? 1.f : a); }
// Adjoint of clip: the end points pass their cotangent on, or half of it.
DEVICE float clip_adjoint(float a, float bar) {
    float size = fabsf(a);
    return size < 1.f ? bar : (size <= 1.f ? (1.f - TIE) * bar : 0.f);
}

// `put(i, x)` for every entry i of the observation that coordinate k, of value q, gives.
template <class Put>
DEVICE void observe_coordinate(int k, float q, Put put) {
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == COORDINATES && (ALL_SHOWN || (k >= x.first && k < x.first + x.width))) put(x.at + k - x.first, q);
        if (x.kind == SINE && k == x.first) put(x.at, sinf(q));
        if (x.kind == COSINE && k == x.first) put(x.at, cosf(q));
    }
}

// The cotangent of coordinate k from those of the observation: the part that does not depend on its value.
template <class Bar>
DEVICE float observe_coordinate_adjoint(int k, Bar bar) {
    float sum = 0.f;
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == COORDINATES && (ALL_SHOWN || (k >= x.first && k < x.first + x.width))) sum += bar(x.at + k - x.first);
    }
    return sum;
}

// The part that does: sines and cosines.
template <class Bar>
DEVICE float observe_angle_adjoint(int k, float q, Bar bar) {
    float sum = 0.f;
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == SINE && k == x.first) sum += cosf(q) * bar(x.at);
        if (x.kind == COSINE && k == x.first) sum -= sinf(q) * bar(x.at);
    }
    return sum;
}

template <class Put>
DEVICE void observe_dof(int k, float qd, Put put) {
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == VELOCITIES && (ALL_SHOWN || (k >= x.first && k < x.first + x.width)))
            put(x.at + k - x.first, x.scale * qd);
    }
}

template <class Bar>
DEVICE float observe_dof_adjoint(int k, Bar bar) {
    float sum = 0.f;
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == VELOCITIES && (ALL_SHOWN || (k >= x.first && k < x.first + x.width)))
            sum += x.scale * bar(x.at + k - x.first);
    }
    return sum;
}

template <class Put>
DEVICE void observe_action(int i, float action, Put put) {
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == ACTIONS) put(x.at + i, x.scale != 0.f ? action : 0.f);
    }
}

template <class Bar>
DEVICE float observe_action_adjoint(int i, Bar bar) {
    float sum = 0.f;
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == ACTIONS && x.scale != 0.f) sum += bar(x.at + i);
    }
    return sum;
}

// The way from the root to a place on the ground, at the root's height.
DEVICE V3 way(const Root& s, const Feature& x) { return v3(x.x - s.p.x, 0.f, x.z - s.p.z); }
DEVICE Q4 from_start(const Root& s) { return s.r * Q4{v3(-START_X, -START_Y, -START_Z), START_W}; }

// The entries that belong to the root.
template <class Put>
DEVICE void observe_root(const Root& s, Put put) {
    if (!OF_ROOT) return;
    V3 velocity = cross_add_exact(s.omega, s.p, s.v);
    M3 turned = {};
    if (PROJECTS) turned = matrix(from_start(s));
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == HEIGHT) put(x.at, s.p.y);
        if (x.kind == ROOT_ROTATION) put(x.at, s.r.v.x), put(x.at + 1, s.r.v.y), put(x.at + 2, s.r.v.z), put(x.at + 3, s.r.w);
        if (x.kind == LINEAR_VELOCITY) put(x.at, velocity.x), put(x.at + 1, velocity.y), put(x.at + 2, velocity.z);
        if (x.kind == ANGULAR_VELOCITY) put(x.at, s.omega.x), put(x.at + 1, s.omega.y), put(x.at + 2, s.omega.z);
        if (x.kind == UP) put(x.at, turned.r[1].y);
        if (x.kind == HEADING) {
            V3 target = way(s, x);
            float distance = sqrtf(dot(target, target));
            put(x.at, dot(column(turned, 0), target) / (distance > NEAREST ? distance : NEAREST));
        }
    }
}

// Adds to the cotangents of the root from those of its entries.
template <class Bar>
DEVICE void observe_root_adjoint(const Root& s, Bar bar, Root& t) {
    if (!OF_ROOT) return;
    V3 zero = v3(0.f, 0.f, 0.f), velocity = zero, omega = zero, first = zero, way_bar = zero;
    Q4 rotation = {zero, 0.f}, q = s.r;
    float height = 0.f, up = 0.f;
    if (PROJECTS) q = from_start(s);
#pragma unroll
    for (int f = 0; f < FEATURE_COUNT; f++) {
        Feature x = FEATURES[f];
        if (x.kind == HEIGHT) height += bar(x.at);
        if (x.kind == ROOT_ROTATION)
            rotation = rotation + Q4{v3(bar(x.at), bar(x.at + 1), bar(x.at + 2)), bar(x.at + 3)};
        if (x.kind == LINEAR_VELOCITY) velocity = velocity + v3(bar(x.at), bar(x.at + 1), bar(x.at + 2));
        if (x.kind == ANGULAR_VELOCITY) omega = omega + v3(bar(x.at), bar(x.at + 1), bar(x.at + 2));
        if (x.kind == UP) up += bar(x.at);
        if (x.kind == HEADING) {
            V3 target = way(s, x), heading = column(matrix(q), 0);
            float norm = sqrtf(dot(target, target));
            bool far = NEAREST < norm;
            float inverse = 1.f / (far ? norm : NEAREST), pull = bar(x.at);
            V3 unit = target * inverse;
            first = first + unit * pull;
            way_bar = way_bar + (heading - unit * (far ? dot(heading, unit) : 0.f)) * (pull * inverse);
        }
    }
    t.v = t.v + velocity;
    t.omega = t.omega + omega + cross(s.p, velocity);
    V3 p_bar = cross(velocity, s.omega);
    p_bar.y += height;
    p_bar.x -= way_bar.x;
    p_bar.z -= way_bar.z;
    t.r = t.r + rotation;
    if (PROJECTS) {
        M3 m = {{v3(first.x, 0.f, 0.f), v3(first.y, up, 0.f), v3(first.z, 0.f, 0.f)}};
        t.r = t.r + matrix_adjoint(q, m) * Q4{v3(START_X, START_Y, START_Z), START_W};
    }
    t.p = t.p + p_bar;
}
