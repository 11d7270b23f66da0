//! The stages of a substep of any robot, each held against dual numbers and central differences.
//!
//! A stage is given every number it reads as if it were free: the nine entries of a rotation, the axes of the joints,
//! the entries of the mass matrix. A number it does not read has the derivative zero on both sides.

use super::stage::{Reader, Stage, StageError, check};
use crate::device::Dual;
use crate::device::philox::Philox;
use crate::sim::contact::{body_contact, body_contact_adjoint};
use crate::sim::inertia::{body_bias, body_bias_adjoint};
use crate::sim::integrate::{integrate, integrate_adjoint};
use crate::sim::joint::{joint_force, joint_force_adjoint};
use crate::sim::kinematics::{body_kinematics, body_kinematics_adjoint};
use crate::sim::mass_matrix::{factorise, mass_matrix, mass_matrix_adjoint, solve, solve_adjoint};
use crate::sim::size::{CLASSES, Size};
use crate::sim::step::accelerations;
use crate::sim::{Cotangents, JointKind, Mat3, Model, SimScalar, Spatial, Work};

/// Any robot has room here.
const SIZE: Size = CLASSES[CLASSES.len() - 1];
type W<S> = Work<S, { SIZE.bodies }, { SIZE.velocities }>;
type C = Cotangents<f64, { SIZE.bodies }, { SIZE.velocities }>;

/// A robot in one number type, its size, and the length of a substep (s).
#[derive(Clone, Copy)]
pub(super) struct Robot<'a, S> {
    model: &'a Model<S>,
    bodies: usize,
    nq: usize,
    nd: usize,
    h: f64,
}

impl<'a, S: SimScalar> Robot<'a, S> {
    fn new(model: &'a Model<S>, h: f64) -> Self {
        Self { model, bodies: model.links.len(), nq: model.coordinates, nd: model.velocities, h }
    }

    /// Dofs whose axes depend on the state: those of a free joint are constants.
    fn turning(&self) -> impl Iterator<Item = usize> {
        let links = self.model.links.iter().filter(|l| l.kind != JointKind::Free);
        links.flat_map(|l| l.qd..l.qd + l.kind.velocities())
    }

    /// The entries of the mass matrix that are computed: of each row those of its ancestors, then the diagonal.
    fn entries(&self) -> Vec<(usize, usize)> {
        let row = |row| self.model.ancestors(row).iter().copied().chain([row]).map(move |k| (row, k));
        (0..self.nd).flat_map(row).collect()
    }
}

/// All stages of a substep of `h` seconds from (q, qd) under `actuation`; `e` chooses among the random directions.
/// `dual` is the robot `model` in dual numbers.
pub fn check_physics(
    (model, dual): (&Model<f64>, &Model<Dual>),
    h: f64,
    [q, qd, actuation]: [&[f64]; 3],
    rng: &Philox,
    e: u32,
) -> Vec<StageError> {
    let (at, dual) = (&Robot::new(model, h), &Robot::new(dual, h));
    let mut w = W::new(model);
    accelerations(model, q, qd, actuation, 0.0, true, &mut w);
    let frames = bodies_of(at, &w);
    let axes: Vec<f64> = axes(&w.axis[..at.nd]).collect();
    let wrenches: Vec<f64> = w.body[..at.bodies].iter().flat_map(|b| b.f.array()).collect();
    let mut matrix = w;
    mass_matrix(model, &mut matrix);
    let entries: Vec<f64> = at.entries().into_iter().map(|(i, k)| matrix.factor[i][k]).collect();
    vec![
        check::<Kinematics>((at, dual), &[q, qd].concat(), rng, e),
        check::<Bias>((at, dual), &frames, rng, e),
        check::<Contacts>((at, dual), &[&frames[..], &[0.0]].concat(), rng, e),
        check::<Joints>((at, dual), &[q, qd, actuation, &wrenches, &axes].concat(), rng, e),
        check::<MassMatrix>((at, dual), &[frames, axes].concat(), rng, e),
        check::<Solve>((at, dual), &[&entries[..], &w.tau[..at.nd]].concat(), rng, e),
        check::<Integrate>((at, dual), &[q, qd, &w.qdd[..at.nd]].concat(), rng, e),
    ]
}

fn put_rows<S: SimScalar>(to: &mut Vec<S>, m: &Mat3<S>) {
    m.0.iter().for_each(|row| to.extend(row.array()));
}

