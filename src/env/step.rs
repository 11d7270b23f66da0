//! An environment step as one operation of the tape: dynamics, observation, reward, termination, reset.

use super::ant::reset::reset_row;
use super::ant::task::{is_terminal, observe_row};
use super::ant::{ACT, Cotangents, NQ, NQD, OBS as WIDTH, Operands, Results};
use super::{Ant, EnvReal};
use crate::config::{self, Config};
use crate::device::Dual;
use crate::device::cuda::Launch;
use crate::device::philox::Philox;
use crate::ops::control::copy;
use crate::tape::cuda;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, DType, Op, OpArgs, Program, Region, Val, VarId, Vars};
use std::sync::Arc;

/// Environments a task steps: two groups of eight lanes.
const ENVS: usize = 16;
/// A state with a number beyond this has left physics: its row is zeroed and its episode ends.
const BLOWN_UP: f64 = 1e6;

/// What happens when an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The environment starts a new episode in the same step.
    Train,
    /// One episode each: an environment that is done stays as it is.
    Evaluate,
}

/// Slots of [`EnvVars::episode_stats`].
#[derive(Clone, Copy, Debug)]
pub enum EpisodeStat {
    Episodes = 0,
    Return = 1,
    Length = 2,
    BlownUp = 3,
}

/// The state of `count` environments.
#[derive(Clone, Debug)]
pub struct EnvVars {
    pub ant: Arc<Ant>,
    pub count: usize,
    pub mode: Mode,
    pub rng: Philox,
    /// `[N, 15]`: coordinates.
    pub q: VarId,
    /// `[N, 14]`: velocities.
    pub qd: VarId,
    /// `[N, 37]`: the observation that the next action is for.
    pub obs: VarId,
    /// Index `[N]`: steps of the current episode.
    pub progress: VarId,
    /// Index `[N]`: episodes begun.
    pub episodes: VarId,
    /// `[N]`: undiscounted true return of the episode so far.
    pub ep_return: VarId,
    /// `[N]`: 1 while an evaluation episode runs.
    pub alive: VarId,
    /// `[4]`: sums over episodes that ended, see [`EpisodeStat`]. The host reads and clears them.
    pub episode_stats: VarId,
}

/// What one step gives, as values of the program.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// `[N, 37]`: observation of the new state, before any reset.
    pub obs_before_reset: Val,
    /// `[N]`.
    pub reward: Val,
    /// `[N]`, 0 or 1: the episode ended, for whatever reason.
    pub done: Val,
    /// `[N]`, 0 or 1: it ended by falling, so that the state has no value.
    pub terminated: Val,
}

/// The state of all environments between two steps, as values that a gradient can flow through.
#[derive(Clone, Copy, Debug)]
pub struct EnvState {
    /// `[N, 15]`, `[N, 14]`, `[N, 37]`.
    pub q: Val,
    pub qd: Val,
    pub obs: Val,
}

/// How the reverse pass through a step keeps one environment's gradient from drowning all others.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Norm that the gradient of one environment's state and action is scaled down to.
    pub norm: f64,
    /// `[2]`, counted up: gradients that were scaled down, and those that were not finite and became zero.
    pub count: Val,
}

impl EnvVars {
    pub fn new(vars: &mut Vars, name: &str, ant: Arc<Ant>, count: usize, mode: Mode, rng: Philox) -> Self {
        let mut add =
            |what: &str, dtype, shape: &[usize]| vars.add(Region::Environment, format!("{name}.{what}"), dtype, shape);
        Self {
            ant,
            count,
            mode,
            rng,
            q: add("q", DType::Real, &[count, NQ]),
            qd: add("qd", DType::Real, &[count, NQD]),
            obs: add("obs", DType::Real, &[count, WIDTH]),
            progress: add("progress", DType::Index, &[count]),
            episodes: add("episodes", DType::Index, &[count]),
            ep_return: add("return", DType::Real, &[count]),
            alive: add("alive", DType::Real, &[count]),
            episode_stats: add("meters", DType::Real, &[4]),
        }
    }

    fn outputs(&self, p: &mut Program, vars: &Vars) -> Vec<Val> {
        [self.q, self.qd, self.obs, self.progress, self.episodes, self.ep_return, self.alive, self.episode_stats]
            .map(|v| p.var(vars, v))
            .to_vec()
    }

    /// Appends the start of a new episode in every environment. Evaluation starts are the same every time.
    pub fn reset(&self, p: &mut Program, vars: &Vars) {
        let outputs = self.outputs(p, vars);
        p.push(EnvReset { ant: self.ant.clone(), mode: self.mode, rng: self.rng }, &[], &outputs);
    }

