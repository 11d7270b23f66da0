//! A robot as data: bodies in tree order, each with one joint to its parent and a list of shapes.
//!
//! Everything is stated in `f64`, SI units and radians; mass, inertia and contact points follow from the shapes
//! ([`super::mass`]), unless a body has an inertia of its own. [`super::Model`] is the same robot rounded to the number
//! type it is simulated in.

use super::mass::{Inertia, MassProperties, mass_properties};
use super::quat::{Quat, Transform};
use super::size::Size;
use super::vec3::Vec3;

/// How a joint moves; the numbers of its coordinates (q, qd) are (7, 6), (4, 3), (1, 1), (1, 1), (0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointKind {
    /// q: world position and quaternion (x, y, z, w); qd: the world twist (ω, v). Only of a root, in the world's frame.
    Free,
    /// q: the unit quaternion (x, y, z, w) of the body in the joint frame; qd: its angular velocity relative to the
    /// parent, in the axes of the joint frame (rad/s). Damping, armature and actuation for each axis; no springs.
    Ball,
    /// Rotation about the axis (rad).
    Hinge,
    /// Translation along the axis (m).
    Slide,
    /// Rigid connection.
    Fixed,
}

impl JointKind {
    pub fn coordinates(self) -> usize {
        match self {
            Self::Free => 7,
            Self::Ball => 4,
            Self::Hinge | Self::Slide => 1,
            Self::Fixed => 0,
        }
    }
    pub fn velocities(self) -> usize {
        match self {
            Self::Free => 6,
            Self::Ball => 3,
            Self::Hinge | Self::Slide => 1,
            Self::Fixed => 0,
        }
    }
}

/// The connection of a body to its parent.
#[derive(Clone, Copy, Debug)]
pub struct Joint {
    pub kind: JointKind,
    /// Joint frame in the parent's body frame; of a root, in the world. The identity, if the joint is free.
    pub frame: Transform<f64>,
    /// Unit axis in the joint frame (hinge, slide).
    pub axis: Vec3<f64>,
    pub lower: f64,
    pub upper: f64,
    /// Spring at the limits [N m/rad or N/m] (hinge, slide), and the damping that acts always, inside the limits too.
    pub limit_stiffness: f64,
    pub limit_damping: f64,
    /// Drive towards `target`: spring (hinge, slide) and damping.
    pub drive_stiffness: f64,
    pub drive_damping: f64,
    pub target: f64,
    /// Added to the diagonal of the mass matrix.
    pub armature: f64,
}

impl Joint {
    /// A free joint at the world origin: no drive, no limits, no armature.
    pub fn free() -> Self {
        Self {
            kind: JointKind::Free,
            frame: Transform::identity(),
            axis: Vec3::zero(),
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
            limit_stiffness: 0.0,
            limit_damping: 0.0,
            drive_stiffness: 0.0,
            drive_damping: 0.0,
            target: 0.0,
            armature: 0.0,
        }
    }

    /// A rigid connection: `frame` is that of the body in its parent, or in the world.
    pub fn fixed(frame: Transform<f64>) -> Self {
        Self { kind: JointKind::Fixed, frame, ..Self::free() }
    }

    /// A hinge about or a slide along `axis`, which may have any length: no drive, no limits, no armature.
    pub fn simple(kind: JointKind, frame: Transform<f64>, axis: [f64; 3]) -> Self {
        let axis = Vec3::<f64>::of(axis);
        Self { kind, frame, axis: axis.scale(1.0 / axis.norm()), ..Self::free() }
    }
}

/// Penalty ground contact: stiffness [N/m], damping [N s/m²], friction viscosity [N s/m], friction coefficient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Material {
    pub stiffness: f64,
    pub damping: f64,
    pub viscosity: f64,
    pub friction: f64,
}

/// Solid shapes (m). A capsule's long axis is its local x; `half_length` reaches to the centres of its end spheres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Geometry {
    Sphere { radius: f64 },
    Capsule { radius: f64, half_length: f64 },
    Box { half: [f64; 3] },
}

/// One shape on a body.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub geometry: Geometry,
    /// Shape frame in the body frame.
    pub frame: Transform<f64>,
    /// kg/m³
    pub density: f64,
    pub material: Material,
    /// Whether it can touch the ground.
    pub touches: bool,
}

impl Shape {
    pub fn sphere(centre: [f64; 3], radius: f64, density: f64, material: Material) -> Self {
        Self { geometry: Geometry::Sphere { radius }, frame: Transform::at(centre), density, material, touches: true }
    }

    /// The box with these half edges, along the axes of its body.
    pub fn cuboid(centre: [f64; 3], half: [f64; 3], density: f64, material: Material) -> Self {
        Self { geometry: Geometry::Box { half }, frame: Transform::at(centre), density, material, touches: true }
    }

    /// The capsule whose end spheres are centred at `from` and `to`.
    pub fn capsule(from: [f64; 3], to: [f64; 3], radius: f64, density: f64, material: Material) -> Self {
        let (a, b) = (Vec3::<f64>::of(from), Vec3::of(to));
        let along = b - a;
        let length = along.norm();
        let frame = Transform { p: (a + b).scale(0.5), q: x_axis_to(along.scale(1.0 / length)) };
        Self {
            geometry: Geometry::Capsule { radius, half_length: 0.5 * length },
            frame,
            density,
            material,
            touches: true,
        }
    }

