//! CUDA launches of the environment, and the robot written as constants of its kernels.

use super::feature::{Feature, NEAREST};
use super::op::*;
use super::reset::Draw;
use super::term::{Fall, Term, Tolerance};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{GeneratedHeader, In, IndexOut, Out};
use crate::sim::cuda::{Constants, float};
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

/// `robot.cuh`: everything that the kernels know about the robot and the task.
fn header(g: &Group) -> GeneratedHeader {
    let (task, spec) = (&*g.task, &g.task.spec);
    let text = "// Written by the program from the robot and its task.\n#pragma once\n#include \"sim/task.cuh\"\n";
    let mut c = Constants { text: text.into() };
    c.text += &task.layout.constants(&task.f64, &task.timing());
    c.integer("EPISODE_LENGTH", spec.episode_length.min(i32::MAX as usize));
    c.integer("OBS", task.sizes.obs);
    c.integer("OBS_WIDTH", g.entries);
    c.integer("ACT", task.sizes.act);
    c.integer("ACT_WIDTH", g.actions);
    c.integer("FIRST_BLOCK", g.first_block as usize);
    actions(&mut c, g);
    observation(&mut c, g);
    terms(&mut c, g);
    starts(&mut c, g);
    GeneratedHeader { name: "robot.cuh", text: c.text.into() }
}

/// Rows of a table that kernels/sim/task.cuh declares. An empty one gets a row that is never read: C++ has no empty
/// arrays.
fn table(c: &mut Constants, kind: &str, name: &str, rows: &[String]) {
    let rows = if rows.is_empty() { "{}".into() } else { rows.join(", ") };
    let _ = writeln!(c.text, "static __device__ constexpr {kind} {name}[] = {{{rows}}};");
}

/// Which dof each entry of the action drives, and how strongly. The dofs of a specification's actions are neighbours.
fn actions(c: &mut Constants, g: &Group) {
    let drives = &g.task.spec.drives;
    let (first, gain) = (drives[0].dof, drives[0].gain);
    assert!((first..).zip(drives).all(|(k, d)| d.dof == k), "invariant: the dofs that are driven are neighbours");
    let free = if g.task.f64.links[0].kind == crate::sim::JointKind::Free { 6 } else { 0 };
    c.integer("ACTION_FIRST", first);
    c.integer("ALL_DRIVEN", (first == free && drives.len() + free == g.task.sizes.nqd).into());
    c.integer("EQUAL_GAINS", drives.iter().all(|d| d.gain == gain).into());
    c.number("GAIN", gain);
    c.numbers("GAINS", &drives.iter().map(|d| d.gain).collect::<Vec<_>>());
}

fn observation(c: &mut Constants, g: &Group) {
    let (task, o) = (&*g.task, &g.task.spec.observation);
    let mut rows = Vec::new();
    let mut at = 0;
    for &f in &o.features {
        let width = f.width(o.actions);
        let (kind, first, scale, [x, z]) = match f {
            Feature::Height => ("HEIGHT", 0, 0.0, [0.0; 2]),
            Feature::Rotation => ("ROOT_ROTATION", 0, 0.0, [0.0; 2]),
            Feature::LinearVelocity => ("LINEAR_VELOCITY", 0, 0.0, [0.0; 2]),
            Feature::AngularVelocity => ("ANGULAR_VELOCITY", 0, 0.0, [0.0; 2]),
            Feature::Coordinates { first, .. } => ("COORDINATES", first, 0.0, [0.0; 2]),
            Feature::Velocities { first, scale, .. } => ("VELOCITIES", first, scale, [0.0; 2]),
            Feature::Up => ("UP", 0, 0.0, [0.0; 2]),
            Feature::Heading { target } => ("HEADING", 0, 0.0, target),
            Feature::Sine { of } => ("SINE", of, 0.0, [0.0; 2]),
            Feature::Cosine { of } => ("COSINE", of, 0.0, [0.0; 2]),
            Feature::Action { shown } => ("ACTIONS", 0, f64::from(u8::from(shown)), [0.0; 2]),
        };
        rows.push(format!("{{{kind}, {at}, {width}, {first}, {}, {}, {}}}", float(scale), float(x), float(z)));
        at += width;
    }
    // Whether every list of coordinates or velocities has all that are not a free root's.
    let free = g.task.f64.links[0].kind == crate::sim::JointKind::Free;
    let (q, qd) = if free { (7, 6) } else { (0, 0) };
    let all = o.features.iter().all(|f| match *f {
        Feature::Coordinates { first, count } => first == q && first + count == task.sizes.nq,
        Feature::Velocities { first, count, .. } => first == qd && first + count == task.sizes.nqd,
        _ => true,
    });
    table(c, "Feature", "FEATURES", &rows);
    c.integer("FEATURE_COUNT", rows.len());
    c.integer("ALL_SHOWN", all.into());
    c.integer("OF_ROOT", o.of_root().into());
    c.integer("PROJECTS", o.projects().into());
    let angle = |f: &Feature| matches!(f, Feature::Sine { .. } | Feature::Cosine { .. });
    c.integer("ANGLES", o.features.iter().any(angle).into());
    c.number("NEAREST", NEAREST);
    let [x, y, z, w] = o.start;
    c.vector("START", [x, y, z]);
    c.number("START_W", w);
}

