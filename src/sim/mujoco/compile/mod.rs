//! A file as a robot under MuJoCo's law: the second lowering of [`Mjcf`].
//!
//! What the law cannot represent, or what was never held against MuJoCo itself, is refused with its line.
//!
//! | file | what |
//! |---|---|
//! | `unverified` | what is refused of the whole file |
//! | `tree` | bodies and joints as links |
//! | `rest` | weights at the reference configuration; what moves what |
//! | `force` | tendons, actuators, the medium |
//! | `constraint` | limits, dry friction, contacts |

mod constraint;
mod force;
mod rest;
mod tree;
mod unverified;

use super::law::Law;
use crate::config::MujocoVersion;
use crate::sim::articulation::{Articulation, Body as Link};
use crate::sim::kinematics::body_kinematics;
use crate::sim::mass::{Inertia, MassProperties};
use crate::sim::mass_matrix::{factorise, mass_matrix};
use crate::sim::mjcf::MjcfError;
use crate::sim::mjcf::model::{Cone, GeomType, JointType, Mjcf};
use crate::sim::model::Model;
use crate::sim::quat::{Quat, Transform};
use crate::sim::size::CLASSES;
use crate::sim::vec3::Vec3;
use crate::sim::weld::{joined, moved};
use crate::sim::work::Work;
use rest::{AtRest, damping_of, leading, path};

type Read<T> = Result<T, MjcfError>;

/// Where something of the file is: in which link, none for the world, and its frame there.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub link: Option<usize>,
    pub frame: Transform<f64>,
}

/// A body of the file.
#[derive(Clone, Debug)]
pub struct BodySeat {
    pub name: Option<String>,
    pub seat: Seat,
    /// In the body's frame.
    pub mass: MassProperties,
    /// Inverse inertia at the reference configuration against translation (1/kg) and rotation (1/(kg m²)).
    pub inverse_weight: [f64; 2],
}

/// A geom or a site of the file.
#[derive(Clone, Debug)]
pub struct ShapeSeat {
    pub name: Option<String>,
    /// Number of its body in the file.
    pub body: usize,
    pub kind: GeomType,
    /// Half sizes (m), as in [`crate::sim::mjcf::model::Geom`].
    pub size: [f64; 3],
    pub seat: Seat,
}

/// A joint of the file: its first coordinate and velocity.
#[derive(Clone, Debug)]
pub struct JointSeat {
    pub name: Option<String>,
    pub kind: JointType,
    pub q: usize,
    pub dof: usize,
    /// Whether it has limits, and where (rad or m).
    pub range: Option<[f64; 2]>,
}

/// A robot under this law, with what its file says beside the law.
#[derive(Clone, Debug)]
pub struct System {
    /// Its first slides lead from where it stands at the reference configuration: see [`Law::base`].
    pub robot: Articulation,
    pub law: Law<f64>,
    /// Coordinates at the reference configuration (m, rad, quaternions (x, y, z, w)).
    pub start: Vec<f64>,
    /// The world first.
    pub bodies: Vec<BodySeat>,
    pub joints: Vec<JointSeat>,
    pub geoms: Vec<ShapeSeat>,
    pub sites: Vec<ShapeSeat>,
    /// Names of actuators, in order.
    pub actuators: Vec<Option<String>>,
    /// Inverse inertia of each dof at the reference configuration [1/kg or 1/(kg m²)].
    pub dof_weights: Vec<f64>,
}

/// Below this numbers do not divide.
const TINY: f64 = 1e-15;

const LARGEST: crate::sim::Size = CLASSES[CLASSES.len() - 1];
type LargestWork = Work<f64, { LARGEST.bodies }, { LARGEST.velocities }>;

impl Mjcf {
    /// The robot under MuJoCo's law.
    ///
    /// # Errors
    /// The first thing that cannot be represented, with its place and what to do.
    pub fn compile(&self, version: MujocoVersion) -> Read<System> {
        self.refuse_unverified()?;
        let masses = self.masses()?;
        let mut c = Compiling { file: self, links: vec![], seats: vec![], start: vec![], joints: vec![] };
        for (i, body) in self.bodies.iter().enumerate() {
            c.body(i, body)?;
        }
        for (seat, &mass) in c.seats.iter().zip(&masses) {
            let Some(link) = seat.link else { continue };
            let here = moved(mass, seat.frame);
            let sum = c.links[link].inertial.map_or(here, |m| joined(m, here));
            c.links[link].inertial = Some(sum);
        }
        c.finish(masses, version)
    }
}

struct Compiling<'a> {
    file: &'a Mjcf,
    links: Vec<Link>,
    seats: Vec<Seat>,
    start: Vec<f64>,
    joints: Vec<JointSeat>,
}

