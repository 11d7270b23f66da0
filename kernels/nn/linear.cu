// Epilogues of fully connected layers and their adjoints, and whole layers of a few inputs. What is computed:
// src/ops/linear. Other matrix products: nn/product.cu.
//
// A block takes R rows and all N columns of them, so that a row's LayerNorm needs no second pass over memory: each
// thread owns columns c, c + T, ... for all R rows in registers. Numbers are read once and written once.
#include "common/epilogue.cuh"
#include "common/math.cuh"
#include "common/reduce.cuh"

// Threads of a block, inputs that lie on chip at a time.
constexpr int T = 256, KT = 64;

// acc[j][r] += sum_k x[r][k] w[k, c_j] for the columns c_j = thread + j T below N. `x` rows lie `xs` apart (rows from
// `count` on count as zero), `w` rows `ws` apart. `stage` holds R x KT numbers on chip.
template <int N, int K, int R>
static __device__ void matmul(float (&acc)[ceil_div(N, T)][R], const float* x, size_t xs, int count, const float* w,
                                size_t ws, float (*stage)[KT]) {
    constexpr int C = ceil_div(N, T);
    int t = threadIdx.x;
#pragma unroll 1
    for (int k0 = 0; k0 < K; k0 += KT) {
        int depth = K - k0 < KT ? K - k0 : KT;
        __syncthreads();
        for (int r = 0; r < R; r++)
            for (int k = t; k < depth; k += T) stage[r][k] = r < count ? x[r * xs + k0 + k] : 0.f;
        __syncthreads();
        const float* wk = w + (size_t)k0 * ws;
        int k = 0;
        for (; k + 4 <= depth; k += 4) {
            float a[C][4];
#pragma unroll
            for (int j = 0; j < C; j++)
#pragma unroll
                for (int u = 0; u < 4; u++) a[j][u] = t + j * T < N ? wk[(k + u) * ws + t + j * T] : 0.f;
#pragma unroll
            for (int r = 0; r < R; r++) {
                float4 b = *(const float4*)&stage[r][k];
#pragma unroll
                for (int j = 0; j < C; j++) {
                    acc[j][r] = fmaf(a[j][0], b.x, acc[j][r]);
                    acc[j][r] = fmaf(a[j][1], b.y, acc[j][r]);
                    acc[j][r] = fmaf(a[j][2], b.z, acc[j][r]);
                    acc[j][r] = fmaf(a[j][3], b.w, acc[j][r]);
                }
            }
        }
        for (; k < depth; k++) {
#pragma unroll
            for (int j = 0; j < C; j++) {
                float a = t + j * T < N ? wk[k * ws + t + j * T] : 0.f;
#pragma unroll
                for (int r = 0; r < R; r++) acc[j][r] = fmaf(a, stage[r][k], acc[j][r]);
            }
        }
    }
}

// Mean and 1 / sqrt(variance + epsilon) of R rows whose columns the block's threads hold.
template <int N, int R>
static __device__ void row_moments(const float (&u)[ceil_div(N, T)][R], float (&mean)[R], float (&rstd)[R]) {
    constexpr int C = ceil_div(N, T);
#pragma unroll
    for (int r = 0; r < R; r++) {
        mean[r] = 0.f;
#pragma unroll
        for (int j = 0; j < C; j++)
            if (threadIdx.x + j * T < N) mean[r] += u[j][r];
    }
    block_sums<T, R>(mean);
#pragma unroll
    for (int r = 0; r < R; r++) {
        mean[r] *= 1.f / (float)N;
        rstd[r] = 0.f;
#pragma unroll
        for (int j = 0; j < C; j++) {
            float d = u[j][r] - mean[r];
            if (threadIdx.x + j * T < N) rstd[r] += d * d;
        }
    }
    block_sums<T, R>(rstd);
#pragma unroll
    for (int r = 0; r < R; r++) rstd[r] = 1.f / sqrtf(rstd[r] * (1.f / (float)N) + NORM_EPSILON);
}

