//! What a file says, whatever the law: a tree of bodies with joints, geoms and sites, and what acts between them.
//!
//! Default classes are resolved and angles are radians. Frames are MuJoCo's: z is up, a capsule lies along its local z;
//! quaternions are (x, y, z, w) as everywhere here. SI units.

use super::frame::Angles;
use super::xml::{Given, MjcfError, Place};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;

/// A file.
#[derive(Clone, Debug)]
pub struct Mjcf {
    pub file: String,
    /// As the attribute `model` has it.
    pub name: Option<String>,
    pub compiler: Compiler,
    pub option: Options,
    /// Depth first; the first is the world.
    pub bodies: Vec<Body>,
    pub actuators: Vec<Actuator>,
    pub tendons: Vec<Tendon>,
    pub excludes: Vec<Exclude>,
    /// Elements of `equality` and explicit pairs of `contact`, which no law here has: what each is, and where.
    pub equalities: Vec<Given<String>>,
    pub pairs: Vec<Given<String>>,
}

/// Where the masses of bodies come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InertiaFromGeom {
    /// From `inertial` where there is one, else from the geoms.
    Auto,
    Always,
    Never,
}

/// How the file is to be read.
#[derive(Clone, Debug)]
pub struct Compiler {
    pub angles: Angles,
    /// Whether a range alone is a limit.
    pub autolimits: bool,
    pub inertia_from_geom: InertiaFromGeom,
    /// Groups whose geoms have mass, the last included.
    pub inertia_groups: [i32; 2],
    /// Masses and inertias are scaled to this sum (kg), if it is positive.
    pub total_mass: f64,
    /// Least mass (kg) and principal inertia (kg m²) of a body that moves.
    pub least_mass: f64,
    pub least_inertia: f64,
    /// Whether inertias that no solid has are made equal instead of refused.
    pub balance_inertia: bool,
    /// Whether frames of free bodies are moved to their centres of mass.
    pub align_free: Given<bool>,
}

/// How a step is integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrator {
    Euler,
    RungeKutta4,
    Implicit,
    ImplicitFast,
}

/// The shape of the friction cone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cone {
    Pyramidal,
    Elliptic,
}

/// The physics of the whole model.
#[derive(Clone, Debug)]
pub struct Options {
    /// s
    pub timestep: Given<f64>,
    /// m/s², z up
    pub gravity: Given<[f64; 3]>,
    /// Of the medium: m/s, kg/m³, Pa s.
    pub wind: Given<[f64; 3]>,
    pub density: Given<f64>,
    pub viscosity: Given<f64>,
    pub integrator: Given<Integrator>,
    pub cone: Given<Cone>,
    pub impratio: Given<f64>,
    /// Attributes that override those of every contact, if one is given: its name.
    pub contact_override: Option<Given<String>>,
    pub flags: Flags,
}

/// What is switched on.
#[derive(Clone, Debug)]
pub struct Flags {
    pub constraint: Given<bool>,
    pub equality: Given<bool>,
    pub frictionloss: Given<bool>,
    pub limit: Given<bool>,
    pub contact: Given<bool>,
    /// Springs and dampers of joints; the older flag `passive` is both.
    pub spring: Given<bool>,
    pub damper: Given<bool>,
    pub gravity: Given<bool>,
    pub clampctrl: Given<bool>,
    /// Whether bodies do not touch their parents.
    pub filterparent: Given<bool>,
    pub actuation: Given<bool>,
    pub eulerdamp: Given<bool>,
    /// Off unless given.
    pub contact_override: Given<bool>,
    pub multiccd: Given<bool>,
}

/// A body; the world is one without parent.
#[derive(Clone, Debug)]
pub struct Body {
    pub place: Place,
    pub name: Option<String>,
    pub parent: Option<usize>,
    /// In the parent's frame, at the reference configuration.
    pub frame: Transform<f64>,
    pub inertial: Option<Inertial>,
    pub joints: Vec<Joint>,
    pub geoms: Vec<Geom>,
    pub sites: Vec<Site>,
    /// Share of gravity that is taken off.
    pub gravcomp: Given<f64>,
    /// Whether it is moved from outside.
    pub mocap: Given<bool>,
}

