//! CUDA launches of the environment, and the robot written as constants of its kernels.

use super::Ant;
use super::ant::{ACTION_SCALE, START_Q};
use super::step::*;
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{Header, In, IndexOut, Out};
use crate::sim::cuda::{Constants, Layout};
use crate::tape::cuda::{Operands, cover};
use std::fmt::Write;

crate::cuda_kernels! {
    "sim/env.cu";
    fn env_step[64](
        action: In, q: Out, qd: Out, obs: Out, progress: IndexOut, alive: In,
        before: Out, reward: Out, done: Out, terminated: Out, evaluate: u32, n: u32,
    );
    fn env_adjoint[32](
        action: In, q: In, qd: In, before: In, done: In, q_bar: In, qd_bar: In, obs_bar: In, before_bar: In,
        reward_bar: In, to_action: Out, to_q: Out, to_qd: Out, to_obs: Out, flags: Out, accumulate: u32, bound: f32, n: u32,
    );
}

mod books {
    use super::{In, IndexOut, Out};
    crate::cuda_kernels! {
        "sim/books.cu";
        fn env_reset[64](
            q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out, alive: Out, stats: Out,
            seed: u64, stream: u32, evaluate: u32, n: u32,
        );
        fn env_books[128](
            reward: In, done: Out, q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out,
            alive: Out, stats: Out, seed: u64, stream: u32, evaluate: u32, n: u32,
        );
        fn env_count[128](flags: In, counts: Out, n: u32);
    }
}

mod basic {
    use super::{In, Out};
    crate::cuda_kernels! {
        "tape/basic.cu";
        fn copy[256](from: In, to: Out, n: u32);
    }
}

/// How the robot lies over the threads.
fn layout(ant: &Ant) -> Layout {
    Layout::of(&ant.f64)
}

/// `robot.cuh`: everything that the kernels know about the robot and the task.
fn header(ant: &Ant) -> Header {
    let s = &ant.settings;
    let mut c = Constants { text: "// Written by the program from the robot and its task.\n#pragma once\n".into() };
    c.text += &layout(ant).constants(&ant.f64, &ant.timing());
    c.integer("EPISODE_LENGTH", s.episode_length.min(i32::MAX as usize));
    c.integer("EARLY_TERMINATION", s.early_termination.into());
    c.integer("ACTION_IN_OBS", s.action_in_obs.into());
    c.integer("STOCHASTIC_INIT", s.stochastic_init.into());
    c.number("ACTION_SCALE", ACTION_SCALE);
    c.number("UP_SCALE", s.up_rew_scale);
    c.number("ACTION_PENALTY", s.action_penalty);
    c.number("TERMINATION_HEIGHT", s.termination_height);
    c.number("JOINT_VEL_SCALE", s.joint_vel_obs_scaling);
    c.vector("START", [START_Q[3], START_Q[4], START_Q[5]]);
    c.number("START_W", START_Q[6]);
    let start: Vec<_> = START_Q.iter().map(|x| format!("{x:?}")).collect();
    let _ = writeln!(c.text, "static __device__ const double START[] = {{{}}};", start.join(", "));
    Header { name: "robot.cuh", text: c.text.into() }
}

/// Threads of a block that starts episodes, one for each.
const RESET_THREADS: usize = 64;

impl EnvReset {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(RETURN);
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, stats) =
            (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(EPISODE_STATS));
        let (seed, stream, evaluate) = (self.rng.seed(), self.rng.stream(), (self.mode == Mode::Evaluate).into());
        let launch = books::env_reset(
            cover(n.max(4), RESET_THREADS),
            [],
            q,
            qd,
            obs,
            progress,
            episodes,
            total,
            alive,
            stats,
            seed,
            stream,
            evaluate,
            n as u32,
        );
        Some(vec![launch.with_header(header(&self.ant))])
    }
}

impl EnvStep {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(RETURN);
        let (lanes, threads) = (layout(&self.ant).lanes(), layout(&self.ant).threads().step);
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, stats) =
            (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(EPISODE_STATS));
        let (before, reward, done, terminated) = (x.out(BEFORE), x.out(REWARD), x.out(DONE), x.out(TERMINATED));
        let (seed, stream, evaluate) = (self.rng.seed(), self.rng.stream(), (self.mode == Mode::Evaluate).into());
        let step = env_step(
            cover(n * lanes, threads),
            [],
            x.input(0),
            q,
            qd,
            obs,
            progress,
            alive.into(),
            before,
            reward,
            done,
            terminated,
            evaluate,
            n as u32,
        );
        let books = books::env_books(
            [1, 1, 1],
            [],
            reward.into(),
            done,
            q,
            qd,
            obs,
            progress,
            episodes,
            total,
            alive,
            stats,
            seed,
            stream,
            evaluate,
            n as u32,
        );
        let header = header(&self.ant);
        let mut launches =
            vec![step.with_threads(threads as u32).with_header(header.clone()), books.with_header(header)];
        if self.bound.is_some() {
            // The state after resets, for the next step.
            for (from, to) in [(Q, NEXT_Q), (QD, NEXT_QD), (OBS, NEXT_OBS)] {
                let n = x.out_len(from);
                launches.push(basic::copy(cover(n, 256), [], x.out(from).into(), x.out(to), n as u32));
            }
        }
        Some(launches)
    }
}

impl EnvStepAdjoint {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let (n, lanes, threads) = (x.shape(0)[0], layout(&self.ant).lanes(), layout(&self.ant).threads().adjoint);
        let (mut from, mut input) = ([In::default(); FROM.len()], GIVEN);
        for (from, has) in from.iter_mut().zip(self.has) {
            if has {
                *from = x.input(input);
                input += 1;
            }
        }
        let (mut to, mut accumulate, mut output) = ([Out::default(); 4], 0, 0);
        for (i, (to, sink)) in to.iter_mut().zip(self.sinks).enumerate() {
            if let Some(add) = sink {
                *to = x.out(output);
                accumulate |= u32::from(add) << i;
                output += 1;
            }
        }
        let [q_bar, qd_bar, obs_bar, before_bar, reward_bar] = from;
        let [to_action, to_q, to_qd, to_obs] = to;
        let adjoint = env_adjoint(
            cover(n * lanes, threads),
            [],
            x.input(0),
            x.input(1),
            x.input(2),
            x.input(3),
            x.input(4),
            q_bar,
            qd_bar,
            obs_bar,
            before_bar,
            reward_bar,
            to_action,
            to_q,
            to_qd,
            to_obs,
            x.scratch(),
            accumulate,
            self.bound.min(f64::from(f32::MAX)) as f32,
            n as u32,
        );
        let count = books::env_count([1, 1, 1], [], x.scratch().into(), x.out(output), n as u32);
        let header = header(&self.ant);
        Some(vec![adjoint.with_threads(threads as u32).with_header(header.clone()), count.with_header(header)])
    }
}