// Softmax over groups of G neighbouring columns. A group lies in the lanes of one warp if G divides 32, else its
// numbers meet on chip, one row at a time.
template <int N, int G, int R>
static __device__ void simplex(float (&u)[ceil_div(N, T)][R]) {
    constexpr int C = ceil_div(N, T);
    if constexpr (32 % G == 0) {
#pragma unroll
        for (int j = 0; j < C; j++) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                float top = u[j][r];
#pragma unroll
                for (int o = G / 2; o > 0; o >>= 1) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, o));
                float e = expf(u[j][r] - top), sum = e;
#pragma unroll
                for (int o = G / 2; o > 0; o >>= 1) sum += __shfl_xor_sync(ALL_LANES, sum, o);
                u[j][r] = e / sum;
            }
        }
    } else {
        __shared__ float row[N];
#pragma unroll
        for (int r = 0; r < R; r++) {
            __syncthreads();
#pragma unroll
            for (int j = 0; j < C; j++)
                if (threadIdx.x + j * T < N) row[threadIdx.x + j * T] = u[j][r];
            __syncthreads();
#pragma unroll
            for (int j = 0; j < C; j++) {
                int c = threadIdx.x + j * T;
                if (c >= N) continue;
                const float* g = row + c / G * G;
                float top = g[0], sum = 0.f;
                for (int i = 1; i < G; i++) top = fmaxf(top, g[i]);
                for (int i = 0; i < G; i++) sum += expf(g[i] - top);
                u[j][r] = expf(u[j][r] - top) / sum;
            }
        }
    }
}

// The epilogue, in place: h becomes y.
template <int N, int EPILOGUE, int G, int R>
static __device__ void epilogue(float (&h)[ceil_div(N, T)][R], const float* gain, const float* shift) {
    constexpr int C = ceil_div(N, T);
    if constexpr (EPILOGUE == BIAS) return;
    if constexpr (EPILOGUE == MISH_NORM) {
#pragma unroll
        for (int j = 0; j < C; j++)
#pragma unroll
            for (int r = 0; r < R; r++) h[j][r] = mish(h[j][r]);
    }
    float mean[R], rstd[R];
    row_moments<N>(h, mean, rstd);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = threadIdx.x + j * T;
        float g = c < N ? gain[c] : 0.f, s = c < N ? shift[c] : 0.f;
#pragma unroll
        for (int r = 0; r < R; r++) {
            h[j][r] = (h[j][r] - mean[r]) * rstd[r] * g + s;
            if (EPILOGUE == NORM_MISH) h[j][r] = mish(h[j][r]);
        }
    }
    if constexpr (EPILOGUE == NORM_SIMPLEX) simplex<N, G>(h);
}

// y = epilogue(x W^T + b) for the eight rows of block blockIdx.x of layer blockIdx.y of an ensemble, x of a few columns
// in up to three pieces. `wt` [K0 + K1 + K2, N]; `saved`, if given, keeps h. `shared`: one input serves the whole
// ensemble.
template <int N, int K0, int K1, int K2, int EPILOGUE, int G>
static __device__ void linear(const float* wt, const float* bias, const float* gain, const float* shift, const float* x0,
                              const float* x1, const float* x2, float* y, float* saved, u32 m, u32 shared) {
    constexpr int C = ceil_div(N, T), R = 8;
    __shared__ __align__(16) float stage[R][KT];
    u32 e = blockIdx.y, first = blockIdx.x * R;
    int count = m - first < R ? m - first : R, t = threadIdx.x;
    size_t in_row = (shared ? 0 : (size_t)e * m) + first, out_row = (size_t)e * m + first;
    wt += (size_t)e * (K0 + K1 + K2) * N;
    float h[C][R] = {};
    matmul<N, K0>(h, x0 + in_row * K0, K0, count, wt, N, stage);
    if (K1 > 0) matmul<N, K1>(h, x1 + in_row * K1, K1, count, wt + (size_t)K0 * N, N, stage);
    if (K2 > 0) matmul<N, K2>(h, x2 + in_row * K2, K2, count, wt + (size_t)(K0 + K1) * N, N, stage);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
        if (c >= N) continue;
        float b = bias[e * N + c];
#pragma unroll
        for (int r = 0; r < R; r++) {
            h[j][r] += b;
            if (saved && r < count) saved[(out_row + r) * N + c] = h[j][r];
        }
    }
    epilogue<N, EPILOGUE, G>(h, gain + e * N, shift + e * N);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
