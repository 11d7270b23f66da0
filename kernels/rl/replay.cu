// Replay: whole episodes in a ring of rows, windows drawn from it. What the numbers mean: src/ops/replay.
#include "common/philox.cuh"

// Numbers of a row: observation, action, reward and, where environments of several tasks are recorded (`each` of each
// task, else 0), the task.
DEVICE u32 row_width(u32 o, u32 a, u32 each) { return o + a + 1 + (each ? 1 : 0); }

enum Counter { ROWS, HEAD, COUNT, STARTS, EPISODES, ELIGIBLE };

struct Episode {
    u32 start, rows, before;
};

DEVICE u32 min_u(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u32 less(u32 a, u32 b) { return a > b ? a - b : 0u; }

// The queue of episodes that a window still fits into. `len` entries of three numbers.
struct Directory {
    u32 *entries, *counters;
    u32 len, capacity, horizon;

    __device__ Episode episode(u32 i) const {
        const u32* e = entries + (size_t)((counters[HEAD] + i) % len) * 3;
        return {e[0], e[1], e[2]};
    }
    __device__ void set(u32 i, Episode e) {
        u32* to = entries + (size_t)((counters[HEAD] + i) % len) * 3;
        to[0] = e.start, to[1] = e.rows, to[2] = e.before;
    }
    __device__ u32 starts() const { return counters[COUNT] == 0 ? 0u : counters[STARTS] - episode(0).before; }

    // First row of window i in the order of the rows, by bisection.
    __device__ u32 window(u32 i) const {
        u32 first = episode(0).before, low = 0, high = counters[COUNT];
        while (high - low > 1) {
            u32 middle = low + (high - low) / 2;
            if (episode(middle).before - first <= i) low = middle;
            else high = middle;
        }
        Episode e = episode(low);
        return e.start + (i - (e.before - first));
    }
    // Keeps row numbers away from 2^32; no slot changes.
    __device__ void rebase() {
        u32 rows = counters[ROWS];
        if (rows < 0x80000000u) return;
        u32 turns = (rows - capacity) / capacity * capacity;
        counters[ROWS] -= turns;
        for (u32 i = 0; i < counters[COUNT]; i++) {
            Episode e = episode(i);
            e.start -= turns;
            set(i, e);
        }
    }
    // Forgets the rows before `readable`.
    __device__ void cut(u32 readable) {
        while (counters[COUNT] > 0) {
            Episode e = episode(0);
            if (e.start >= readable) return;
            u32 lost = readable - e.start;
            if (e.rows > lost + horizon) {
                set(0, {readable, e.rows - lost, e.before + lost});
                return;
            }
            counters[HEAD] = (counters[HEAD] + 1) % len;
            counters[COUNT] -= 1;
        }
    }
    // Reserves the next rows for an episode; the number of the first one.
    __device__ u32 append(u32 rows) {
        u32 start = counters[ROWS], end = start + rows, readable = less(end, capacity);
        cut(readable);
        counters[ROWS] = end;
        counters[EPISODES] += 1;
        // An episode longer than the ring overwrites its own beginning.
        u32 first = start > readable ? start : readable;
        rows = end - first;
        if (rows > horizon) {
            u32 before = counters[STARTS];
            set(counters[COUNT], {first, rows, before});
            counters[STARTS] = before + (rows - horizon);
            counters[COUNT] += 1;
            counters[ELIGIBLE] += 1;
        }
        return start;
    }
};

// floor(x n / 2^64) for the 64-bit number x made of two words.
DEVICE u32 below(u32 n, u32 high, u32 low) {
    return (u32)(((u64)high * n + (((u64)low * n) >> 32)) >> 32);
}

// Row 0 of an episode: the observation, and nothing for action and reward.
DEVICE void first_row(float* row, const float* obs, u32 o, u32 w) {
    for (u32 i = threadIdx.x; i < w; i += blockDim.x) row[i] = i < o ? obs[i] : __uint_as_float(0x7fc00000u);
}

// One block an environment.
DEVICE void replay_begin(const float* obs, float* staging, u32* lengths, u32* ready, u32* directory, u32* counters,
                         u32 len, u32 envs, u32 horizon, u32 capacity, u32 rows, u32 o, u32 a, u32 each) {
    u32 n = blockIdx.x, w = row_width(o, a, each);
    first_row(staging + (size_t)n * rows * w, obs + (size_t)n * o, o, w);
    if (threadIdx.x != 0) return;
    lengths[n] = 1;
    // One row is too few for a window: only the ring counts.
    if (n == 0) ready[0] = Directory{directory, counters, len, capacity, horizon}.starts();
}

// The new row of each environment: one block an environment.
DEVICE void replay_stage(const float* obs, const float* action, const float* reward, float* staging, u32* lengths,
                         u32 rows, u32 o, u32 a, u32 each) {
    u32 n = blockIdx.x, w = row_width(o, a, each), length = lengths[n];
    __syncthreads();  // everyone has read the length before it grows
    float* row = staging + ((size_t)n * rows + length) * w;
    for (u32 i = threadIdx.x; i < w; i += blockDim.x)
        row[i] = i < o          ? obs[(size_t)n * o + i]
                 : i < o + a    ? action[(size_t)n * a + i - o]
                 : i == o + a   ? reward[n]
                                : (float)(n / each);
    if (threadIdx.x == 0) lengths[n] = length + 1;
}

// One block: rows of the ring for the episodes that end, in environment order; 0 for those that go on, else first row +
// 1.
DEVICE void replay_reserve(const float* done, const u32* lengths, u32* directory, u32* counters, u32* ready, u32* moves,
                           u32 len, u32 envs, u32 horizon, u32 capacity, u32 rows, u32 unfinished) {
    __shared__ u32 ended[256], length[256], staged;
    Directory d{directory, counters, len, capacity, horizon};
    if (threadIdx.x == 0) {
        d.rebase();
        staged = 0;
    }
    for (u32 from = 0; from < envs; from += 256) {
        u32 n = from + threadIdx.x;
        if (n < envs) {
            length[threadIdx.x] = lengths[n];
            ended[threadIdx.x] = done[n] > 0.5f || lengths[n] == rows;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            for (u32 i = 0; i < min_u(256, envs - from); i++) {
                if (ended[i]) ended[i] = d.append(length[i]) + 1;
                // An episode that ends leaves one row behind, too few for a window.
                else if (unfinished) staged += less(length[i], horizon);
            }
        }
        __syncthreads();
        if (n < envs) moves[n] = ended[threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.x == 0) ready[0] = d.starts() + staged;
}

// Finished episodes to their place in the ring, and row 0 of the next ones: one block an environment.
DEVICE void replay_flush(const float* next, float* staging, u32* lengths, float* ring, const u32* counters,
                         const u32* moves, u32 capacity, u32 rows, u32 o, u32 a, u32 each) {
    u32 n = blockIdx.x, w = row_width(o, a, each), to = moves[n];
    if (to == 0) return;
    u32 start = to - 1, length = lengths[n];
    // Rows that this very call overwrites are skipped, so that no two blocks write the same slot.
    u32 first = min_u(less(less(counters[ROWS], capacity), start), length);
    float* from = staging + (size_t)n * rows * w;
    for (u32 i = threadIdx.x; i < (length - first) * w; i += blockDim.x) {
        u32 row = first + i / w;
        ring[(size_t)((start + row) % capacity) * w + i % w] = from[(size_t)row * w + i % w];
    }
    __syncthreads();
    first_row(from, next + (size_t)n * o, o, w);
    if (threadIdx.x == 0) lengths[n] = 1;
}

// What all draws share, see src/ops/replay/cpu.rs: four numbers, then environments and the starts before each. One
// block.
DEVICE void replay_prepare(const u32* lengths, u32* directory, u32* counters, u32* draws, u32* setup, u32 len, u32 envs,
                           u32 horizon, u32 unfinished) {
    __shared__ u32 length[256];
    u32 count = 0, starts = 0;
    for (u32 from = 0; from < envs; from += 256) {
        if (from + threadIdx.x < envs) length[threadIdx.x] = lengths[from + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0 && unfinished) {
            for (u32 i = 0; i < min_u(256, envs - from); i++) {
                if (length[i] <= horizon) continue;
                setup[4 + count] = from + i;
                setup[4 + envs + count] = starts;
                count += 1;
                starts += length[i] - horizon;
            }
        }
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    setup[0] = count;
    setup[1] = Directory{directory, counters, len, 0, horizon}.starts();
    setup[2] = starts;
    setup[3] = draws[0];
    draws[0] += 1;
}

// One block a window: observations [H+1, B, O], actions [H, B, A], rewards [H, B], tasks [B] where there are several.
DEVICE void replay_draw(const float* ring, const float* staging, const u32* lengths, u32* directory, u32* counters,
                        const u32* setup, float* obs, float* act, float* rew, u32* tasks, u64 seed, u32 stream, u32 len,
                        u32 envs, u32 horizon, u32 capacity, u32 rows, u32 o, u32 a, u32 by_row, u32 each) {
    __shared__ u32 kind, first;  // 0: nothing to draw from, 1: a row of the ring, 2: a row of the staging area
    u32 b = blockIdx.x, batch = gridDim.x, w = row_width(o, a, each);
    if (threadIdx.x == 0) {
        Directory d{directory, counters, len, capacity, horizon};
        u32 count = setup[0], in_ring = setup[1], in_staging = setup[2];
        const u32 *env = setup + 4, *before = setup + 4 + envs;
        Bits bits = Philox(seed, stream).bits(setup[3], b);
        kind = 0, first = 0;
        if (in_ring + in_staging == 0) {
        } else if (by_row) {
            u32 i = below(in_ring + in_staging, bits.v[0], bits.v[1]);
            if (i < in_ring) {
                kind = 1, first = d.window(i);
            } else {
                i -= in_ring;
                u32 low = 0, high = count;  // the last environment with no more than i starts before it
                while (high - low > 1) {
                    u32 middle = low + (high - low) / 2;
                    if (before[middle] <= i) low = middle;
                    else high = middle;
                }
                kind = 2, first = env[low] * rows + (i - before[low]);
            }
        } else {
            u32 i = below(counters[COUNT] + count, bits.v[0], bits.v[1]);
            if (i < counters[COUNT]) {
                Episode e = d.episode(i);
                kind = 1, first = e.start + below(e.rows - horizon, bits.v[2], bits.v[3]);
            } else {
                u32 n = env[i - counters[COUNT]];
                kind = 2, first = n * rows + below(lengths[n] - horizon, bits.v[2], bits.v[3]);
            }
        }
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < (horizon + 1) * w; i += blockDim.x) {
        u32 t = i / w, k = i % w;
        float x = 0.f;
        if (kind == 1) x = ring[(size_t)((first + t) % capacity) * w + k];
        if (kind == 2) x = staging[(size_t)(first + t) * w + k];
        // The action and the reward of row t + 1 lead from row t to it; those of the first row are outside.
        if (k < o) obs[((size_t)t * batch + b) * o + k] = x;
        else if (t > 0 && k < o + a) act[((size_t)(t - 1) * batch + b) * a + k - o] = x;
        else if (t > 0 && k == o + a) rew[(size_t)(t - 1) * batch + b] = x;
        // Every row but the first of an episode tells its task.
        else if (t == 1) tasks[b] = (u32)x;
    }
}
