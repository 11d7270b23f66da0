//! A robot and all that acts on it in one number type: what [`super::compile`] makes of a file.

use super::size::MOST_COORDINATES;
use crate::device::Scalar;
pub use crate::sim::mjcf::model::Integrator;
use crate::sim::model::Model;
use crate::sim::vec3::{Mat3, Vec3};
use crate::sim::work::Work;

/// How a constraint gives way, from MuJoCo's `solref` and `solimp`.
#[derive(Clone, Copy, Debug)]
pub struct Softness<S> {
    /// Stiffness [1/s²] and damping [1/s] of the acceleration that a violation calls for.
    pub stiffness: S,
    pub damping: S,
    /// Impedance at the surface and at `width` behind it, and the shape of what is between.
    pub at_surface: S,
    pub inside: S,
    pub width: S,
    pub midpoint: S,
    pub power: u32,
}

/// A row for each side of a coordinate's range.
#[derive(Clone, Copy, Debug)]
pub struct JointLimit<S> {
    pub q: usize,
    pub dof: usize,
    pub range: [S; 2],
    pub softness: Softness<S>,
    /// Inverse inertia of the coordinate at the reference configuration [1/kg or 1/(kg m²)].
    pub weight: S,
}

/// Dry friction of a coordinate.
#[derive(Clone, Copy, Debug)]
pub struct DryFriction<S> {
    pub dof: usize,
    /// The most that it holds against [N m or N].
    pub loss: S,
    pub softness: Softness<S>,
    /// As of a limit.
    pub weight: S,
}

/// A point on a link; on the world where there is none, seen from its origin (m).
#[derive(Clone, Copy, Debug)]
pub struct Point<S> {
    pub link: Option<usize>,
    pub at: Vec3<S>,
}

/// What a tendon's length is.
#[derive(Clone, Debug)]
pub enum Length<S> {
    /// A sum of coordinates (q, dof), each with a factor.
    Fixed(Vec<(usize, usize, S)>),
    /// The distance of two points, and the dofs that move them apart, each with whether it moves the second.
    Distance([Point<S>; 2], Vec<(usize, bool)>),
}

/// A tendon.
#[derive(Clone, Debug)]
pub struct Tendon<S> {
    pub length: Length<S>,
    /// Spring (N/m), and its length at rest (m); of a sum of angles N m/rad and rad.
    pub stiffness: S,
    pub rest: S,
    pub limit: Option<([S; 2], Softness<S>)>,
    /// Inverse inertia of its length at the reference configuration [1/kg or 1/(kg m²)].
    pub weight: S,
}

/// What an actuator pulls.
#[derive(Clone, Copy, Debug)]
pub enum Pulled {
    Joint { q: usize, dof: usize },
    Tendon(usize),
}

/// An actuator: force `gain ctrl + bias0 + bias1 length` on `gear` times the length of what it pulls [N or N m].
#[derive(Clone, Copy, Debug)]
pub struct Actuator<S> {
    pub pulled: Pulled,
    pub gear: S,
    pub gain: S,
    pub bias: [S; 2],
    /// What the control is cut to.
    pub range: Option<[S; 2]>,
}

/// The box that a body is to the medium.
#[derive(Clone, Copy, Debug)]
pub struct Drag<S> {
    pub link: usize,
    /// Centre of mass in the link, and the axes of the box by columns.
    pub com: Vec3<S>,
    pub axes: Mat3<S>,
    /// Of a velocity along each axis [N s²/m²], and of a rate about it [N m s²].
    pub force: Vec3<S>,
    pub torque: Vec3<S>,
}

/// Two geoms that may touch. Points are centres; a capsule reaches `half` to both sides along its axis.
#[derive(Clone, Copy, Debug)]
pub struct Round<S> {
    pub centre: Point<S>,
    /// Unit axis in the link; of a sphere anything.
    pub axis: Vec3<S>,
    pub half: S,
    pub radius: S,
}

