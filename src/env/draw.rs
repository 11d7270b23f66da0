//! Shapes of a robot in a given state and the forces of the ground on it, in world coordinates, for a viewer.

use super::mujoco::reading::look;
use super::{Law, MujocoTask, Task};
use crate::draw::viewer::MovieShape;
use crate::sim::articulation::{Articulation, Geometry};
use crate::sim::contact::point_contact;
use crate::sim::kinematics::body_kinematics;
use crate::sim::mjcf::model::GeomType;
use crate::sim::mujoco::compile::ShapeSeat;
use crate::sim::mujoco::law::Meeting;
use crate::sim::size::{CLASSES, Size};
use crate::sim::{Mat3, Model, Quat, Transform, Vec3, Work};

/// Any robot has room here.
const SIZE: Size = CLASSES[CLASSES.len() - 1];
type LargestWork = Work<f64, { SIZE.bodies }, { SIZE.velocities }>;

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
    match &task.law {
        Law::Dflex(law) => shapes_of(&task.spec.robot, law.model(), q),
        Law::Mujoco(law) => geoms_at(law, q),
    }
}

/// World axes with z up as those with y up.
fn y_up(v: Vec3<f64>) -> Vec3<f64> {
    Vec3::new(v.x, v.z, -v.y)
}

/// What a geom is drawn as, and which of its axes lie along x, y and z of that. A plane is not drawn; what is neither
/// sphere, capsule nor box is its box.
fn drawn(geom: &ShapeSeat) -> Option<(Geometry, [usize; 3])> {
    let [x, y, z] = geom.size;
    Some(match geom.kind {
        GeomType::Plane => return None,
        GeomType::Sphere => (Geometry::Sphere { radius: x }, [0, 1, 2]),
        GeomType::Capsule => (Geometry::Capsule { radius: x, half_length: y }, [2, 0, 1]),
        GeomType::Cylinder => (Geometry::Box { half: [x, x, y] }, [0, 1, 2]),
        _ => (Geometry::Box { half: [x, y, z] }, [0, 1, 2]),
    })
}

/// The geoms that are drawn: those that move first. Where a task has a place as its goal, that is drawn instead of what
/// stands in the world.
fn drawn_geoms(task: &MujocoTask) -> impl Iterator<Item = &ShapeSeat> {
    let geoms = &task.spec.system.geoms;
    let fixed = geoms.iter().filter(|g| g.seat.link.is_none() && !has_place(task));
    geoms.iter().filter(|g| g.seat.link.is_some()).chain(fixed)
}

/// Whether the goal of a task begins with a place.
fn has_place(task: &MujocoTask) -> bool {
    task.spec.start.goal.len() >= 3
}

/// A goal as it is drawn.
const GOAL: Geometry = Geometry::Sphere { radius: 0.02 };

/// The geoms of a task at the coordinates `q`.
fn geoms_at(task: &MujocoTask, q: &[f64]) -> Vec<DrawnShape> {
    let system = &task.spec.system;
    let mut work = LargestWork::new(&system.law.model);
    look(&system.law, q, &[0.0; SIZE.velocities], &mut work);
    let far = system.law.far(q);
    let at = |geom: &ShapeSeat| {
        let (geometry, axes) = drawn(geom)?;
        let link =
            geom.seat.link.map_or(Transform::identity(), |l| Transform { p: work.body[l].p + far, q: work.body[l].q });
        let Transform { p, q } = link * geom.seat.frame;
        let columns = axes.map(|k| y_up(q.matrix().column(k)).array());
        let rotation = [0, 1, 2].map(|row| [0, 1, 2].map(|k| columns[k][row]));
        Some(DrawnShape { body: geom.body, geometry, centre: y_up(p).array(), rotation })
    };
    let mut shapes: Vec<DrawnShape> = drawn_geoms(task).filter_map(at).collect();
    if has_place(task) {
        let centre = y_up(Vec3::read(&q[system.law.model.coordinates..])).array();
        shapes.push(DrawnShape { body: 0, geometry: GOAL, centre, rotation: Mat3::identity().0.map(Vec3::array) });
    }
    shapes
}

