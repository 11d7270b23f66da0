// Sums over the threads of an environment, LANES neighbours of a warp. All threads of the warp take part.
// defines: env_sum env_max
#pragma once
#include "common/reduce.cuh"
#include "common/spatial.cuh"
#include "robot.cuh"

static_assert(32 % LANES == 0, "the threads of an environment lie in one warp");

// To all of them, in the same order everywhere.
DEVICE float env_sum(float x) {
#pragma unroll
    for (int o = 1; o < LANES; o <<= 1) x += __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}
DEVICE V3 env_sum(V3 x) { return {env_sum(x.x), env_sum(x.y), env_sum(x.z)}; }
DEVICE S6 env_sum(S6 x) { return {env_sum(x.a), env_sum(x.l)}; }
DEVICE M3 env_sum(const M3& m) { return {{env_sum(m.r[0]), env_sum(m.r[1]), env_sum(m.r[2])}}; }

DEVICE float env_max(float x) {
#pragma unroll
    for (int o = 1; o < LANES; o <<= 1) {
        float other = __shfl_xor_sync(ALL_LANES, x, o);
        x = x < other ? other : x;
    }
    return x;
}
