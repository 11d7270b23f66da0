//! CUDA launches of the environment, and the robot written as constants of its kernels.

use super::formulas::task_header;
use super::op::*;
use super::reset::Draw;
use crate::device::cuda::Launch;
use crate::device::cuda::estimate::Work;
use crate::device::cuda::launch::{GeneratedHeader, In, IndexOut, Out};
use crate::sim::cuda::Constants;
use crate::tape::cuda::{Operands, cover};
use std::fmt::Write;

crate::cuda_kernels! {
    "sim/env.cu";
    fn env_step[64](
        action: In, q: Out, qd: Out, obs: Out, progress: IndexOut, alive: In,
        before: Out, reward: Out, done: Out, terminated: Out, evaluate: u32, n: u32,
    );
    fn env_adjoint[32](
        action: In, q: In, qd: In, before: In, done: In, seen: In, q_bar: In, qd_bar: In, obs_bar: In, before_bar: In,
        reward_bar: In, to_action: Out, to_q: Out, to_qd: Out, to_obs: Out, flags: Out, accumulate: u32, bound: f32, n: u32,
    );
}

mod episodes {
    use super::{In, IndexOut, Out};
    crate::cuda_kernels! {
        "sim/episodes.cu";
        fn env_reset[64](
            q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out, alive: Out, stats: Out,
            seed: u64, stream: u32, evaluate: u32, n: u32,
        );
        fn end_episodes[128](
            reward: In, done: Out, q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out,
            alive: Out, stats: Out, seed: u64, stream: u32, evaluate: u32, n: u32,
        );
        fn count_bounded[128](flags: In, counts: Out, n: u32);
    }
}

mod basic {
    use super::{In, Out};
    crate::cuda_kernels! {
        "tape/basic.cu";
        fn copy[256](from: In, to: Out, n: u32);
    }
}

/// Everything that the kernels know about the robot and the task: constants in `robot.cuh`, formulas in `task.cuh`.
fn headers(g: &Group) -> Vec<GeneratedHeader> {
    let task = g.task.dflex();
    let text = "// Written by the program from the robot and its task.\n#pragma once\n#include \"sim/draw.cuh\"\n";
    let mut c = Constants { text: text.into() };
    c.text += &task.layout.constants(&task.f64, &task.timing());
    c.integer("EPISODE_LENGTH", g.task.spec.episode_length.min(i32::MAX as usize));
    c.integer("OBS", task.sizes.obs);
    c.integer("OBS_WIDTH", g.entries);
    c.integer("ACT", task.sizes.act);
    c.integer("ACT_WIDTH", g.actions);
    c.integer("FIRST_BLOCK", g.first_block as usize);
    c.integer("STATS", STATS);
    actions(&mut c, g);
    termination(&mut c, g);
    starts(&mut c, g);
    let formulas = task.formulas.get_or_init(|| task_header(task).into());
    vec![
        GeneratedHeader { name: "robot.cuh", text: c.text.into() },
        GeneratedHeader { name: "task.cuh", text: formulas.clone() },
    ]
}

/// Rows of a table that kernels/sim/draw.cuh declares. An empty one gets a row that is never read: C++ has no empty
/// arrays.
fn table(c: &mut Constants, kind: &str, name: &str, rows: &[String]) {
    let rows = if rows.is_empty() { "{}".into() } else { rows.join(", ") };
    let _ = writeln!(c.text, "static __device__ constexpr {kind} {name}[] = {{{rows}}};");
}

/// Which dof each entry of the action drives, and how strongly. The dofs of a specification's actions are neighbours.
fn actions(c: &mut Constants, g: &Group) {
    let task = g.task.dflex();
    let drives = &task.spec.drives;
    let (first, gain) = (drives[0].dof, drives[0].gain);
    assert!((first..).zip(drives).all(|(k, d)| d.dof == k), "invariant: the dofs that are driven are neighbours");
    let free = if task.f64.links[0].kind == crate::sim::JointKind::Free { 6 } else { 0 };
    c.integer("ACTION_FIRST", first);
    c.integer("ALL_DRIVEN", (first == free && drives.len() + free == g.task.sizes.nqd).into());
    c.integer("EQUAL_GAINS", drives.iter().all(|d| d.gain == gain).into());
    c.number("GAIN", gain);
    c.numbers("GAINS", &drives.iter().map(|d| d.gain).collect::<Vec<_>>());
}

/// When an episode ends.
fn termination(c: &mut Constants, g: &Group) {
    c.number("BLOWN_UP", BLOWN_UP);
    let end = g.task.dflex().spec.termination;
    c.integer("TERMINATES", end.is_some().into());
    c.integer("TERMINATION_ENTRY", end.map_or(0, |t| t.entry));
    c.number("TERMINATION_BELOW", end.map_or(0.0, |t| t.below));
}

