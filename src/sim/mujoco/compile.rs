//! A file as a robot under MuJoCo's law: the second lowering of [`Mjcf`].
//!
//! What the law cannot represent, or what was never held against MuJoCo itself, is refused with its line.

use super::law::{
    Actuator, Drag, DryFriction, JointLimit, Law, Length, Meeting, Pair, Point, Pulled, Round, Softness, Tendon,
};
use crate::sim::articulation::{Articulation, Body as Link, Joint, JointKind};
use crate::sim::kinematics::body_kinematics;
use crate::sim::mass::{Inertia, MassProperties};
use crate::sim::mass_matrix::{factorise, mass_matrix, solve};
use crate::sim::mjcf::mass::principal;
use crate::sim::mjcf::model::{
    Actuation, Body, Cone, Geom, GeomType, Integrator, Joint as FileJoint, JointType, Mjcf, Path, Transmission,
};
use crate::sim::mjcf::touch::GeomId;
use crate::sim::mjcf::{Given, MjcfError, Place};
use crate::sim::model::Model;
use crate::sim::quat::{Quat, Transform};
use crate::sim::size::CLASSES;
use crate::sim::vec3::{Mat3, Vec3};
use crate::sim::weld::{joined, moved};
use crate::sim::work::Work;

type Read<T> = Result<T, MjcfError>;

/// Of which version of MuJoCo the constants are: one differs, and with it every contact of what only slides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 2.3.1, with which the published scores were made.
    #[default]
    V231,
    /// 3.1.2 and later.
    V312,
}

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
    /// Inverse inertia of each dof at the reference configuration.
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
    pub fn compile(&self, version: Version) -> Read<System> {
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

    fn refuse_given<T>(&self, given: &Given<T>, is_right: bool, place: Place, message: &str) -> Read<()> {
        if is_right { Ok(()) } else { Err(self.wrong(given.place.unwrap_or(place), message)) }
    }

    /// What no system has that the law was held against.
    fn refuse_unverified(&self) -> Read<()> {
        let (o, f, here) = (&self.option, &self.option.flags, self.bodies[0].place);
        let known = matches!(o.integrator.value, Integrator::Euler | Integrator::RungeKutta4);
        let message = "this law is integrated by `Euler` and `RK4` alone\n  choose one of them";
        self.refuse_given(&o.integrator, known, here, message)?;
        self.refuse_given(&o.wind, o.wind.value == [0.0; 3], here, "there is no wind here\n  leave `wind` out")?;
        let message = "a medium resists by its density alone here\n  leave `viscosity` out";
        self.refuse_given(&o.viscosity, o.viscosity.value == 0.0, here, message)?;
        let message = "`impratio` is 1 in this law\n  leave it out";
        self.refuse_given(&o.impratio, o.impratio.value == 1.0, here, message)?;
        let message = "contacts have the constants of their geoms here\n  leave the override out";
        self.refuse_given(&f.contact_override, !f.contact_override.value, here, message)?;
        let message = "`multiccd` is for shapes that this law does not know\n  leave it out";
        self.refuse_given(&f.multiccd, !f.multiccd.value, here, message)?;
        let align = &self.compiler.align_free;
        let message = "`alignfree` cannot be represented\n  move the frames of free bodies instead";
        self.refuse_given(align, !align.value, here, message)?;
        if f.constraint.value {
            let listed = [
                (&self.equalities, f.equality.value, "equality constraints"),
                (&self.pairs, f.contact.value, "explicit pairs"),
            ];
            for (list, on, what) in listed {
                if let (Some(first), true) = (list.first(), on) {
                    let message = format!("`{}`: this law has no {what}\n  leave it out", first.value);
                    return Err(self.wrong(first.place.unwrap_or(here), message));
                }
            }
        }
        for body in &self.bodies {
            if let Some(inertial) = &body.inertial {
                let message = "`inertial`: masses follow from geoms in this law\n  give the geoms `mass` or `density`";
                return Err(self.wrong(inertial.place, message));
            }
            let message = "nothing takes gravity off a body in this law\n  leave `gravcomp` out";
            self.refuse_given(&body.gravcomp, body.gravcomp.value == 0.0, body.place, message)?;
            let message = "nothing moves a body from outside here\n  leave `mocap` out";
            self.refuse_given(&body.mocap, !body.mocap.value, body.place, message)?;
            for geom in &body.geoms {
                let message = "a body is a box to the medium here\n  leave `fluidshape` out";
                self.refuse_given(&geom.fluid, !geom.fluid.value, geom.place, message)?;
            }
        }
        Ok(())
    }

    fn softness(&self, solref: &Given<[f64; 2]>, solimp: &Given<[f64; 5]>, place: Place) -> Read<Softness<f64>> {
        self.softness_of(solref.value, solimp.value, solref.place.or(solimp.place).unwrap_or(place))
    }

    /// From time constant and damping ratio, and the five numbers of an impedance.
    fn softness_of(&self, [time, ratio]: [f64; 2], solimp: [f64; 5], place: Place) -> Read<Softness<f64>> {
        if time <= 0.0 || ratio <= 0.0 {
            let message = "a constraint is given by time constant and damping ratio here\n  both are above 0";
            return Err(self.wrong(place, message));
        }
        let [first, last, width, middle, power] = solimp;
        let bounded = |x: f64| x.clamp(1e-4, 0.9999);
        let (first, last, middle, power) = (bounded(first), bounded(last), bounded(middle), power.max(1.0));
        if power.fract() != 0.0 || power > 16.0 {
            return Err(self.wrong(place, "the power of an impedance is a whole number from 1 to 16 here"));
        }
        let time = time.max(2.0 * self.option.timestep.value);
        let stiffness = 1.0 / (last * last * time * time * ratio * ratio);
        let damping = 2.0 / (last * time);
        let mut s = Softness {
            stiffness,
            damping,
            at_surface: first,
            inside: last,
            width,
            midpoint: middle,
            power: power as u32,
        };
        if first == last || width <= TINY {
            (s.at_surface, s.inside, s.width) = (0.5 * (first + last), 0.5 * (first + last), 1.0);
        }
        Ok(s)
    }
}

