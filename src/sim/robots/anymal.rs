//! The dFlex Anymal: four legs of three hinges on a free trunk; 19 coordinates, 18 velocities.
//!
//! Of the file's bodies those that neither move, weigh nor touch anything, such as frames of cameras, are left out; the
//! rigidly connected ones between the hinges are kept.

use super::{DENSITY, LIMIT_DAMPING, LIMIT_STIFFNESS, about, body};
use crate::sim::articulation::{Articulation, EARTH, Geometry, Joint, JointKind, Material, Shape};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;
use std::f64::consts::{FRAC_PI_2, PI};

const MATERIAL: Material = Material { stiffness: 2e3, damping: 5e2, viscosity: 1e2, friction: 0.75 };

/// About the x axis of its frame, without limits, drawn towards 0 (which is not how it stands).
fn hinge(sign: f64) -> Joint {
    Joint {
        limit_stiffness: LIMIT_STIFFNESS,
        limit_damping: LIMIT_DAMPING,
        drive_stiffness: 85.0,
        drive_damping: 2.0,
        armature: 0.006,
        ..Joint::simple(JointKind::Hinge, Transform::identity(), [sign, 0.0, 0.0])
    }
}

/// A cylinder of the file, which the loader makes a capsule of the same length between its ends' middles: along x, its
/// far end first.
fn capsule(x: f64, half_length: f64, radius: f64) -> Shape {
    Shape {
        geometry: Geometry::Capsule { radius, half_length },
        frame: Transform { p: Vec3::new(x, 0.0, 0.0), q: about(1, PI) },
        density: DENSITY,
        material: MATERIAL,
        touches: true,
    }
}

/// The Anymal, built from the shapes that touch. It looks along x; its left is y.
pub fn anymal() -> Articulation {
    let mut bodies = vec![body("base", None, Joint::free(), vec![capsule(0.0, 0.375, 0.1)])];
    // Front or hind, left or right.
    for (name, front, left) in [("LF", 1.0, 1.0), ("RF", 1.0, -1.0), ("LH", -1.0, 1.0), ("RH", -1.0, -1.0)] {
        let yaw = about(2, if front > 0.0 { 0.0 } else { PI });
        let hip = yaw * about(0, front * left * 150f64.to_radians());
        let across = about(2, left * FRAC_PI_2);
        let turned = |p: [f64; 3], q: Quat<f64>| Joint::fixed(Transform { q, ..Transform::at(p) });
        let back = |q: Quat<f64>| turned([0.0; 3], q.conj());
        // Each hinge sits in a turned frame, and behind it one that is turned back.
        let chain = [
            ("hip_mount", turned([0.2999 * front, 0.104 * left, 0.0], hip), vec![]),
            ("HAA", hinge(front), vec![]),
            ("hip", back(hip), vec![]),
            ("thigh_mount", turned([0.0599 * front, 0.08381 * left, 0.0], across), vec![]),
            ("HFE", hinge(left), vec![]),
            ("thigh", back(across), vec![]),
            ("shank_mount", turned([0.0, 0.1003 * left, -0.285], across), vec![capsule(-0.05, 0.06, 0.06)]),
            ("KFE", hinge(left), vec![]),
            ("shank", back(across), vec![]),
            (
                "foot",
                Joint::fixed(Transform::at([0.08795 * front, 0.01305 * left, -0.33797])),
                vec![Shape::sphere([0.0, 0.0, 0.0225], 0.03, DENSITY, MATERIAL)],
            ),
        ];
        for (k, (part, joint, shapes)) in chain.into_iter().enumerate() {
            let parent = if k == 0 { 0 } else { bodies.len() - 1 };
            bodies.push(body(format!("{name}_{part}"), parent, joint, shapes));
        }
    }
    Articulation { name: "anymal".into(), bodies, gravity: EARTH, ground: true }
}
