//! The dFlex Humanoid: 21 hinges on a free torso; 22 bodies, 28 coordinates, 27 velocities.

use super::{DENSITY, LIMIT_DAMPING, LIMIT_STIFFNESS, body};
use crate::sim::articulation::{Articulation, Body, EARTH, Joint, JointKind, Material, Shape};
use crate::sim::quat::Transform;

const MATERIAL: Material = Material { stiffness: 2e4, damping: 2e3, viscosity: 1e3, friction: 0.75 };

/// Spring towards 0 [N m/rad], its damping [N m s/rad] and armature [kg m²] of a joint.
#[derive(Clone, Copy)]
struct Drive(f64, f64, f64);

const HIP: Drive = Drive(10.0, 5.0, 0.01);
const KNEE: Drive = Drive(5.0, 0.1, 0.007);
const ANKLE: Drive = Drive(2.0, 1.0, 0.006);
/// Of the arms: the shoulder's is the hip's, the elbow's the ankle's.
const SHOULDER: Drive = HIP;
const ELBOW: Drive = ANKLE;

fn hinge(at: [f64; 3], axis: [f64; 3], degrees: [f64; 2], Drive(stiffness, damping, armature): Drive) -> Joint {
    Joint {
        lower: degrees[0].to_radians(),
        upper: degrees[1].to_radians(),
        limit_stiffness: LIMIT_STIFFNESS,
        limit_damping: LIMIT_DAMPING,
        drive_stiffness: stiffness,
        drive_damping: damping,
        armature,
        ..Joint::simple(JointKind::Hinge, Transform::at(at), axis)
    }
}

fn capsule(from: [f64; 3], to: [f64; 3], radius: f64) -> Shape {
    Shape::capsule(from, to, radius, DENSITY, MATERIAL)
}

/// A capsule across the body, of half length `half`, with its middle at (x, z).
fn across([x, z]: [f64; 2], half: f64, radius: f64) -> Shape {
    capsule([x, -half, z], [x, half, z], radius)
}

fn sphere(centre: [f64; 3], radius: f64) -> Shape {
    Shape::sphere(centre, radius, DENSITY, MATERIAL)
}

/// The Humanoid, built from its shapes. It looks along x; its left is y.
pub fn humanoid() -> Articulation {
    const HERE: [f64; 3] = [0.0; 3];
    const X: [f64; 3] = [1.0, 0.0, 0.0];
    const Y: [f64; 3] = [0.0, 1.0, 0.0];
    const Z: [f64; 3] = [0.0, 0.0, 1.0];
    let torso =
        vec![across([0.0, 0.0], 0.07, 0.07), across([-0.01, -0.12], 0.06, 0.06), sphere([0.0, 0.0, 0.19], 0.09)];
    let abdomen_z = hinge([-0.01, 0.0, -0.195], Z, [-45.0, 45.0], Drive(20.0, 5.0, 0.02));
    let abdomen_y = hinge(HERE, Y, [-75.0, 30.0], Drive(20.0, 5.0, 0.01));
    let abdomen_x = hinge([0.0, 0.0, -0.13], X, [-35.0, 35.0], Drive(10.0, 5.0, 0.01));
    let mut bodies = vec![
        body("torso", None, Joint::free(), torso),
        body("abdomen_z", 0, abdomen_z, vec![]),
        body("abdomen_y", 1, abdomen_y, vec![across([0.0, -0.065], 0.06, 0.06)]),
        body("abdomen_x", 2, abdomen_x, vec![across([-0.02, -0.1], 0.07, 0.09)]),
    ];
    // Right and left, and on which side of y that is.
    for (name, side) in [("right", -1.0), ("left", 1.0)] {
        leg(&mut bodies, name, side);
    }
    for (name, side) in [("right", -1.0), ("left", 1.0)] {
        arm(&mut bodies, name, side);
    }
    return Articulation { name: "humanoid".into(), bodies, gravity: EARTH, ground: true };

    fn leg(bodies: &mut Vec<Body>, name: &str, side: f64) {
        const PELVIS: usize = 3;
        let first = bodies.len();
        let thigh = capsule(HERE, [0.0, -0.01 * side, -0.34], 0.06);
        let shin = capsule([0.0, 0.0, -0.02], [0.0, 0.0, -0.32], 0.049);
        // Two capsules from heel to toe: where they begin and end across.
        let sole = |from: f64, to: f64| capsule([-0.07, side * from, -0.08], [0.14, side * to, -0.08], 0.027);
        let foot = vec![sole(0.02, 0.04), sole(0.0, -0.02)];
        let hip_x = hinge([0.0, 0.1 * side, -0.14], [-side, 0.0, 0.0], [-25.0, 5.0], HIP);
        let hip_z = hinge(HERE, [0.0, 0.0, -side], [-60.0, 35.0], HIP);
        let hip_y = hinge(HERE, Y, [-80.0, 20.0], Drive(20.0, HIP.1, HIP.2));
        let knee = hinge([0.0, -0.01 * side, -0.383], [0.0, -1.0, 0.0], [-160.0, 2.0], KNEE);
        let ankle_y = hinge([0.0, 0.0, -0.33], Y, [-50.0, 50.0], ANKLE);
        let ankle_x = hinge(HERE, [1.0, 0.0, 0.5], [-50.0, 50.0], ANKLE);
        bodies.extend([
            body(format!("{name}_hip_x"), PELVIS, hip_x, vec![]),
            body(format!("{name}_hip_z"), first, hip_z, vec![]),
            body(format!("{name}_hip_y"), first + 1, hip_y, vec![thigh]),
            body(format!("{name}_knee"), first + 2, knee, vec![shin]),
            body(format!("{name}_ankle_y"), first + 3, ankle_y, vec![]),
            body(format!("{name}_ankle_x"), first + 4, ankle_x, foot),
        ]);
    }

    fn arm(bodies: &mut Vec<Body>, name: &str, side: f64) {
        let first = bodies.len();
        let upper = capsule(HERE, [0.16, 0.16 * side, -0.16], 0.04);
        let lower = capsule([0.01, -0.01 * side, 0.01], [0.17, -0.17 * side, 0.17], 0.031);
        let hand = sphere([0.18, -0.18 * side, 0.18], 0.04);
        let shoulder1 = hinge([0.0, 0.17 * side, 0.06], [-2.0 * side, 1.0, -side], [-60.0, 60.0], SHOULDER);
        let shoulder2 = hinge(HERE, [0.0, -1.0, -side], [-60.0, 60.0], SHOULDER);
        let elbow = hinge([0.18, 0.18 * side, -0.18], [0.0, -1.0, -side], [-90.0, 50.0], ELBOW);
        bodies.extend([
            body(format!("{name}_shoulder1"), 0, shoulder1, vec![]),
            body(format!("{name}_shoulder2"), first, shoulder2, vec![upper]),
            body(format!("{name}_elbow"), first + 1, elbow, vec![lower, hand]),
        ]);
    }
}
