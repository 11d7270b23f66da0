//! The dFlex Ant: a torso with four legs of two hinges each; 9 bodies, 15 coordinates, 14 velocities.
//!
//! The model frame is z-up; the torso's start orientation (-90° about x) turns it into the world's y-up.

use crate::sim::articulation::{Articulation, Body, Joint, JointKind, Material, Shape};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;

const DENSITY: f64 = 1000.0;
const MATERIAL: Material = Material { stiffness: 4e4, damping: 1e4, viscosity: 3e3, friction: 0.75 };
const LEG_RADIUS: f64 = 0.08;

/// Directions (x, y) of the legs, in order.
const LEGS: [(f64, f64); 4] = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)];

fn hinge(at: [f64; 3], axis: [f64; 3], degrees: (f64, f64), target: f64) -> Joint {
    let axis = Vec3::<f64>::of(axis);
    Joint {
        kind: JointKind::Hinge,
        frame: Transform { p: Vec3::of(at), q: Quat::identity() },
        axis: axis.scale(1.0 / axis.norm()),
        lower: degrees.0.to_radians(),
        upper: degrees.1.to_radians(),
        limit_stiffness: 1e3,
        limit_damping: 10.0,
        drive_stiffness: 0.0,
        drive_damping: 1.0,
        target,
        armature: 0.05,
    }
}

/// The Ant, built from its shapes.
pub fn ant() -> Articulation {
    let capsule = |to: [f64; 3]| Shape::capsule([0.0; 3], to, LEG_RADIUS, DENSITY, MATERIAL);
    let along = |leg: (f64, f64), d: f64| [d * leg.0, d * leg.1, 0.0];

    let mut torso = vec![Shape::sphere([0.0; 3], 0.25, DENSITY, MATERIAL)];
    torso.extend(LEGS.map(|leg| capsule(along(leg, 0.2))));
    let mut bodies = vec![Body { name: "torso".into(), parent: None, joint: Joint::free(), shapes: torso }];

    for (k, leg) in LEGS.into_iter().enumerate() {
        let hip = bodies.len();
        // Legs 1 and 4 bend by positive angles, 2 and 3 by negative ones; the ankle axis lies across the leg.
        let (degrees, target) = if leg.0 > 0.0 { ((30.0, 100.0), 1.0) } else { ((-100.0, -30.0), -1.0) };
        let across = [-leg.0 * leg.1, 1.0, 0.0];
        bodies.push(Body {
            name: format!("hip_{}", k + 1),
            parent: Some(0),
            joint: hinge(along(leg, 0.2), [0.0, 0.0, 1.0], (-40.0, 40.0), 0.0),
            shapes: vec![capsule(along(leg, 0.2))],
        });
        bodies.push(Body {
            name: format!("ankle_{}", k + 1),
            parent: Some(hip),
            joint: hinge(along(leg, 0.2), across, degrees, target),
            shapes: vec![capsule(along(leg, 0.4))],
        });
    }
    Articulation { name: "ant".into(), bodies, gravity: [0.0, -9.81, 0.0] }
}
