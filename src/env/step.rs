//! An environment step as one operation of the tape: dynamics, observation, reward, termination, reset.

use super::ant::reset::reset_row;
use super::ant::task::{is_terminal, observe_row};
use super::ant::{ACT, NQ, NQD, OBS as WIDTH};
use super::{Ant, EnvReal};
use crate::config::{self, Config};
use crate::device::Dual;
use crate::device::cuda::Launch;
use crate::device::philox::Philox;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Cx, DType, Op, Program, Region, Val, VarId, Vars};
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

/// Slots of [`EnvVars::meters`].
#[derive(Clone, Copy, Debug)]
pub enum Meter {
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
    /// `[4]`: sums over episodes that ended, see [`Meter`]. The host reads and clears them.
    pub meters: VarId,
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
            meters: add("meters", DType::Real, &[4]),
        }
    }

    fn outputs(&self, p: &mut Program, vars: &Vars) -> Vec<Val> {
        [self.q, self.qd, self.obs, self.progress, self.episodes, self.ep_return, self.alive, self.meters]
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
        p.push(EnvStep { ant: self.ant.clone(), mode: self.mode, rng: self.rng }, &[action], &outputs);
        Stepped { obs_before_reset, reward, done, terminated }
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
    })
}

// Outputs that both operations share, in the order of `EnvVars::outputs`; then those of a step.
pub(super) const Q: usize = 0;
pub(super) const QD: usize = 1;
pub(super) const OBS: usize = 2;
pub(super) const PROGRESS: usize = 3;
pub(super) const EPISODES: usize = 4;
pub(super) const RETURN: usize = 5;
pub(super) const ALIVE: usize = 6;
pub(super) const METERS: usize = 7;
pub(super) const BEFORE: usize = 8;
pub(super) const REWARD: usize = 9;
pub(super) const DONE: usize = 10;
pub(super) const TERMINATED: usize = 11;

/// Starts a new episode of environment `e`.
fn begin<F: EnvReal>(ant: &Ant, rng: &Philox, cx: &Cx<F>, e: usize) {
    let episode = &mut cx.out_index(EPISODES, e..e + 1)[0];
    let (q, qd) = (cx.out(Q, e * NQ..(e + 1) * NQ), cx.out(QD, e * NQD..(e + 1) * NQD));
    reset_row(ant, rng, u64::from(*episode), e as u32, q, qd);
    *episode = episode.wrapping_add(1);
    observe_row(ant, q, qd, &[F::zero(); ACT], cx.out(OBS, e * WIDTH..(e + 1) * WIDTH));
    cx.out_index(PROGRESS, e..e + 1)[0] = 0;
    cx.out(RETURN, e..e + 1)[0] = F::zero();
    cx.out(ALIVE, e..e + 1)[0] = F::one();
}

#[derive(Debug)]
pub(super) struct EnvReset {
    pub(super) ant: Arc<Ant>,
    pub(super) mode: Mode,
    pub(super) rng: Philox,
}

impl EnvReset {
    fn run<F: EnvReal>(&self, cx: &Cx<F>, _: usize, _: usize) {
        let n = cx.out_len(RETURN);
        if self.mode == Mode::Evaluate {
            cx.out_index(EPISODES, 0..n).fill(0);
        }
        for e in 0..n {
            begin(&self.ant, &self.rng, cx, e);
        }
        cx.out_all(METERS).fill(F::zero());
    }
}

#[derive(Debug)]
pub(super) struct EnvStep {
    pub(super) ant: Arc<Ant>,
    pub(super) mode: Mode,
    pub(super) rng: Philox,
}

impl EnvStep {
    fn run<F: EnvReal>(&self, cx: &Cx<F>, phase: usize, task: usize) {
        if phase == 0 { self.advance(cx, task) } else { self.keep_books(cx) }
    }

    /// Dynamics, observation, reward and flags of a chunk of environments.
    fn advance<F: EnvReal>(&self, cx: &Cx<F>, task: usize) {
        let r = chunk(cx.out_len(RETURN), ENVS, task);
        let part = |w: usize| r.start * w..r.end * w;
        if self.mode == Mode::Evaluate && cx.out(ALIVE, r.clone()).iter().all(|a| *a == F::zero()) {
            return;
        }
        let (before, reward) = (cx.out(BEFORE, part(WIDTH)), cx.out(REWARD, r.clone()));
        F::step_rows(
            &self.ant,
            r.len(),
            cx.out(Q, part(NQ)),
            cx.out(QD, part(NQD)),
            cx.written(OBS, part(WIDTH)),
            &cx.input(0)[part(ACT)],
            before,
            reward,
        );
        let (done, terminated) = (cx.out(DONE, r.clone()), cx.out(TERMINATED, r.clone()));
        let progress = cx.out_index(PROGRESS, r.clone());
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
        cx.out(OBS, part(WIDTH)).copy_from_slice(before);
    }

    /// Episode returns and resets, in the order of environments.
    fn keep_books<F: EnvReal>(&self, cx: &Cx<F>) {
        let n = cx.out_len(RETURN);
        let (reward, done) = (cx.written(REWARD, 0..n), cx.out(DONE, 0..n));
        let (alive, meters) = (cx.out(ALIVE, 0..n), cx.out_all(METERS));
        for e in 0..n {
            if self.mode == Mode::Evaluate && alive[e] == F::zero() {
                continue;
            }
            let total = &mut cx.out(RETURN, e..e + 1)[0];
            *total += reward[e];
            if done[e] == F::zero() {
                continue;
            }
            if done[e] != F::one() {
                meters[Meter::BlownUp as usize] += F::one();
                done[e] = F::one();
            }
            meters[Meter::Episodes as usize] += F::one();
            meters[Meter::Return as usize] += *total;
            meters[Meter::Length as usize] += F::of(f64::from(cx.out_index(PROGRESS, e..e + 1)[0]));
            match self.mode {
                Mode::Train => begin(&self.ant, &self.rng, cx, e),
                Mode::Evaluate => alive[e] = F::zero(),
            }
        }
    }
}

/// Both operations run `run` for every number type an environment can be stepped in, and have no adjoint yet.
macro_rules! env_op {
    ($t:ty, $name:literal, $phases:expr) => {
        impl Op for $t {
            fn name(&self) -> &'static str {
                $name
            }
            fn phases(&self, _: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
                let phases: fn(usize) -> Vec<usize> = $phases;
                phases(outputs[RETURN][0])
            }
            fn differentiable(&self) -> bool {
                false
            }
            fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
                self.launches(x)
            }
            fn run_f32(&self, cx: &Cx<f32>, phase: usize, task: usize) {
                self.run(cx, phase, task);
            }
            fn run_f64(&self, cx: &Cx<f64>, phase: usize, task: usize) {
                self.run(cx, phase, task);
            }
            fn run_dual(&self, cx: &Cx<Dual>, phase: usize, task: usize) {
                self.run(cx, phase, task);
            }
        }
    };
}

env_op!(EnvReset, "env_reset", |_| vec![1]);
env_op!(EnvStep, "env_step", |n| vec![n.div_ceil(ENVS), 1]);
