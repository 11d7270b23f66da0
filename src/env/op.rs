//! A reset, a step and the adjoint of a step of one group of environments as operations of the tape: dynamics,
//! observation, reward, termination, episodes.
//!
//! Rows of observations and actions may be wider than the task's own: see [`super::rows`].

use super::rows::{EnvReal, InputCotangents, OutputCotangents, StepOperands};
use super::task::{MOST_COORDINATES, MOST_ENTRIES, MOST_VELOCITIES, Task};
use crate::device::cuda::Launch;
use crate::device::philox::Philox;
use crate::device::{Dual, Real};
use crate::for_size;
use crate::tape::cuda;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Val};
use std::ops::Range;
use std::sync::Arc;

/// Environments a task of a phase steps: two groups of eight lanes.
const ENVS: usize = 16;
/// A state with a number beyond this has left physics: its row is zeroed and its episode ends.
pub(super) const BLOWN_UP: f64 = 1e6;

/// Whether a step that led to this observation stayed in physics.
pub fn in_physics<R: Real>(obs: &[R]) -> bool {
    obs.iter().all(|x| x.is_finite() && x.abs() < R::of(BLOWN_UP))
}

/// What happens when an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The environment starts a new episode in the same step.
    Train,
    /// One episode each: an environment that is done stays as it is.
    Evaluate,
}

/// Slots of [`super::EnvBatch::episode_stats`].
#[derive(Clone, Copy, Debug)]
pub enum EpisodeStat {
    Episodes = 0,
    Return = 1,
    Length = 2,
    BlownUp = 3,
}

/// How many there are.
pub(super) const STATS: usize = 4;

/// A group of environments of one task, as its operations know it. Two operations on the same group have the same
/// `Debug` output, by which they are compared.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub task: Arc<Task>,
    pub mode: Mode,
    pub rng: Philox,
    /// Philox blocks that the starts of the groups before this one take: no two groups share a block.
    pub first_block: u32,
    /// Width of a row of observations and of actions.
    pub entries: usize,
    pub actions: usize,
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

// Outputs that reset and step share, in the order of `EnvBatch::outputs`; then those of a step.
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

// Inputs of a step: the raw action, and where a gradient flows through it also the state that it begins with.
pub(super) const ACTION: usize = 0;
pub(super) const AT_Q: usize = 1;
pub(super) const AT_QD: usize = 2;
const AT_OBS: usize = 3;
// Inputs of its adjoint before the cotangents: the first three of the step, then results of the step, and the
// observation that it began with if the task asks for it.
pub(super) const GIVEN_BEFORE: usize = 3;
pub(super) const GIVEN_DONE: usize = 4;
pub(super) const GIVEN_OBS: usize = 5;

impl Group {
    /// Widths of the rows of q, qd and observations.
    fn widths(&self) -> [usize; 3] {
        [self.task.sizes.nq, self.task.sizes.nqd, self.entries]
    }

    /// Starts a new episode of environment `e`.
    fn begin<F: EnvReal>(&self, args: &OpArgs<F>, e: usize) {
        let episode = &mut args.out_index(EPISODES, e..e + 1)[0];
        let row = |w: usize| e * w..(e + 1) * w;
        let [nq, nqd, entries] = self.widths();
        let (q, qd, obs) = (args.out(Q, row(nq)), args.out(QD, row(nqd)), args.out(OBS, row(entries)));
        let block = self.first_block.wrapping_add((e as u32).wrapping_mul(self.task.start_blocks()));
        let (own, beyond) = obs.split_at_mut(self.task.sizes.obs);
        self.task.begin(&self.rng, u64::from(*episode), block, q, qd, own);
        *episode = episode.wrapping_add(1);
        beyond.fill(F::zero());
        args.out_index(PROGRESS, e..e + 1)[0] = 0;
        args.out(RETURN, e..e + 1)[0] = F::zero();
        args.out(ALIVE, e..e + 1)[0] = F::one();
    }
}

/// The start of a new episode in every environment.
#[derive(Debug)]
pub(super) struct EnvReset {
    pub group: Group,
}

