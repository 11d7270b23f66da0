//! A robot with every kind of joint and shape, to test with: branches of unequal length, turned joint frames, limits,
//! drives, armature, two roots.
//!
//! Fixed to the world, a cart slides on a beam and a second arm hangs from a post of its own. Free, the cart flies, and
//! the second root is a box on its own.

use crate::device::Scalar;
use crate::device::philox::Philox;
use crate::sim::articulation::{Articulation, Body, EARTH, Geometry, Joint, JointKind, Material, Shape};
use crate::sim::{Inertia, Model, Quat, Transform, Vec3};

/// Length of a substep (s).
pub const H: f64 = 1.0 / 960.0;

const GROUND: Material = Material { stiffness: 2e4, damping: 4e3, viscosity: 3e2, friction: 0.8 };

fn joint(kind: JointKind, at: [f64; 3], turn: [f64; 4], axis: [f64; 3]) -> Joint {
    let axis = Vec3::<f64>::of(axis);
    Joint {
        kind,
        frame: Transform { p: Vec3::of(at), q: Quat::of(turn).normalised() },
        axis: axis.scale(1.0 / axis.norm().max(1e-300)),
        limit_damping: 0.3,
        drive_damping: 0.7,
        armature: 0.03,
        ..Joint::free()
    }
}

/// With springs at the limits and a drive.
fn driven(j: Joint, lower: f64, upper: f64) -> Joint {
    Joint { lower, upper, limit_stiffness: 300.0, drive_stiffness: 20.0, target: 0.5 * (lower + 2.0 * upper), ..j }
}

fn solid(geometry: Geometry, p: [f64; 3], turn: [f64; 4]) -> Shape {
    Shape {
        geometry,
        frame: Transform { p: Vec3::of(p), q: Quat::of(turn).normalised() },
        density: 900.0,
        material: GROUND,
        touches: true,
    }
}

/// Eight bodies on a slide or free, a ball, hinges, a fixed joint and a slide.
pub fn tree(free: bool) -> Articulation {
    let none = [0.0, 0.0, 0.0, 1.0];
    let body = |name: &str, parent: Option<usize>, joint: Joint, shapes: Vec<Shape>| Body {
        name: name.into(),
        parent,
        joint,
        shapes,
        inertial: None,
    };
    let root = if free {
        Joint::free()
    } else {
        driven(joint(JointKind::Slide, [0.1, 0.5, -0.2], [0.1, 0.3, -0.2, 0.9], [1.0, 0.2, 0.3]), -0.4, 0.5)
    };
    let second = if free {
        Joint::free()
    } else {
        driven(joint(JointKind::Hinge, [1.5, 0.6, 0.4], [0.4, 0.1, 0.2, 0.8], [0.2, 0.1, 1.0]), -0.8, 0.9)
    };
    let beam = Shape { density: 900.0, ..Shape::capsule([-0.2, 0.0, 0.05], [0.25, 0.1, 0.0], 0.07, 900.0, GROUND) };
    let bodies = vec![
        body(
            "cart",
            None,
            root,
            vec![solid(Geometry::Box { half: [0.15, 0.1, 0.12] }, [0.02, 0.0, -0.03], [0.2, 0.1, 0.0, 0.9])],
        ),
        body(
            "shoulder",
            Some(0),
            joint(JointKind::Ball, [0.2, -0.05, 0.1], [0.3, -0.2, 0.4, 0.8], [0.0; 3]),
            vec![beam, Shape::sphere([0.1, -0.05, 0.02], 0.12, 700.0, GROUND)],
        ),
        body(
            "elbow",
            Some(1),
            driven(joint(JointKind::Hinge, [0.25, 0.1, 0.0], none, [0.0, 1.0, 0.3]), -0.6, 0.7),
            vec![Shape::capsule([0.0; 3], [0.1, -0.25, 0.1], 0.05, 1200.0, GROUND)],
        ),
        body(
            "hand",
            Some(2),
            joint(JointKind::Fixed, [0.1, -0.25, 0.1], [0.0, 0.5, 0.1, 0.8], [0.0; 3]),
            vec![solid(Geometry::Box { half: [0.06, 0.09, 0.05] }, [0.05, -0.05, 0.0], none)],
        ),
        body(
            "hip",
            Some(0),
            driven(joint(JointKind::Hinge, [-0.2, -0.1, 0.0], [0.1, 0.6, -0.3, 0.7], [0.7, 0.0, -0.4]), -0.5, 0.4),
            vec![Shape::capsule([0.0; 3], [-0.1, -0.2, 0.15], 0.06, 1000.0, GROUND)],
        ),
        body(
            "knee",
            Some(4),
            joint(JointKind::Hinge, [-0.1, -0.2, 0.15], none, [0.2, 0.9, 0.4]),
            vec![Shape::sphere([0.05, -0.1, 0.0], 0.09, 1000.0, GROUND)],
        ),
        body(
            "foot",
            Some(5),
            driven(joint(JointKind::Slide, [0.05, -0.1, 0.05], [0.5, 0.2, 0.1, 0.8], [0.1, -1.0, 0.2]), -0.1, 0.15),
            vec![Shape::capsule([-0.05, -0.1, 0.0], [0.1, -0.1, 0.05], 0.05, 1000.0, GROUND)],
        ),
        body(
            "apart",
            None,
            second,
            vec![solid(Geometry::Box { half: [0.1, 0.15, 0.08] }, [0.1, -0.1, 0.05], [0.1, 0.0, 0.3, 0.9])],
        ),
    ];
    Articulation { name: if free { "free tree" } else { "tree" }.into(), bodies, gravity: EARTH, ground: true }
}