impl Compiling<'_> {
    fn finish(self, masses: Vec<MassProperties>, version: MujocoVersion) -> Read<System> {
        let file = self.file;
        let mut gravity = file.option.gravity.value;
        if !file.option.flags.gravity.value {
            gravity = [0.0; 3];
        }
        let robot = Articulation {
            name: file.name.clone().unwrap_or_else(|| file.file.clone()),
            bodies: self.links.clone(),
            gravity,
            ground: false,
        };
        if self.dofs() == 0 {
            return Err(file.wrong(file.bodies[0].place, "nothing moves here\n  give a body a joint"));
        }
        robot.validate().map_err(|e| file.wrong(file.bodies[0].place, e.to_string()))?;
        let model = Model::<f64>::new(&robot, Inertia::Exact);
        let mut w = LargestWork::new(&model);
        let rest = vec![0.0; model.velocities];
        (0..model.links.len()).for_each(|i| body_kinematics(&model, i, &self.start, &rest, &mut w));
        mass_matrix(&model, &mut w);
        factorise(&model, &mut w);
        if !w.pivot[..model.velocities].iter().all(|p| p.is_finite() && *p > 0.0) {
            let message = "a joint moves nothing that has mass and inertia\n  give its body a geom, or the joint an \
                           `armature`";
            return Err(file.wrong(file.bodies[0].place, message));
        }
        let at_rest = AtRest { model: &model, w: &w };

        let dof_weights = at_rest.dof_weights(&self.joints);
        let paths: Vec<Vec<usize>> = (0..self.links.len()).map(|i| path(&model, i)).collect();
        let bodies: Vec<BodySeat> = (file.bodies.iter().zip(&self.seats).zip(masses).enumerate())
            .map(|(i, ((body, &seat), mass))| {
                let slides_alone = body.joints.iter().all(|j| j.kind == JointType::Slide)
                    && mass.com.norm() < TINY
                    && !file.bodies.iter().any(|b| b.parent == Some(i));
                let inverse_weight = match seat.link {
                    Some(_) if version == MujocoVersion::V312 && slides_alone && !body.joints.is_empty() => {
                        [1.0 / mass.mass, 0.0]
                    }
                    Some(link) => at_rest.body_weights(
                        link,
                        &paths[link],
                        seat.frame * Transform { p: mass.com, q: Quat::identity() },
                    ),
                    None => [0.0; 2],
                };
                BodySeat { name: body.name.clone(), seat, mass, inverse_weight }
            })
            .collect();
        let shape = |body: usize, name: &Option<String>, kind, size, frame: Transform<f64>| {
            let seat = Seat { link: self.seats[body].link, frame: self.seats[body].frame * frame };
            ShapeSeat { name: name.clone(), body, kind, size, seat }
        };
        let geoms: Vec<ShapeSeat> = file
            .geoms()
            .map(|id| (id.body, file.geom(id)))
            .map(|(b, g)| shape(b, &g.name, g.kind.value, g.size, g.frame))
            .collect();
        let sites: Vec<ShapeSeat> = (file.bodies.iter().enumerate())
            .flat_map(|(b, body)| body.sites.iter().map(move |s| (b, s)))
            .map(|(b, s)| shape(b, &s.name, s.kind, s.size, s.frame))
            .collect();

        let (limits, frictions) = self.joint_rows(&dof_weights)?;
        let tendons = self.tendons(&sites, &paths, &at_rest)?;
        let actuators = self.actuators()?;
        let pairs = self.pairs(&bodies, &geoms, &paths)?;
        let dampings: Vec<f64> = damping_of(&model);
        let h = file.option.timestep.value;
        let damped = file.option.flags.eulerdamp.value && dampings.iter().any(|&d| d > 0.0);
        let planar = at_rest.is_planar(&pairs);
        // From here on all is seen from the body that all others hang on.
        let lead = leading(&model, &self.seats);
        let base = lead.iter().fold(Vec3::zero(), |sum, &i| sum + model.links[i].position);
        let along = lead.iter().map(|&i| (model.links[i].q, model.links[i].axis)).collect();
        let mut robot = robot;
        lead.iter().for_each(|&i| robot.bodies[i].joint.frame.p = Vec3::zero());
        let law = Law {
            timestep: h,
            integrator: file.option.integrator.value,
            implicit: damped.then(|| dampings.iter().map(|d| h * d).collect()),
            limits,
            frictions,
            tendons,
            actuators,
            drags: self.drags(&bodies),
            elliptic: file.option.cone.value == Cone::Elliptic,
            lead: along,
            base,
            planar,
            pairs,
            model: Model::new(&robot, Inertia::Exact),
        };
        let names = file.actuators.iter().map(|a| a.name.clone()).collect();
        Ok(System {
            robot,
            law,
            start: self.start,
            bodies,
            joints: self.joints,
            geoms,
            sites,
            actuators: names,
            dof_weights,
        })
    }
}

impl System {
    /// The same law in the number type `T`.
    pub fn law_in<T: crate::sim::SimScalar>(&self) -> Law<T> {
        self.law.cast(Model::new(&self.robot, Inertia::Exact))
    }
}