/// The shapes of a task's robot as a movie has them.
pub fn task_movie_shapes(task: &Task) -> Vec<MovieShape> {
    match &task.law {
        Law::Dflex(_) => movie_shapes(&task.spec.robot),
        Law::Mujoco(law) => {
            let system = &law.spec.system;
            let above = |link: usize| system.law.model.links[link].parent;
            let depth = |link: Option<usize>| std::iter::successors(link, |&l| above(l)).count();
            let shapes = drawn_geoms(law).filter_map(|g| Some((drawn(g)?.0, depth(g.seat.link))));
            let goal = has_place(law).then_some((GOAL, usize::MAX));
            let first = system.geoms.iter().filter_map(|g| g.seat.link).map(|l| depth(Some(l))).min().unwrap_or(0);
            shapes.chain(goal).map(|(g, d)| movie_shape(g, d.saturating_sub(first))).collect()
        }
    }
}

/// Where they are for the coordinates `q`: see [`movie_poses`].
pub fn task_movie_poses(task: &Task, q: &[f64]) -> Vec<f32> {
    bodies_for_drawing(task, q).into_iter().flat_map(movie_pose).collect()
}

/// Weight of a task's robot (N); of one without gravity as on Earth.
pub fn weight(task: &Task) -> f64 {
    let model = match &task.law {
        Law::Dflex(law) => law.model(),
        Law::Mujoco(law) => &law.spec.system.law.model,
    };
    let mass: f64 = model.links.iter().map(|l| l.mass).sum();
    let gravity = model.gravity.norm();
    mass * if gravity > 0.0 { gravity } else { 9.81 }
}

/// All shapes of a robot, which `model` is compiled from, for the coordinates `q`.
fn shapes_of(robot: &Articulation, model: &Model<f64>, q: &[f64]) -> Vec<DrawnShape> {
    let mut work = LargestWork::new(model);
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
    shapes_of(robot, model, q).into_iter().flat_map(movie_pose).collect()
}

fn movie_pose(s: DrawnShape) -> impl Iterator<Item = f32> {
    let Quat { v, w } = Quat::of_matrix(lengthwise(s.geometry, s.rotation));
    s.centre.into_iter().chain(v.array()).chain([w]).map(|x| x as f32)
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

/// The points in contact in the state (q, qd), with their forces: those of the first of the next step's substeps; under
/// MuJoCo's law the normal forces of planes without control.
pub fn ground_forces(task: &Task, q: &[f64], qd: &[f64]) -> Vec<GroundForce> {
    let model = match &task.law {
        Law::Dflex(law) => law.model(),
        Law::Mujoco(law) => return plane_forces(law, q, qd),
    };
    let mut work = LargestWork::new(model);
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

fn plane_forces(task: &MujocoTask, q: &[f64], qd: &[f64]) -> Vec<GroundForce> {
    let of_plane = |(at, force, pair): (Vec3<f64>, Vec3<f64>, usize)| {
        let law = &task.spec.system.law;
        let is_plane = matches!(law.pairs[pair].meeting, Meeting::PlaneSphere { .. } | Meeting::PlaneCapsule { .. });
        is_plane.then(|| GroundForce { at: y_up(at).array(), force: y_up(force).array() })
    };
    task.normal_forces(q, qd).into_iter().filter_map(of_plane).collect()
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
        let (mut q, mut qd) = (task.dflex().spec.reset.start.clone(), vec![0.0; task.sizes.nqd]);
        q[1] = 2.0;
        assert_eq!(ground_forces(&task, &q, &qd), [], "in the air");
        // Sunk until something touches, then sliding along x.
        while ground_forces(&task, &q, &qd).is_empty() {
            q[1] -= 1e-3;
        }
        let contact = &task.dflex().model().contacts[0];
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
