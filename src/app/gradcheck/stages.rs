//! The stages of a substep and of the task as functions from a list of numbers to a list of numbers, each with its adjoint,
//! so that one by one they can be held against dual numbers and central differences.
//!
//! A stage is given every number it reads as if it were free: the nine entries of a rotation, the axes of the joints, the
//! entries of the mass matrix. A number it does not read has the derivative zero on both sides.

use super::states::State;
use crate::device::Dual;
use crate::device::philox::Philox;
use crate::env::ant::task::{
    REWARD_ENTRIES, actuation, clip, clip_adjoint, observe, observe_adjoint, reward, reward_adjoint,
};
use crate::env::ant::{ACT, Ant, BODIES, DT, NQ, NQD, OBS, SUBSTEPS};
use crate::sim::contact::{body_contact, body_contact_adjoint};
use crate::sim::inertia::{body_bias, body_bias_adjoint};
use crate::sim::integrate::{integrate, integrate_adjoint};
use crate::sim::joint::{joint_force, joint_force_adjoint};
use crate::sim::kinematics::{body_kinematics, body_kinematics_adjoint};
use crate::sim::mass_matrix::{factorise, mass_matrix, mass_matrix_adjoint, solve, solve_adjoint};
use crate::sim::step::accelerations;
use crate::sim::{Cotangents, Mat3, Model, Number, Quat, Spatial, Vec3, Work};

type W<S> = Work<S, BODIES, NQD>;
type C = Cotangents<f64, BODIES, NQD>;

/// The robot and the task in one number type.
struct At<'a, S> {
    ant: &'a Ant,
    model: &'a Model<S>,
}

trait Stage {
    const NAME: &'static str;
    /// What the stage reads in the first substep from a state; `w` holds that substep's results.
    fn operands(at: &At<f64>, state: &State, w: &W<f64>) -> Vec<f64>;
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S>;
    /// Cotangents of `x` from those of what [`Stage::forward`] makes of it.
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64>;
}

/// How far the adjoint of a stage is from being right at one state, along one random direction ẋ under one random
/// weighing ȳ: `|ȳ·ẏ - x̄·ẋ|` as a share of the sizes of the terms.
#[derive(Clone, Copy, Debug)]
pub struct StageError {
    pub stage: &'static str,
    /// ẏ by dual numbers.
    pub dual: f64,
    /// ẏ by central differences. At a kink they are the mean of both sides, to the order of their step.
    pub differences: f64,
}

/// Step of the central differences, of fourth order, in units of the operands (of 1, where they are small).
const STEP: f64 = 1e-6;

/// All stages at a state; `e` chooses among the random directions.
pub fn check_stages(ant: &Ant, state: &State, rng: &Philox, e: u32) -> Vec<StageError> {
    let at = At { ant, model: &ant.f64 };
    let mut w = W::new(at.model);
    accelerations(at.model, &state.q, &state.qd, &actuation(&clip(&state.action)), 0.0, true, &mut w);
    vec![
        check::<Kinematics>(&at, state, &w, rng, e),
        check::<Bias>(&at, state, &w, rng, e),
        check::<Contacts>(&at, state, &w, rng, e),
        check::<Joints>(&at, state, &w, rng, e),
        check::<MassMatrix>(&at, state, &w, rng, e),
        check::<Solve>(&at, state, &w, rng, e),
        check::<Integrate>(&at, state, &w, rng, e),
        check::<Observation>(&at, state, &w, rng, e),
        check::<Reward>(&at, state, &w, rng, e),
    ]
}

fn check<T: Stage>(at: &At<f64>, state: &State, w: &W<f64>, rng: &Philox, e: u32) -> StageError {
    let x = T::operands(at, state, w);
    let draw = |k: usize| rng.normal(7, e * 2048 + k as u32);
    let along: Vec<f64> = x.iter().enumerate().map(|(k, x)| draw(k) * x.abs().max(1.0)).collect();
    let narrow = At { ant: at.ant, model: &at.ant.dual };
    let dual: Vec<Dual> = x.iter().zip(&along).map(|(&x, &d)| Dual::new(x, d)).collect();
    let by_dual: Vec<f64> = T::forward(&narrow, &dual).iter().map(|y| y.d).collect();
    let moved = |s: f64| T::forward(at, &x.iter().zip(&along).map(|(x, d)| x + s * STEP * d).collect::<Vec<_>>());
    let across = |s: f64| moved(s).into_iter().zip(moved(-s)).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let ends = across(1.0).into_iter().zip(across(2.0));
    let by_differences: Vec<f64> = ends.map(|(near, far)| (8.0 * near - far) / (12.0 * STEP)).collect();
    let bar: Vec<f64> = (0..by_dual.len()).map(|k| draw(1024 + k)).collect();
    let back = T::adjoint(at, &x, &bar);
    assert_eq!(back.len(), x.len(), "{}: one cotangent for each operand", T::NAME);
    let apart = |y: &[f64]| {
        let (out, size) = dot(&bar, y);
        let (into, other) = dot(&back, &along);
        (out - into).abs() / size.max(other).max(f64::MIN_POSITIVE)
    };
    StageError { stage: T::NAME, dual: apart(&by_dual), differences: apart(&by_differences) }
}