    /// Appends one step with `action` `[N, 8]` (clipped to plus or minus 1 inside). Reward, done and terminated are
    /// written to `into` if given.
    pub fn step(&self, p: &mut Program, vars: &Vars, action: Val, into: Option<(Val, Val, Val)>) -> Stepped {
        let n = self.count;
        let obs_before_reset = p.real(&[n, WIDTH]);
        let (reward, done, terminated) = into.unwrap_or_else(|| (p.real(&[n]), p.real(&[n]), p.real(&[n])));
        let mut outputs = self.outputs(p, vars);
        outputs.extend([obs_before_reset, reward, done, terminated]);
        p.push(self.op(None), &[action], &outputs);
        Stepped { obs_before_reset, reward, done, terminated }
    }

    fn op(&self, bound: Option<f64>) -> EnvStep {
        EnvStep { ant: self.ant.clone(), mode: self.mode, rng: self.rng, bound }
    }

    /// Appends copies of the present state, to go on from with [`EnvVars::step_through`].
    pub fn state(&self, p: &mut Program, vars: &Vars) -> EnvState {
        let [q, qd, obs] = [self.q, self.qd, self.obs].map(|v| {
            let (from, to) = (p.var(vars, v), p.real(&vars.info(v).shape));
            copy(p, from, to);
            to
        });
        EnvState { q, qd, obs }
    }

    /// [`EnvVars::step`] from `from`, which is the environments' present state, for a gradient to flow through: from the
    /// next state, `obs_before_reset` and the reward back to `from` and the action. An environment that starts anew cuts
    /// it there. `into` receives `obs_before_reset`, reward, done and terminated.
    pub fn step_through(
        &self,
        p: &mut Program,
        vars: &Vars,
        from: &EnvState,
        action: Val,
        bound: Bound,
        into: [Val; 4],
    ) -> (Stepped, EnvState) {
        let [obs_before_reset, reward, done, terminated] = into;
        let next = EnvState {
            q: p.real(&[self.count, NQ]),
            qd: p.real(&[self.count, NQD]),
            obs: p.real(&[self.count, WIDTH]),
        };
        let mut outputs = self.outputs(p, vars);
        outputs.extend(into);
        outputs.extend([next.q, next.qd, next.obs, bound.count]);
        p.push(self.op(Some(bound.norm)), &[action, from.q, from.qd, from.obs], &outputs);
        (Stepped { obs_before_reset, reward, done, terminated }, next)
    }
}

/// The Ant that a configuration describes.
pub fn ant_from_config(c: &Config) -> Ant {
    Ant::new(super::AntSettings {
        episode_length: c.episode_length,
        early_termination: c.early_termination,
        termination_height: c.termination_height,
        action_penalty: c.action_penalty,
        up_rew_scale: c.up_rew_scale,
        joint_vel_obs_scaling: c.joint_vel_obs_scaling,
        mm_caching_frequency: c.mm_caching_frequency,
        stochastic_init: c.stochastic_init,
        action_in_obs: c.action_in_obs,
        inertia: match c.inertia {
            config::Inertia::Reference => crate::sim::Inertia::Reference,
            config::Inertia::Exact => crate::sim::Inertia::Exact,
        },
        reference_point: match c.reference_point {
            config::ReferencePoint::World => crate::sim::ReferencePoint::World,
            config::ReferencePoint::Torso => crate::sim::ReferencePoint::Torso,
        },
        subgradient: match c.subgradient {
            config::Subgradient::Reference => crate::sim::Subgradient::Reference,
            config::Subgradient::Central => crate::sim::Subgradient::Central,
        },
    })
}

/// Runs `run` for every number type an environment can be stepped in.
macro_rules! env_kernels {
    () => {
        fn run_f32(&self, args: &OpArgs<f32>, phase: usize, task: usize) {
            self.run(args, phase, task);
        }
        fn run_f64(&self, args: &OpArgs<f64>, phase: usize, task: usize) {
            self.run(args, phase, task);
        }
        fn run_dual(&self, args: &OpArgs<Dual>, phase: usize, task: usize) {
            self.run(args, phase, task);
        }
    };
}

