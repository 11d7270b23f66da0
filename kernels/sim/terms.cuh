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

DEVICE constexpr bool is_tolerance(const Term& t) { return t.kind >= LONG_TAIL; }

// Margins that x is away from the bounds.
DEVICE float away(float x, const Term& t) { return (x < t.low ? t.low - x : (t.high < x ? x - t.high : 0.f)) * t.below; }

DEVICE float tolerance(float x, const Term& t) {
    float d = away(x, t), s;
    if (t.below == 0.f) s = x < t.low || t.high < x ? 0.f : 1.f;
    else if (t.kind == LONG_TAIL) s = 1.f / fmaf(t.above * d, d, 1.f);
    else s = fmaxf(1.f - t.above * d * (t.kind == LINEAR_FALL ? 1.f : d), 0.f);
    return t.weight + (1.f - t.weight) * s;
}
DEVICE float tolerance_slope(float x, const Term& t) {
    float d = away(x, t), fall;
    if (t.kind == LONG_TAIL) {
        float s = 1.f / fmaf(t.above * d, d, 1.f);
        fall = 2.f * t.above * d * s * s;
    } else if (t.kind == LINEAR_FALL) {
        fall = t.above * d < 1.f ? t.above : 0.f;
    } else {
        fall = t.above * d * d < 1.f ? 2.f * t.above * d : 0.f;
    }
    float side = (x < t.low ? 1.f : (x <= t.low ? TIE : 0.f)) - (t.high < x ? 1.f : (t.high <= x ? TIE : 0.f));
    return side * fall * (1.f - t.weight) * t.below;
}

// The other factors of the product that term i is a factor of; 1 if it is none.
DEVICE float other_factors(int i, const float* obs) {
    float product = 1.f;
#pragma unroll
    for (int j = 0; j < TERM_COUNT; j++) {
        // Between j and i every term multiplies its next one.
        bool together = j != i;
        for (int k = j < i ? j : i; k < (j < i ? i : j); k++) together = together && TERMS[k].times_next;
        if (together) product *= tolerance(obs[TERMS[j].of], TERMS[j]);
    }
    return product;
}

// The reward for the observation `obs`; `squares` is the sum of the squares of the clipped action.
DEVICE float reward_of(const float* obs, float squares) {
    float sum = 0.f, product = 1.f;
    bool first = true;
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
        if (is_tolerance(t)) value = product * tolerance(x, t);
        product = t.times_next ? value : 1.f;
        if (t.times_next) continue;
        sum = first ? value : sum + value;
        first = false;
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
        if (is_tolerance(t)) sum += tolerance_slope(x, t) * other_factors(i, obs) * bar;
    }
    return sum;
}
