// Scalar functions with the accuracy of the CPU kernels.
// defines: finite mish mish_grad clampf
#pragma once
#include "common/types.cuh"

DEVICE bool finite(float x) { return fabsf(x) <= 3.402823466e38f; }

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