#pragma unroll
        for (int r = 0; r < R; r++)
            if (c < N && r < count) y[(out_row + r) * N + c] = h[j][r];
    }
}

// y = epilogue(h) for R rows of layer blockIdx.y of an ensemble. h may be y.
template <int N, int EPILOGUE, int G, int R>
static __device__ void linear_rows(const float* h_, const float* gain, const float* shift, float* y, u32 m) {
    constexpr int C = ceil_div(N, T);
    u32 e = blockIdx.y, first = blockIdx.x * R;
    int count = m - first < R ? m - first : R, t = threadIdx.x;
    size_t row = (size_t)e * m + first;
    float h[C][R];
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
#pragma unroll
        for (int r = 0; r < R; r++) h[j][r] = c < N && r < count ? h_[(row + r) * N + c] : 0.f;
    }
    epilogue<N, EPILOGUE, G>(h, gain + e * N, shift + e * N);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
#pragma unroll
        for (int r = 0; r < R; r++)
            if (c < N && r < count) y[(row + r) * N + c] = h[j][r];
    }
}

// Adjoint of the epilogue for R rows: dh, and the rows' share of the gain, shift and bias gradients into
// sums[layer, row block, (gain, shift, bias), N]. dh may be h.
template <int N, int EPILOGUE, int G, int R>
static __device__ void linear_grad_rows(const float* dy_, const float* h_, const float* y_, const float* gain,
                                        const float* shift, float* dh_, float* sums, u32 m) {
    constexpr int C = ceil_div(N, T);
    u32 e = blockIdx.y, first = blockIdx.x * R;
    int count = m - first < R ? m - first : R, t = threadIdx.x;
    size_t row = (size_t)e * m + first;
    // The input of LayerNorm, then normalised; the slope of the activation before it.
    float hat[C][R], slope[EPILOGUE == MISH_NORM ? C : 1][R], g[C][R];
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
#pragma unroll
        for (int r = 0; r < R; r++) {
            bool in = c < N && r < count;
            float h = in ? h_[(row + r) * N + c] : 0.f;
            if constexpr (EPILOGUE == MISH_NORM) hat[j][r] = mish_grad(h, &slope[j][r]);
            else hat[j][r] = h;
            g[j][r] = in ? dy_[(row + r) * N + c] : 0.f;
        }
    }
    float mean[R], rstd[R];
    row_moments<N>(hat, mean, rstd);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
        float gc = c < N ? gain[e * N + c] : 0.f, sc = c < N ? shift[e * N + c] : 0.f;
#pragma unroll
        for (int r = 0; r < R; r++) {
            hat[j][r] = (hat[j][r] - mean[r]) * rstd[r];
            if constexpr (EPILOGUE == NORM_MISH) {
                float s;
                mish_grad(hat[j][r] * gc + sc, &s);
                g[j][r] *= s;
            }
        }
        if constexpr (EPILOGUE == NORM_SIMPLEX) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                bool in = c < N && r < count;
                float y = in ? y_[(row + r) * N + c] : 0.f, inner = 0.f;
                if constexpr (32 % G == 0) {
                    inner = g[j][r] * y;
#pragma unroll
                    for (int o = G / 2; o > 0; o >>= 1) inner += __shfl_xor_sync(ALL_LANES, inner, o);
                } else if (in) {
                    size_t at = (row + r) * N + c / G * G;
                    for (int i = 0; i < G; i++) inner += dy_[at + i] * y_[at + i];
                }
                g[j][r] = y * (g[j][r] - inner);
            }
        }
        float dgain = 0.f, dshift = 0.f;