/// Limits and dry friction of joints.
type JointRows = (Vec<JointLimit<f64>>, Vec<DryFriction<f64>>);

struct Compiling<'a> {
    file: &'a Mjcf,
    links: Vec<Link>,
    seats: Vec<Seat>,
    start: Vec<f64>,
    joints: Vec<JointSeat>,
}

impl Compiling<'_> {
    fn link(&mut self, name: String, parent: Option<usize>, joint: Joint) -> usize {
        let at = Some(MassProperties { mass: 0.0, com: Vec3::zero(), inertia: [[0.0; 3]; 3] });
        self.links.push(Link { name, parent, joint, shapes: vec![], inertial: at });
        self.links.len() - 1
    }

    /// Adds the links of a body, one for each joint; a body without joints is part of what carries it.
    fn body(&mut self, i: usize, body: &Body) -> Read<()> {
        let carrier = body.parent.map_or(Seat { link: None, frame: Transform::identity() }, |p| self.seats[p]);
        let here = carrier.frame * body.frame;
        let name = |k: usize, joint: &FileJoint| {
            let last = k + 1 == body.joints.len();
            let own = if last { body.name.clone() } else { None };
            own.or_else(|| joint.name.clone()).unwrap_or_else(|| format!("body_{i}_joint_{k}"))
        };
        let (mut frame, mut link, mut anchor) = (here, carrier.link, Vec3::zero());
        for (k, joint) in body.joints.iter().enumerate() {
            self.check(body, joint)?;
            let (q, dof) = (self.start.len(), self.dofs());
            let range = (joint.limited && self.limits_hold()).then_some(joint.range.value);
            self.joints.push(JointSeat { name: joint.name.clone(), kind: joint.kind, q, dof, range });
            if joint.kind == JointType::Free {
                for (axis, along) in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].into_iter().zip("xyz".chars())
                {
                    let slide = Joint::simple(JointKind::Slide, Transform::identity(), axis);
                    link = Some(self.link(format!("{}_{along}", name(k, joint)), link, slide));
                }
                let ball = Joint { kind: JointKind::Ball, ..Joint::free() };
                link = Some(self.link(name(k, joint), link, ball));
                let mut turn = [0.0; 4];
                here.q.write(&mut turn);
                self.start.extend(here.p.array().into_iter().chain(turn));
                frame = Transform::identity();
                continue;
            }
            let at = Vec3::of(joint.anchor);
            let step = Transform { p: at - anchor, q: Quat::identity() };
            anchor = at;
            let (axis, reference) = (Vec3::<f64>::of(joint.axis), joint.reference);
            // At the reference coordinate the joint has not moved yet.
            let (kind, back) = match joint.kind {
                JointType::Slide => (JointKind::Slide, Transform { p: axis.scale(-reference), q: Quat::identity() }),
                _ if reference == 0.0 => (JointKind::Hinge, Transform::identity()),
                _ => (JointKind::Hinge, Transform { p: Vec3::zero(), q: Quat::about(axis, -reference) }),
            };
            self.start.push(reference);
            let f = &self.file.option.flags;
            let on = |switch: &Given<bool>, x: &Given<f64>| if switch.value { x.value } else { 0.0 };
            let stiffness = on(&f.spring, &joint.stiffness);
            let lowered = Joint {
                drive_stiffness: stiffness,
                drive_damping: on(&f.damper, &joint.damping),
                target: if stiffness == 0.0 { 0.0 } else { joint.springref },
                armature: joint.armature.value,
                axis,
                ..Joint::simple(kind, frame * step * back, joint.axis)
            };
            link = Some(self.link(name(k, joint), link, lowered));
            frame = Transform::identity();
        }
        let frame = if body.joints.is_empty() { here } else { Transform { p: -anchor, q: Quat::identity() } };
        self.seats.push(Seat { link, frame });
        Ok(())
    }

    fn dofs(&self) -> usize {
        self.links.iter().map(|l| l.joint.kind.velocities()).sum()
    }

    fn limits_hold(&self) -> bool {
        self.file.option.flags.limit.value && self.file.option.flags.constraint.value
    }

    fn check(&self, body: &Body, j: &FileJoint) -> Read<()> {
        let file = self.file;
        let refuse = |given: &Given<f64>, message: &str| file.refuse_given(given, given.value == 0.0, j.place, message);
        let message = "stiffness and damping do not follow from time constants here\n  write `stiffness` and `damping`";
        file.refuse_given(&j.springdamper, j.springdamper.value == [0.0; 2], j.place, message)?;
        if let Some(range) = &j.actuator_range {
            let message = "forces of actuators are not cut here\n  choose the control range accordingly";
            return Err(file.wrong(range.place.unwrap_or(j.place), message));
        }
        let message = "actuators do not take gravity off here\n  leave `actuatorgravcomp` out";
        file.refuse_given(&j.actuator_gravcomp, !j.actuator_gravcomp.value, j.place, message)?;
        refuse(&j.margin, "a limit begins at its range here\n  leave `margin` out")?;
        match j.kind {
            JointType::Hinge | JointType::Slide => return Ok(()),
            JointType::Ball => {
                return Err(file.wrong(j.place, "this law has no ball joints\n  take a hinge for each axis"));
            }
            JointType::Free => {}
        }
        if body.parent != Some(0) || body.joints.len() != 1 {
            return Err(file.wrong(j.place, "a free joint is the only one of a body that hangs on the world"));
        }
        if file.option.integrator.value == Integrator::RungeKutta4 {
            let place = file.option.integrator.place.unwrap_or(j.place);
            return Err(file.wrong(place, "`RK4` is for hinges and slides here\n  take `Euler`, or no free joint"));
        }
        for (name, given) in [
            ("stiffness", &j.stiffness),
            ("damping", &j.damping),
            ("armature", &j.armature),
            ("frictionloss", &j.frictionloss),
        ] {
            refuse(given, &format!("a free joint has no {name} here\n  leave it out"))?;
        }
        Ok(())
    }

    fn finish(self, masses: Vec<MassProperties>, version: Version) -> Read<System> {
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
                    Some(_) if version == Version::V312 && slides_alone && !body.joints.is_empty() => {
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
        let planar = model.links.iter().all(|l| {
            let axis = l.rotation.map_or(l.axis, |turn| turn.rotate(l.axis));
            match l.kind {
                JointKind::Hinge => axis.x == 0.0 && axis.z == 0.0 && in_plane(l.rotation),
                JointKind::Slide => axis.y == 0.0 && in_plane(l.rotation),
                JointKind::Fixed => in_plane(l.rotation),
                JointKind::Free | JointKind::Ball => false,
            }
        }) && pairs.iter().all(|p| normals_in_plane(&p.meeting));
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
            rails: rails(&model, &pairs, &self.joints),
            planar,
            pairs,
            model,
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

    fn joint_rows(&self, weights: &[f64]) -> Read<JointRows> {
        let (file, f) = (self.file, &self.file.option.flags);
        let (mut limits, mut frictions) = (vec![], vec![]);
        for (joint, seat) in file.bodies.iter().flat_map(|b| &b.joints).zip(&self.joints) {
            let weight = weights[seat.dof];
            if let Some(range) = seat.range {
                if range[0] >= range[1] {
                    let message = "the first number of a range is below the second";
                    return Err(file.wrong(joint.range.place.unwrap_or(joint.place), message));
                }
                let softness = file.softness(&joint.solref_limit, &joint.solimp_limit, joint.place)?;
                limits.push(JointLimit { q: seat.q, dof: seat.dof, range, softness, weight });
            }
            if joint.frictionloss.value > 0.0 && f.frictionloss.value && f.constraint.value {
                let softness = file.softness(&joint.solref_friction, &joint.solimp_friction, joint.place)?;
                frictions.push(DryFriction { dof: seat.dof, loss: joint.frictionloss.value, softness, weight });
            }
        }
        Ok((limits, frictions))
    }

    /// The hinge or slide that a name means.
    fn single(&self, name: &Given<String>, place: Place) -> Read<&JointSeat> {
        let at = name.place.unwrap_or(place);
        let Some(seat) = self.joints.iter().find(|j| j.name.as_ref() == Some(&name.value)) else {
            let names = self.joints.iter().filter_map(|j| j.name.as_deref());
            let near = crate::config::nearest(&name.value, names)
                .map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
            return Err(self.file.wrong(at, format!("there is no joint `{}`{near}", name.value)));
        };
        if !matches!(seat.kind, JointType::Hinge | JointType::Slide) {
            return Err(self.file.wrong(at, "only hinges and slides have one coordinate\n  take a hinge or a slide"));
        }
        Ok(seat)
    }

    fn tendons(&self, sites: &[ShapeSeat], paths: &[Vec<usize>], at_rest: &AtRest) -> Read<Vec<Tendon<f64>>> {
        let file = self.file;
        let mut all = vec![];
        for t in &file.tendons {
            for (name, given) in [
                ("damping", &t.damping),
                ("frictionloss", &t.frictionloss),
                ("armature", &t.armature),
                ("margin", &t.margin),
            ] {
                let message = format!("a tendon has no {name} here\n  leave it out");
                file.refuse_given(given, given.value == 0.0, t.place, &message)?;
            }
            if let Some(other) = &t.other {
                let message = format!("a tendon has no `{}` here\n  leave it out", other.value);
                return Err(file.wrong(other.place.unwrap_or(t.place), message));
            }
            let length = match &t.path {
                Path::Fixed(terms) => Length::Fixed(
                    (terms.iter())
                        .map(|(name, factor)| self.single(name, t.place).map(|s| (s.q, s.dof, *factor)))
                        .collect::<Read<_>>()?,
                ),
                Path::Spatial { sites: names, wraps } => {
                    if let Some(wrap) = wraps.first() {
                        let message =
                            format!("a tendon passes no `{}` here: it is a line between two sites", wrap.value);
                        return Err(file.wrong(wrap.place.unwrap_or(t.place), message));
                    }
                    let [a, b] = &names[..] else {
                        return Err(file.wrong(t.place, "a tendon is a line between two sites here\n  name two"));
                    };
                    let end = |name: &Given<String>| {
                        let found = sites.iter().find(|s| s.name.as_ref() == Some(&name.value));
                        let place = name.place.unwrap_or(t.place);
                        let s = found.ok_or_else(|| file.wrong(place, format!("there is no site `{}`", name.value)))?;
                        Ok(Point { link: s.seat.link, at: s.seat.frame.p })
                    };
                    let ends = [end(a)?, end(b)?];
                    let dofs = apart(ends[0].link, ends[1].link, paths);
                    Length::Distance(ends, dofs)
                }
            };
            let mut row = [0.0; LARGEST.velocities];
            let own = super::rows::tendon_length(&length, &self.start, at_rest.w, &mut row);
            let rest = match t.springlength.value {
                [a, b] if a < 0.0 && b <= a => self.at_spring(&length, at_rest).unwrap_or(own),
                [a, b] if a == b => a,
                _ => {
                    let message =
                        "the spring of a tendon has one length at rest here\n  give `springlength` one number";
                    return Err(file.wrong(t.springlength.place.unwrap_or(t.place), message));
                }
            };
            let lower = t.limited && t.range.value[0] > 0.0;
            if lower && self.limits_hold() {
                let place = t.range.place.unwrap_or(t.place);
                return Err(file.wrong(place, "a tendon is not kept from getting short here\n  begin its range with 0"));
            }
            let limit = match t.limited && self.limits_hold() {
                true => Some((t.range.value, file.softness(&t.solref_limit, &t.solimp_limit, t.place)?)),
                false => None,
            };
            let weight = at_rest.inverse(&row);
            all.push(Tendon { length, stiffness: t.stiffness.value, rest, limit, weight });
        }
        Ok(all)
    }

    /// The length of a tendon where all springs of joints rest; of one between sites only if no joint has such a place.
    fn at_spring(&self, length: &Length<f64>, at_rest: &AtRest) -> Option<f64> {
        let mut q = self.start.clone();
        for (joint, seat) in self.file.bodies.iter().flat_map(|b| &b.joints).zip(&self.joints) {
            if matches!(joint.kind, JointType::Hinge | JointType::Slide) {
                q[seat.q] = joint.springref;
            }
        }
        let mut w = *at_rest.w;
        let rest = vec![0.0; at_rest.model.velocities];
        (0..at_rest.model.links.len()).for_each(|i| body_kinematics(at_rest.model, i, &q, &rest, &mut w));
        Some(super::rows::tendon_length(length, &q, &w, &mut [0.0; LARGEST.velocities]))
    }

    fn actuators(&self) -> Read<Vec<Actuator<f64>>> {
        let file = self.file;
        if !file.option.flags.actuation.value {
            return Ok(vec![]);
        }
        let mut all = vec![];
        for a in &file.actuators {
            let (gain, bias) = match &a.actuation {
                Actuation::Affine { gain, bias: [constant, length, 0.0] } => (*gain, [*constant, *length]),
                Actuation::Affine { .. } => {
                    let message =
                        format!("`{}`: forces do not depend on velocity here\n  give the joint `damping`", a.element);
                    return Err(file.wrong(a.place, message));
                }
                Actuation::Other(what) => {
                    let message = format!("an actuator with {} cannot be represented\n  take a `motor`", what.value);
                    return Err(file.wrong(what.place.unwrap_or(a.place), message));
                }
            };
            let pulled = match &a.transmission {
                Transmission::Joint(joint) | Transmission::JointInParent(joint) => {
                    let seat = self.single(joint, a.place)?;
                    Pulled::Joint { q: seat.q, dof: seat.dof }
                }
                Transmission::Tendon(name) => {
                    let at = file.tendons.iter().position(|t| t.name.as_ref() == Some(&name.value));
                    let place = name.place.unwrap_or(a.place);
                    Pulled::Tendon(at.ok_or_else(|| file.wrong(place, format!("there is no tendon `{}`", name.value)))?)
                }
                Transmission::Other(at) => {
                    let message =
                        format!("nothing is driven through a `{}` here\n  name a joint or a tendon", at.value);
                    return Err(file.wrong(at.place.unwrap_or(a.place), message));
                }
                Transmission::None => return Err(file.wrong(a.place, "this actuator acts on nothing")),
            };
            if let Some(range) = &a.force_range {
                let message = "forces of actuators are not cut here\n  leave the force range out";
                return Err(file.wrong(range.place.unwrap_or(a.place), message));
            }
            let rest = a.gear.value[1..].iter().all(|x| *x == 0.0);
            file.refuse_given(&a.gear, rest, a.place, "what is pulled has one length\n  give `gear` one number")?;
            let range = a.control_range.as_ref().map(|r| r.value).filter(|_| file.option.flags.clampctrl.value);
            all.push(Actuator { pulled, gear: a.gear.value[0], gain, bias, range });
        }
        Ok(all)
    }

    /// What the medium does to each body with mass.
    fn drags(&self, bodies: &[BodySeat]) -> Vec<Drag<f64>> {
        let density = self.file.option.density.value;
        if density == 0.0 {
            return vec![];
        }
        let heavy = bodies.iter().filter(|b| b.mass.mass > 0.0);
        heavy
            .filter_map(|b| {
                let link = b.seat.link?;
                let (moments, axes) = principal(b.mass.inertia);
                let sum: f64 = moments.iter().sum();
                let side = |i: usize| ((6.0 * (sum - 2.0 * moments[i])).max(TINY) / b.mass.mass).sqrt();
                let s = [side(0), side(1), side(2)];
                let across = |i: usize| [s[(i + 1) % 3], s[(i + 2) % 3]];
                let force = [0, 1, 2].map(|i| 0.5 * density * across(i)[0] * across(i)[1]);
                let torque = [0, 1, 2].map(|i| {
                    let [j, k] = across(i).map(|x| x.powi(4));
                    density * s[i] * (j + k) / 64.0
                });
                let turn = b.seat.frame.q.matrix();
                let com = b.seat.frame.q.rotate(b.mass.com) + b.seat.frame.p;
                Some(Drag { link, com, axes: turn.mul(&axes), force: Vec3::of(force), torque: Vec3::of(torque) })
            })
            .collect()
    }

    fn pairs(&self, bodies: &[BodySeat], seats: &[ShapeSeat], paths: &[Vec<usize>]) -> Read<Vec<Pair<f64>>> {
        let file = self.file;
        let all: Vec<GeomId> = file.geoms().collect();
        let mut pairs = vec![];
        for (n, &a) in all.iter().enumerate() {
            for (m, &b) in all.iter().enumerate().skip(n + 1) {
                if !file.may_touch(a, b) {
                    continue;
                }
                // The first is the one of the simpler kind.
                let order = |g: &Geom| GeomType::ALL.iter().position(|(_, kind, _)| *kind == g.kind.value);
                let swapped = order(file.geom(b)) < order(file.geom(a));
                let (first, second) = if swapped { (m, n) } else { (n, m) };
                let (ga, gb) = (file.geom(all[first]), file.geom(all[second]));
                let meeting = self.meeting(ga, gb, &seats[first], &seats[second])?;
                let friction = self.contact(ga, gb)?;
                let mean2 = |x: [f64; 2], y: [f64; 2]| [0, 1].map(|i| 0.5 * (x[i] + y[i]));
                let solref = mean2(ga.solref.value, gb.solref.value);
                let solimp = [0, 1, 2, 3, 4].map(|i| 0.5 * (ga.solimp.value[i] + gb.solimp.value[i]));
                let place = gb.solref.place.or(gb.solimp.place).unwrap_or(gb.place);
                let softness = file.softness_of(solref, solimp, place)?;
                let links = [first, second].map(|g| seats[g].seat.link);
                let weight = [first, second].iter().map(|&g| bodies[seats[g].body].inverse_weight[0]).sum();
                let dofs = apart(links[0], links[1], paths);
                pairs.push(Pair { meeting, geoms: [first, second], dofs, friction, softness, weight });
            }
        }
        Ok(pairs)
    }

    /// The coefficient of friction of two geoms.
    fn contact(&self, a: &Geom, b: &Geom) -> Read<f64> {
        let file = self.file;
        for g in [a, b] {
            let message = "a contact slides in this law, and does nothing else\n  make `condim` 3";
            file.refuse_given(&g.condim, g.condim.value == 3, g.place, message)?;
            let message = "contacts have no priorities here\n  leave `priority` out";
            file.refuse_given(&g.priority, g.priority.value == 0, g.place, message)?;
            for (name, x) in [("margin", &g.margin), ("gap", &g.gap)] {
                let message = format!("`{name}`: contact begins at the surface here\n  leave it out");
                file.refuse_given(x, x.value == 0.0, g.place, &message)?;
            }
        }
        let message = "two geoms that touch are mixed in equal parts here\n  leave `solmix` out";
        file.refuse_given(&b.solmix, a.solmix.value == b.solmix.value, b.place, message)?;
        Ok(a.friction.value[0].max(b.friction.value[0]).max(1e-5))
    }

    fn meeting(&self, a: &Geom, b: &Geom, at: &ShapeSeat, bt: &ShapeSeat) -> Read<Meeting<f64>> {
        let up = Vec3::new(0.0, 0.0, 1.0);
        let round = |g: &Geom, s: &ShapeSeat| {
            let half = if g.kind.value == GeomType::Capsule { g.size[1] } else { 0.0 };
            let centre = Point { link: s.seat.link, at: s.seat.frame.p };
            Round { centre, axis: s.seat.frame.q.rotate(up), half, radius: g.size[0] }
        };
        let kinds = [a.kind.value, b.kind.value];
        Ok(match kinds {
            [GeomType::Plane, other @ (GeomType::Sphere | GeomType::Capsule)] if at.seat.link.is_none() => {
                let normal = at.seat.frame.q.rotate(up);
                let height = normal.dot(at.seat.frame.p);
                let shape = round(b, bt);
                match other {
                    GeomType::Sphere => Meeting::PlaneSphere { normal, height, ball: shape },
                    _ => Meeting::PlaneCapsule { normal, height, capsule: shape },
                }
            }
            [GeomType::Sphere, GeomType::Sphere] => Meeting::Spheres(round(a, at), round(b, bt)),
            [GeomType::Sphere, GeomType::Capsule] => Meeting::SphereCapsule(round(a, at), round(b, bt)),
            [GeomType::Capsule, GeomType::Capsule] => Meeting::Capsules(round(a, at), round(b, bt)),
            [one, other] => {
                let message = format!(
                    "this {} may touch the {} of line {}: planes of the world, spheres and capsules touch here\n  take one \
                     of those, or keep the two apart by `contype` and `conaffinity`",
                    other.name(),
                    one.name(),
                    a.place.line
                );
                return Err(self.file.wrong(b.place, message));
            }
        })
    }
}

/// The robot at its reference configuration.
struct AtRest<'a> {
    model: &'a Model<f64>,
    /// Its mass matrix is factorised.
    w: &'a LargestWork,
}