fn starts(c: &mut Constants, g: &Group) {
    let reset = &g.task.dflex().spec.reset;
    let (mut rows, mut drawn): (Vec<String>, Vec<i64>) = (Vec::new(), Vec::new());
    for d in &reset.draws {
        let first = drawn.len();
        let (kind, width) = match d {
            Draw::Position { width } => ("POSITION_NOISE", *width),
            Draw::Rotation { at, degrees } => {
                drawn.push(*at as i64);
                ("ROTATION_NOISE", std::f64::consts::PI / (180.0 / degrees))
            }
            Draw::Coordinates { which, width } => {
                drawn.extend(which.iter().map(|&k| k as i64));
                ("COORDINATE_NOISE", *width)
            }
            Draw::Velocities { which, width } => {
                drawn.extend(which.iter().map(|&k| k as i64));
                ("VELOCITY_NOISE", *width)
            }
        };
        rows.push(format!("{{{kind}, {first}, {}, {width:?}}}", drawn.len() - first));
    }
    table(c, "Draw", "DRAWS", &rows);
    c.integer("DRAW_COUNT", rows.len());
    c.integers("DRAWN", drawn);
    c.integer("UNIFORMS", reset.uniforms());
    let start: Vec<_> = reset.start.iter().map(|x| format!("{x:?}")).collect();
    let _ = writeln!(c.text, "static __device__ const double START[] = {{{}}};", start.join(", "));
}

/// Steps of a substep that wait for each other, from the root of a tree to its leaves and back, and those of its adjoint
/// over them: guesses for estimates, from how far a GPU is meant to go.
const STEPS: f64 = 10.0;
const ADJOINT: f64 = 3.5;

/// What a kernel does that simulates: it hardly touches memory.
fn simulated(g: &Group, times: f64) -> Work {
    Work { steps: times * STEPS * g.task.dflex().spec.substeps as f64, ..Work::default() }
}

/// Threads of a block that starts episodes, one for each.
const RESET_THREADS: usize = 64;

impl EnvReset {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        self.group.task.is_differentiable().then(|| self.launch(x))
    }

    fn launch(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(RETURN);
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, stats) =
            (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(EPISODE_STATS));
        let (seed, stream, evaluate) =
            (self.group.rng.seed(), self.group.rng.stream(), (self.group.mode == Mode::Evaluate).into());
        let launch = episodes::env_reset(
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
        vec![launch.with_headers(headers(&self.group))]
    }
}

impl EnvStep {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        self.group.task.is_differentiable().then(|| self.launch(x))
    }

    fn launch(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(RETURN);
        let layout = &self.group.task.dflex().layout;
        let (lanes, threads) = (layout.lanes(), layout.threads().step);
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, stats) =
            (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(EPISODE_STATS));
        let (before, reward, done, terminated) = (x.out(BEFORE), x.out(REWARD), x.out(DONE), x.out(TERMINATED));
        let (seed, stream, evaluate) =
            (self.group.rng.seed(), self.group.rng.stream(), (self.group.mode == Mode::Evaluate).into());
        let step = env_step(
            cover(n * lanes, threads),
            [],
            x.input(ACTION),
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
        let ends = episodes::end_episodes(
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
        let headers = headers(&self.group);
        let mut launches = vec![
            step.with_threads(threads as u32).with_work(simulated(&self.group, 1.0)).with_headers(headers.clone()),
            ends.with_headers(headers),
        ];
        if self.bound.is_some() {
            // The state after resets, for the next step.
            for (from, to) in [(Q, NEXT_Q), (QD, NEXT_QD), (OBS, NEXT_OBS)] {
                let n = x.out_len(from);
                launches.push(basic::copy(cover(n, 256), [], x.out(from).into(), x.out(to), n as u32));
            }
        }
        launches
    }
}

impl EnvStepAdjoint {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let task = self.group.task.dflex();
        let (n, lanes, threads) = (x.shape(0)[0], task.layout.lanes(), task.layout.threads().adjoint);
        let stack = task.layout.adjoint_stack(task.model(), task.spec.substeps);
        let (mut from, mut input) = ([In::default(); FROM.len()], self.given());
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
        let seen = if self.is_given_obs() { x.input(GIVEN_OBS) } else { In::default() };
        let adjoint = env_adjoint(
            cover(n * lanes, threads),
            [],
            x.input(ACTION),
            x.input(AT_Q),
            x.input(AT_QD),
            x.input(GIVEN_BEFORE),
            x.input(GIVEN_DONE),
            seen,
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
        let count = episodes::count_bounded([1, 1, 1], [], x.scratch().into(), x.out(output), n as u32);
        let headers = headers(&self.group);
        Some(vec![
            adjoint
                .with_threads(threads as u32)
                .with_stack(stack)
                .with_work(simulated(&self.group, ADJOINT))
                .with_headers(headers.clone()),
            count.with_headers(headers),
        ])
    }
}