impl EnvReset {
    fn run<F: EnvReal>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let n = args.out_len(RETURN);
        if self.group.mode == Mode::Evaluate {
            args.out_index(EPISODES, 0..n).fill(0);
        }
        for e in 0..n {
            self.group.begin(args, e);
        }
        args.out_all(EPISODE_STATS).fill(F::zero());
    }
}

#[derive(Debug)]
pub(super) struct EnvStep {
    pub group: Group,
    /// The norm of [`super::GradientBound`], if a gradient flows through this step.
    pub bound: Option<f64>,
}

impl EnvStep {
    fn run<F: EnvReal>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        match phase {
            0 => self.advance(args, task),
            1 => self.end_episodes(args),
            _ if self.begins_apart() => self.begin_episodes(args, task),
            _ => self.publish_state(args, task),
        }
    }

    /// Whether episodes begin in a phase of their own, where the team shares them: under a law whose starts may take
    /// hundreds of physics steps. No gradient flows there, so that no state is published.
    fn begins_apart(&self) -> bool {
        self.group.mode == Mode::Train && !self.group.task.is_differentiable()
    }

    /// New episodes of a chunk of environments.
    fn begin_episodes<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        for e in chunk(args.out_len(RETURN), ENVS, task) {
            if args.read_output(DONE, e..e + 1)[0] != F::zero() {
                self.group.begin(args, e);
            }
        }
    }

    /// Copies of the state after resets, for the next step.
    fn publish_state<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        let r = chunk(args.out_len(RETURN), ENVS, task);
        let [nq, nqd, entries] = self.group.widths();
        for (from, to, w) in [(Q, NEXT_Q, nq), (QD, NEXT_QD, nqd), (OBS, NEXT_OBS, entries)] {
            let part = r.start * w..r.end * w;
            args.out(to, part.clone()).copy_from_slice(args.read_output(from, part));
        }
    }

    /// Dynamics, observation, reward and flags of a chunk of environments.
    fn advance<F: EnvReal>(&self, args: &OpArgs<F>, task: usize) {
        let r = chunk(args.out_len(RETURN), ENVS, task);
        if self.group.mode == Mode::Train {
            return self.advance_rows(args, r);
        }
        // An environment whose episode is over stays as it is. Neighbours whose episodes go on are stepped together.
        let mut next = r.start;
        for same in args.read_output(ALIVE, r).chunk_by(|a, b| a == b) {
            let rows = next..next + same.len();
            next = rows.end;
            if same[0] != F::zero() {
                self.advance_rows(args, rows);
            }
        }
    }

    fn advance_rows<F: EnvReal>(&self, args: &OpArgs<F>, r: Range<usize>) {
        let (g, of) = (&self.group, &*self.group.task);
        let part = |w: usize| r.start * w..r.end * w;
        let [nq, nqd, entries] = g.widths();
        let (before, reward) = (args.out(BEFORE, part(entries)), args.out(REWARD, r.clone()));
        F::step_rows(
            of,
            r.len(),
            args.out(Q, part(nq)),
            args.out(QD, part(nqd)),
            args.read_output(OBS, part(entries)),
            &args.input(ACTION)[part(g.actions)],
            before,
            reward,
        );
        let (done, terminated) = (args.out(DONE, r.clone()), args.out(TERMINATED, r.clone()));
        let progress = args.out_index(PROGRESS, r.clone());
        let flag = |b: bool| if b { F::one() } else { F::zero() };
        for (i, row) in before.chunks_exact_mut(entries).enumerate() {
            progress[i] += 1;
            let sane = in_physics(row) && reward[i].is_finite();
            let fallen = !sane || of.is_terminal(row);
            if !sane {
                row.fill(F::zero());
                reward[i] = F::zero();
            }
            terminated[i] = flag(fallen);
            // 2 marks a blown-up state until its episode is ended.
            done[i] = if sane { flag(fallen || of.is_truncated(progress[i] as usize)) } else { F::of(2.0) };
        }
        args.out(OBS, part(entries)).copy_from_slice(before);
    }

    /// Episode returns and resets, in the order of environments.
    fn end_episodes<F: EnvReal>(&self, args: &OpArgs<F>) {
        let n = args.out_len(RETURN);
        let (reward, done) = (args.read_output(REWARD, 0..n), args.out(DONE, 0..n));
        let stats = args.out_all(EPISODE_STATS);
        for e in 0..n {
            let alive = &mut args.out(ALIVE, e..e + 1)[0];
            if self.group.mode == Mode::Evaluate && *alive == F::zero() {
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
            match self.group.mode {
                Mode::Train if self.begins_apart() => {}
                Mode::Train => self.group.begin(args, e),
                Mode::Evaluate => *alive = F::zero(),
            }
        }
    }
}