impl AtRest<'_> {
    /// `J M⁻¹ Jᵀ` of a row.
    fn inverse(&self, row: &[f64; LARGEST.velocities]) -> f64 {
        let mut x = *row;
        solve(self.model, &self.w.factor, &self.w.pivot, &mut x);
        x.iter().zip(row).map(|(a, b)| a * b).sum()
    }

    /// Diagonal of M⁻¹; of a free joint the means of translation and of rotation.
    fn dof_weights(&self, joints: &[JointSeat]) -> Vec<f64> {
        let of = |dof: usize| {
            let mut row = [0.0; LARGEST.velocities];
            row[dof] = 1.0;
            self.inverse(&row)
        };
        let mut weights: Vec<f64> = (0..self.model.velocities).map(of).collect();
        for joint in joints.iter().filter(|j| j.kind == JointType::Free) {
            for first in [joint.dof, joint.dof + 3] {
                let mean = weights[first..first + 3].iter().sum::<f64>() / 3.0;
                weights[first..first + 3].fill(mean);
            }
        }
        weights
    }

    /// Means over three directions of the inverse inertia of a link at a point of it, against translation and rotation.
    fn body_weights(&self, link: usize, path: &[usize], at: Transform<f64>) -> [f64; 2] {
        let b = &self.w.body[link];
        let point = b.rot.mul_vec_add(at.p, b.p);
        let mut sums = [0.0; 2];
        for k in 0..3 {
            let direction = Mat3::<f64>::identity().column(k);
            let mut rows = [[0.0; LARGEST.velocities]; 2];
            for &dof in path {
                let axis = &self.w.axis[dof];
                rows[0][dof] = direction.dot(axis.ang.cross_add(point, axis.lin));
                rows[1][dof] = direction.dot(axis.ang);
            }
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum += self.inverse(row) / 3.0;
            }
        }
        sums
    }
}

