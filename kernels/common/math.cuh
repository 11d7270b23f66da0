// Scalar functions with the accuracy of the CPU kernels.
// defines: finite mish mish_grad clampf inverse_sqrt sine_cosine
#pragma once
#include "common/types.cuh"

DEVICE bool finite(float x) { return fabsf(x) <= 3.402823466e38f; }

// 1 / sqrt(x) for a positive x, to two units in the last place, without a branch that the compiler cannot look across.
#ifdef CUDA_ON_CPU
DEVICE float inverse_sqrt(float x) { return 1.f / sqrtf(x); }
#else
DEVICE float inverse_sqrt(float x) { return rsqrtf(x); }
#endif

// Sine and cosine to 1e-7 for angles of up to some thousand turns, without the branch for more: quarter turns are taken
// away with pi / 2 in two parts, then polynomials fitted to the smallest largest error between -pi / 4 and pi / 4.
DEVICE void sine_cosine(float x, float* sine, float* cosine) {
    float turns = rintf(x * 0.636619772f);
    float r = fmaf(turns, 4.37113883e-8f, fmaf(turns, -1.57079637f, x)), q = r * r;
    float s = fmaf(r * q, fmaf(fmaf(-0.00019515218f, q, 0.00833216f), q, -0.16666655f), r);
    float c = fmaf(q * q, fmaf(fmaf(2.443838e-05f, q, -0.0013887367f), q, 0.041666646f), fmaf(q, -0.5f, 1.f));
    int quarter = (int)turns;
    float a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -a : a;
    *cosine = (quarter + 1) & 2 ? -b : b;
}

// NaN passes through.
DEVICE float clampf(float x, float low, float high) { return x < low ? low : (high < x ? high : x); }

// x tanh(ln(1 + e^x)); with e = e^x and n = e (e + 2) the hyperbolic tangent is n / (n + 2), and 1 above 20.
DEVICE float mish(float x) {
    float e = expf(x < 20.f ? x : 20.f);
    float n = e * (e + 2.f);
    return x * (n / (n + 2.f));
}

// Mish(x); its derivative into `slope`.
DEVICE float mish_grad(float x, float* slope) {
    float e = expf(x < 20.f ? x : 20.f);
    float n = e * (e + 2.f);
    float inv = 1.f / (n + 2.f);
    float t = n * inv;
    *slope = t + x * (4.f * e * (1.f + e) * inv * inv);
    return x * t;
}