// Outputs that both operations share, in the order of `EnvVars::outputs`; then those of a step.
pub(super) const Q: usize = 0;
pub(super) const QD: usize = 1;
pub(super) const OBS: usize = 2;
pub(super) const PROGRESS: usize = 3;
pub(super) const EPISODES: usize = 4;
pub(super) const RETURN: usize = 5;
pub(super) const ALIVE: usize = 6;
pub(super) const EPISODE_STATS: usize = 7;
pub(super) const BEFORE: usize = 8;
pub(super) const REWARD: usize = 9;
pub(super) const DONE: usize = 10;
pub(super) const TERMINATED: usize = 11;
// Of a step that a gradient flows through: the next state, counts of bounded gradients.
pub(super) const NEXT_Q: usize = 12;
pub(super) const NEXT_QD: usize = 13;
pub(super) const NEXT_OBS: usize = 14;
const COUNT: usize = 15;

/// Starts a new episode of environment `e`.
fn begin<F: EnvReal>(ant: &Ant, rng: &Philox, args: &OpArgs<F>, e: usize) {
    let episode = &mut args.out_index(EPISODES, e..e + 1)[0];
    let (q, qd) = (args.out(Q, e * NQ..(e + 1) * NQ), args.out(QD, e * NQD..(e + 1) * NQD));
    reset_row(ant, rng, u64::from(*episode), e as u32, q, qd);
    *episode = episode.wrapping_add(1);
    observe_row(ant, q, qd, &[F::zero(); ACT], args.out(OBS, e * WIDTH..(e + 1) * WIDTH));
    args.out_index(PROGRESS, e..e + 1)[0] = 0;
    args.out(RETURN, e..e + 1)[0] = F::zero();
    args.out(ALIVE, e..e + 1)[0] = F::one();
}

#[derive(Debug)]
pub(super) struct EnvReset {
    pub(super) ant: Arc<Ant>,
    pub(super) mode: Mode,
    pub(super) rng: Philox,
}

impl EnvReset {
    fn run<F: EnvReal>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let n = args.out_len(RETURN);
        if self.mode == Mode::Evaluate {
            args.out_index(EPISODES, 0..n).fill(0);
        }
        for e in 0..n {
            begin(&self.ant, &self.rng, args, e);
        }
        args.out_all(EPISODE_STATS).fill(F::zero());
    }
}

#[derive(Debug)]
pub(super) struct EnvStep {
    pub(super) ant: Arc<Ant>,
    pub(super) mode: Mode,
    pub(super) rng: Philox,
    /// The norm of [`Bound`], if a gradient flows through this step.
    pub(super) bound: Option<f64>,
}

impl EnvStep {
    fn run<F: EnvReal>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        match phase {
            0 => self.advance(args, task),
            1 => self.keep_books(args),
            _ => self.hand_on(args, task),
        }
    }

    /// Copies of the state after resets, for the next step.
    fn hand_on<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        let r = chunk(args.out_len(RETURN), ENVS, task);
        for (from, to, w) in [(Q, NEXT_Q, NQ), (QD, NEXT_QD, NQD), (OBS, NEXT_OBS, WIDTH)] {
            let part = r.start * w..r.end * w;
            args.out(to, part.clone()).copy_from_slice(args.read_output(from, part));
        }
    }

    /// Dynamics, observation, reward and flags of a chunk of environments.
    fn advance<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        let r = chunk(args.out_len(RETURN), ENVS, task);
        let part = |w: usize| r.start * w..r.end * w;
        if self.mode == Mode::Evaluate && args.out(ALIVE, r.clone()).iter().all(|a| *a == F::zero()) {
            return;
        }
        let (before, reward) = (args.out(BEFORE, part(WIDTH)), args.out(REWARD, r.clone()));
        F::step_rows(
            &self.ant,
            r.len(),
            args.out(Q, part(NQ)),
            args.out(QD, part(NQD)),
            args.read_output(OBS, part(WIDTH)),
            &args.input(0)[part(ACT)],
            before,
            reward,
        );
        let (done, terminated) = (args.out(DONE, r.clone()), args.out(TERMINATED, r.clone()));
        let progress = args.out_index(PROGRESS, r.clone());
        let (limit, flag) = (F::of(BLOWN_UP), |b: bool| if b { F::one() } else { F::zero() });
        for (i, row) in before.chunks_exact_mut(WIDTH).enumerate() {
            progress[i] += 1;
            let sane = row.iter().all(|x| x.is_finite() && x.abs() < limit) && reward[i].is_finite();
            let fallen = !sane || is_terminal(&self.ant, row);
            if !sane {
                row.fill(F::zero());
                reward[i] = F::zero();
            }
            terminated[i] = flag(fallen);
            // 2 marks a blown-up state until the books are kept.
            done[i] = if sane { flag(fallen || self.ant.is_truncated(progress[i] as usize)) } else { F::of(2.0) };
        }
        args.out(OBS, part(WIDTH)).copy_from_slice(before);
    }

    /// Episode returns and resets, in the order of environments.
    fn keep_books<F: EnvReal>(&self, args: &OpArgs<F>) {
        let n = args.out_len(RETURN);
        let (reward, done) = (args.read_output(REWARD, 0..n), args.out(DONE, 0..n));
        let (alive, stats) = (args.out(ALIVE, 0..n), args.out_all(EPISODE_STATS));
        for e in 0..n {
            if self.mode == Mode::Evaluate && alive[e] == F::zero() {
                continue;
            }
            let total = &mut args.out(RETURN, e..e + 1)[0];
            *total += reward[e];
            if done[e] == F::zero() {
                continue;
            }
            if done[e] != F::one() {
                stats[EpisodeStat::BlownUp as usize] += F::one();
                done[e] = F::one();
            }
            stats[EpisodeStat::Episodes as usize] += F::one();
            stats[EpisodeStat::Return as usize] += *total;
            stats[EpisodeStat::Length as usize] += F::of(f64::from(args.out_index(PROGRESS, e..e + 1)[0]));
            match self.mode {
                Mode::Train => begin(&self.ant, &self.rng, args, e),
                Mode::Evaluate => alive[e] = F::zero(),
            }
        }
    }
}