/// The adjoint of a step: environments in the same chunks as the step.
#[derive(Debug)]
pub(super) struct EnvStepAdjoint {
    pub group: Group,
    pub bound: f64,
    /// Which outputs have a cotangent, in the order of [`FROM`].
    pub has: [bool; FROM.len()],
    /// For action, q, qd and obs: none if its cotangent is not wanted, else whether it is added to what is there.
    pub sinks: [Option<bool>; 4],
}

/// Outputs of a step whose cotangents its adjoint reads.
pub(super) const FROM: [usize; 5] = [NEXT_Q, NEXT_QD, NEXT_OBS, BEFORE, REWARD];

/// The adjoint keeps the cotangents of a chunk's rows on the stack. For a robot of the first class whose rows are no
/// wider than this its arrays are small; for others they have room for any task.
const NARROW: usize = 64;

impl EnvStepAdjoint {
    /// Whether the reward's derivative depends on the observation before the step, which is an input then.
    pub fn is_given_obs(&self) -> bool {
        self.group.task.dflex().reward_is_curved()
    }

    /// Inputs before the cotangents.
    pub fn given(&self) -> usize {
        GIVEN_OBS + usize::from(self.is_given_obs())
    }

    /// Whether the small arrays have room.
    fn is_narrow(&self) -> bool {
        self.group.task.dflex().class == 0 && self.group.entries.max(self.group.actions) <= NARROW
    }