/// Position, rotation, twist and acceleration of all bodies, as the stages behind kinematics read them.
fn bodies_of<S: SimScalar>(at: &Robot<S>, w: &W<S>) -> Vec<S> {
    let mut x = Vec::new();
    for b in &w.body[..at.bodies] {
        x.extend(b.p.array());
        put_rows(&mut x, &b.rot);
        x.extend(b.v.array());
        x.extend(b.a.array());
    }
    x
}

fn read_bodies<S: SimScalar>(at: &Robot<S>, x: &mut Reader<S>) -> W<S> {
    let mut w = W::new(at.model);
    for (b, link) in w.body.iter_mut().zip(&at.model.links) {
        (b.p, b.rot, b.v, b.a) = (x.vec3(), x.mat3(), x.spatial(), x.spatial());
        b.com = b.rot.mul_vec_add(link.com, b.p);
        b.back = -b.rot.transpose_mul_vec(b.com);
    }
    w
}

fn cotangents_of_bodies(at: &Robot<f64>, c: &C) -> Vec<f64> {
    let mut x = Vec::new();
    for b in &c.body[..at.bodies] {
        x.extend(b.p.array());
        put_rows(&mut x, &b.rot);
        x.extend(b.v.array());
        x.extend(b.a.array());
    }
    x
}

fn axes<S: SimScalar>(axes: &[Spatial<S>]) -> impl Iterator<Item = S> {
    axes.iter().flat_map(|a| a.array())
}

struct Kinematics;

impl Kinematics {
    fn work<S: SimScalar>(at: &Robot<S>, x: &[S]) -> W<S> {
        let mut w = W::new(at.model);
        (0..at.bodies).for_each(|i| body_kinematics(at.model, i, &x[..at.nq], &x[at.nq..], &mut w));
        w
    }
}

impl Stage for Kinematics {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "kinematics";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        let w = Self::work(at, x);
        let mut y = bodies_of(at, &w);
        y.extend(w.body[..at.bodies].iter().flat_map(|b| [b.q.v.x, b.q.v.y, b.q.v.z, b.q.w]));
        y.extend(at.turning().flat_map(|k| w.axis[k].array()));
        y
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c, mut bar) = (Self::work(at, x), C::zero(), Reader(bar));
        for b in &mut c.body[..at.bodies] {
            (b.p, b.rot, b.v, b.a) = (bar.vec3(), bar.mat3(), bar.spatial(), bar.spatial());
        }
        c.body[..at.bodies].iter_mut().for_each(|b| b.q = bar.quat());
        at.turning().for_each(|k| c.axis[k] = bar.spatial());
        let mut out = vec![0.0; at.nq + at.nd];
        let (q_bar, qd_bar) = out.split_at_mut(at.nq);
        for i in (0..at.bodies).rev() {
            body_kinematics_adjoint(at.model, i, &x[..at.nq], &x[at.nq..], &w, &mut c, q_bar, qd_bar);
        }
        out
    }
}

struct Bias;

impl Stage for Bias {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "bias";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        let mut w = read_bodies(at, &mut Reader(x));
        (0..at.bodies).for_each(|i| body_bias(at.model, i, &mut w));
        w.body[..at.bodies].iter().flat_map(|b| b.f.array()).collect()
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c, mut bar) = (read_bodies(at, &mut Reader(x)), C::zero(), Reader(bar));
        for i in 0..at.bodies {
            c.body[i].f = bar.spatial();
            body_bias_adjoint(at.model, i, &w, &mut c);
        }
        cotangents_of_bodies(at, &c)
    }
}

struct Contacts;

impl Stage for Contacts {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "contact";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        let mut x = Reader(x);
        let mut w = read_bodies(at, &mut x);
        (0..at.bodies).for_each(|i| body_contact(at.model, i, x.0[0], &mut w));
        w.body[..at.bodies].iter().flat_map(|b| b.contact.array()).collect()
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (mut x, mut c, mut bar) = (Reader(x), C::zero(), Reader(bar));
        let w = read_bodies(at, &mut x);
        for i in 0..at.bodies {
            c.body[i].f = bar.spatial();
            body_contact_adjoint(at.model, i, x.0[0], &w, &mut c);
        }
        [cotangents_of_bodies(at, &c), vec![c.ground]].concat()
    }
}

struct Joints;