/// How two geoms meet.
#[derive(Clone, Copy, Debug)]
pub enum Meeting<S> {
    /// A plane fixed to the world, by its normal and the height of its surface along that, and a sphere.
    PlaneSphere {
        normal: Vec3<S>,
        height: S,
        ball: Round<S>,
    },
    PlaneCapsule {
        normal: Vec3<S>,
        height: S,
        capsule: Round<S>,
    },
    Spheres(Round<S>, Round<S>),
    SphereCapsule(Round<S>, Round<S>),
    Capsules(Round<S>, Round<S>),
}

/// A pair of geoms with the constants of their contacts.
#[derive(Clone, Debug)]
pub struct Pair<S> {
    pub meeting: Meeting<S>,
    /// The geoms by their numbers in the file.
    pub geoms: [usize; 2],
    /// Dofs that move the two against each other, each with whether it moves the second.
    pub dofs: Vec<(usize, bool)>,
    /// Coefficient of sliding friction.
    pub friction: S,
    pub softness: Softness<S>,
    /// Sum of the inverse masses of the two bodies at the reference configuration (1/kg).
    pub weight: S,
}

/// A robot, what acts on it, and how time is cut up.
#[derive(Clone, Debug)]
pub struct Law<S> {
    pub model: Model<S>,
    /// s
    pub timestep: S,
    pub integrator: Integrator,
    /// Damping of each dof times the time step, which Euler's method takes at the end of the step; none if no dof has
    /// damping.
    pub implicit: Option<Vec<S>>,
    pub limits: Vec<JointLimit<S>>,
    pub frictions: Vec<DryFriction<S>>,
    pub tendons: Vec<Tendon<S>>,
    pub actuators: Vec<Actuator<S>>,
    pub drags: Vec<Drag<S>>,
    pub pairs: Vec<Pair<S>>,
    /// Whether friction is a cone, or a pyramid of four sides.
    pub elliptic: bool,
    /// Whether everything moves in the plane y = const: contacts slide along one direction then.
    pub planar: bool,
    /// Where the body that all others hang on is: `base`, moved along each of these axes by a coordinate. All is computed
    /// from there, so that neither height nor distance costs precision.
    pub lead: Vec<(usize, Vec3<S>)>,
    pub base: Vec3<S>,
}

/// Links of a robot in a state, seen from where the body is that all others hang on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, S, const B: usize, const D: usize> {
    pub work: &'a Work<S, B, D>,
    /// Of [`Law::far`].
    pub far: Vec3<S>,
}

impl<S: Scalar> Law<S> {
    /// Where the body is that all others hang on, in the world (m).
    #[inline(always)]
    pub fn far(&self, q: &[S]) -> Vec3<S> {
        let mut far = self.base;
        for &(at, axis) in &self.lead {
            far = axis.scale_add(q[at], far);
        }
        far
    }

    /// The coordinates as they are seen from there; those that lead to it are 0.
    #[inline(always)]
    pub fn near(&self, q: &[S]) -> [S; MOST_COORDINATES] {
        let mut near = [S::zero(); MOST_COORDINATES];
        near[..self.model.coordinates].copy_from_slice(&q[..self.model.coordinates]);
        for &(at, _) in &self.lead {
            near[at] = S::zero();
        }
        near
    }

    /// Rows that its constraints are at most.
    pub fn most_rows(&self) -> usize {
        let each = |p: &Pair<S>| {
            let in_plane = self.planar && !matches!(p.meeting, Meeting::Capsules(..));
            let (pyramid, cone) = if in_plane { (3, 2) } else { (4, 3) };
            p.meeting.contacts() * if self.elliptic { cone } else { pyramid }
        };
        let tendons = self.tendons.iter().filter(|t| t.limit.is_some()).count();
        self.frictions.len() + self.limits.len() + tendons + self.pairs.iter().map(each).sum::<usize>()
    }

    /// Contacts that there are at most: none is ever left out.
    pub fn most_contacts(&self) -> usize {
        self.pairs.iter().map(|p| p.meeting.contacts()).sum()
    }
}

impl<S> Meeting<S> {
    /// Contacts of the two at most.
    pub fn contacts(&self) -> usize {
        match self {
            Self::PlaneSphere { .. } | Self::Spheres(..) | Self::SphereCapsule(..) => 1,
            Self::PlaneCapsule { .. } | Self::Capsules(..) => 2,
        }
    }
}

