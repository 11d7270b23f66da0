//! The physics alone: steps of robots of every kind, in every layout that a GPU has for them, and the gradient through
//! them.

use super::lab::{Case, Lab, case};
use super::tree::{H, TreeState, is_far, random_state, tree};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{GeneratedHeader, In, Out};
use crate::device::philox::{Philox, Stream};
use crate::device::{Dual, Real};
use crate::sim::adjoint::kept_per_substep;
use crate::sim::articulation::{Articulation, JointKind};
use crate::sim::cuda::ThreadLayout;
use crate::sim::size::{CLASSES, Size};
use crate::sim::{
    Cotangents, Inertia, Model, ReferencePoint, SimScalar, Timing, Work, robots, step, step_adjoint, step_keeping,
};
use crate::tape::cuda::{Operands, cover};
use crate::tape::{Adjoint, Op, OpArgs, Val};
use std::sync::Arc;

crate::cuda_kernels! {
    "sim/physics.cu";
    fn physics_step[32](actuation: In, q: In, qd: In, next_q: Out, next_qd: Out, n: u32);
    fn physics_adjoint[32](
        actuation: In, q: In, qd: In, q_bar: In, qd_bar: In, to_actuation: Out, to_q: Out, to_qd: Out, accumulate: u32,
        n: u32,
    );
}

/// Every robot of these cases has room here.
const SIZE: Size = CLASSES[1];
const SUBSTEPS: usize = 16;

/// A robot in both precisions, how its steps are cut up and how they lie over threads.
#[derive(Debug)]
struct Robot {
    f64: Model<f64>,
    f32: Model<f32>,
    every: usize,
    point: ReferencePoint,
    layout: ThreadLayout,
}

trait Modelled: Real + SimScalar {
    fn model_of(robot: &Robot) -> &Model<Self>;
}

macro_rules! modelled {
    ($($field:ident: $t:ty),*) => {$(
        impl Modelled for $t {
            fn model_of(robot: &Robot) -> &Model<Self> {
                &robot.$field
            }
        }
    )*};
}
modelled!(f64: f64, f32: f32);

impl Robot {
    fn new(robot: &Articulation, every: usize, point: ReferencePoint, as_tree: bool) -> Self {
        let f64 = Model::new(robot, Inertia::Exact);
        let layout = if as_tree { ThreadLayout::tree(&f64) } else { ThreadLayout::of(&f64) };
        Self { f64, f32: Model::new(robot, Inertia::Exact), every, point, layout }
    }

    fn timing<F: Real>(&self) -> Timing<F> {
        Timing { h: F::of(H), substeps: SUBSTEPS, mass_matrix_every: self.every, reference_point: self.point }
    }

    fn header(&self) -> GeneratedHeader {
        let text = format!("#pragma once\n{}", self.layout.constants(&self.f64, &self.timing()));
        GeneratedHeader { name: "robot.cuh", text: text.into() }
    }

    fn blocks(&self, rows: usize, threads: usize) -> [usize; 3] {
        cover(rows * self.layout.lanes(), threads)
    }
}

/// Inputs: actuation, q, qd, a row each environment; outputs: q and qd after a step.
#[derive(Debug)]
struct Step(Arc<Robot>);

impl Step {
    fn run<F: Modelled>(&self, args: &OpArgs<F>) {
        let model = F::model_of(&self.0);
        let (nq, nd) = (model.coordinates, model.velocities);
        let mut work = Work::<F, { SIZE.bodies }, { SIZE.velocities }>::new(model);
        for e in 0..args.shape(0)[0] {
            let (q, qd) = (args.out(0, e * nq..(e + 1) * nq), args.out(1, e * nd..(e + 1) * nd));
            q.copy_from_slice(&args.input(1)[e * nq..][..nq]);
            qd.copy_from_slice(&args.input(2)[e * nd..][..nd]);
            step(model, &self.0.timing(), q, qd, &args.input(0)[e * nd..][..nd], &mut work);
        }
    }
}

