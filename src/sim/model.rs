//! An [`Articulation`] compiled for simulation: constants rounded to the number type, index tables flattened.

use super::articulation::{Articulation, Joint, JointKind};
use super::mass::Inertia;
use super::quat::Quat;
use super::subgradient::{Kinks, Subgradient};
use super::vec3::{Mat3, Vec3};
use crate::device::Scalar;
use std::ops::Range;

/// One body and its joint; see [`super::articulation`] for the meaning of the numbers.
#[derive(Clone, Debug)]
pub struct Link<S> {
    pub parent: Option<usize>,
    pub kind: JointKind,
    /// First index of the joint in q and in qd.
    pub q: usize,
    pub qd: usize,
    /// Joint frame in the parent: position, and orientation unless it is the identity.
    pub position: Vec3<S>,
    pub rotation: Option<Quat<S>>,
    pub axis: Vec3<S>,
    pub lower: S,
    pub upper: S,
    pub limit_stiffness: S,
    pub drive_stiffness: S,
    pub target: S,
    /// Drive and limit damping together: both always act.
    pub damping: S,
    pub mass: S,
    pub com: Vec3<S>,
    /// About the centre of mass, body axes.
    pub inertia: Mat3<S>,
    /// The body's points in [`Model::contacts`].
    pub contacts: Range<usize>,
}

/// A point that can touch the ground.
#[derive(Clone, Debug)]
pub struct Contact<S> {
    pub point: Vec3<S>,
    pub radius: S,
    pub stiffness: S,
    pub damping: S,
    pub viscosity: S,
    /// Cap of the friction force per metre of depth: friction coefficient times stiffness [N/m].
    pub friction_stiffness: S,
}

/// A robot in the number type `S`.
#[derive(Clone, Debug)]
pub struct Model<S> {
    pub links: Vec<Link<S>>,
    pub contacts: Vec<Contact<S>>,
    pub armature: Vec<S>,
    pub gravity: Vec3<S>,
    /// What the adjoint takes where there is no derivative; the reference's choice unless changed.
    pub kinks: Kinks<S>,
    /// Velocity coordinates (dofs) on the path to the root, nearest first, the dof itself left out.
    ancestors: Vec<usize>,
    ancestors_start: Vec<usize>,
    pub coordinates: usize,
    pub velocities: usize,
    /// The coordinate of the first body, if that slides along the ground without springs: nothing depends on it.
    pub rail: Option<usize>,
}

/// Whether a joint of a root moves its robot along the ground, and no spring knows where it is.
fn is_rail(joint: &Joint) -> bool {
    let level = joint.frame.q.rotate(joint.axis).y.abs() < 1e-12;
    let unbounded = joint.lower == f64::NEG_INFINITY && joint.upper == f64::INFINITY;
    joint.kind == JointKind::Slide && level && unbounded && joint.drive_stiffness == 0.0
}

impl<S: Scalar> Model<S> {
    /// Compiles `robot`.
    ///
    /// # Panics
    /// If [`Articulation::validate`] finds something wrong with the robot.
    pub fn new(robot: &Articulation, how: Inertia) -> Self {
        if let Err(e) = robot.validate() {
            panic!("invariant: a robot is validated before it is compiled: {}: {e}", robot.name);
        }
        let (q, qd) = robot.offsets();
        let points = robot.contact_points();
        let mut links = Vec::new();
        let mut armature = Vec::new();
        let (mut ancestors, mut ancestors_start) = (Vec::new(), vec![0]);
        let mut last_dofs: Vec<Vec<usize>> = Vec::new();
        for (i, body) in robot.bodies.iter().enumerate() {
            let j = &body.joint;
            // Path of dofs from this body to the root, nearest first.
            let mut path = body.parent.map_or(Vec::new(), |p| last_dofs[p].clone());
            for dof in qd[i]..qd[i + 1] {
                ancestors.extend(&path);
                ancestors_start.push(ancestors.len());
                path.insert(0, dof);
                armature.push(S::of(j.armature));
            }
            last_dofs.push(path);

            let mass = body.mass_properties(how);
            let first = points.iter().position(|p| p.body == i).unwrap_or(0);
            let count = points.iter().filter(|p| p.body == i).count();
            let turned = j.frame.q.v.array() != [0.0; 3];
            let vec = |v: Vec3<f64>| Vec3::of(v.array());
            links.push(Link {
                parent: body.parent,
                kind: j.kind,
                q: q[i],
                qd: qd[i],
                position: vec(j.frame.p),
                rotation: turned.then(|| Quat { v: vec(j.frame.q.v), w: S::of(j.frame.q.w) }),
                axis: vec(j.axis),
                lower: S::of(j.lower),
                upper: S::of(j.upper),
                limit_stiffness: S::of(j.limit_stiffness),
                drive_stiffness: S::of(j.drive_stiffness),
                target: S::of(j.target),
                damping: S::of(j.drive_damping + j.limit_damping),
                mass: S::of(mass.mass),
                com: vec(mass.com),
                inertia: Mat3::of(mass.inertia),
                contacts: first..first + count,
            });
        }
        let contacts = points
            .iter()
            .map(|p| Contact {
                point: Vec3::of(p.point.array()),
                radius: S::of(p.radius),
                stiffness: S::of(p.material.stiffness),
                damping: S::of(p.material.damping),
                viscosity: S::of(p.material.viscosity),
                friction_stiffness: S::of(p.material.friction * p.material.stiffness),
            })
            .collect();
        let (coordinates, velocities) = (q[links.len()], qd[links.len()]);
        let gravity = Vec3::of(robot.gravity);
        let kinks = Subgradient::Reference.kinks();
        let rail = robot.bodies.first().filter(|b| b.parent.is_none() && is_rail(&b.joint)).map(|_| 0);
        Self { links, contacts, armature, gravity, kinks, ancestors, ancestors_start, coordinates, velocities, rail }
    }

    /// Dofs on the path from `dof` to the root, nearest first, `dof` left out: the non-zero off-diagonal entries of
    /// row `dof` of the mass matrix (branch-induced sparsity).
    #[inline(always)]
    pub fn ancestors(&self, dof: usize) -> &[usize] {
        &self.ancestors[self.ancestors_start[dof]..self.ancestors_start[dof + 1]]
    }
}
