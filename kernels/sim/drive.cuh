// What the entries of the action drive, from constants of `robot.cuh`.
// defines: action_of driven gain
#pragma once
#include "sim/step.cuh"

// The entry of the action that drives a dof, if driven() says that there is one.
DEVICE constexpr int action_of(int dof) { return dof - ACTION_FIRST; }
DEVICE constexpr bool driven(int i) { return (EVEN && ALL_DRIVEN) || (i >= 0 && i < ACT); }
DEVICE float gain(int i) { return EQUAL_GAINS ? GAIN : GAINS[i]; }