pub fn model<S: Scalar>(robot: &Articulation) -> Model<S> {
    Model::new(robot, Inertia::Exact)
}

/// A state and what acts on its dofs.
#[derive(Clone, Debug)]
pub struct TreeState {
    pub q: Vec<f64>,
    pub qd: Vec<f64>,
    pub actuation: Vec<f64>,
}

/// Whether the free bodies of state number `e` are metres away from the origin.
pub fn is_far(e: u32) -> bool {
    e % 5 == 4
}

/// State number `e`: in the ground or in the air, at rest, moving or fast, inside and beyond the limits of its joints,
/// any way round. Of five one is far from the origin, unless it cannot go there.
pub fn random_state(robot: &Articulation, rng: &Philox, e: u32) -> TreeState {
    let u = |k: usize| 2.0 * rng.uniform(5, e * 256 + k as u32) - 1.0;
    let (at, dofs) = robot.offsets();
    let mut q = vec![0.0; at[at.len() - 1]];
    let speed = [0.0, 1.0, 5.0][e as usize % 3];
    let mut qd: Vec<f64> = (0..dofs[dofs.len() - 1]).map(|k| speed * u(64 + k)).collect();
    for (i, body) in robot.bodies.iter().enumerate() {
        let quaternion = |q: &mut [f64], turn: f64| {
            let v = [u(8 * i + 3), u(8 * i + 4), u(8 * i + 5)].map(|x| turn * x);
            Quat::new(v[0], v[1], v[2], 1.2 + u(8 * i + 6)).normalised().write(q);
        };
        match body.joint.kind {
            JointKind::Free => {
                let far = if is_far(e) { 8.0 } else { 0.5 };
                let p = [far * u(8 * i), 0.3 + 0.5 * u(8 * i + 1), far * u(8 * i + 2)];
                q[at[i]..at[i] + 3].copy_from_slice(&p);
                quaternion(&mut q[at[i] + 3..], 1.0);
                if e % 7 == 6 {
                    q[at[i] + 3..at[i] + 7].iter_mut().for_each(|x| *x = -*x);
                }
                // The twist is about the world's origin: as fast at the body there as here.
                let v = Vec3::<f64>::read(&p).cross(Vec3::read(&qd[dofs[i]..])) + Vec3::read(&qd[dofs[i] + 3..]);
                v.write(&mut qd[dofs[i] + 3..]);
            }
            JointKind::Ball => quaternion(&mut q[at[i]..], 1.0),
            JointKind::Hinge => q[at[i]] = u(8 * i) * if e.is_multiple_of(3) { 1.5 } else { 0.5 },
            JointKind::Slide => q[at[i]] = u(8 * i) * if e.is_multiple_of(3) { 0.6 } else { 0.1 },
            JointKind::Fixed => {}
        }
    }
    let mut actuation: Vec<f64> = (0..qd.len()).map(|k| 10.0 * u(128 + k)).collect();
    for (i, body) in robot.bodies.iter().enumerate() {
        if body.joint.kind == JointKind::Free {
            actuation[dofs[i]..dofs[i] + 6].fill(0.0);
        }
    }
    TreeState { q, qd, actuation }
}