/// Inputs: those of the step, and the cotangents that are there; outputs: those that are asked for, and whether they
/// are added to.
#[derive(Debug)]
struct StepAdjoint {
    robot: Arc<Robot>,
    has: [bool; 2],
    sinks: [Option<bool>; 3],
}

impl StepAdjoint {
    fn run<F: Modelled>(&self, args: &OpArgs<F>) {
        let model = F::model_of(&self.robot);
        let timing = self.robot.timing();
        let (nq, nd) = (model.coordinates, model.velocities);
        let mut work = Work::<F, { SIZE.bodies }, { SIZE.velocities }>::new(model);
        let mut cotangents = Cotangents::zero();
        let mut kept = vec![F::zero(); SUBSTEPS * kept_per_substep(nq, nd)];
        for e in 0..args.shape(0)[0] {
            let row = |i: usize, n: usize| &args.input(i)[e * n..][..n];
            let bar = |i: usize, n: usize| {
                let input = 3 + usize::from(i == 1 && self.has[0]);
                if self.has[i] { row(input, n).to_vec() } else { vec![F::zero(); n] }
            };
            let (u, q, qd) = (row(0, nd), row(1, nq), row(2, nd));
            let (mut q_bar, mut qd_bar, mut u_bar) = (bar(0, nq), bar(1, nd), vec![F::zero(); nd]);
            step_keeping(model, &timing, &mut q.to_vec(), &mut qd.to_vec(), u, &mut work, &mut kept);
            let c = &mut cotangents;
            step_adjoint(model, &timing, q, qd, u, &mut q_bar, &mut qd_bar, &mut u_bar, &mut work, c, &kept);
            let wanted = [u_bar, q_bar, qd_bar].into_iter().zip(self.sinks);
            let wanted = wanted.filter_map(|(from, sink)| Some((from, sink?)));
            for (output, (from, accumulate)) in wanted.enumerate() {
                let to = args.out(output, e * from.len()..(e + 1) * from.len());
                for (to, from) in to.iter_mut().zip(from) {
                    *to = if accumulate { *to + from } else { from };
                }
            }
        }
    }
}

macro_rules! one_task {
    () => {
        fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
            vec![1]
        }
        fn run_f32(&self, args: &OpArgs<f32>, _: usize, _: usize) {
            self.run(args);
        }
        fn run_f64(&self, args: &OpArgs<f64>, _: usize, _: usize) {
            self.run(args);
        }
        fn run_dual(&self, _: &OpArgs<Dual>, _: usize, _: usize) {
            unreachable!("invariant: the self-test computes in f64 and f32")
        }
    };
}

// SAFETY: a phase has one task.
unsafe impl Op for Step {
    fn name(&self) -> &'static str {
        "physics_step"
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let mut inputs = [0, 1, 2].map(|i| a.input(i)).to_vec();
        let cotangents = [0, 1].map(|i| a.cotangent(i));
        inputs.extend(cotangents.iter().flatten());
        let sinks = [0, 1, 2].map(|i| a.sink(i));
        let outputs: Vec<Val> = sinks.iter().flatten().map(|s| s.val).collect();
        let sinks = sinks.map(|s| s.map(|s| s.accumulate));
        a.push(StepAdjoint { robot: self.0.clone(), has: cotangents.map(|c| c.is_some()), sinks }, &inputs, &outputs);
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        let (n, threads) = (x.shape(0)[0], self.0.layout.threads().step);
        let grid = self.0.blocks(n, threads);
        let launch = physics_step(grid, [], x.input(0), x.input(1), x.input(2), x.out(0), x.out(1), n as u32);
        Some(vec![launch.with_threads(threads as u32).with_headers(vec![self.0.header()])])
    }
    one_task!();
}

