//! The dFlex Hopper: one leg in a plane, on two slides and a pitch; 6 bodies, 6 coordinates.

use super::{DENSITY, body, damped, lengthwise, upright};
use crate::sim::articulation::{Articulation, EARTH, Geometry, Joint, JointKind, Material, Shape};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;

const MATERIAL: Material = Material { stiffness: 2e4, damping: 2e3, viscosity: 1e3, friction: 0.9 };

/// Every joint has an armature, those of the root too.
fn joint(kind: JointKind, frame: Transform<f64>, axis: [f64; 3]) -> Joint {
    Joint { armature: 1.0, ..damped(kind, frame, axis) }
}

/// A hinge of the leg, `below` its parent; limits as the file rounds them (rad).
fn hinge(below: f64, [lower, upper]: [f64; 2]) -> Joint {
    let at = Transform::at([0.0, 0.0, -below]);
    Joint { lower, upper, drive_damping: 2.0, ..joint(JointKind::Hinge, at, [0.0, -1.0, 0.0]) }
}

/// The Hopper, built from its shapes.
#[allow(clippy::approx_constant)] // numbers as the file rounds them
pub fn hopper() -> Articulation {
    let upward = |from: f64, to: f64, radius: f64| {
        vec![Shape::capsule([0.0, 0.0, from], [0.0, 0.0, to], radius, DENSITY, MATERIAL)]
    };
    // The file has the quaternion with its scalar first and the loader reads it as last, its norm as rounded there.
    let turn = Quat::new(0.707107, 0.0, -0.707107, 0.0);
    let foot = Shape {
        geometry: Geometry::Capsule { radius: 0.06, half_length: 0.195 },
        frame: Transform { p: Vec3::new(0.06, 0.0, 0.0), q: lengthwise(turn) },
        density: DENSITY,
        material: MATERIAL,
        touches: true,
    };
    let bodies = vec![
        body("rootx", None, joint(JointKind::Slide, upright([0.0; 3]), [1.0, 0.0, 0.0]), vec![]),
        // At 0 the torso is 1.25 m high.
        body("rootz", 0, joint(JointKind::Slide, Transform::at([0.0, 0.0, 1.25]), [0.0, 0.0, 1.0]), vec![]),
        body("torso", 1, joint(JointKind::Hinge, Transform::identity(), [0.0, 1.0, 0.0]), upward(-0.2, 0.2, 0.05)),
        body("thigh", 2, hinge(0.2, [-2.61799, 0.0]), upward(-0.45, 0.0, 0.05)),
        body("leg", 3, hinge(0.45, [-2.61799, 0.0]), upward(-0.5, 0.0, 0.04)),
        body("foot", 4, hinge(0.5, [-0.785398, 0.785398]), vec![foot]),
    ];
    Articulation { name: "hopper".into(), bodies, gravity: EARTH, ground: true }
}