/// Mass properties as given.
#[derive(Clone, Debug)]
pub struct Inertial {
    pub place: Place,
    /// kg
    pub mass: f64,
    /// Of the centre of mass and the axes of the inertia, in the body.
    pub frame: Transform<f64>,
    /// In those axes, about the centre of mass (kg m²).
    pub inertia: [[f64; 3]; 3],
}

/// How a joint moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointType {
    Free,
    Ball,
    Slide,
    Hinge,
}

/// A joint of a body, which moves it against the frame that its earlier joints leave it in.
#[derive(Clone, Debug)]
pub struct Joint {
    pub place: Place,
    pub name: Option<String>,
    pub kind: JointType,
    /// Anchor in the body (m), and unit axis.
    pub anchor: [f64; 3],
    pub axis: [f64; 3],
    /// Whether `range` holds (rad or m; of a ball from 0 to the second).
    pub limited: bool,
    pub range: Given<[f64; 2]>,
    /// The coordinate at the reference configuration, and at rest of the spring (rad or m).
    pub reference: f64,
    pub springref: f64,
    pub stiffness: Given<f64>,
    pub damping: Given<f64>,
    /// Time constant and damping ratio from which stiffness and damping would follow.
    pub springdamper: Given<[f64; 2]>,
    pub armature: Given<f64>,
    pub frictionloss: Given<f64>,
    pub margin: Given<f64>,
    /// Of the limit and of dry friction.
    pub solref_limit: Given<[f64; 2]>,
    pub solimp_limit: Given<[f64; 5]>,
    pub solref_friction: Given<[f64; 2]>,
    pub solimp_friction: Given<[f64; 5]>,
    /// The forces of actuators are cut to it, if it is given.
    pub actuator_range: Option<Given<[f64; 2]>>,
    pub actuator_gravcomp: Given<bool>,
}

impl Joint {
    /// Where its coordinate 0 leaves the body, seen from where its reference coordinate does: there it has not moved.
    pub(in crate::sim) fn at_zero(&self) -> Transform<f64> {
        let axis = Vec3::<f64>::of(self.axis);
        match self.kind {
            JointType::Hinge if self.reference != 0.0 => {
                Transform { p: Vec3::zero(), q: Quat::about(axis, -self.reference) }
            }
            JointType::Slide => Transform { p: axis.scale(-self.reference), q: Quat::identity() },
            _ => Transform::identity(),
        }
    }
}

/// The shape of a geom or a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeomType {
    Plane,
    HeightField,
    Sphere,
    Capsule,
    Ellipsoid,
    Cylinder,
    Box,
    Mesh,
    SignedDistance,
}

impl GeomType {
    /// As files write it, with how many numbers its size has.
    pub(in crate::sim) const ALL: [(&'static str, Self, usize); 9] = [
        ("plane", Self::Plane, 3),
        ("hfield", Self::HeightField, 0),
        ("sphere", Self::Sphere, 1),
        ("capsule", Self::Capsule, 2),
        ("ellipsoid", Self::Ellipsoid, 3),
        ("cylinder", Self::Cylinder, 2),
        ("box", Self::Box, 3),
        ("mesh", Self::Mesh, 0),
        ("sdf", Self::SignedDistance, 0),
    ];

    /// As files write it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind, _)| *kind == self).map_or("geom", |(name, ..)| name)
    }
}

/// A shape that weighs, touches or only looks.
#[derive(Clone, Debug)]
pub struct Geom {
    pub place: Place,
    pub name: Option<String>,
    pub kind: Given<GeomType>,
    /// Half sizes (m): radius; radius and half length along z; half edges. Those that the kind does not have are 0.
    pub size: [f64; 3],
    /// In the body.
    pub frame: Transform<f64>,
    /// Centres of the two ends, if it was given by them (m); its local z points from the second to the first.
    pub ends: Option<[[f64; 3]; 2]>,
    /// kg, if given, else by density (kg/m³).
    pub mass: Option<Given<f64>>,
    pub density: Given<f64>,
    /// Whether the mass lies on the surface.
    pub shell: Given<bool>,
    pub group: i32,
    pub contype: Given<i32>,
    pub conaffinity: Given<i32>,
    pub condim: Given<i32>,
    pub priority: Given<i32>,
    /// Sliding, torsional (m), rolling (m).
    pub friction: Given<[f64; 3]>,
    pub solmix: Given<f64>,
    pub solref: Given<[f64; 2]>,
    pub solimp: Given<[f64; 5]>,
    pub margin: Given<f64>,
    pub gap: Given<f64>,
    /// Whether the medium acts on the ellipsoid that stands for it.
    pub fluid: Given<bool>,
    /// The asset that it is, or is fitted to.
    pub asset: Option<Given<String>>,
}