// SAFETY: a phase has one task.
unsafe impl Op for StepAdjoint {
    fn name(&self) -> &'static str {
        "physics_adjoint"
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        let (n, threads) = (x.shape(0)[0], self.robot.layout.threads().adjoint);
        let (mut from, mut to, mut accumulate) = ([In::default(); 2], [Out::default(); 3], 0);
        for (i, from) in from.iter_mut().enumerate().filter(|(i, _)| self.has[*i]) {
            *from = x.input(3 + usize::from(i == 1 && self.has[0]));
        }
        let wanted = to.iter_mut().zip(self.sinks).enumerate();
        let wanted = wanted.filter_map(|(i, (to, add))| Some((i, to, add?)));
        for (output, (i, to, add)) in wanted.enumerate() {
            *to = x.out(output);
            accumulate |= u32::from(add) << i;
        }
        let [q_bar, qd_bar] = from;
        let [to_u, to_q, to_qd] = to;
        let grid = self.robot.blocks(n, threads);
        let launch = physics_adjoint(
            grid,
            [],
            x.input(0),
            x.input(1),
            x.input(2),
            q_bar,
            qd_bar,
            to_u,
            to_q,
            to_qd,
            accumulate,
            n as u32,
        );
        Some(vec![launch.with_threads(threads as u32).with_headers(vec![self.robot.header()])])
    }
    one_task!();
}

/// Two steps that a gradient flows through, from states of every kind.
pub(super) fn physics_cases(list: &mut Vec<Case>) {
    use ReferencePoint::{Torso, World};
    // One that the fast layout takes.
    let is_chains =
        |r: &Articulation| matches!(ThreadLayout::of(&Model::new(r, Inertia::Exact)), ThreadLayout::Chains { .. });
    let mut built = robots::ROBOTS.iter().map(|(_, build)| build());
    let chains = built.find(is_chains).expect("invariant: some robot is made of equal chains");
    for (name, free) in [("fixed", false), ("free", true)] {
        for (count, point, every) in [(1, Torso, 16), (21, Torso, 16), (5, World, 5)] {
            list.push(physics_case(format!("physics {name} tree"), tree(free), true, count, point, every));
        }
    }
    for (count, point, every) in [(19, Torso, 16), (6, World, 4)] {
        for as_tree in [true, false] {
            let layout = if as_tree { "a tree" } else { "chains" };
            list.push(physics_case(
                format!("physics equal chains as {layout}"),
                chains.clone(),
                as_tree,
                count,
                point,
                every,
            ));
        }
    }
}

fn physics_case(
    name: String,
    robot: Articulation,
    as_tree: bool,
    count: usize,
    point: ReferencePoint,
    every: usize,
) -> Case {
    let of = Arc::new(Robot::new(&robot, every, point, as_tree));
    case(format!("{name} {count} {point:?} every {every}"), move |l| {
        let rng = Philox::new(9, Stream::Test);
        l.by_rows = true;
        // At rest states stand on kinks. Far from the reference point single precision is no measure: it loses up to
        // three digits of a gradient there, so that what is allowed would hide a wrong one. All states are near if the
        // point stands at the world's origin, and if a second free body is far from the first.
        let free = robot.bodies.iter().filter(|b| b.joint.kind == JointKind::Free).count();
        let near = point == ReferencePoint::World || free > 1;
        let numbers = (1..).step_by(3).filter(|e| !(near && is_far(*e))).take(count);
        let states: Vec<TreeState> = numbers.map(|e| random_state(&robot, &rng, e)).collect();
        let (nq, nd) = (of.f64.coordinates, of.f64.velocities);
        let u = leaf(l, &[count, nd], states.iter().flat_map(|s| &s.actuation));
        let q = leaf(l, &[count, nq], states.iter().flat_map(|s| &s.q));
        let qd = leaf(l, &[count, nd], states.iter().flat_map(|s| &s.qd));
        let (mut at, mut speed) = (q, qd);
        for _ in 0..2 {
            let next = [l.p.real(&[count, nq]), l.p.real(&[count, nd])];
            l.p.push(Step(of.clone()), &[u, at, speed], &next);
            [at, speed] = next;
            l.follow(at);
            l.follow(speed);
        }
    })
}

/// A leaf with given numbers, in single precision.
fn leaf<'a>(l: &mut Lab, shape: &[usize], values: impl Iterator<Item = &'a f64>) -> Val {
    let v = l.leaf(shape);
    let at = l.reals.len() - 2;
    l.reals[at].1 = values.map(|&x| f64::from(x as f32)).collect();
    v
}
