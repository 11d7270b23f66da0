// Returns over a horizon, time-major [H, N]: one thread an environment.
#include "common/moments.cuh"
#include "common/numerics.cuh"

// How returns are counted; see src/ops/returns.
struct Returns {
    double gamma, lambda;
    u32 reference;
};

// Calls segment(weight of the last value, first step, last step, keeps its rewards) for each segment of an environment.
template <class F>
DEVICE void segments(const Returns& s, u32 h, u32 n, const float* done, u32 e, F segment) {
    u32 start = 0;
    for (u32 i = 0; i < h; i++) {
        bool last = i + 1 == h, ends = done[i * n + e] != 0.f;
        if (!(ends || last)) continue;
        int steps = (int)(i + 1 - start), p = steps;
        bool keep = true;
        if (s.reference && last) {
            p = ends ? 1 : steps + 1;
            keep = !ends;
        }
        double weight = (p == 0 ? 1.0 : pow(s.gamma, (double)p)) * (steps == 1 ? 1.0 : pow(s.lambda, (double)(steps - 1)));
        segment((float)weight, start, i, keep);
        start = i + 1;
    }
}

DEVICE void actor_loss_each(const float* reward, const float* value, const float* done, const float* term, float* each,
                            double gamma, double lambda, u32 reference, u32 h, u32 n) {
    u32 e = ELEMENT;
    if (e >= n) return;
    Returns spec{gamma, lambda, reference};
    bool mixes = lambda < 1.0;
    float on_the_way = (float)(gamma * (1.0 - lambda)), decay = (float)(gamma * lambda), loss = 0.f;
    segments(spec, h, n, done, e, [&](float weight, u32 from, u32 to, bool keep) {
        if (keep) {
            float g = 1.f;
            for (u32 i = from; i <= to; i++) {
                float r = reward[i * n + e];
                loss -= g * (finite(r) ? r : 0.f);
                if (mixes && i < to) loss -= g * on_the_way * value[i * n + e];
                g *= decay;
            }
        }
        if (term[to * n + e] == 0.f) loss -= weight * value[to * n + e];
    });
    each[e] = loss;
}

// One block: statistics of the losses, the scale they are divided by, the mean.
DEVICE void actor_loss_total(const float* each, float* stats, float* scale, float* loss, u32 normalise, float decay, u32 h,
                             u32 n) {
    float m, v;
    moments<256>(each, 0, 1, n, &m, &v);
    float s = 0.f;
    for (u32 i = threadIdx.x; i < n; i += 256) s += each[i];
    s = block_sum<256>(s);
    if (threadIdx.x != 0) return;
    merge(stats, m, v, (float)n, decay);
    float k = normalise ? 1.f / sqrtf(stats[1] + STATS_EPSILON) : 1.f / (float)h;
    scale[0] = k;
    loss[0] = s * k / (float)n;
}

// Adjoint, of the rewards or of the values.
DEVICE void actor_loss_grad(const float* c_, const float* scale, const float* reward, const float* done, const float* term,
                            float* out, double gamma, double lambda, u32 reference, u32 of_reward, u32 accumulate, u32 h,
                            u32 n) {
    u32 e = ELEMENT;
    if (e >= n) return;
    Returns spec{gamma, lambda, reference};
    float c = -c_[0] * scale[0] / (float)n;
    bool mixes = lambda < 1.0;
    float on_the_way = (float)(gamma * (1.0 - lambda)), decay = (float)(gamma * lambda);
    if (!accumulate)
        for (u32 i = 0; i < h; i++) out[i * n + e] = 0.f;
    segments(spec, h, n, done, e, [&](float weight, u32 from, u32 to, bool keep) {
        float g = of_reward ? c : c * on_the_way;
        if (of_reward && keep) {
            for (u32 i = from; i <= to; i++) {
                if (finite(reward[i * n + e])) out[i * n + e] += g;
                g *= decay;
            }
        }
        if (!of_reward && keep && mixes) {
            for (u32 i = from; i < to; i++) {
                out[i * n + e] += g;
                g *= decay;
            }
        }
        if (!of_reward && term[to * n + e] == 0.f) out[to * n + e] += c * weight;
    });
}

// TD(lambda) targets, divided by a scale.
DEVICE void td_lambda(const float* r, const float* v, const float* d, const float* term, float* out, float gamma,
                      float lambda, float inv, u32 h, u32 n) {
    u32 e = ELEMENT;
    if (e >= n) return;
    float g = 0.f;
    for (u32 k = h; k > 0; k--) {
        u32 i = k - 1, at = i * n + e;
        float value = term[at] == 0.f ? v[at] : 0.f, reward = finite(r[at]) ? r[at] : 0.f;
        bool end = d[at] != 0.f || i + 1 == h;
        g = reward + gamma * (end ? value : (1.f - lambda) * value + lambda * g);
        out[at] = g * inv;
    }
}
