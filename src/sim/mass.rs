//! Mass, centre of mass and inertia of a body from its shapes (kg, m, kg m²; inertia about the centre of mass, body
//! axes).

use super::articulation::{Geometry, Shape};
use super::vec3::{Mat3, Vec3};
use std::f64::consts::PI;

pub use crate::config::Inertia;

/// Mass properties of one body.
#[derive(Clone, Copy, Debug)]
pub struct MassProperties {
    pub mass: f64,
    pub com: Vec3<f64>,
    pub inertia: [[f64; 3]; 3],
}

/// Mass and principal inertia of one solid in its own frame.
fn solid(geometry: Geometry, density: f64) -> (f64, [f64; 3]) {
    match geometry {
        Geometry::Sphere { radius: r } => {
            let m = density * 4.0 / 3.0 * PI * r.powi(3);
            (m, [0.4 * m * r * r; 3])
        }
        Geometry::Capsule { radius: r, half_length } => {
            let l = 2.0 * half_length;
            let ms = density * 4.0 / 3.0 * PI * r.powi(3);
            let mc = density * PI * r * r * l;
            let along = (0.5 * mc + 0.4 * ms) * r * r;
            let across = mc * (0.25 * r * r + l * l / 12.0) + ms * (0.4 * r * r + 0.375 * r * l + 0.25 * l * l);
            (ms + mc, [along, across, across])
        }
        Geometry::Box { half } => {
            let [w, h, d] = half.map(|x| 2.0 * x);
            let m = density * w * h * d;
            (m, [m / 12.0 * (h * h + d * d), m / 12.0 * (w * w + d * d), m / 12.0 * (w * w + h * h)])
        }
    }
}

/// `rotation (given as matrix) applied to the inertia`, right or as the reference does it.
fn rotate(r: Mat3<f64>, i: Mat3<f64>, how: Inertia) -> Mat3<f64> {
    match how {
        Inertia::Exact => r.mul(&i).mul(&r.transpose()),
        Inertia::Reference => {
            let (a, b, c) = (r.0, i.0, r.transpose().0);
            let row =
                |k: usize| Vec3::new(a[k].x * b[k].x * c[k].x, a[k].y * b[k].y * c[k].y, a[k].z * b[k].z * c[k].z);
            Mat3([row(0), row(1), row(2)])
        }
    }
}

/// Steiner's term of a mass displaced by `d`: `m (|d|² 1 - d dᵀ)`.
fn steiner(m: f64, d: Vec3<f64>) -> Mat3<f64> {
    let s = Mat3::skew(d);
    s.mul(&s).scale(-m)
}

/// Shapes accumulated one after the other; no shapes, no mass.
pub fn mass_properties(shapes: &[Shape], how: Inertia) -> MassProperties {
    let (mut mass, mut com, mut inertia) = (0.0, Vec3::zero(), Mat3::zero());
    for shape in shapes {
        let (m, principal) = solid(shape.geometry, shape.density);
        let [x, y, z] = principal;
        let own = Mat3::of([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]);
        let p = shape.frame.p;
        let total = mass + m;
        let centre = (com.scale(mass) + p.scale(m)).scale(1.0 / total);
        inertia = rotate(Mat3::identity(), inertia, how)
            .add(&steiner(mass, centre - com))
            .add(&rotate(shape.frame.q.matrix(), own, how))
            .add(&steiner(m, centre - p));
        (mass, com) = (total, centre);
    }
    MassProperties { mass, com, inertia: inertia.0.map(Vec3::array) }
}
