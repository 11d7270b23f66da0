// The epilogues of layers, by number.
// defines: Epilogue
#pragma once
#include "common/numerics.cuh"
#include "common/types.cuh"

enum Epilogue { BIAS, NORM_MISH, NORM_SIMPLEX, MISH_NORM };
