//! Shapes of a robot in a given state and the forces of the ground on it, in world coordinates, for a viewer.

use super::Task;
use crate::draw::viewer::MovieShape;
use crate::sim::articulation::{Articulation, Geometry};
use crate::sim::contact::point_contact;
use crate::sim::kinematics::body_kinematics;
use crate::sim::size::{CLASSES, Size};
use crate::sim::{Model, Quat, Transform, Vec3, Work};

/// Any robot has room here.
const SIZE: Size = CLASSES[CLASSES.len() - 1];

/// One shape in the world; y is up, the ground is y = 0, metres.
#[derive(Clone, Copy, Debug)]
pub struct DrawnShape {
    pub body: usize,
    pub geometry: Geometry,
    pub centre: [f64; 3],
    /// Rotation matrix by rows, shape axes to world axes. A capsule's long axis is its local x.
    pub rotation: [[f64; 3]; 3],
}

/// All shapes for the coordinates `q`.
pub fn bodies_for_drawing(task: &Task, q: &[f64]) -> Vec<DrawnShape> {
    shapes_of(&task.spec.robot, task.model(), q)
}

/// All shapes of a robot, which `model` is compiled from, for the coordinates `q`.
fn shapes_of(robot: &Articulation, model: &Model<f64>, q: &[f64]) -> Vec<DrawnShape> {
    let mut work = Work::<f64, { SIZE.bodies }, { SIZE.velocities }>::new(model);
    let mut shapes = Vec::new();
    for (i, body) in robot.bodies.iter().enumerate() {
        body_kinematics(model, i, q, &[0.0; SIZE.velocities], &mut work);
        let frame = Transform { p: work.body[i].p, q: work.body[i].q };
        for shape in &body.shapes {
            let Transform { p, q } = frame * shape.frame;
            let rotation = Quat::matrix(q).0.map(Vec3::array);
            shapes.push(DrawnShape { body: i, geometry: shape.geometry, centre: p.array(), rotation });
        }
    }
    shapes
}

/// The shapes of a robot as a movie has them. Roots, what hangs on them, and what hangs on that have colours of their
/// own.
pub fn movie_shapes(robot: &Articulation) -> Vec<MovieShape> {
    // Joints between a body and its root.
    let depth = |body: usize| std::iter::successors(robot.bodies[body].parent, |&b| robot.bodies[b].parent).count();
    let shapes = robot.bodies.iter().enumerate().flat_map(|(i, b)| b.shapes.iter().map(move |s| (i, s.geometry)));
    shapes.map(|(i, g)| movie_shape(g, depth(i))).collect()
}

/// Where they are for the coordinates `q`: seven numbers each, as a movie has them (m, quaternion (x, y, z, w)).
pub fn movie_poses(robot: &Articulation, model: &Model<f64>, q: &[f64]) -> Vec<f32> {
    let pose = |s: DrawnShape| {
        let Quat { v, w } = Quat::of_matrix(lengthwise(s.geometry, s.rotation));
        s.centre.into_iter().chain(v.array()).chain([w]).map(|x| x as f32)
    };
    shapes_of(robot, model, q).into_iter().flat_map(pose).collect()
}

fn movie_shape(g: Geometry, depth: usize) -> MovieShape {
    let group = depth.min(2) as u8;
    let (radius, half_length) = match g {
        Geometry::Sphere { radius } => (radius, 0.0),
        Geometry::Capsule { radius, half_length } => (radius, half_length),
        // The viewer knows no boxes: a capsule of the same length, as thick as the box is on average, stands for one.
        Geometry::Box { half } => {
            let long = longest(half);
            let radius = 0.5 * (half.iter().sum::<f64>() - half[long]);
            (radius, (half[long] - radius).max(0.0))
        }
    };
    MovieShape { radius: radius as f32, half_length: half_length as f32, group }
}

/// The axis of a box's longest edge.
fn longest(half: [f64; 3]) -> usize {
    (0..3).rev().max_by(|&a, &b| half[a].total_cmp(&half[b])).unwrap_or(0)
}

/// The rotation of a shape by rows, its x along what is drawn of it.
fn lengthwise(g: Geometry, rotation: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let first = if let Geometry::Box { half } = g { longest(half) } else { 0 };
    rotation.map(|row| [0, 1, 2].map(|k| row[(first + k) % 3]))
}

/// What the ground does to the robot at one point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroundForce {
    /// Lowest place of the contact point, metres; below 0, as contact is a penalty on depth.
    pub at: [f64; 3],
    /// Force on the robot, newtons.
    pub force: [f64; 3],
}

/// The points in contact in the state (q, qd), with their forces: those of the first of the next step's substeps.
pub fn ground_forces(task: &Task, q: &[f64], qd: &[f64]) -> Vec<GroundForce> {
    let model = task.model();
    let mut work = Work::<f64, { SIZE.bodies }, { SIZE.velocities }>::new(model);
    let mut forces = Vec::new();
    for (i, link) in model.links.iter().enumerate() {
        body_kinematics(model, i, q, qd, &mut work);
        let body = &work.body[i];
        for contact in &model.contacts[link.contacts.clone()] {
            if let Some((wrench, _)) = point_contact(contact, body, 0.0) {
                let at = body.rot.mul_vec_add(contact.point, body.p) - Vec3::new(0.0, contact.radius, 0.0);
                forces.push(GroundForce { at: at.array(), force: (-wrench.lin).array() });
            }
        }
    }
    forces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_box_is_drawn_along_its_longest_edge() {
        let half = [0.1, 0.3, 0.9];
        let g = Geometry::Box { half };
        let drawn = movie_shape(g, 0);
        assert!((drawn.radius - 0.2).abs() < 1e-6 && (drawn.half_length - 0.7).abs() < 1e-6, "{drawn:?}");
        let turned = Quat::of([0.5, 0.5, 0.5, 0.5]).matrix().0.map(Vec3::array);
        let (x, z) = (lengthwise(g, turned).map(|row| row[0]), turned.map(|row| row[2]));
        assert_eq!(x, z);
    }

    #[test]
    fn forces_are_the_penalty_of_depth_against_the_motion() {
        let task = Task::from_config(&Config::default()).unwrap();
        let (mut q, mut qd) = (task.spec.reset.start.clone(), vec![0.0; task.sizes.nqd]);
        q[1] = 2.0;
        assert_eq!(ground_forces(&task, &q, &qd), [], "in the air");
        // Sunk until something touches, then sliding along x.
        while ground_forces(&task, &q, &qd).is_empty() {
            q[1] -= 1e-3;
        }
        let contact = &task.model().contacts[0];
        for still in ground_forces(&task, &q, &qd) {
            assert!(still.at[1] < 0.0);
            let expected = -still.at[1] * contact.stiffness;
            assert!((still.force[1] - expected).abs() < 1e-6 * expected, "{still:?}");
            assert_eq!([still.force[0], still.force[2]], [0.0; 2], "no motion, no friction");
        }
        qd[3] = 1.0;
        for sliding in ground_forces(&task, &q, &qd) {
            assert!(sliding.force[0] < 0.0 && sliding.force[1] > 0.0, "{sliding:?}");
        }
    }
}
