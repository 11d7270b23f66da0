// Flow dynamics: what stands between the layers of a velocity field, which are launches of nn/linear.cu, and the losses
// of flow matching. What is computed: src/ops/flow.
#include "common/math.cuh"
#include "common/reduce.cuh"

// State of a stage, u = x + c v (u = x without v), and its model time for every row, if they are asked for.
DEVICE void flow_stage(const float* x, const float* v, float* u, float* tau, float c, float time, u32 n, u32 rows) {
    u32 i = ELEMENT;
    if (i < n) u[i] = v ? fmaf(c, v[i], x[i]) : x[i];
    if (tau && i < rows) tau[i] = time;
}

// Rows of bias.
DEVICE void flow_bias(const float* bias, float* out, u32 width, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = bias[i % width];
}

// End of a substep: out = x + sum_s w_s v[s], also into `kept` if given.
DEVICE void flow_advance(const float* x, const float* v, float* out, float* kept, Table w, u32 stages, u32 n) {
    u32 i = ELEMENT;
    if (i >= n) return;
    float y = x[i];
    for (u32 s = 0; s < stages; s++) y = fmaf(w.v[s], v[(size_t)s * n + i], y);
    out[i] = y;
    if (kept) kept[i] = y;
}

// What du [M, D], the cotangent of a stage's state, passes on: to the substep's start, next = so_far + du, and to the
// velocity of the stage before, dv = w g + c du, of which the mean of each group of `group` columns is removed (0: of
// none; else a divisor of a block's threads, so that a block has whole groups). Without du there is nothing to add yet;
// without g the stage before is the last of the substep before, which ends where this one starts and takes no part in
// this stage: c is 0, and du is not even multiplied. Without dv there is no such stage. next may be so_far.
DEVICE void flow_back(const float* g, const float* so_far, const float* du, float* next, float* dv, float w, float c,
                      u32 group, u32 n) {
    __shared__ float part[256];
    u32 i = ELEMENT, t = threadIdx.x;
    float v = 0.f;
    if (i < n) {
        float start = 0.f;
        if (du) next[i] = start = so_far[i] + du[i];
        if (dv) {
            // Rounded by itself, whatever follows.
            float end = __fmul_rn(w, g ? g[i] : start);
            v = c != 0.f ? fmaf(c, du[i], end) : end;
        }
    }
    if (!dv) return;
    if (group) {
        part[t] = v;
        __syncthreads();
        float sum = 0.f;
        for (u32 j = t / group * group, end = j + group; j < end; j++) sum += part[j];
        v -= __fmul_rn(sum, 1.f / (float)group);
    }
    if (i < n) dv[i] = v;
}

// out [n] = the sum of h [S, n] over stages, the last one first, or added to what is there.
DEVICE void flow_gather(const float* h, float* out, u32 stages, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i >= n) return;
    float v = h[(size_t)(stages - 1) * n + i];
    if (accumulate) v = out[i] + v;
    for (u32 s = stages - 1; s-- > 0;) v += h[(size_t)s * n + i];
    out[i] = v;
}

// out += x, or out = x.
DEVICE void flow_put(const float* x, float* out, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, x[i], accumulate);
}

// y = x minus the mean of its group, or added to y: a thread takes a group. x may be y.
DEVICE void tangent(const float* x, float* y, u32 group, u32 accumulate, u32 groups) {
    u32 g = ELEMENT;
    if (g >= groups) return;
    x += (size_t)g * group;
    y += (size_t)g * group;
    float sum = 0.f;
    for (u32 i = 0; i < group; i++) sum += x[i];
    float mean = sum * (1.f / (float)group);
    for (u32 i = 0; i < group; i++) put(y + i, x[i] - mean, accumulate);
}

// Euclidean projection of a group onto the simplex: theta is the mean excess of those above the last theta. Each round
// but the last drops at least one number: where rounding lets one that fell below rise again, the iteration ends.
DEVICE void simplex_project(const float* x, float* y, u32 group, u32 groups) {
    u32 g = ELEMENT;
    if (g >= groups) return;
    x += (size_t)g * group;
    y += (size_t)g * group;
    float theta = 0.f;
    u32 above = 0xffffffffu;
    for (bool first = true;; first = false) {
        float sum = 0.f;
        u32 count = 0;
        for (u32 i = 0; i < group; i++) {
            // The first round takes all that are numbers.
            if (first ? x[i] > -3.402823466e38f : x[i] > theta) {
                sum += x[i];
                count++;
            }
        }
        if (count >= above || count == 0) break;
        above = count;
        theta = (sum - 1.f) / (float)count;
    }
    for (u32 i = 0; i < group; i++) {
        float d = x[i] - theta;
        y[i] = d > 0.f ? d : 0.f;
    }
}

// Adjoint, on the face that the point lies on.
DEVICE void simplex_project_grad(const float* dy, const float* y, float* dx, u32 group, u32 accumulate, u32 groups) {
    u32 g = ELEMENT;
    if (g >= groups) return;
    dy += (size_t)g * group;
    y += (size_t)g * group;
    dx += (size_t)g * group;
    float sum = 0.f;
    u32 count = 0;
    for (u32 i = 0; i < group; i++) {
        if (y[i] > 0.f) {
            sum += dy[i];
            count++;
        }
    }
    float mean = sum / (float)(count > 0 ? count : 1);
    for (u32 i = 0; i < group; i++) put(dx + i, y[i] > 0.f ? dy[i] - mean : 0.f, accumulate);
}

// z0 + tau (z1 - z0), tau of each row of d numbers.
DEVICE void interpolate(const float* z0, const float* z1, const float* tau, float* out, u32 d, u32 n) {
    u32 i = ELEMENT;
    if (i < n) out[i] = fmaf(tau[i / d], z1[i] - z0[i], z0[i]);
}

DEVICE void interpolate_grad(const float* c, const float* tau, float* out, u32 d, u32 accumulate, u32 n) {
    u32 i = ELEMENT;
    if (i < n) put(out + i, (1.f - tau[i / d]) * c[i], accumulate);
}

// Block (chunk, slice): the weighted sum of 4096 squared errors of one slice into parts[slice, chunk].
DEVICE void velocity_error_parts(const float* v, const float* z0, const float* z1, float* parts, Table w, u32 slice) {
    u32 t = blockIdx.y, from = blockIdx.x * 4096;
    float s = 0.f;
    for (u32 k = 0; k < 16; k++) {
        u32 i = from + k * 256 + threadIdx.x;
        if (i < slice) {
            size_t at = (size_t)t * slice + i;
            float d = v[at] - (z1[at] - z0[at]);
            s += d * d;
        }
    }
    s = block_sum<256>(s);
    if (threadIdx.x == 0) parts[t * gridDim.x + blockIdx.x] = s * w.v[t];
}

// Adjoint, of the velocity and of the start: 2 w_t (v - (z1 - z0)) c.
DEVICE void velocity_error_grad(const float* c, const float* v, const float* z0, const float* z1, float* out, Table w,
                                u32 slice, u32 accumulate) {
    u32 t = blockIdx.y, i = ELEMENT;
    if (i >= slice) return;
    size_t at = (size_t)t * slice + i;
    put(out + at, 2.f * w.v[t] * c[0] * (v[at] - (z1[at] - z0[at])), accumulate);
}