#pragma unroll
        for (int r = 0; r < R; r++) {
            if (r < count) {
                dgain += g[j][r] * hat[j][r];
                dshift += g[j][r];
            }
            g[j][r] *= gc;
        }
        if (c < N) {
            float* to = sums + ((size_t)e * gridDim.x + blockIdx.x) * 3 * N + c;
            to[0] = dgain;
            to[N] = dshift;
        }
    }
    // d LN: rstd (g - mean g - hat mean(g hat)).
    float a[R], b[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
        a[r] = b[r] = 0.f;
#pragma unroll
        for (int j = 0; j < C; j++) {
            if (t + j * T >= N) continue;
            a[r] += g[j][r];
            b[r] += g[j][r] * hat[j][r];
        }
    }
    block_sums<T, R>(a);
    block_sums<T, R>(b);
#pragma unroll
    for (int j = 0; j < C; j++) {
        int c = t + j * T;
        float dbias = 0.f;
#pragma unroll
        for (int r = 0; r < R; r++) {
            float d = rstd[r] * (g[j][r] - a[r] * (1.f / (float)N) - hat[j][r] * b[r] * (1.f / (float)N));
            if constexpr (EPILOGUE == MISH_NORM) d *= slope[j][r];
            if (c < N && r < count) {
                dh_[(row + r) * N + c] = d;
                dbias += d;
            }
        }
        if (c < N) sums[(((size_t)e * gridDim.x + blockIdx.x) * 3 + 2) * N + c] = dbias;
    }
}

// out[e, s, c] (+)= the sum of x[e, row, c] over rows s `chunk` to (s + 1) `chunk`; s is blockIdx.z. 32 columns a block,
// eight rows at a time.
DEVICE void column_sums(const float* x, float* out, u32 rows, u32 n, u32 chunk, u32 accumulate) {
    __shared__ float part[8][33];
    u32 e = blockIdx.y, lane = threadIdx.x & 31, row = threadIdx.x >> 5, c = blockIdx.x * 32 + lane;
    u32 from = blockIdx.z * chunk, to = rows - from < chunk ? rows : from + chunk;
    float s = 0.f;
    if (c < n)
        for (u32 r = from + row; r < to; r += 8) s += x[((size_t)e * rows + r) * n + c];
    part[row][lane] = s;
    __syncthreads();
    if (row != 0 || c >= n) return;
    for (int r = 1; r < 8; r++) s += part[r][lane];
    put(out + ((size_t)e * gridDim.z + blockIdx.z) * n + c, s, accumulate);
}

// The same of x[e, row, which, c], whose three sums go to gain, shift and bias; bit `which` of `accumulate` says whether
// one is added to. A null pointer takes none.
DEVICE void norm_sums(const float* x, float* gain, float* shift, float* bias, u32 rows, u32 n, u32 accumulate) {
    __shared__ float part[8][33];
    u32 e = blockIdx.y, lane = threadIdx.x & 31, row = threadIdx.x >> 5, c = blockIdx.x * 32 + lane, width = 3 * n;
    u32 which = c / n;
    float* out = which == 0 ? gain : which == 1 ? shift : bias;
    float s = 0.f;
    if (c < width && out)
        for (u32 r = row; r < rows; r += 8) s += x[((size_t)e * rows + r) * width + c];
    part[row][lane] = s;
    __syncthreads();
    if (row != 0 || c >= width || !out) return;
    for (int r = 1; r < 8; r++) s += part[r][lane];
    put(out + (size_t)e * n + c - which * n, s, accumulate >> which & 1);
}

// out[e, c, r] = w[e, r, c]: tiles of 32 x 32.
DEVICE void transpose(const float* w, float* out, u32 n, u32 k) {
    __shared__ float tile[32][33];
    u32 e = blockIdx.z, c = blockIdx.x * 32 + (threadIdx.x & 31);
    for (u32 i = threadIdx.x >> 5; i < 32; i += 8) {
        u32 r = blockIdx.y * 32 + i;
        if (r < n && c < k) tile[i][threadIdx.x & 31] = w[((size_t)e * n + r) * k + c];
    }
    __syncthreads();
    u32 r = blockIdx.y * 32 + (threadIdx.x & 31);
    for (u32 i = threadIdx.x >> 5; i < 32; i += 8) {
        u32 col = blockIdx.x * 32 + i;
        if (r < n && col < k) out[((size_t)e * k + col) * n + r] = tile[threadIdx.x & 31][i];
    }
}