impl Law<f64> {
    /// Rounded to the number type `T`; `model` is its robot in that type.
    pub fn cast<T: Scalar>(&self, model: Model<T>) -> Law<T> {
        let vec = |v: Vec3<f64>| Vec3::of(v.array());
        let two = |r: [f64; 2]| r.map(T::of);
        let softness = |s: &Softness<f64>| Softness {
            stiffness: T::of(s.stiffness),
            damping: T::of(s.damping),
            at_surface: T::of(s.at_surface),
            inside: T::of(s.inside),
            width: T::of(s.width),
            midpoint: T::of(s.midpoint),
            power: s.power,
        };
        let point = |p: &Point<f64>| Point { link: p.link, at: vec(p.at) };
        let round = |r: &Round<f64>| Round {
            centre: point(&r.centre),
            axis: vec(r.axis),
            half: T::of(r.half),
            radius: T::of(r.radius),
        };
        let meeting = |m: &Meeting<f64>| match m {
            Meeting::PlaneSphere { normal, height, ball } => {
                Meeting::PlaneSphere { normal: vec(*normal), height: T::of(*height), ball: round(ball) }
            }
            Meeting::PlaneCapsule { normal, height, capsule } => {
                Meeting::PlaneCapsule { normal: vec(*normal), height: T::of(*height), capsule: round(capsule) }
            }
            Meeting::Spheres(a, b) => Meeting::Spheres(round(a), round(b)),
            Meeting::SphereCapsule(a, b) => Meeting::SphereCapsule(round(a), round(b)),
            Meeting::Capsules(a, b) => Meeting::Capsules(round(a), round(b)),
        };
        let length = |l: &Length<f64>| match l {
            Length::Fixed(terms) => Length::Fixed(terms.iter().map(|&(q, dof, c)| (q, dof, T::of(c))).collect()),
            Length::Distance(ends, dofs) => Length::Distance(ends.each_ref().map(point), dofs.clone()),
        };
        Law {
            model,
            timestep: T::of(self.timestep),
            integrator: self.integrator,
            implicit: self.implicit.as_ref().map(|d| d.iter().map(|&x| T::of(x)).collect()),
            limits: (self.limits.iter())
                .map(|l| JointLimit {
                    q: l.q,
                    dof: l.dof,
                    range: two(l.range),
                    softness: softness(&l.softness),
                    weight: T::of(l.weight),
                })
                .collect(),
            frictions: (self.frictions.iter())
                .map(|f| DryFriction {
                    dof: f.dof,
                    loss: T::of(f.loss),
                    softness: softness(&f.softness),
                    weight: T::of(f.weight),
                })
                .collect(),
            tendons: (self.tendons.iter())
                .map(|t| Tendon {
                    length: length(&t.length),
                    stiffness: T::of(t.stiffness),
                    rest: T::of(t.rest),
                    limit: t.limit.as_ref().map(|(range, s)| (two(*range), softness(s))),
                    weight: T::of(t.weight),
                })
                .collect(),
            actuators: (self.actuators.iter())
                .map(|a| Actuator {
                    pulled: a.pulled,
                    gear: T::of(a.gear),
                    gain: T::of(a.gain),
                    bias: two(a.bias),
                    range: a.range.map(two),
                })
                .collect(),
            drags: (self.drags.iter())
                .map(|d| Drag {
                    link: d.link,
                    com: vec(d.com),
                    axes: Mat3::of(d.axes.0.map(Vec3::array)),
                    force: vec(d.force),
                    torque: vec(d.torque),
                })
                .collect(),
            pairs: (self.pairs.iter())
                .map(|p| Pair {
                    meeting: meeting(&p.meeting),
                    geoms: p.geoms,
                    dofs: p.dofs.clone(),
                    friction: T::of(p.friction),
                    softness: softness(&p.softness),
                    weight: T::of(p.weight),
                })
                .collect(),
            elliptic: self.elliptic,
            planar: self.planar,
            lead: self.lead.iter().map(|&(q, axis)| (q, vec(axis))).collect(),
            base: vec(self.base),
        }
    }
}
