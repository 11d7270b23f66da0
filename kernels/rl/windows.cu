// Windows of recorded episodes that the host has drawn. What the numbers mean: src/ops/windows.
#include "common/math.cuh"

// One sample of `count`: o observations, a actions, r rewards, b tasks, one behind the other.
DEVICE void windows_take(const float* samples, const u32* draws, float* obs, float* act, float* rew, u32* tasks, u32 count,
                         u32 o, u32 a, u32 r, u32 b) {
    u32 i = ELEMENT, n = o + a + r + b;
    if (i >= n) return;
    float x = samples[(size_t)(draws[0] % count) * n + i];
    if (i < o) obs[i] = x;
    else if (i < o + a) act[i - o] = x;
    else if (i < o + a + r) rew[i - o - a] = x;
    else tasks[i - o - a - r] = (u32)x;
}

DEVICE void windows_count(u32* draws) {
    if (ELEMENT == 0) draws[0] += 1;
}