/// The adjoint of a step: environments in the same chunks as the step.
#[derive(Debug)]
pub(super) struct EnvStepAdjoint {
    pub(super) ant: Arc<Ant>,
    pub(super) bound: f64,
    /// Which cotangents are there, in the order of [`FROM`].
    pub(super) has: [bool; FROM.len()],
    /// For action, q, qd and obs: whether it is asked for, and then whether it is added to what is there.
    pub(super) sinks: [Option<bool>; 4],
}

/// Outputs of a step whose cotangents its adjoint reads, and their widths.
pub(super) const FROM: [(usize, usize); 5] =
    [(NEXT_Q, NQ), (NEXT_QD, NQD), (NEXT_OBS, WIDTH), (BEFORE, WIDTH), (REWARD, 1)];
/// Operands that the adjoint reads before those: action, q, qd, observation before resets, done.
pub(super) const GIVEN: usize = 5;

impl EnvStepAdjoint {
    fn run<F: EnvReal>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        if phase == 0 { self.pull(args, task) } else { self.count(args) }
    }

    fn pull<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        let n = args.shape(0)[0];
        let r = chunk(n, ENVS, task);
        let rows = r.len();
        let part = |i: usize, w: usize| &args.input(i)[r.start * w..r.end * w];
        let (before, done) = (part(3, WIDTH), part(4, 1));
        let (mut q, mut qd) = ([F::zero(); ENVS * NQ], [F::zero(); ENVS * NQD]);
        let (mut obs, mut reward) = ([F::zero(); ENVS * WIDTH], [F::zero(); ENVS]);
        let given = FROM.into_iter().zip(self.has).filter(|(_, has)| *has);
        for (input, ((output, w), _)) in (GIVEN..).zip(given) {
            let to: &mut [F] = match output {
                NEXT_Q => &mut q,
                NEXT_QD => &mut qd,
                REWARD => &mut reward,
                _ => &mut obs,
            };
            let cut_by_reset = matches!(output, NEXT_Q | NEXT_QD | NEXT_OBS);
            for (e, from) in part(input, w).chunks_exact(w).enumerate() {
                // A row of zeros, its quaternion too, is a state that left physics: it is no function of anything.
                let blown_up = before[e * WIDTH..(e + 1) * WIDTH].iter().all(|x| *x == F::zero());
                if !(blown_up || cut_by_reset && done[e] != F::zero()) {
                    to[e * w..(e + 1) * w].iter_mut().zip(from).for_each(|(to, &from)| *to += from);
                }
            }
        }
        let (mut to_q, mut to_qd) = ([F::zero(); ENVS * NQ], [F::zero(); ENVS * NQD]);
        let (mut to_obs, mut to_action) = ([F::zero(); ENVS * WIDTH], [F::zero(); ENVS * ACT]);
        F::adjoint_rows(
            &self.ant,
            rows,
            Operands { q: part(1, NQ), qd: part(2, NQD), action: part(0, ACT) },
            Results { q: &q, qd: &qd, obs: &obs, reward: &reward },
            Cotangents { q: &mut to_q, qd: &mut to_qd, obs: &mut to_obs, action: &mut to_action },
        );
        let flags = args.scratch(r.clone());
        for (e, flag) in flags.iter_mut().enumerate() {
            let row = [
                &mut to_q[e * NQ..(e + 1) * NQ],
                &mut to_qd[e * NQD..(e + 1) * NQD],
                &mut to_action[e * ACT..(e + 1) * ACT],
            ];
            *flag = bound_row(row, F::of(self.bound));
        }
        let mut output = 0;
        let results: [(&[F], usize); 4] = [(&to_action, ACT), (&to_q, NQ), (&to_qd, NQD), (&to_obs, WIDTH)];
        for ((from, w), accumulate) in results.into_iter().zip(self.sinks) {
            let Some(accumulate) = accumulate else { continue };
            for (to, &from) in args.out(output, r.start * w..r.end * w).iter_mut().zip(from) {
                *to = if accumulate { *to + from } else { from };
            }
            output += 1;
        }
    }

    fn count<F: EnvReal>(&self, args: &OpArgs<F>) {
        let counts = args.out_all(self.sinks.iter().flatten().count());
        for &flag in args.scratch(0..args.shape(0)[0]).iter() {
            if flag == F::one() {
                counts[0] += F::one();
            } else if flag != F::zero() {
                counts[1] += F::one();
            }
        }
    }
}