/// Sum of the products, and of their sizes.
fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// Reads back what was put into a list.
struct Reader<'a, S>(&'a [S]);

impl<'a, S: Number> Reader<'a, S> {
    fn take(&mut self, n: usize) -> &'a [S] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }
    fn vec3(&mut self) -> Vec3<S> {
        Vec3::read(self.take(3))
    }
    fn quat(&mut self) -> Quat<S> {
        Quat::read(self.take(4))
    }
    fn mat3(&mut self) -> Mat3<S> {
        Mat3([self.vec3(), self.vec3(), self.vec3()])
    }
    fn spatial(&mut self) -> Spatial<S> {
        Spatial::read(self.take(6))
    }
}

fn put_rows<S: Number>(to: &mut Vec<S>, m: &Mat3<S>) {
    m.0.iter().for_each(|row| to.extend(row.array()));
}

/// Position, rotation, twist and acceleration of all bodies, as the stages behind kinematics read them.
fn bodies_of<S: Number>(w: &W<S>) -> Vec<S> {
    let mut x = Vec::new();
    for b in &w.body {
        x.extend(b.p.array());
        put_rows(&mut x, &b.rot);
        x.extend(b.v.array());
        x.extend(b.a.array());
    }
    x
}

fn read_bodies<S: Number>(model: &Model<S>, x: &mut Reader<S>) -> W<S> {
    let mut w = W::new(model);
    for (b, link) in w.body.iter_mut().zip(&model.links) {
        (b.p, b.rot, b.v, b.a) = (x.vec3(), x.mat3(), x.spatial(), x.spatial());
        b.com = b.rot.mul_vec_add(link.com, b.p);
        b.back = -b.rot.transpose_mul_vec(b.com);
    }
    w
}

fn cotangents_of_bodies(c: &C) -> Vec<f64> {
    let mut x = Vec::new();
    for b in &c.body {
        x.extend(b.p.array());
        put_rows(&mut x, &b.rot);
        x.extend(b.v.array());
        x.extend(b.a.array());
    }
    x
}

fn axes<S: Number>(axes: &[Spatial<S>]) -> impl Iterator<Item = S> {
    axes.iter().flat_map(|a| a.array())
}

struct Kinematics;

impl Kinematics {
    fn work<S: Number>(at: &At<S>, x: &[S]) -> W<S> {
        let mut w = W::new(at.model);
        (0..BODIES).for_each(|i| body_kinematics(at.model, i, &x[..NQ], &x[NQ..], &mut w));
        w
    }
}

impl Stage for Kinematics {
    const NAME: &'static str = "kinematics";
    fn operands(_: &At<f64>, state: &State, _: &W<f64>) -> Vec<f64> {
        [&state.q[..], &state.qd].concat()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        let w = Self::work(at, x);
        let mut y = bodies_of(&w);
        y.extend(w.body.iter().flat_map(|b| [b.q.v.x, b.q.v.y, b.q.v.z, b.q.w]));
        // Those of the free joint are constants.
        y.extend(axes(&w.axis[6..]));
        y
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c, mut bar) = (Self::work(at, x), C::zero(), Reader(bar));
        for b in &mut c.body {
            (b.p, b.rot, b.v, b.a) = (bar.vec3(), bar.mat3(), bar.spatial(), bar.spatial());
        }
        c.body.iter_mut().for_each(|b| b.q = bar.quat());
        c.axis[6..].iter_mut().for_each(|a| *a = bar.spatial());
        let mut out = vec![0.0; NQ + NQD];
        let (q_bar, qd_bar) = out.split_at_mut(NQ);
        for i in (0..BODIES).rev() {
            body_kinematics_adjoint(at.model, i, &x[..NQ], &x[NQ..], &w, &mut c, q_bar, qd_bar);
        }
        out
    }
}

