// What the host says before a round of programs and learns after it. Both lie in pinned memory of the host, one row a
// round, so that neither side waits for the other: the host writes rows ahead and reads rows when it likes.
#include "common/math.cuh"

// Numbers before the first row: the counter of rounds, and room to a multiple of what is fetched at once.
constexpr u32 HEAD = 16;

DEVICE u32* row(u32* mail, u32 rows, u32 width) { return mail + HEAD + (size_t)(mail[0] % rows) * width; }

DEVICE void move(const Spans& s, u32* at, bool out) {
    for (u32 i = 0; i < s.count; i++) {
        u32* to = (u32*)s.at[i];
        for (u32 k = threadIdx.x; k < s.len[i]; k += blockDim.x) {
            if (out) at[k] = to[k];
            else to[k] = at[k];
        }
        at += s.len[i];
    }
}

// One block: this round's orders to their variables. Nothing is wrong yet.
DEVICE void round_begin(u32* mail, Spans orders, u32 rows, u32 width) {
    u32* at = row(mail, rows, width);
    if (threadIdx.x == 0) at[0] = 0;
    move(orders, at + 1, false);
}

// Raises the alarm of this round if a number is infinite or not a number. All who write it write the same.
DEVICE void round_watch(u32* mail, Spans watched, u32 rows, u32 width) {
    bool sound = true;
    for (u32 i = 0; i < watched.count; i++) {
        const float* x = (const float*)watched.at[i];
        for (u32 k = ELEMENT; k < watched.len[i]; k += gridDim.x * blockDim.x) sound = sound && finite(x[k]);
    }
    if (!sound) row(mail, rows, width)[0] = 1;
}

// One block: the reports to this round's row, `from` words into it; then the round is over.
DEVICE void round_end(u32* mail, Spans reports, u32 from, u32 rows, u32 width) {
    move(reports, row(mail, rows, width) + from, true);
    __syncthreads();
    if (threadIdx.x == 0) mail[0] += 1;
}
