//! Shapes of the Ant in a given state, in world coordinates, for a viewer.

use super::{Ant, BODIES, NQ, NQD};
use crate::sim::articulation::Geometry;
use crate::sim::kinematics::body_kinematics;
use crate::sim::{Quat, Transform, Vec3, Work};

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
pub fn bodies_for_drawing(ant: &Ant, q: &[f64; NQ]) -> Vec<DrawnShape> {
    let model = ant.model();
    let mut work = Work::<f64, BODIES, NQD>::new(model);
    let mut shapes = Vec::new();
    for (i, body) in ant.robot.bodies.iter().enumerate() {
        body_kinematics(model, i, q, &[0.0; NQD], &mut work);
        let frame = Transform { p: work.body[i].p, q: work.body[i].q };
        for shape in &body.shapes {
            let Transform { p, q } = frame * shape.frame;
            let rotation = Quat::matrix(q).0.map(Vec3::array);
            shapes.push(DrawnShape { body: i, geometry: shape.geometry, centre: p.array(), rotation });
        }
    }
    shapes
}
