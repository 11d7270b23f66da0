//! CUDA launches of the environment, and the robot written as constants of its kernels.

use super::Ant;
use super::ant::{ACTION_SCALE, DT, START_Q, SUBSTEPS};
use super::step::*;
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{Header, In, IndexOut, Out};
use crate::sim::{Articulation, JointKind, Model, ReferencePoint, model::Contact};
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
            q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out, alive: Out, meters: Out,
            seed: u64, stream: u32, evaluate: u32, n: u32,
        );
        fn env_books[128](
            reward: In, done: Out, q: Out, qd: Out, obs: Out, progress: IndexOut, episodes: IndexOut, total: Out,
            alive: Out, meters: Out, seed: u64, stream: u32, evaluate: u32, n: u32,
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

/// A free root and equal chains of hinges on it: what the kernels can simulate.
struct Chains {
    count: usize,
    depth: usize,
    /// Contact points of every body of a chain.
    points: usize,
}

/// How the robot is built, or none if it is not of the kernels' kind: body `1 + chain * depth + d` is number d of a chain.
fn chains(robot: &Articulation, model: &Model<f64>) -> Option<Chains> {
    let (root, rest) = model.links.split_first()?;
    let plain = |k: usize| model.links[k].rotation.is_none();
    if root.kind != JointKind::Free || !plain(0) || rest.is_empty() {
        return None;
    }
    let count = rest.iter().filter(|l| l.parent == Some(0)).count();
    let (depth, points) = (rest.len() / count.max(1), rest[0].contacts.len());
    let fits = |(i, l): (usize, &crate::sim::model::Link<f64>)| {
        let parent = if i % depth == 0 { 0 } else { i };
        l.kind == JointKind::Hinge && l.parent == Some(parent) && l.contacts.len() == points && plain(i + 1)
    };
    let equal = count > 0 && count * depth == rest.len() && count.is_power_of_two() && count <= 32;
    (equal && rest.iter().enumerate().all(fits) && robot.bodies.len() == model.links.len()).then_some(Chains {
        count,
        depth,
        points,
    })
}

/// A float as C reads it, to the bit.
fn c(x: f64) -> String {
    let x = x as f32;
    if x.is_finite() {
        format!("{x:?}f")
    } else if x > 0.0 {
        "3.0e38f".into()
    } else {
        "-3.0e38f".into()
    }
}

fn list(values: &[f64]) -> String {
    values.iter().map(|&x| c(x)).collect::<Vec<_>>().join(", ")
}

fn contact(p: &Contact<f64>) -> Vec<f64> {
    let [x, y, z] = p.point.array();
    vec![x, y, z, p.radius, p.stiffness, p.damping, p.viscosity, p.friction_stiffness]
}

/// `robot.cuh`: everything that the kernels know about the robot and the task. None if they cannot simulate it.
fn header(ant: &Ant) -> Option<Header> {
    let (model, s) = (&ant.f64, &ant.settings);
    let Chains { count, depth, points } = chains(&ant.robot, model)?;
    let mut h = String::from("// Written by the program from the robot and the settings of its task.\n#pragma once\n");
    let mut integer = |name: &str, v: usize| {
        let _ = writeln!(h, "constexpr int {name} = {v};");
    };
    let root = &model.links[0];
    integer("LANES", count);
    integer("DEPTH", depth);
    integer("POINTS", points);
    integer("ROOT_POINTS", root.contacts.len());
    integer("SUBSTEPS", SUBSTEPS);
    integer("REBUILD_EVERY", s.mm_caching_frequency);
    integer("EPISODE_LENGTH", s.episode_length.min(i32::MAX as usize));
    integer("EARLY_TERMINATION", s.early_termination.into());
    integer("ACTION_IN_OBS", s.action_in_obs.into());
    integer("STOCHASTIC_INIT", s.stochastic_init.into());
    integer("ABOUT_TORSO", (s.reference_point == ReferencePoint::Torso).into());
    let mut number = |name: &str, v: f64| {
        let _ = writeln!(h, "constexpr float {name} = {};", c(v));
    };
    number("H", DT / SUBSTEPS as f64);
    number("ACTION_SCALE", ACTION_SCALE);
    number("UP_SCALE", s.up_rew_scale);
    number("ACTION_PENALTY", s.action_penalty);
    number("TERMINATION_HEIGHT", s.termination_height);
    number("JOINT_VEL_SCALE", s.joint_vel_obs_scaling);
    number("TIE", model.kinks.tie);
    number("STILL", model.kinks.still);
    let mut vector = |name: &str, v: [f64; 3]| {
        for (axis, v) in ["X", "Y", "Z"].iter().zip(v) {
            number(&format!("{name}_{axis}"), v);
        }
    };
    vector("GRAVITY", model.gravity.array());
    vector("ROOT", root.position.array());
    vector("ROOT_COM", root.com.array());
    vector("START", [START_Q[3], START_Q[4], START_Q[5]]);
    number("START_W", START_Q[6]);
    number("ROOT_MASS", root.mass);
    for (i, row) in root.inertia.0.iter().enumerate() {
        for (j, v) in row.array().into_iter().enumerate() {
            number(&format!("ROOT_I{i}{j}"), v);
        }
    }
    // Constants of the bodies of a chain: those of one kind for all chains side by side.
    let body = |chain: usize, d: usize| -> Vec<f64> {
        let l = &model.links[1 + chain * depth + d];
        let mut v = [l.position.array(), l.axis.array()].concat();
        v.extend([l.lower, l.upper, l.limit_stiffness, l.drive_stiffness, l.target, l.damping]);
        v.extend([model.armature[l.qd], l.mass]);
        v.extend(l.com.array());
        v.extend(l.inertia.0.iter().flat_map(|r| r.array()));
        v.extend(model.contacts[l.contacts.clone()].iter().flat_map(contact));
        v
    };
    let mut chain = Vec::new();
    for d in 0..depth {
        let bodies: Vec<_> = (0..count).map(|k| body(k, d)).collect();
        chain.extend((0..bodies[0].len()).flat_map(|i| bodies.iter().map(move |b| b[i])));
    }
    let on_root: Vec<f64> = model.contacts[root.contacts.clone()].iter().flat_map(contact).collect();
    let start: Vec<_> = START_Q.iter().map(|x| format!("{x:?}")).collect();
    let _ = writeln!(h, "static __device__ const float CHAIN[] = {{{}}};", list(&chain));
    let _ = writeln!(h, "static __device__ const float ROOT_CONTACTS[] = {{{}}};", list(&on_root));
    let _ = writeln!(h, "static __device__ const double START[] = {{{}}};", start.join(", "));
    Some(Header { name: "robot.cuh", text: h.into() })
}

/// Threads of a block, as the kernels are declared; each environment takes one for each chain.
const THREADS: usize = 64;

impl EnvReset {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(RETURN);
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, meters) = (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(METERS));
        let (seed, stream, evaluate) = (self.rng.seed(), self.rng.stream(), (self.mode == Mode::Evaluate).into());
        let launch = books::env_reset(
            cover(n.max(4), THREADS),
            [],
            q,
            qd,
            obs,
            progress,
            episodes,
            total,
            alive,
            meters,
            seed,
            stream,
            evaluate,
            n as u32,
        );
        Some(vec![launch.with_header(header(&self.ant)?)])
    }
}

