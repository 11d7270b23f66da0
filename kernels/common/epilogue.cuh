// The epilogues of layers, by number.
// defines: Epilogue NORM_EPSILON
#pragma once
#include "common/types.cuh"

enum Epilogue { BIAS, NORM_MISH, NORM_SIMPLEX, MISH_NORM };

// Beside the variance in LayerNorm.
constexpr float NORM_EPSILON = 1e-5f;
