//! Robots as data, by name.
//!
//! All are those of DiffRL (<https://github.com/imgeorgiev/DiffRL>), as its loaders understand their files: each joint
//! carries a body of its own, and of bodies in one place the last has the mass. Their model frames are z-up.

mod ant;
mod anymal;
mod cartpole;
mod cheetah;
mod hopper;
mod humanoid;
pub mod mujoco;

pub use ant::ant;
pub use anymal::anymal;
pub use cartpole::cartpole;
pub use cheetah::cheetah;
pub use hopper::hopper;
pub use humanoid::humanoid;

use super::articulation::{Articulation, Body, Joint, JointKind, Shape};
use super::quat::{Quat, Transform};
use super::size::Size;
use super::vec3::Vec3;
use std::f64::consts::FRAC_PI_2;

/// Builds a robot from its shapes.
pub type Builder = fn() -> Articulation;

/// Every robot: its name and what builds it.
pub const ROBOTS: &[(&str, Builder)] = &[
    ("ant", ant),
    ("hopper", hopper),
    ("cheetah", cheetah),
    ("cartpole", cartpole),
    ("humanoid", humanoid),
    ("anymal", anymal),
];

/// The size that has a class of its own: the Ant's, with the substeps of its published task.
pub const EXACT: Size = Size { bodies: 9, coordinates: 15, velocities: 14, substeps: 16 };

/// The robot called `name`.
pub fn by_name(name: &str) -> Option<Articulation> {
    ROBOTS.iter().find(|(n, _)| *n == name).map(|(_, build)| build())
}

// What the robots have in common.

/// Of every shape (kg/m³).
const DENSITY: f64 = 1000.0;
/// Spring at a limit [N m/rad] and the damping of every joint [N m s/rad or N s/m].
const LIMIT_STIFFNESS: f64 = 1e3;
const LIMIT_DAMPING: f64 = 10.0;

/// The rotation by `angle` (rad) about axis number `axis`.
fn about(axis: usize, angle: f64) -> Quat<f64> {
    let mut unit = [0.0; 3];
    unit[axis] = 1.0;
    Quat::about(Vec3::of(unit), angle)
}

/// The frame of a root whose model is z-up: turned by -90° about x, its z is the world's y.
pub(super) fn upright(at: [f64; 3]) -> Transform<f64> {
    Transform { q: about(0, -FRAC_PI_2), ..Transform::at(at) }
}

/// The orientation of a capsule whose long axis is the z of a frame turned by `turn`: the long axis of a shape is its
/// x.
pub(super) fn lengthwise(turn: Quat<f64>) -> Quat<f64> {
    turn * about(1, -FRAC_PI_2)
}

/// A joint with the common spring at its limits and the common damping; of the robots on a rail the root's joints too.
fn damped(kind: JointKind, frame: Transform<f64>, axis: [f64; 3]) -> Joint {
    Joint { limit_stiffness: LIMIT_STIFFNESS, limit_damping: LIMIT_DAMPING, ..Joint::simple(kind, frame, axis) }
}

fn body(name: impl Into<String>, parent: impl Into<Option<usize>>, joint: Joint, shapes: Vec<Shape>) -> Body {
    Body { name: name.into(), parent: parent.into(), joint, shapes, inertial: None }
}
