//! Returns over a horizon: the actor's objective and the critics' TD(lambda) targets. Arrays are time-major `[H, N]`.

mod cuda;

pub use crate::config::Bootstrap;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::ops::stats::RunningScale;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Environments a task takes.
const ENVS: usize = 64;

/// Settings of [`actor_loss`].
#[derive(Clone, Copy, Debug)]
pub struct ActorLossSpec {
    pub gamma: f64,
    /// Weight of longer returns. At 1 only the last state of a segment is valued, as in PWM. Below 1 the objective is
    /// the lambda-return: every state on the way is valued too, so that a gradient points away from a fall before it
    /// happens; the end of an episode has none of its own.
    pub lambda: f64,
    /// How the last step of the horizon is counted. `Exact`: a segment of m steps ends with `gamma^m V`, and its
    /// rewards always count. `Reference`: one gamma too many at the horizon, and an episode that ends exactly there
    /// loses the rewards of its last segment and values the state by `gamma V`.
    pub bootstrap: Bootstrap,
    /// Divide by the running standard deviation of the returns; else by the horizon.
    pub normalise: bool,
    /// Factor on the statistics' count before each update: 1 never forgets.
    pub decay: f64,
}

/// Appends the actor's loss, a scalar `[1]`: minus the mean over environments of the discounted imagined return.
///
/// `reward` `[H, N]`, `value` `[H, N]` (of the imagined state after each step), `done`, `terminated` `[H, N]` (0 or 1),
/// `stats` `[3]`: mean, variance, count of the per-environment losses, updated in place. A terminated step has value 0.
pub fn actor_loss(
    p: &mut Program,
    spec: ActorLossSpec,
    reward: Val,
    value: Val,
    done: Val,
    terminated: Val,
    stats: Val,
) -> Val {
    let n = p.shape(reward)[1];
    let (loss, each, scale) = (p.real(&[1]), p.real(&[n]), p.real(&[1]));
    p.push(ActorLoss { spec }, &[reward, value, done, terminated], &[loss, each, scale, stats]);
    loss
}

impl ActorLossSpec {
    /// Whether states on the way are valued, the factor `gamma (1 - lambda)` of their values, and what each further
    /// step is multiplied by.
    #[inline(always)]
    fn weights<F: Real>(&self) -> (bool, F, F) {
        (self.lambda < 1.0, F::of(self.gamma * (1.0 - self.lambda)), F::of(self.gamma * self.lambda))
    }
}

#[derive(Debug)]
struct ActorLoss {
    spec: ActorLossSpec,
}

/// Walks one environment: calls `segment(weight of V, value index, first step, last step, keeps its rewards)`.
#[inline(always)]
fn segments(
    spec: &ActorLossSpec,
    h: usize,
    done: impl Fn(usize) -> bool,
    mut segment: impl FnMut(f64, usize, usize, bool),
) {
    let mut start = 0;
    for i in 0..h {
        let last = i + 1 == h;
        if !(done(i) || last) {
            continue;
        }
        let steps = (i + 1 - start) as i32;
        let (power, keep) = match spec.bootstrap {
            Bootstrap::Exact => (steps, true),
            Bootstrap::Reference if !last => (steps, true),
            Bootstrap::Reference if done(i) => (1, false),
            Bootstrap::Reference => (steps + 1, true),
        };
        segment(spec.gamma.powi(power) * spec.lambda.powi(steps - 1), start, i, keep);
        start = i + 1;
    }
}

impl ActorLoss {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let (h, n) = (args.shape(0)[0], args.shape(0)[1]);
        let (reward, value, done, term) = (args.input(0), args.input(1), args.input(2), args.input(3));
        let (mixes, on_the_way, decay) = self.spec.weights::<F>();
        if phase == 0 {
            let envs = chunk(n, ENVS, task);
            for (e, out) in envs.clone().zip(args.out(1, envs)) {
                let mut loss = F::zero();
                segments(
                    &self.spec,
                    h,
                    |i| done[i * n + e] != F::zero(),
                    |weight, from, to, keep| {
                        if keep {
                            let mut g = F::one();
                            for i in from..=to {
                                let r = reward[i * n + e];
                                loss -= g * if r.is_finite() { r } else { F::zero() };
                                if mixes && i < to {
                                    loss -= g * on_the_way * value[i * n + e];
                                }
                                g *= decay;
                            }
                        }
                        if term[to * n + e] == F::zero() {
                            loss -= F::of(weight) * value[to * n + e];
                        }
                    },
                );
                *out = loss;
            }
        } else {
            let each = args.read_output(1, 0..n);
            let mut stats = RunningScale::read(args.out_all(3));
            stats.update(each, self.spec.decay);
            stats.write(args.out_all(3));
            let scale = if self.spec.normalise { F::one() / stats.deviation() } else { F::of(1.0 / h as f64) };
            // A constant to the derivative: taken from the value, so that dual numbers agree.
            let scale = F::of(scale.value());
            let mut sum = F::zero();
            for &x in each {
                sum += x;
            }
            args.out_all(2)[0] = scale;
            args.out_all(0)[0] = sum * scale * F::of(1.0 / n as f64);
        }
    }
}