    /// Points that touch the ground first, in the body frame, each with a radius: sphere centre, the two end-sphere
    /// centres of a capsule (-x first), the eight corners of a box.
    pub fn contact_points(&self) -> Vec<(Vec3<f64>, f64)> {
        let at = |x: f64, y: f64, z: f64| self.frame.q.rotate(Vec3::new(x, y, z)) + self.frame.p;
        match self.geometry {
            Geometry::Sphere { radius } => vec![(self.frame.p, radius)],
            Geometry::Capsule { radius, half_length: h } => vec![(at(-h, 0.0, 0.0), radius), (at(h, 0.0, 0.0), radius)],
            Geometry::Box { half: [x, y, z] } => (0..8)
                .map(|k| {
                    let sign = |bit: usize| if k & bit == 0 { -1.0 } else { 1.0 };
                    (at(sign(1) * x, sign(2) * y, sign(4) * z), 0.0)
                })
                .collect(),
        }
    }
}

/// The shortest rotation carrying the x axis onto the unit vector `d`.
fn x_axis_to(d: Vec3<f64>) -> Quat<f64> {
    let x = Vec3::new(1.0, 0.0, 0.0);
    if d.x < -1.0 + 1e-12 {
        // Opposite: any axis across will do.
        return Quat::new(0.0, 0.0, 1.0, 0.0);
    }
    Quat { v: x.cross(d), w: 1.0 + d.x }.normalised()
}

/// A rigid body and the joint that carries it.
#[derive(Clone, Debug)]
pub struct Body {
    pub name: String,
    /// Index of the parent, smaller than the body's own; `None` is the world.
    pub parent: Option<usize>,
    pub joint: Joint,
    pub shapes: Vec<Shape>,
    /// Mass properties that do not follow from the shapes.
    pub inertial: Option<MassProperties>,
}

impl Body {
    /// Its mass properties: its own, or those of its shapes.
    pub fn mass_properties(&self, how: Inertia) -> MassProperties {
        self.inertial.unwrap_or_else(|| mass_properties(&self.shapes, how))
    }
}

/// Gravity on Earth, as the published environments have it (m/s²).
pub const EARTH: [f64; 3] = [0.0, -9.81, 0.0];

/// A tree of bodies over the ground plane y = 0 (y is up).
#[derive(Clone, Debug)]
pub struct Articulation {
    pub name: String,
    pub bodies: Vec<Body>,
    /// m/s²
    pub gravity: [f64; 3],
    /// Whether the bodies touch the ground, or pass through it.
    pub ground: bool,
}

/// A point of a body that can touch the ground.
#[derive(Clone, Copy, Debug)]
pub struct ContactPoint {
    pub body: usize,
    /// Shape number, counted over the whole robot.
    pub shape: usize,
    /// In the body frame.
    pub point: Vec3<f64>,
    pub radius: f64,
    pub material: Material,
}

/// Why a robot cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RobotError {
    #[error("body {body} comes before its parent, or is its own")]
    Order { body: String },
    #[error("the free joint of body {body} {problem}")]
    Free { body: String, problem: &'static str },
    #[error("the ball joint of body {body} has limits or a drive: only its damping can be chosen")]
    Spring { body: String },
    #[error("the axis of the joint of body {body} is no unit vector")]
    Axis { body: String },
    #[error("{has} {what}, but there is room for {room}")]
    TooLarge { what: &'static str, has: usize, room: usize },
}

impl Articulation {
    /// Checks that the bodies are in tree order, that every joint is one that the dynamics know, and that the robot has
    /// room in one of the [size classes](super::size).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), RobotError> {
        for (i, b) in self.bodies.iter().enumerate() {
            let (body, j) = (b.name.clone(), &b.joint);
            if b.parent.is_some_and(|p| p >= i) {
                return Err(RobotError::Order { body });
            }
            match j.kind {
                JointKind::Free if b.parent.is_some() => {
                    return Err(RobotError::Free { body, problem: "hangs on another body: only a root can be free" });
                }
                JointKind::Free if j.frame.p.array() != [0.0; 3] || j.frame.q.v.array() != [0.0; 3] => {
                    let problem = "has a frame of its own: its coordinates are the world's";
                    return Err(RobotError::Free { body, problem });
                }
                JointKind::Free if j.armature != 0.0 => {
                    return Err(RobotError::Free { body, problem: "has an armature: nothing drives it" });
                }
                JointKind::Ball if j.limit_stiffness != 0.0 || j.drive_stiffness != 0.0 => {
                    return Err(RobotError::Spring { body });
                }
                JointKind::Hinge | JointKind::Slide if (j.axis.norm() - 1.0).abs() > 1e-9 => {
                    return Err(RobotError::Axis { body });
                }
                _ => {}
            }
        }
        Size::of(self, 0).class().map(|_| ())
    }

    /// First index of each joint in (q, qd), one entry more than there are bodies.
    pub fn offsets(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut q, mut qd) = (vec![0], vec![0]);
        for (i, body) in self.bodies.iter().enumerate() {
            q.push(q[i] + body.joint.kind.coordinates());
            qd.push(qd[i] + body.joint.kind.velocities());
        }
        (q, qd)
    }

    /// All contact points: shapes in order of creation, body after body. None without a ground, nor of a shape that
    /// does not touch it.
    pub fn contact_points(&self) -> Vec<ContactPoint> {
        if !self.ground {
            return vec![];
        }
        let shapes = self.bodies.iter().enumerate().flat_map(|(b, body)| body.shapes.iter().map(move |s| (b, s)));
        shapes
            .enumerate()
            .filter(|(_, (_, s))| s.touches)
            .flat_map(|(shape, (body, s))| {
                s.contact_points().into_iter().map(move |(point, radius)| ContactPoint {
                    body,
                    shape,
                    point,
                    radius,
                    material: s.material,
                })
            })
            .collect()
    }
}