/// Scales a row's gradient down to `norm`; one that is not finite becomes zero. 0, or 1 or 2 if that was done.
fn bound_row<F: EnvReal>(mut row: [&mut [F]; 3], norm: F) -> F {
    // By the largest first: squares of large numbers overflow.
    let largest = row.iter().flat_map(|r| r.iter()).fold(F::zero(), |m, x| m.max(x.abs()));
    let finite = row.iter().flat_map(|r| r.iter()).all(|x| x.is_finite());
    if finite && largest == F::zero() {
        return F::zero();
    }
    let mut sum = F::zero();
    row.iter().flat_map(|r| r.iter()).for_each(|&x| sum += (x / largest) * (x / largest));
    let size = largest * sum.sqrt();
    if finite && size <= norm {
        return F::zero();
    }
    for x in row.iter_mut().flat_map(|r| r.iter_mut()) {
        *x = if finite { *x / largest * (norm / sum.sqrt()) } else { F::zero() };
    }
    if finite { F::one() } else { F::of(2.0) }
}

// SAFETY: tasks write the rows of their own environments; the last phase has one task.
unsafe impl Op for EnvStepAdjoint {
    fn name(&self) -> &'static str {
        "env_step_adjoint"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![inputs[0][0].div_ceil(ENVS), 1]
    }
    fn workspace(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        inputs[0][0]
    }
    fn cuda(&self, x: &cuda::Operands) -> Option<Vec<Launch>> {
        self.launches(x)
    }
    env_kernels!();
}

// SAFETY: a phase has one task.
unsafe impl Op for EnvReset {
    fn name(&self) -> &'static str {
        "env_reset"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &cuda::Operands) -> Option<Vec<Launch>> {
        self.launches(x)
    }
    env_kernels!();
}

// SAFETY: tasks write the rows of their own environments; the phase in between has one task.
unsafe impl Op for EnvStep {
    fn name(&self) -> &'static str {
        "env_step"
    }
    fn phases(&self, _: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
        let chunks = outputs[RETURN][0].div_ceil(ENVS);
        if self.bound.is_some() { vec![chunks, 1, chunks] } else { vec![chunks, 1] }
    }
    fn differentiable(&self) -> bool {
        self.bound.is_some()
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let bound = self.bound.expect("invariant: a step without bound is not differentiable");
        let mut inputs = vec![a.input(0), a.input(1), a.input(2), a.output(BEFORE), a.output(DONE)];
        let cotangents = FROM.map(|(output, _)| a.cotangent(output));
        inputs.extend(cotangents.iter().flatten());
        let sinks = [0, 1, 2, 3].map(|i| a.sink(i));
        let mut outputs: Vec<Val> = sinks.iter().flatten().map(|s| s.val).collect();
        outputs.push(a.output(COUNT));
        let op = EnvStepAdjoint {
            ant: self.ant.clone(),
            bound,
            has: cotangents.map(|c| c.is_some()),
            sinks: sinks.map(|s| s.map(|s| s.accumulate)),
        };
        a.push(op, &inputs, &outputs);
    }
    fn cuda(&self, x: &cuda::Operands) -> Option<Vec<Launch>> {
        self.launches(x)
    }
    env_kernels!();
}