// SAFETY: tasks write the losses of their own environments, which the one task of the last phase adds.
unsafe impl Op for ActorLoss {
    fn name(&self) -> &'static str {
        "actor_loss"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][1].div_ceil(ENVS), 1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let scale = a.output(2);
        let inputs = [c, scale, a.input(0), a.input(2), a.input(3)];
        for (i, of_reward) in [(0, true), (1, false)] {
            if let Some(s) = a.sink(i) {
                let op = ActorLossGrad { spec: self.spec, of_reward, accumulate: s.accumulate };
                a.push(op, &inputs, &[s.val]);
            }
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Cotangent of the rewards or of the values.
#[derive(Debug)]
struct ActorLossGrad {
    spec: ActorLossSpec,
    of_reward: bool,
    accumulate: bool,
}

impl ActorLossGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (h, n) = (args.shape(2)[0], args.shape(2)[1]);
        let (reward, done, term) = (args.input(2), args.input(3), args.input(4));
        let c = -args.input(0)[0] * args.input(1)[0] * F::of(1.0 / n as f64);
        let (mixes, on_the_way, decay) = self.spec.weights::<F>();
        let out = args.out_all(0);
        if !self.accumulate {
            out.fill(F::zero());
        }
        for e in 0..n {
            segments(
                &self.spec,
                h,
                |i| done[i * n + e] != F::zero(),
                |weight, from, to, keep| {
                    if self.of_reward && keep {
                        let mut g = c;
                        for i in from..=to {
                            if reward[i * n + e].is_finite() {
                                out[i * n + e] += g;
                            }
                            g *= decay;
                        }
                    }
                    if !self.of_reward && keep && mixes {
                        let mut g = c * on_the_way;
                        for i in from..to {
                            out[i * n + e] += g;
                            g *= decay;
                        }
                    }
                    if !self.of_reward && term[to * n + e] == F::zero() {
                        out[to * n + e] += c * F::of(weight);
                    }
                },
            );
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for ActorLossGrad {
    fn name(&self) -> &'static str {
        "actor_loss_grad"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends TD(lambda) targets `[H, N]`:
/// `G_i = r_i + gamma (d_i V_i + (1 - d_i) ((1 - lambda) V_i + lambda G_{i+1}))`, with `d = 1` at the horizon and
/// `V = 0` after a termination. `out` receives `G / scale`.
#[allow(clippy::too_many_arguments)]
pub fn td_lambda(
    p: &mut Program,
    gamma: f64,
    lambda: f64,
    scale: f64,
    reward: Val,
    value: Val,
    done: Val,
    terminated: Val,
    out: Val,
) {
    p.push(TdLambda { gamma, lambda, scale }, &[reward, value, done, terminated], &[out]);
}

#[derive(Debug)]
struct TdLambda {
    gamma: f64,
    lambda: f64,
    scale: f64,
}

impl TdLambda {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (h, n) = (args.shape(0)[0], args.shape(0)[1]);
        let (r, v, d, term) = (args.input(0), args.input(1), args.input(2), args.input(3));
        let (gamma, lambda, inv) = (F::of(self.gamma), F::of(self.lambda), F::of(1.0 / self.scale));
        let out = args.out_all(0);
        for e in 0..n {
            let mut g = F::zero();
            for i in (0..h).rev() {
                let at = i * n + e;
                let v = if term[at] == F::zero() { v[at] } else { F::zero() };
                let r = if r[at].is_finite() { r[at] } else { F::zero() };
                let end = d[at] != F::zero() || i + 1 == h;
                g = r + gamma * if end { v } else { (F::one() - lambda) * v + lambda * g };
                out[at] = g * inv;
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for TdLambda {
    fn name(&self) -> &'static str {
        "td_lambda"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
