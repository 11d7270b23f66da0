//! A robot with what is rigidly connected made one body: the same motion from fewer bodies.

use super::articulation::{Articulation, Body, Joint, JointKind, Shape};
use super::mass::{Inertia, MassProperties};
use super::quat::Transform;
use super::vec3::{Mat3, Vec3};

/// Where a body of the old robot is: in which body of the new one (none is the world), and in which frame of it.
#[derive(Clone, Copy)]
struct Place {
    body: Option<usize>,
    frame: Transform<f64>,
}

impl Articulation {
    /// The same robot without fixed joints. A body behind one becomes part of the body in front, which takes its shapes
    /// and its mass properties, those that `how` gives. What is fixed to the world stays if it has a shape.
    ///
    /// The motion is the same for unit quaternions. Coordinates keep their order, bodies with joints their names.
    pub fn welded(&self, how: Inertia) -> Self {
        let mut bodies: Vec<Body> = Vec::new();
        let mut masses: Vec<MassProperties> = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        for old in &self.bodies {
            let mass = old.mass_properties(how);
            let at = old.parent.map_or(Place { body: None, frame: Transform::identity() }, |p| places[p]);
            let frame = at.frame * old.joint.frame;
            if let (JointKind::Fixed, Some(i)) = (old.joint.kind, at.body) {
                bodies[i].shapes.extend(old.shapes.iter().map(|s| Shape { frame: frame * s.frame, ..*s }));
                masses[i] = joined(masses[i], moved(mass, frame));
                bodies[i].inertial = Some(masses[i]);
                places.push(Place { body: at.body, frame });
            } else if old.joint.kind == JointKind::Fixed && old.shapes.is_empty() {
                places.push(Place { body: None, frame });
            } else {
                places.push(Place { body: Some(bodies.len()), frame: Transform::identity() });
                bodies.push(Body { parent: at.body, joint: Joint { frame, ..old.joint }, ..old.clone() });
                masses.push(mass);
            }
        }
        Self { bodies, ..self.clone() }
    }
}

/// Mass properties in the frame that `frame` is given in.
pub(super) fn moved(m: MassProperties, frame: Transform<f64>) -> MassProperties {
    let turn = frame.q.matrix();
    let inertia = turn.mul(&Mat3::of(m.inertia)).mul(&turn.transpose());
    MassProperties { mass: m.mass, com: frame.q.rotate(m.com) + frame.p, inertia: inertia.0.map(Vec3::array) }
}

/// Those of two bodies that move as one, in one frame.
pub(super) fn joined(a: MassProperties, b: MassProperties) -> MassProperties {
    let mass = a.mass + b.mass;
    if mass == 0.0 {
        return a;
    }
    let com = (a.com.scale(a.mass) + b.com.scale(b.mass)).scale(1.0 / mass);
    // Steiner: m (|d|² 1 - d dᵀ) = -m [d][d].
    let about = |m: MassProperties| {
        let lever = Mat3::skew(com - m.com);
        Mat3::of(m.inertia).add(&lever.mul(&lever).scale(-m.mass))
    };
    MassProperties { mass, com, inertia: about(a).add(&about(b)).0.map(Vec3::array) }
}