struct Bias;

impl Stage for Bias {
    const NAME: &'static str = "bias";
    fn operands(_: &At<f64>, _: &State, w: &W<f64>) -> Vec<f64> {
        bodies_of(w)
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        let mut w = read_bodies(at.model, &mut Reader(x));
        (0..BODIES).for_each(|i| body_bias(at.model, i, &mut w));
        w.body.iter().flat_map(|b| b.f.array()).collect()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c, mut bar) = (read_bodies(at.model, &mut Reader(x)), C::zero(), Reader(bar));
        for i in 0..BODIES {
            c.body[i].f = bar.spatial();
            body_bias_adjoint(at.model, i, &w, &mut c);
        }
        cotangents_of_bodies(&c)
    }
}

struct Contacts;

impl Stage for Contacts {
    const NAME: &'static str = "contact";
    fn operands(_: &At<f64>, _: &State, w: &W<f64>) -> Vec<f64> {
        [bodies_of(w), vec![0.0]].concat()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        let mut x = Reader(x);
        let mut w = read_bodies(at.model, &mut x);
        (0..BODIES).for_each(|i| body_contact(at.model, i, x.0[0], &mut w));
        w.body.iter().flat_map(|b| b.contact.array()).collect()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (mut x, mut c, mut bar) = (Reader(x), C::zero(), Reader(bar));
        let w = read_bodies(at.model, &mut x);
        for i in 0..BODIES {
            c.body[i].f = bar.spatial();
            body_contact_adjoint(at.model, i, x.0[0], &w, &mut c);
        }
        [cotangents_of_bodies(&c), vec![c.ground]].concat()
    }
}

struct Joints;

impl Joints {
    /// The wrenches and axes behind q, qd and actuation in `x`, and the joints' forces on them.
    fn work<S: Number>(at: &At<S>, x: &[S]) -> W<S> {
        let (mut w, mut rest) = (W::new(at.model), Reader(&x[NQ + 2 * NQD..]));
        w.body.iter_mut().for_each(|b| b.f = rest.spatial());
        w.axis.iter_mut().for_each(|a| *a = rest.spatial());
        let (q, qd, u) = (&x[..NQ], &x[NQ..][..NQD], &x[NQ + NQD..][..NQD]);
        (0..BODIES).rev().for_each(|i| joint_force(at.model, i, q, qd, u, &mut w));
        w
    }
}

impl Stage for Joints {
    const NAME: &'static str = "joint";
    fn operands(_: &At<f64>, state: &State, w: &W<f64>) -> Vec<f64> {
        let mut x = [&state.q[..], &state.qd, &actuation(&clip(&state.action))].concat();
        x.extend(w.body.iter().flat_map(|b| b.f.array()));
        x.extend(axes(&w.axis));
        x
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        Self::work(at, x).tau.to_vec()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        c.tau.copy_from_slice(bar);
        let (mut q_bar, mut qd_bar, mut u_bar) = ([0.0; NQ], [0.0; NQD], [0.0; NQD]);
        for i in 0..BODIES {
            joint_force_adjoint(at.model, i, &x[..NQ], &w, &mut c, &mut q_bar, &mut qd_bar, &mut u_bar);
        }
        let mut out = [&q_bar[..], &qd_bar, &u_bar].concat();
        out.extend(c.body.iter().flat_map(|b| b.f.array()));
        out.extend(axes(&c.axis));
        out
    }
}

/// The entries of the mass matrix that are computed: of each row those of its ancestors, then the diagonal.
fn entries(model: &Model<f64>) -> Vec<(usize, usize)> {
    (0..NQD).flat_map(|row| model.ancestors(row).iter().copied().chain([row]).map(move |k| (row, k))).collect()
}

struct MassMatrix;

impl MassMatrix {
    fn work<S: Number>(at: &At<S>, x: &[S]) -> W<S> {
        let mut x = Reader(x);
        let mut w = read_bodies(at.model, &mut x);
        w.axis.iter_mut().for_each(|a| *a = x.spatial());
        w
    }
}

impl Stage for MassMatrix {
    const NAME: &'static str = "mass matrix";
    fn operands(_: &At<f64>, _: &State, w: &W<f64>) -> Vec<f64> {
        bodies_of(w).into_iter().chain(axes(&w.axis)).collect()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        let mut w = Self::work(at, x);
        mass_matrix(at.model, &mut w);
        entries(&at.ant.f64).into_iter().map(|(i, k)| w.factor[i][k]).collect()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        for ((i, k), bar) in entries(at.model).into_iter().zip(bar) {
            c.mass[i][k] = *bar;
        }
        mass_matrix_adjoint(at.model, &w, &mut c);
        cotangents_of_bodies(&c).into_iter().chain(axes(&c.axis)).collect()
    }
}

