// What an environment earns for an observation and the action on it, and the adjoint. Mathematics: src/env/term.rs.
// defines: reward_of reward_adjoint
#pragma once
#include "sim/features.cuh"

// Stands for infinity in lists of terms.
constexpr float UNBOUNDED = 3.0e38f;

DEVICE float cut(float x, const Term& t) {
    bool whole = t.low <= -UNBOUNDED && t.high >= UNBOUNDED;
    return whole ? x : (x < t.low ? t.low : (t.high < x ? t.high : x));
}
// Derivative of cut: at an end point the share of the inside's that the sub-gradient takes.
DEVICE float cut_slope(float x, const Term& t) {
    return t.low < x && x < t.high ? 1.f : (t.low <= x && x <= t.high ? 1.f - TIE : 0.f);
}

// The reward for the observation `obs`; `squares` is the sum of the squares of the clipped action.
DEVICE float reward_of(const float* obs, float squares) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < TERM_COUNT; i++) {
        Term t = TERMS[i];
        float value = 0.f, x = t.kind == ACTION_COST || t.kind == WRAPPED_ANGLE ? 0.f : obs[t.of] - t.offset;
        if (t.kind == LINEAR) value = t.weight * cut(x, t);
        if (t.kind == CLIPPED_QUADRATIC) {
            float h = cut(x, t);
            value = h < 0.f ? t.below * h * h : t.above * h;
        }
        if (t.kind == ANGLE) value = 1.f - x * t.weight * (x * t.weight);
        if (t.kind == SQUARED) value = t.weight * x * x;
        if (t.kind == WRAPPED_ANGLE) {
            float angle = atan2f(obs[t.of], obs[t.cosine]);
            value = t.weight * angle * angle;
        }
        if (t.kind == ACTION_COST) value = t.weight * squares;
        sum = i == 0 ? value : sum + value;
    }
    return sum;
}

// Twice the weight of the squared action: the cotangent of an entry of the clipped action is this times it and the
// reward's.
DEVICE float action_cost() {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < TERM_COUNT; i++) sum += TERMS[i].kind == ACTION_COST ? 2.f * TERMS[i].weight : 0.f;
    return sum;
}

// The cotangent of entry k of the observation `obs` from the reward's; `obs` is read only if the task is CURVED.
DEVICE float reward_adjoint(int k, float bar, const float* obs) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < TERM_COUNT; i++) {
        Term t = TERMS[i];
        bool cosine = t.kind == WRAPPED_ANGLE && k == t.cosine;
        if (t.kind == ACTION_COST || (k != t.of && !cosine)) continue;
        float x = CURVED && t.kind != WRAPPED_ANGLE ? obs[t.of] - t.offset : 0.f;
        if (t.kind == LINEAR) sum += (CURVED ? cut_slope(x, t) : 1.f) * (t.weight * bar);
        if (t.kind == CLIPPED_QUADRATIC) {
            // The parabola is flat where it meets the line.
            float slope = x < 0.f ? 2.f * t.below * x : (0.f < x ? t.above : (1.f - TIE) * t.above);
            sum += cut_slope(x, t) * slope * bar;
        }
        if (t.kind == ANGLE) sum -= 2.f * t.weight * t.weight * x * bar;
        if (t.kind == SQUARED) sum += 2.f * t.weight * x * bar;
        if (t.kind == WRAPPED_ANGLE) {
            float s = obs[t.of], c = obs[t.cosine], pull = 2.f * t.weight * atan2f(s, c) * bar / fmaf(s, s, c * c);
            sum += cosine ? -s * pull : c * pull;
        }
    }
    return sum;
}