impl Joints {
    /// The wrenches and axes behind q, qd and actuation in `x`, and the joints' forces on them.
    fn work<S: SimScalar>(at: &Robot<S>, x: &[S]) -> W<S> {
        let (mut w, mut rest) = (W::new(at.model), Reader(&x[at.nq + 2 * at.nd..]));
        w.body[..at.bodies].iter_mut().for_each(|b| b.f = rest.spatial());
        w.axis[..at.nd].iter_mut().for_each(|a| *a = rest.spatial());
        let (q, qd, u) = (&x[..at.nq], &x[at.nq..][..at.nd], &x[at.nq + at.nd..][..at.nd]);
        (0..at.bodies).rev().for_each(|i| joint_force(at.model, i, q, qd, u, &mut w));
        w
    }
}

impl Stage for Joints {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "joint";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        Self::work(at, x).tau[..at.nd].to_vec()
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        c.tau[..at.nd].copy_from_slice(bar);
        let (mut q_bar, mut qd_bar, mut u_bar) = (vec![0.0; at.nq], vec![0.0; at.nd], vec![0.0; at.nd]);
        for i in 0..at.bodies {
            joint_force_adjoint(at.model, i, &x[..at.nq], &w, &mut c, &mut q_bar, &mut qd_bar, &mut u_bar);
        }
        let mut out = [&q_bar[..], &qd_bar, &u_bar].concat();
        out.extend(c.body[..at.bodies].iter().flat_map(|b| b.f.array()));
        out.extend(axes(&c.axis[..at.nd]));
        out
    }
}

struct MassMatrix;

impl MassMatrix {
    fn work<S: SimScalar>(at: &Robot<S>, x: &[S]) -> W<S> {
        let mut x = Reader(x);
        let mut w = read_bodies(at, &mut x);
        w.axis[..at.nd].iter_mut().for_each(|a| *a = x.spatial());
        w
    }
}

impl Stage for MassMatrix {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "mass matrix";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        let mut w = Self::work(at, x);
        mass_matrix(at.model, &mut w);
        at.entries().into_iter().map(|(i, k)| w.factor[i][k]).collect()
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        for ((i, k), bar) in at.entries().into_iter().zip(bar) {
            c.mass[i][k] = *bar;
        }
        mass_matrix_adjoint(at.model, &w, &mut c);
        cotangents_of_bodies(at, &c).into_iter().chain(axes(&c.axis[..at.nd])).collect()
    }
}

/// Factor of the mass matrix and solution of `(H + armature) q̈ = τ`.
struct Solve;

impl Solve {
    fn work<S: SimScalar>(at: &Robot<S>, x: &[S]) -> W<S> {
        let mut w = W::new(at.model);
        let places = at.entries();
        for ((i, k), x) in places.iter().zip(x) {
            w.factor[*i][*k] = *x;
        }
        factorise(at.model, &mut w);
        w.qdd[..at.nd].copy_from_slice(&x[places.len()..]);
        solve(at.model, &w.factor, &w.pivot, &mut w.qdd);
        w
    }
}

impl Stage for Solve {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "Cholesky, solve";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        Self::work(at, x).qdd[..at.nd].to_vec()
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (w, mut c) = (Self::work(at, x), C::zero());
        c.tau[..at.nd].copy_from_slice(bar);
        solve_adjoint(at.model, &w.factor, &w.pivot, &w.qdd, &mut c.tau, &mut c.mass);
        at.entries().into_iter().map(|(i, k)| c.mass[i][k]).chain(c.tau[..at.nd].iter().copied()).collect()
    }
}

struct Integrate;

impl Stage for Integrate {
    type At<'a, S: SimScalar> = Robot<'a, S>;
    const NAME: &'static str = "integrate";
    fn forward<S: SimScalar>(at: &Robot<S>, x: &[S]) -> Vec<S> {
        let mut y = x[..at.nq + at.nd].to_vec();
        let (q, qd) = y.split_at_mut(at.nq);
        integrate(at.model, S::of(at.h), &x[at.nq + at.nd..], q, qd);
        y
    }
    fn adjoint(at: &Robot<f64>, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let mut out = [bar, &vec![0.0; at.nd]].concat();
        let (q_bar, rest) = out.split_at_mut(at.nq);
        let (qd_bar, qdd_bar) = rest.split_at_mut(at.nd);
        let (q, rest) = x.split_at(at.nq);
        integrate_adjoint(at.model, at.h, q, &rest[..at.nd], &rest[at.nd..], q_bar, qd_bar, qdd_bar);
        out
    }
}