/// A place on a body.
#[derive(Clone, Debug)]
pub struct Site {
    pub place: Place,
    pub name: Option<String>,
    pub kind: GeomType,
    pub size: [f64; 3],
    pub frame: Transform<f64>,
}

/// What an actuator acts on: the name of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Transmission {
    Joint(Given<String>),
    JointInParent(Given<String>),
    Tendon(Given<String>),
    /// A site, a body or a slider and crank: the attribute.
    Other(Given<String>),
    None,
}

/// How control becomes force.
#[derive(Clone, Debug, PartialEq)]
pub enum Actuation {
    /// Force `gain ctrl + bias0 + bias1 length + bias2 velocity`.
    Affine { gain: f64, bias: [f64; 3] },
    /// Another kind: what of it is another, as the file has it.
    Other(Given<String>),
}

/// An actuator.
#[derive(Clone, Debug)]
pub struct Actuator {
    pub place: Place,
    /// The element: `motor`, `general`, `position` and so on.
    pub element: String,
    pub name: Option<String>,
    pub transmission: Transmission,
    pub actuation: Actuation,
    pub gear: Given<[f64; 6]>,
    /// What controls are cut to, if they are.
    pub control_range: Option<Given<[f64; 2]>>,
    pub force_range: Option<Given<[f64; 2]>>,
}

/// What a tendon follows.
#[derive(Clone, Debug)]
pub enum Path {
    /// The sum of coordinates of joints by name, each with a factor.
    Fixed(Vec<(Given<String>, f64)>),
    /// A line through sites by name; what else it passes, by its element.
    Spatial { sites: Vec<Given<String>>, wraps: Vec<Given<String>> },
}

/// A tendon.
#[derive(Clone, Debug)]
pub struct Tendon {
    pub place: Place,
    pub name: Option<String>,
    pub path: Path,
    pub limited: bool,
    pub range: Given<[f64; 2]>,
    pub stiffness: Given<f64>,
    pub damping: Given<f64>,
    pub frictionloss: Given<f64>,
    pub armature: Given<f64>,
    /// Between these lengths the spring is slack; -1 is the length at the reference configuration.
    pub springlength: Given<[f64; 2]>,
    pub margin: Given<f64>,
    pub solref_limit: Given<[f64; 2]>,
    pub solimp_limit: Given<[f64; 5]>,
    /// An attribute of dry friction or of forces of actuators, which nothing here reads, if one is given.
    pub other: Option<Given<String>>,
}

/// Two bodies that do not touch, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclude {
    pub bodies: [usize; 2],
}

impl Mjcf {
    /// An error at a place of the file.
    pub fn wrong(&self, place: Place, message: impl Into<String>) -> MjcfError {
        MjcfError { file: self.file.clone(), place, message: message.into() }
    }

    /// Refuses a value that is not as a law needs it, at its place or, where none is given, at `place`.
    pub(in crate::sim) fn refuse<T>(
        &self,
        given: &Given<T>,
        is_right: bool,
        place: Place,
        message: &str,
    ) -> Result<(), MjcfError> {
        if is_right { Ok(()) } else { Err(self.wrong(given.place.unwrap_or(place), message)) }
    }

    /// The body that a body moves as one with, the nearest to the world: itself, if it has a joint.
    pub fn weld_root(&self, body: usize) -> usize {
        let path = std::iter::successors(Some(body), |&b| self.bodies[b].parent);
        path.take_while(|&b| self.bodies[b].joints.is_empty()).last().map_or(body, |b| {
            // The last without a joint: what carries it is the world, or has one.
            self.bodies[b].parent.unwrap_or(b)
        })
    }
}
