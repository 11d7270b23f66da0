// What the host says before an epoch and learns after it. Both lie in a ring of pinned memory of the host, one row an
// epoch, so that neither side waits for the other: the host writes rows ahead and reads rows when it likes.
#include "common/math.cuh"

// Numbers before the first row: the counter of epochs, and room to a multiple of what is fetched at once.
constexpr u32 HEAD = 16;

DEVICE u32* row(u32* ring, u32 rows, u32 width) { return ring + HEAD + (size_t)(ring[0] % rows) * width; }

// Copies spans to their places in a row, or from there.
DEVICE void move(const Span* spans, u32 count, u32* row, bool to_row) {
    for (u32 i = 0; i < count; i++) {
        u32 *words = (u32*)spans[i].at, *at = row + spans[i].place;
        for (u32 k = ELEMENT; k < spans[i].len; k += gridDim.x * blockDim.x) {
            if (to_row) at[k] = words[k];
            else words[k] = at[k];
        }
    }
}

// This epoch's inputs to their variables. All numbers are finite so far.
DEVICE void epoch_prologue(u32* ring, const Span* inputs, u32 count, u32 rows, u32 width) {
    u32* at = row(ring, rows, width);
    if (ELEMENT == 0) at[0] = 0;
    move(inputs, count, at, false);
}

// Marks this epoch if a number is infinite or not a number. All who write the mark write the same.
DEVICE void epoch_check_finite(u32* ring, const Span* checked, u32 count, u32 rows, u32 width) {
    bool sound = true;
    for (u32 i = 0; i < count; i++) {
        const float* x = (const float*)checked[i].at;
        for (u32 k = ELEMENT; k < checked[i].len; k += gridDim.x * blockDim.x) sound = sound && finite(x[k]);
    }
    if (!sound) row(ring, rows, width)[0] = 1;
}

// One block: the outputs to this epoch's row; then the epoch is over.
DEVICE void epoch_epilogue(u32* ring, const Span* outputs, u32 count, u32 rows, u32 width) {
    move(outputs, count, row(ring, rows, width), true);
    __syncthreads();
    if (threadIdx.x == 0) ring[0] += 1;
}
