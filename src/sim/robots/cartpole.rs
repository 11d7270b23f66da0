//! The dFlex Cartpole: a cart on a rail with a pole on it, in the air; 3 bodies, 2 coordinates.

use super::{DENSITY, body, upright};
use crate::sim::articulation::{Articulation, EARTH, Joint, JointKind, Material, Shape};
use crate::sim::quat::Transform;

/// Of shapes that touch nothing.
const MATERIAL: Material = Material { stiffness: 1e4, damping: 1e4, viscosity: 1e2, friction: 0.5 };
/// Half of the edge of the pole across, and half of its length (m).
const POLE: [f64; 3] = [0.025, 0.025, 0.5];

fn joint(kind: JointKind, axis: [f64; 3]) -> Joint {
    Joint {
        limit_stiffness: 100.0,
        limit_damping: 1.0,
        armature: 0.1,
        ..Joint::simple(kind, Transform::identity(), axis)
    }
}

/// The Cartpole, built from its shapes. At 0 the pole stands upright in the middle of the rail.
pub fn cartpole() -> Articulation {
    let rail = Joint { lower: -4.0, upper: 4.0, ..joint(JointKind::Slide, [1.0, 0.0, 0.0]) };
    let cart = Shape::cuboid([0.0; 3], [0.25, 0.25, 0.1], DENSITY, MATERIAL);
    let pole = Shape::cuboid([0.0, 0.0, POLE[2]], POLE, DENSITY, MATERIAL);
    let bodies = vec![
        body("rail", None, Joint::fixed(upright([0.0, 2.5, 0.0])), vec![]),
        body("cart", 0, rail, vec![cart]),
        body("pole", 1, joint(JointKind::Hinge, [0.0, 1.0, 0.0]), vec![pole]),
    ];
    Articulation { name: "cartpole".into(), bodies, gravity: EARTH, ground: false }
}