/// Factor of the mass matrix and solution of `(H + armature) q̈ = τ`.
struct Solve;

impl Solve {
    fn work<S: Number>(at: &At<S>, x: &[S]) -> W<S> {
        let mut w = W::new(at.model);
        let places = entries(&at.ant.f64);
        for ((i, k), x) in places.iter().zip(x) {
            w.factor[*i][*k] = *x;
        }
        factorise(at.model, &mut w);
        w.qdd.copy_from_slice(&x[places.len()..]);
        solve(at.model, &w.factor, &w.pivot, &mut w.qdd);
        w
    }
}

impl Stage for Solve {
    const NAME: &'static str = "Cholesky, solve";
    fn operands(at: &At<f64>, _: &State, w: &W<f64>) -> Vec<f64> {
        // `w` holds the factor: once more the matrix.
        let mut fresh = *w;
        mass_matrix(at.model, &mut fresh);
        entries(at.model).into_iter().map(|(i, k)| fresh.factor[i][k]).chain(w.tau).collect()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        Self::work(at, x).qdd.to_vec()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        c.tau.copy_from_slice(bar);
        solve_adjoint(at.model, &w.factor, &w.pivot, &w.qdd, &mut c.tau, &mut c.mass);
        entries(at.model).into_iter().map(|(i, k)| c.mass[i][k]).chain(c.tau).collect()
    }
}

struct Integrate;

impl Stage for Integrate {
    const NAME: &'static str = "integrate";
    fn operands(_: &At<f64>, state: &State, w: &W<f64>) -> Vec<f64> {
        [&state.q[..], &state.qd, &w.qdd].concat()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        let mut y = x[..NQ + NQD].to_vec();
        let (q, qd) = y.split_at_mut(NQ);
        integrate(at.model, S::of(DT / SUBSTEPS as f64), &x[NQ + NQD..], q, qd);
        y
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let mut out = [bar, &[0.0; NQD]].concat();
        let (q_bar, rest) = out.split_at_mut(NQ);
        let (qd_bar, qdd_bar) = rest.split_at_mut(NQD);
        let (q, rest) = x.split_at(NQ);
        let h = DT / SUBSTEPS as f64;
        integrate_adjoint(at.model, h, q, &rest[..NQD], &rest[NQD..], q_bar, qd_bar, qdd_bar);
        out
    }
}

/// The first `N` numbers.
fn first<S: Copy, const N: usize>(x: &[S]) -> [S; N] {
    std::array::from_fn(|k| x[k])
}

struct Observation;

impl Stage for Observation {
    const NAME: &'static str = "observation";
    fn operands(_: &At<f64>, state: &State, _: &W<f64>) -> Vec<f64> {
        [&state.q[..], &state.qd, &clip(&state.action)].concat()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        observe(at.ant, &first(x), &first(&x[NQ..]), &first(&x[NQ + NQD..])).to_vec()
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (mut q, mut qd, mut action) = ([0.0; NQ], [0.0; NQD], [0.0; ACT]);
        observe_adjoint(at.ant, &first(x), &first(&x[NQ..]), &first::<_, OBS>(bar), &mut q, &mut qd, &mut action);
        [&q[..], &qd, &action].concat()
    }
}

/// Clip of the action and reward.
struct Reward;

impl Stage for Reward {
    const NAME: &'static str = "reward";
    fn operands(at: &At<f64>, state: &State, _: &W<f64>) -> Vec<f64> {
        let obs = observe(at.ant, &state.q, &state.qd, &[0.0; ACT]);
        REWARD_ENTRIES.map(|k| obs[k]).into_iter().chain(state.action).collect()
    }
    fn forward<S: Number>(at: &At<S>, x: &[S]) -> Vec<S> {
        vec![reward(at.ant, first(x), &clip(&first(&x[4..])))]
    }
    fn adjoint(at: &At<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (raw, mut clipped_bar) = (first(&x[4..]), [0.0; ACT]);
        let entries = reward_adjoint(at.ant, &clip(&raw), bar[0], &mut clipped_bar);
        entries.into_iter().chain(clip_adjoint(at.ant, &raw, &clipped_bar)).collect()
    }
}