impl EnvStep {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(RETURN);
        let chains = chains(&self.ant.robot, &self.ant.f64)?.count;
        let (q, qd, obs, progress) = (x.out(Q), x.out(QD), x.out(OBS), x.out_index(PROGRESS));
        let (episodes, total, alive, meters) = (x.out_index(EPISODES), x.out(RETURN), x.out(ALIVE), x.out(METERS));
        let (before, reward, done, terminated) = (x.out(BEFORE), x.out(REWARD), x.out(DONE), x.out(TERMINATED));
        let (seed, stream, evaluate) = (self.rng.seed(), self.rng.stream(), (self.mode == Mode::Evaluate).into());
        let step = env_step(
            cover(n * chains, THREADS),
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
            meters,
            seed,
            stream,
            evaluate,
            n as u32,
        );
        let header = header(&self.ant)?;
        let mut launches = vec![step.with_header(header.clone()), books.with_header(header)];
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

/// Threads of a block of the adjoint, whose shared memory holds a substep of each.
const ADJOINT_THREADS: usize = 32;
/// A bound of what its threads keep off the chip: arrays that loops over bodies index.
const ADJOINT_STACK: u32 = 2560;

impl EnvStepAdjoint {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let (n, chains) = (x.shape(0)[0], chains(&self.ant.robot, &self.ant.f64)?.count);
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
            cover(n * chains, ADJOINT_THREADS),
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
        let header = header(&self.ant)?;
        Some(vec![adjoint.with_stack(ADJOINT_STACK).with_header(header.clone()), count.with_header(header)])
    }
}