fn terms(c: &mut Constants, g: &Group) {
    let task = &*g.task;
    let none = f64::NEG_INFINITY..f64::INFINITY;
    let row = |kind: &str,
               [of, cosine]: [usize; 2],
               weight,
               offset,
               range: &std::ops::Range<f64>,
               [below, above]: [f64; 2]| {
        let numbers = [weight, offset, range.start, range.end, below, above].map(float).join(", ");
        format!("{kind}, {of}, {cosine}, {numbers}")
    };
    let rows: Vec<String> = (task.spec.terms.iter())
        .map(|&t| match t {
            Term::Linear { of, weight, offset, low, high } => {
                row("LINEAR", [of, 0], weight, offset, &(low..high), [0.0; 2])
            }
            Term::ClippedQuadratic { of, offset, low, high, below, above } => {
                row("CLIPPED_QUADRATIC", [of, 0], 0.0, offset, &(low..high), [below, above])
            }
            Term::Angle { of, offset, scale } => row("ANGLE", [of, 0], 1.0 / scale, offset, &none, [0.0; 2]),
            Term::Squared { of, offset, weight } => row("SQUARED", [of, 0], weight, offset, &none, [0.0; 2]),
            Term::WrappedAngle { sine, cosine, weight } => {
                row("WRAPPED_ANGLE", [sine, cosine], weight, 0.0, &none, [0.0; 2])
            }
            Term::ActionCost { weight } => row("ACTION_COST", [0, 0], weight, 0.0, &none, [0.0; 2]),
            Term::Tolerance(Tolerance { of, low, high, margin, at_margin, fall, least, .. }) => {
                let kind = match fall {
                    Fall::LongTail => "LONG_TAIL",
                    Fall::Quadratic => "QUADRATIC_FALL",
                    Fall::Linear => "LINEAR_FALL",
                };
                let reach = if margin > 0.0 { 1.0 / margin } else { 0.0 };
                row(kind, [of, 0], least, 0.0, &(low..high), [reach, fall.steepness(at_margin)])
            }
        })
        .zip(&task.spec.terms)
        .map(|(row, t)| format!("{{{row}, {}}}", u8::from(t.times_next())))
        .collect();
    table(c, "Term", "TERMS", &rows);
    c.integer("TERM_COUNT", rows.len());
    c.integer("CURVED", task.reward_is_curved().into());
    c.number("BLOWN_UP", BLOWN_UP);
    let end = task.spec.termination;
    c.integer("TERMINATES", end.is_some().into());
    c.integer("TERMINATION_ENTRY", end.map_or(0, |t| t.entry));
    c.number("TERMINATION_BELOW", end.map_or(0.0, |t| t.below));
}

fn starts(c: &mut Constants, g: &Group) {
    let reset = &g.task.spec.reset;
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

/// Threads of a block that starts episodes, one for each.
const RESET_THREADS: usize = 64;

impl EnvReset {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
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
        Some(vec![launch.with_header(header(&self.group))])
    }
}

impl EnvStep {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(RETURN);
        let (lanes, threads) = (self.group.task.layout.lanes(), self.group.task.layout.threads().step);
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
        let header = header(&self.group);
        let mut launches =
            vec![step.with_threads(threads as u32).with_header(header.clone()), ends.with_header(header)];
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
        let task = &self.group.task;
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
        let header = header(&self.group);
        Some(vec![
            adjoint.with_threads(threads as u32).with_stack(stack).with_header(header.clone()),
            count.with_header(header),
        ])
    }
}