/// Dofs that move a link.
fn path(model: &Model<f64>, link: usize) -> Vec<usize> {
    let mut dofs = vec![];
    let mut at = Some(link);
    while let Some(i) = at {
        let l = &model.links[i];
        dofs.extend(l.qd..l.qd + l.kind.velocities());
        at = l.parent;
    }
    dofs.sort_unstable();
    dofs
}

/// Dofs that move one link against the other, each with whether it moves the second.
fn apart(first: Option<usize>, second: Option<usize>, paths: &[Vec<usize>]) -> Vec<(usize, bool)> {
    let of = |link: Option<usize>| link.map_or(&[][..], |l| &paths[l]);
    let (a, b) = (of(first), of(second));
    let only = |x: &[usize], y: &[usize], moves_second| {
        x.iter().filter(|d| !y.contains(d)).map(|&d| (d, moves_second)).collect::<Vec<_>>()
    };
    let mut all = [only(a, b, false), only(b, a, true)].concat();
    all.sort_unstable();
    all
}

fn damping_of(model: &Model<f64>) -> Vec<f64> {
    model.links.iter().flat_map(|l| std::iter::repeat_n(l.damping, l.kind.velocities())).collect()
}

/// Whether a frame is turned about y alone.
fn in_plane(turn: Option<Quat<f64>>) -> bool {
    turn.is_none_or(|q| q.v.x == 0.0 && q.v.z == 0.0)
}

