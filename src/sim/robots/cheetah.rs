//! The dFlex Half-Cheetah: a trunk with a hind and a front leg in a plane, on two slides and a pitch; 9 bodies, 9
//! coordinates.

use super::{DENSITY, about, body, damped, lengthwise, upright};
use crate::sim::articulation::{Articulation, EARTH, Geometry, Joint, JointKind, Material, Shape};
use crate::sim::quat::Transform;
use crate::sim::vec3::Vec3;

const MATERIAL: Material = Material { stiffness: 2e4, damping: 2e3, viscosity: 1e3, friction: 1.0 };
const RADIUS: f64 = 0.046;

/// Every joint has an armature, those of the root too.
fn joint(kind: JointKind, frame: Transform<f64>, axis: [f64; 3]) -> Joint {
    Joint { armature: 0.1, ..damped(kind, frame, axis) }
}

/// A hinge of a leg at (x, z) of its parent, drawn towards 0 by a spring with damping; limits in rad.
fn hinge([x, z]: [f64; 2], [lower, upper]: [f64; 2], drive_stiffness: f64, drive_damping: f64) -> Joint {
    let at = Transform::at([x, 0.0, z]);
    Joint { lower, upper, drive_stiffness, drive_damping, ..joint(JointKind::Hinge, at, [0.0, 1.0, 0.0]) }
}

/// A capsule with its middle at (x, z), turned by `angle` (rad) about y from upright.
fn capsule([x, z]: [f64; 2], angle: f64, half_length: f64) -> Shape {
    Shape {
        geometry: Geometry::Capsule { radius: RADIUS, half_length },
        frame: Transform { p: Vec3::new(x, 0.0, z), q: lengthwise(about(1, angle)) },
        density: DENSITY,
        material: MATERIAL,
        touches: true,
    }
}

/// The Half-Cheetah, built from its shapes.
pub fn cheetah() -> Articulation {
    let pitch = joint(JointKind::Hinge, Transform::identity(), [0.0, 1.0, 0.0]);
    let trunk = Shape::capsule([-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], RADIUS, DENSITY, MATERIAL);
    let head = capsule([0.6, 0.1], 0.87, 0.15);
    let bodies = vec![
        // At 0 the trunk is 1 m high.
        body("rootx", None, joint(JointKind::Slide, upright([0.0, 1.0, 0.0]), [1.0, 0.0, 0.0]), vec![]),
        body("rootz", 0, joint(JointKind::Slide, Transform::identity(), [0.0, 0.0, 1.0]), vec![]),
        body("torso", 1, pitch, vec![trunk, head]),
        body("bthigh", 2, hinge([-0.5, 0.0], [-0.52, 1.05], 240.0, 6.0), vec![capsule([0.1, -0.13], -3.8, 0.145)]),
        body("bshin", 3, hinge([0.16, -0.25], [-0.785, 0.785], 180.0, 4.5), vec![capsule([-0.14, -0.07], -2.03, 0.15)]),
        body("bfoot", 4, hinge([-0.28, -0.14], [-0.4, 0.785], 120.0, 3.0), vec![capsule([0.03, -0.097], -0.27, 0.094)]),
        body("fthigh", 2, hinge([0.5, 0.0], [-1.5, 0.8], 180.0, 4.5), vec![capsule([-0.07, -0.12], 0.52, 0.133)]),
        body("fshin", 6, hinge([-0.14, -0.24], [-1.2, 1.1], 120.0, 3.0), vec![capsule([0.065, -0.09], -0.6, 0.106)]),
        body("ffoot", 7, hinge([0.13, -0.18], [-3.1, -0.3], 60.0, 1.5), vec![capsule([0.045, -0.07], -0.6, 0.07)]),
    ];
    Articulation { name: "cheetah".into(), bodies, gravity: EARTH, ground: true }
}
