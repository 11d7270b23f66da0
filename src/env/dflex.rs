//! A task under dFlex's law: penalty contacts, and a gradient of everything.

use super::feature::Observation;
use super::reset::Reset;
use super::task::{EnvSizes, MOST_ENTRIES, MOST_VELOCITIES, TaskSpec};
use super::term::{Term, cut};
use crate::device::cpu::lanes::Lanes8;
use crate::device::philox::Philox;
use crate::device::{Dual, Real, Scalar};
use crate::sim::cuda::ThreadLayout;
use crate::sim::size::Size;
use crate::sim::{Inertia, Model, ReferencePoint, Subgradient, Timing};
use std::sync::{Arc, OnceLock};

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::{Avx8, avx2_fma};

/// What an entry of the action does: a generalised force of `gain` [N m or N] at 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drive {
    pub dof: usize,
    pub gain: f64,
}

/// The episode ends when this entry of the observation is below a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Termination {
    pub entry: usize,
    pub below: f64,
}

/// What a task says beside what it says under any law.
#[derive(Clone, Debug)]
pub struct DflexSpec {
    pub inertia: Inertia,
    pub subgradient: Subgradient,
    /// Substeps that an environment step is cut into, and how many of them share a mass matrix.
    pub substeps: usize,
    pub mass_matrix_every: usize,
    pub reference_point: ReferencePoint,
    /// One for each entry of the action.
    pub drives: Vec<Drive>,
    pub observation: Observation,
    pub terms: Vec<Term>,
    pub termination: Option<Termination>,
    pub reset: Reset,
}

/// Its robot compiled for every number type that it is stepped in.
#[derive(Clone)]
pub struct DflexTask {
    pub spec: DflexSpec,
    pub sizes: EnvSizes,
    /// A substep (s).
    pub substep: f64,
    /// The class of sizes of its robot: see [`crate::sim::size`].
    pub(crate) class: usize,
    /// How its robot lies over the threads of a GPU: the fastest that it has, unless set otherwise.
    pub layout: ThreadLayout,
    pub(crate) f64: Model<f64>,
    pub(crate) dual: Model<Dual>,
    pub(crate) lanes: Model<Lanes8>,
    /// Present where the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx: Option<Model<Avx8>>,
    /// Its formulas as functions of the kernels, once they were asked for.
    pub(super) formulas: OnceLock<Arc<str>>,
}

fn compile<S: Scalar>(task: &TaskSpec, spec: &DflexSpec) -> Model<S> {
    let mut model = Model::new(&task.robot, spec.inertia);
    model.kinks = spec.subgradient.kinks();
    model
}

impl DflexTask {
    /// Compiles the robot of a specification that [`super::spec`] found right.
    ///
    /// # Panics
    /// If the robot or the observation is larger than any that can be stepped.
    pub(super) fn new(task: &TaskSpec, spec: DflexSpec) -> Self {
        let (q, qd) = task.robot.offsets();
        let sizes = EnvSizes {
            obs: spec.observation.width(),
            act: spec.drives.len(),
            nq: q[q.len() - 1],
            nqd: qd[qd.len() - 1],
        };
        assert!(sizes.obs <= MOST_ENTRIES, "invariant: a specification's observation has room");
        let class = Size::of(&task.robot, spec.substeps).class().expect("invariant: a specification's robot has room");
        let model = compile(task, &spec);
        Self {
            sizes,
            substep: task.dt / spec.substeps as f64,
            class,
            layout: ThreadLayout::of(&model),
            f64: model,
            dual: compile(task, &spec),
            lanes: compile(task, &spec),
            #[cfg(target_arch = "x86_64")]
            avx: avx2_fma().then(|| compile(task, &spec)),
            formulas: OnceLock::new(),
            spec,
        }
    }

    /// The robot in `f64`.
    pub fn model(&self) -> &Model<f64> {
        &self.f64
    }

    /// How one environment step is cut up.
    #[inline(always)]
    pub fn timing<S: Scalar>(&self) -> Timing<S> {
        Timing {
            h: S::of(self.substep),
            substeps: self.spec.substeps,
            mass_matrix_every: self.spec.mass_matrix_every,
            reference_point: self.spec.reference_point,
        }
    }

    /// Whether an observation ends the episode.
    pub fn is_terminal<R: Real>(&self, obs: &[R]) -> bool {
        self.spec.termination.is_some_and(|t| obs[t.entry] < R::of(t.below))
    }

    /// Whether the reward's derivative depends on the observation.
    pub fn reward_is_curved(&self) -> bool {
        self.spec.terms.iter().any(|t| t.is_curved())
    }

    /// Forces of a clipped action, one number a dof, into `forces`, which holds zeros.
    #[inline(always)]
    pub fn actuate<S: Scalar>(&self, action: &[S], forces: &mut [S]) {
        for (drive, &a) in self.spec.drives.iter().zip(action) {
            forces[drive.dof] = a * S::of(drive.gain);
        }
    }

    /// Adjoint of [`DflexTask::actuate`]: adds to the cotangent of the clipped action.
    #[inline(always)]
    pub fn actuate_adjoint<S: Scalar>(&self, forces_bar: &[S], action_bar: &mut [S]) {
        for (drive, bar) in self.spec.drives.iter().zip(action_bar) {
            *bar = forces_bar[drive.dof].mul_add(S::of(drive.gain), *bar);
        }
    }

    /// Share of the inside's derivative at the end of a range.
    #[inline(always)]
    pub fn at_end<S: Scalar>(&self) -> S {
        S::one() - self.spec.subgradient.kinks::<S>().tie
    }

    /// Adjoint of [`clip`], in place: the end points pass their cotangent on, or half of it.
    #[inline(always)]
    pub fn clip_adjoint<S: Scalar>(&self, action: &[S], bar: &mut [S]) {
        let at_end = self.at_end::<S>();
        for (bar, action) in bar.iter_mut().zip(action) {
            let size = action.abs();
            let end = S::select(size.le(S::one()), at_end * *bar, S::zero());
            *bar = S::select(size.lt(S::one()), *bar, end);
        }
    }

    /// Start state of environment `env`: see [`Reset::write`].
    pub fn reset_row<R: Real>(&self, random: &Philox, step: u64, env: u32, q: &mut [R], qd: &mut [R]) {
        let block = env.wrapping_mul(self.spec.reset.blocks());
        self.spec.reset.write(random, step, block, &mut q[..self.sizes.nq], &mut qd[..self.sizes.nqd]);
    }

    /// Observation of one row; `action` is the raw action that led to the state, none after a reset.
    pub fn observe_row<R: Real>(&self, q: &[R], qd: &[R], action: Option<&[R]>, obs: &mut [R]) {
        let mut clipped = [R::zero(); MOST_VELOCITIES];
        let clipped = &mut clipped[..self.sizes.act];
        if let Some(action) = action {
            clip(action, clipped);
        }
        self.spec.observation.write(q, qd, clipped, obs);
    }
}

/// The action cut to [-1, 1]; the end points belong to the inside, and so does their derivative.
#[inline(always)]
pub fn clip<S: Scalar>(action: &[S], into: &mut [S]) {
    let (low, high) = (-S::one(), S::one());
    for (into, &a) in into.iter_mut().zip(action) {
        *into = cut(a, low, high);
    }
}