/// Whether the normals of a contact lie in the plane y = 0, as those of shapes in it do.
fn normals_in_plane(meeting: &Meeting<f64>) -> bool {
    let round = |r: &Round<f64>| r.centre.at.y == 0.0 && (r.half == 0.0 || r.axis.y == 0.0);
    match meeting {
        Meeting::PlaneSphere { normal, .. } | Meeting::PlaneCapsule { normal, .. } => normal.y == 0.0,
        Meeting::Spheres(a, b) | Meeting::SphereCapsule(a, b) | Meeting::Capsules(a, b) => round(a) && round(b),
    }
}

/// Coordinates of slides that move a whole robot along planes, without limits or springs.
fn rails(model: &Model<f64>, pairs: &[Pair<f64>], joints: &[JointSeat]) -> Vec<usize> {
    let one_tree = model.links.iter().filter(|l| l.parent.is_none()).count() == 1;
    let mut leading = vec![];
    let mut at = model.links.first().filter(|_| one_tree);
    while let Some(link) = at.filter(|l| l.kind == JointKind::Slide && l.rotation.is_none()) {
        leading.push(link);
        at = model.links.get(leading.len()).filter(|l| l.parent == Some(leading.len() - 1));
    }
    let along_all = |axis: Vec3<f64>| {
        pairs.iter().all(|p| match &p.meeting {
            Meeting::PlaneSphere { normal, .. } | Meeting::PlaneCapsule { normal, .. } => normal.dot(axis) == 0.0,
            Meeting::Spheres(a, b) | Meeting::SphereCapsule(a, b) | Meeting::Capsules(a, b) => {
                a.centre.link.is_some() && b.centre.link.is_some()
            }
        })
    };
    let limited = |q: usize| joints.iter().any(|j| j.q == q && j.range.is_some());
    (leading.iter()).filter(|l| l.drive_stiffness == 0.0 && !limited(l.q) && along_all(l.axis)).map(|l| l.q).collect()
}

/// Bodies, joints, geoms and sites by name.
impl System {
    pub fn body(&self, name: &str) -> Option<usize> {
        self.bodies.iter().position(|b| b.name.as_deref() == Some(name))
    }

    pub fn joint(&self, name: &str) -> Option<&JointSeat> {
        self.joints.iter().find(|j| j.name.as_deref() == Some(name))
    }

    pub fn geom(&self, name: &str) -> Option<&ShapeSeat> {
        self.geoms.iter().find(|g| g.name.as_deref() == Some(name))
    }

    pub fn site(&self, name: &str) -> Option<&ShapeSeat> {
        self.sites.iter().find(|s| s.name.as_deref() == Some(name))
    }

    /// The same law in the number type `T`.
    pub fn law_in<T: crate::sim::SimScalar>(&self) -> Law<T> {
        self.law.cast(Model::new(&self.robot, Inertia::Exact))
    }
}
