// Spatial vectors and inertias after Featherstone (2008), angular part first, as src/sim/spatial.rs.
// defines: S6 I6 and their functions
#pragma once
#include "common/vec.cuh"

struct S6 {
    V3 a, l;
};
DEVICE S6 s6(const float* a) { return {v3(a), v3(a + 3)}; }
DEVICE S6 s6_zero() { return {v3(0.f, 0.f, 0.f), v3(0.f, 0.f, 0.f)}; }
DEVICE S6 operator+(S6 x, S6 y) { return {x.a + y.a, x.l + y.l}; }
DEVICE S6 operator-(S6 x, S6 y) { return {x.a - y.a, x.l - y.l}; }
DEVICE S6 operator*(S6 x, float s) { return {x.a * s, x.l * s}; }
DEVICE float dot(S6 x, S6 y) {
    return fmaf(x.a.x, y.a.x, fmaf(x.a.y, y.a.y, fmaf(x.a.z, y.a.z, dot(x.l, y.l))));
}
DEVICE S6 cross_motion(S6 x, S6 y) { return {cross(x.a, y.a), cross_add(x.l, y.a, cross(x.a, y.l))}; }
DEVICE S6 cross_force(S6 x, S6 y) { return {cross_add(x.a, y.a, cross(x.l, y.l)), cross(x.a, y.l)}; }

// Number k of six.
DEVICE float part(S6 s, int k) {
    return k == 0 ? s.a.x : k == 1 ? s.a.y : k == 2 ? s.a.z : k == 3 ? s.l.x : k == 4 ? s.l.y : s.l.z;
}

// Symmetric 6x6 inertia [[aa, al], [al^T, ll]].
struct I6 {
    M3 aa, al, ll;
};
DEVICE S6 mul(const I6& m, S6 v) { return {mul_add(m.aa, v.a, mul(m.al, v.l)), tmul_add(m.al, v.a, mul(m.ll, v.l))}; }
DEVICE I6 operator+(const I6& x, const I6& y) { return {x.aa + y.aa, x.al + y.al, x.ll + y.ll}; }