    fn run<F: EnvReal>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        if phase != 0 {
            return self.count(args);
        }
        if self.is_narrow() {
            for_size!(0, _B, Q, D, _K, self.pull::<F, Q, D, NARROW>(args, task))
        } else {
            self.pull::<F, MOST_COORDINATES, MOST_VELOCITIES, MOST_ENTRIES>(args, task)
        }
    }

    #[inline(never)]
    fn pull<F: EnvReal, const MQ: usize, const MD: usize, const MO: usize>(&self, args: &OpArgs<F>, task: usize) {
        let r = chunk(args.shape(0)[0], ENVS, task);
        let rows = r.len();
        let [nq, nqd, entries] = self.group.widths();
        let actions = self.group.actions;
        let part = |i: usize, w: usize| &args.input(i)[r.start * w..r.end * w];
        let (before, done) = (part(GIVEN_BEFORE, entries), part(GIVEN_DONE, 1));
        let zero = F::zero();
        let (mut q, mut qd, mut obs) = ([[zero; MQ]; ENVS], [[zero; MD]; ENVS], [[zero; MO]; ENVS]);
        let (q, qd) = (&mut q.as_flattened_mut()[..rows * nq], &mut qd.as_flattened_mut()[..rows * nqd]);
        let obs = &mut obs.as_flattened_mut()[..rows * entries];
        let mut reward = [zero; ENVS];
        let given = FROM.into_iter().zip(self.has).filter(|(_, has)| *has);
        for (input, (output, _)) in (self.given()..).zip(given) {
            let (to, w): (&mut [F], usize) = match output {
                NEXT_Q => (q, nq),
                NEXT_QD => (qd, nqd),
                REWARD => (&mut reward, 1),
                _ => (obs, entries),
            };
            let cut_by_reset = matches!(output, NEXT_Q | NEXT_QD | NEXT_OBS);
            for (e, from) in part(input, w).chunks_exact(w).enumerate() {
                // A row that is zero throughout, its quaternion too, is a state that left physics: no gradient flows
                // through it.
                let blown_up = before[e * entries..(e + 1) * entries].iter().all(|x| *x == zero);
                if !(blown_up || cut_by_reset && done[e] != zero) {
                    to[e * w..(e + 1) * w].iter_mut().zip(from).for_each(|(to, &from)| *to += from);
                }
            }
        }
        let (mut to_q, mut to_qd) = ([[zero; MQ]; ENVS], [[zero; MD]; ENVS]);
        let (mut to_obs, mut to_action) = ([[zero; MO]; ENVS], [[zero; MO]; ENVS]);
        let to_q = &mut to_q.as_flattened_mut()[..rows * nq];
        let to_qd = &mut to_qd.as_flattened_mut()[..rows * nqd];
        let to_obs = &mut to_obs.as_flattened_mut()[..rows * entries];
        let to_action = &mut to_action.as_flattened_mut()[..rows * actions];
        let seen = if self.is_given_obs() { part(GIVEN_OBS, entries) } else { &[] };
        F::adjoint_rows(
            &self.group.task,
            rows,
            StepOperands { q: part(AT_Q, nq), qd: part(AT_QD, nqd), action: part(ACTION, actions), obs: seen },
            OutputCotangents { q, qd, obs, reward: &reward },
            InputCotangents { q: to_q, qd: to_qd, obs: to_obs, action: to_action },
        );
        let flags = args.scratch(r.clone());
        for (e, flag) in flags.iter_mut().enumerate() {
            let row = [
                &mut to_q[e * nq..(e + 1) * nq],
                &mut to_qd[e * nqd..(e + 1) * nqd],
                &mut to_action[e * actions..(e + 1) * actions],
            ];
            *flag = bound_row(row, F::of(self.bound));
        }
        let mut output = 0;
        let results: [(&[F], usize); 4] = [(to_action, actions), (to_q, nq), (to_qd, nqd), (to_obs, entries)];
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
        for &flag in args.read_scratch(0..args.shape(0)[0]) {
            if flag == F::one() {
                counts[0] += F::one();
            } else if flag != F::zero() {
                counts[1] += F::one();
            }
        }
    }
}

/// Scales a row's gradient down to `norm`; one that is not finite becomes zero. Returns 1 in the first case, 2 in the
/// second, else 0.
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
    fn stack(&self) -> usize {
        // The arrays of `pull`, and what it calls.
        let row = |q: usize, d: usize, o: usize| 2 * q + 2 * d + 3 * o + 1;
        let row = if self.is_narrow() {
            for_size!(0, _B, Q, D, _K, row(Q, D, NARROW))
        } else {
            row(MOST_COORDINATES, MOST_VELOCITIES, MOST_ENTRIES)
        };
        ENVS * row * size_of::<f32>() + self.group.task.dflex().adjoint_stack()
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
    fn stack(&self) -> usize {
        self.group.task.start_stack()
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
        if self.bound.is_some() || self.begins_apart() { vec![chunks, 1, chunks] } else { vec![chunks, 1] }
    }
    fn stack(&self) -> usize {
        self.group.task.step_stack()
    }
    fn differentiable(&self) -> bool {
        self.bound.is_some()
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let bound = self.bound.expect("invariant: a step without bound is not differentiable");
        let mut inputs = vec![a.input(ACTION), a.input(AT_Q), a.input(AT_QD), a.output(BEFORE), a.output(DONE)];
        if self.group.task.dflex().reward_is_curved() {
            inputs.push(a.input(AT_OBS));
        }
        let cotangents = FROM.map(|output| a.cotangent(output));
        inputs.extend(cotangents.iter().flatten());
        let sinks = [ACTION, AT_Q, AT_QD, AT_OBS].map(|i| a.sink(i));
        let mut outputs: Vec<Val> = sinks.iter().flatten().map(|s| s.val).collect();
        outputs.push(a.output(COUNT));
        let op = EnvStepAdjoint {
            group: self.group.clone(),
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
