//! The dFlex Ant: a torso with four legs of two hinges each; 9 bodies, 15 coordinates, 14 velocities.
//!
//! The model frame is z-up; the torso's start orientation (-90° about x) turns it into the world's y-up.

use super::{DENSITY, LIMIT_DAMPING, LIMIT_STIFFNESS, body};
use crate::sim::articulation::{Articulation, EARTH, Joint, JointKind, Material, Shape};
use crate::sim::quat::Transform;

const MATERIAL: Material = Material { stiffness: 4e4, damping: 1e4, viscosity: 3e3, friction: 0.75 };
const LEG_RADIUS: f64 = 0.08;

/// Directions (x, y) of the legs, in order.
const LEGS: [(f64, f64); 4] = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)];

fn hinge(at: [f64; 3], axis: [f64; 3], degrees: (f64, f64), target: f64) -> Joint {
    Joint {
        lower: degrees.0.to_radians(),
        upper: degrees.1.to_radians(),
        limit_stiffness: LIMIT_STIFFNESS,
        limit_damping: LIMIT_DAMPING,
        drive_damping: 1.0,
        target,
        armature: 0.05,
        ..Joint::simple(JointKind::Hinge, Transform::at(at), axis)
    }
}

/// The Ant, built from its shapes.
pub fn ant() -> Articulation {
    let capsule = |to: [f64; 3]| Shape::capsule([0.0; 3], to, LEG_RADIUS, DENSITY, MATERIAL);
    let along = |leg: (f64, f64), d: f64| [d * leg.0, d * leg.1, 0.0];

    let mut torso = vec![Shape::sphere([0.0; 3], 0.25, DENSITY, MATERIAL)];
    torso.extend(LEGS.map(|leg| capsule(along(leg, 0.2))));
    let mut bodies = vec![body("torso", None, Joint::free(), torso)];

    for (k, leg) in LEGS.into_iter().enumerate() {
        let hip = bodies.len();
        // Legs 1 and 4 bend by positive angles, 2 and 3 by negative ones; the ankle axis lies across the leg.
        let (degrees, target) = if leg.0 > 0.0 { ((30.0, 100.0), 1.0) } else { ((-100.0, -30.0), -1.0) };
        let across = [-leg.0 * leg.1, 1.0, 0.0];
        let hip_joint = hinge(along(leg, 0.2), [0.0, 0.0, 1.0], (-40.0, 40.0), 0.0);
        let ankle_joint = hinge(along(leg, 0.2), across, degrees, target);
        bodies.push(body(format!("hip_{}", k + 1), 0, hip_joint, vec![capsule(along(leg, 0.2))]));
        bodies.push(body(format!("ankle_{}", k + 1), hip, ankle_joint, vec![capsule(along(leg, 0.4))]));
    }
    Articulation { name: "ant".into(), bodies, gravity: EARTH, ground: true }
}
