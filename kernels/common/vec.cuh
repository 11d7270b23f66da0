// Three-vectors, 3x3 matrices by rows and quaternions (x, y, z, w), as src/sim/{vec3,quat}.rs.
// defines: V3 M3 Q4 and their functions
#pragma once
#include "common/math.cuh"

struct V3 {
    float x, y, z;
};
DEVICE V3 v3(float x, float y, float z) { return {x, y, z}; }
DEVICE V3 v3(const float* a) { return {a[0], a[1], a[2]}; }
DEVICE void store(V3 v, float* a) { a[0] = v.x, a[1] = v.y, a[2] = v.z; }
DEVICE V3 operator+(V3 a, V3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE V3 operator-(V3 a, V3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
DEVICE V3 operator-(V3 a) { return {-a.x, -a.y, -a.z}; }
DEVICE V3 operator*(V3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
// a s + b
DEVICE V3 scale_add(V3 a, float s, V3 b) { return {fmaf(a.x, s, b.x), fmaf(a.y, s, b.y), fmaf(a.z, s, b.z)}; }
DEVICE float dot(V3 a, V3 b) { return fmaf(a.x, b.x, fmaf(a.y, b.y, a.z * b.z)); }
DEVICE V3 cross(V3 a, V3 b) {
    return {fmaf(a.y, b.z, -(a.z * b.y)), fmaf(a.z, b.x, -(a.x * b.z)), fmaf(a.x, b.y, -(a.y * b.x))};
}
// a x b + c
DEVICE V3 cross_add(V3 a, V3 b, V3 c) {
    return {fmaf(a.y, b.z, fmaf(-a.z, b.y, c.x)), fmaf(a.z, b.x, fmaf(-a.x, b.z, c.y)),
            fmaf(a.x, b.y, fmaf(-a.y, b.x, c.z))};
}

// a b - c d + e with the round-off of products and sums carried along.
DEVICE float minor_add(float a, float b, float c, float d, float e) {
    float p = __fmul_rn(a, b), r = -__fmul_rn(c, d);
    float low = __fadd_rn(fmaf(a, b, -p), -fmaf(c, d, r));
    float s = __fadd_rn(p, r), s_b = __fadd_rn(s, -p);
    float s_low = __fadd_rn(__fadd_rn(p, -__fadd_rn(s, -s_b)), __fadd_rn(r, -s_b));
    float t = __fadd_rn(e, s), t_b = __fadd_rn(t, -e);
    float t_low = __fadd_rn(__fadd_rn(e, -__fadd_rn(t, -t_b)), __fadd_rn(s, -t_b));
    return t + (t_low + (s_low + low));
}
// a x b + c, exact to round-off: moving a twist between far points cancels large terms.
DEVICE V3 cross_add_exact(V3 a, V3 b, V3 c) {
    return {minor_add(a.y, b.z, a.z, b.y, c.x), minor_add(a.z, b.x, a.x, b.z, c.y), minor_add(a.x, b.y, a.y, b.x, c.z)};
}

struct M3 {
    V3 r[3];
};
DEVICE V3 column(const M3& m, int k) {
    return k == 0 ? v3(m.r[0].x, m.r[1].x, m.r[2].x)
                  : (k == 1 ? v3(m.r[0].y, m.r[1].y, m.r[2].y) : v3(m.r[0].z, m.r[1].z, m.r[2].z));
}
DEVICE M3 transpose(const M3& m) { return {{column(m, 0), column(m, 1), column(m, 2)}}; }
DEVICE V3 mul(const M3& m, V3 v) { return {dot(m.r[0], v), dot(m.r[1], v), dot(m.r[2], v)}; }
DEVICE V3 mul_add(const M3& m, V3 v, V3 b) {
    auto row = [&](V3 r, float c) { return fmaf(r.x, v.x, fmaf(r.y, v.y, fmaf(r.z, v.z, c))); };
    return {row(m.r[0], b.x), row(m.r[1], b.y), row(m.r[2], b.z)};
}
// Transposed products.
DEVICE V3 tmul(const M3& m, V3 v) { return scale_add(m.r[0], v.x, scale_add(m.r[1], v.y, m.r[2] * v.z)); }
DEVICE V3 tmul_add(const M3& m, V3 v, V3 b) {
    return scale_add(m.r[0], v.x, scale_add(m.r[1], v.y, scale_add(m.r[2], v.z, b)));
}
DEVICE M3 mul(const M3& a, const M3& b) { return {{tmul(b, a.r[0]), tmul(b, a.r[1]), tmul(b, a.r[2])}}; }
DEVICE M3 operator*(const M3& m, float s) { return {{m.r[0] * s, m.r[1] * s, m.r[2] * s}}; }
DEVICE M3 operator+(const M3& a, const M3& b) { return {{a.r[0] + b.r[0], a.r[1] + b.r[1], a.r[2] + b.r[2]}}; }
// The matrix of x -> c x x, and c's cotangent from the matrix's.
DEVICE M3 skew(V3 c) { return {{v3(0.f, -c.z, c.y), v3(c.z, 0.f, -c.x), v3(-c.y, c.x, 0.f)}}; }
DEVICE V3 skew_adjoint(const M3& m) { return {m.r[2].y - m.r[1].z, m.r[0].z - m.r[2].x, m.r[1].x - m.r[0].y}; }
DEVICE M3 m3_zero() { return {{v3(0.f, 0.f, 0.f), v3(0.f, 0.f, 0.f), v3(0.f, 0.f, 0.f)}}; }
// M += a b^T
DEVICE void add_outer(M3& m, V3 a, V3 b) {
    m.r[0] = scale_add(b, a.x, m.r[0]);
    m.r[1] = scale_add(b, a.y, m.r[1]);
    m.r[2] = scale_add(b, a.z, m.r[2]);
}

struct Q4 {
    V3 v;
    float w;
};
DEVICE Q4 q4(const float* a) { return {v3(a), a[3]}; }
DEVICE void store(Q4 q, float* a) { store(q.v, a), a[3] = q.w; }
DEVICE Q4 operator*(Q4 a, Q4 b) {
    return {cross_add(a.v, b.v, scale_add(b.v, a.w, a.v * b.w)), fmaf(a.w, b.w, -dot(a.v, b.v))};
}
// Rotation by `angle` about the unit vector `axis`.
DEVICE Q4 about(V3 axis, float angle) {
    float s, c;
    sine_cosine(angle * 0.5f, &s, &c);
    return {axis * s, c};
}
// A polynomial of the four numbers that never normalises.
DEVICE M3 matrix(Q4 q) {
    float x = q.v.x, y = q.v.y, z = q.v.z, x2 = x + x, y2 = y + y, z2 = z + z, w2 = q.w + q.w;
    float d = fmaf(w2, q.w, -1.f);
    float xy = x2 * y, xz = x2 * z, yz = y2 * z, wx = w2 * x, wy = w2 * y, wz = w2 * z;
    return {{v3(fmaf(x2, x, d), xy - wz, xz + wy), v3(xy + wz, fmaf(y2, y, d), yz - wx),
             v3(xz - wy, yz + wx, fmaf(z2, z, d))}};
}
// The zero quaternion becomes the identity.
DEVICE Q4 normalised(Q4 q) {
    float square = fmaf(q.w, q.w, dot(q.v, q.v));
    bool positive = 0.f < square;
    float inverse = inverse_sqrt(positive ? square : 1.f);
    return {q.v * inverse, positive ? q.w * inverse : 1.f};
}

DEVICE Q4 q4_zero() { return {v3(0.f, 0.f, 0.f), 0.f}; }
DEVICE Q4 operator+(Q4 a, Q4 b) { return {a.v + b.v, a.w + b.w}; }
DEVICE Q4 conj(Q4 q) { return {-q.v, q.w}; }
// Adjoint of `matrix`: the quaternion's cotangent from the matrix's.
DEVICE Q4 matrix_adjoint(Q4 q, const M3& m) {
    float x = q.v.x, y = q.v.y, z = q.v.z;
    float xy = m.r[0].y + m.r[1].x, xz = m.r[0].z + m.r[2].x, yz = m.r[2].y + m.r[1].z;
    V3 turn = skew_adjoint(m);
    V3 v = v3(fmaf(2.f * m.r[0].x, x, fmaf(xy, y, xz * z)), fmaf(2.f * m.r[1].y, y, fmaf(xy, x, yz * z)),
              fmaf(2.f * m.r[2].z, z, fmaf(xz, x, yz * y)));
    float trace = m.r[0].x + m.r[1].y + m.r[2].z;
    return {scale_add(turn, q.w, v) * 2.f, fmaf(2.f * trace, q.w, dot(q.v, turn)) * 2.f};
}
// Adjoint of `normalised` at q; nothing for the zero quaternion.
DEVICE Q4 normalised_adjoint(Q4 q, Q4 bar) {
    float square = fmaf(q.w, q.w, dot(q.v, q.v));
    float inverse = 0.f < square ? inverse_sqrt(square) : 0.f;
    Q4 unit = {q.v * inverse, q.w * inverse};
    float along = -fmaf(unit.w, bar.w, dot(unit.v, bar.v));
    return {scale_add(unit.v, along, bar.v) * inverse, fmaf(unit.w, along, bar.w) * inverse};
}
