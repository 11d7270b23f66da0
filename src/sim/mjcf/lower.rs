//! A file as a robot of this simulator: every joint carries a body of its own, and of several joints of one body the
//! last has the mass; the ground is penalty contact, limits are springs.
//!
//! What the law cannot represent is refused with its line. What a file cannot say, the constants of contact and of
//! limits, is left at 0 for the task to set. Model frames stay z-up, as those of the shipped robots: frames of roots
//! turn them. Every body has its mass properties from the file, whatever `inertia` says of published robots.

use super::model::{
    Actuation, Body, Cone, Geom, GeomType, Integrator, Joint as FileJoint, JointType, Mjcf, Transmission,
};
use super::touch::GeomId;
use super::xml::{Given, MjcfError, Place};
use crate::sim::articulation::{Articulation, Body as Link, Geometry, Joint, JointKind, Material, Shape};
use crate::sim::mass::Inertia;
use crate::sim::quat::{Quat, Transform};
use crate::sim::robots::{lengthwise, upright};
use crate::sim::vec3::Vec3;
use std::collections::HashMap;

/// A robot, and what its file says of driving it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Without fixed joints. Stiffness, damping and viscosity of its contacts are 0, and so are spring and damping of
    /// its limits.
    pub robot: Articulation,
    /// In the order of the file.
    pub motors: Vec<Motor>,
    /// Coordinates at the reference configuration (m, rad, quaternions (x, y, z, w); a free root's in the world, y up).
    pub start: Vec<f64>,
    /// The time step, if the file says one (s).
    pub timestep: Option<Given<f64>>,
}

/// A motor: the force of a control of 1 along the coordinate of a body's joint.
#[derive(Clone, Debug)]
pub struct Motor {
    pub name: Option<String>,
    /// The body of [`Lowered::robot`] that the joint carries.
    pub body: String,
    /// Force at the largest control, which is that of an action of 1 [N m or N].
    pub gain: f64,
    pub place: Place,
}

type Read<T> = Result<T, MjcfError>;

/// Where a joint of the file ended up.
struct JointLink {
    body: String,
    kind: JointKind,
}

struct Lowering<'a> {
    file: &'a Mjcf,
    links: Vec<Link>,
    /// Of each body of the file, the link that has its contents, and where the body's frame is in the link's.
    carriers: Vec<(Option<usize>, Vec3<f64>)>,
    start: Vec<f64>,
    joint_links: HashMap<String, JointLink>,
}

impl Mjcf {
    /// The robot that the law of this simulator moves.
    ///
    /// # Errors
    /// The first thing that the law cannot represent, with its place and what to do.
    pub fn lower(&self) -> Result<Lowered, MjcfError> {
        self.refuse_options()?;
        self.refuse_constraints()?;
        let touching = self.touching()?;
        let masses = self.masses()?;
        let mut l = Lowering {
            file: self,
            links: vec![],
            carriers: vec![(None, Vec3::zero())],
            start: vec![],
            joint_links: HashMap::new(),
        };
        for (i, body) in self.bodies.iter().enumerate().skip(1) {
            l.body(i, body)?;
        }
        for (i, body) in self.bodies.iter().enumerate().skip(1) {
            let (carrier, offset) = l.carriers[i];
            let Some(carrier) = carrier.filter(|_| self.weld_root(i) != 0) else { continue };
            let mut mass = masses[i];
            mass.com += offset;
            l.links[carrier].inertial = Some(mass);
            for (geom, g) in body.geoms.iter().enumerate() {
                let friction = touching.get(&(i, geom)).copied();
                l.links[carrier].shapes.extend(self.shape(body, g, friction, offset)?);
            }
        }
        self.refuse_weightless(&masses)?;
        let motors = l.motors()?;
        let mut gravity = self.option.gravity.value;
        if !self.option.flags.gravity.value {
            gravity = [0.0; 3];
        }
        let [x, y, z] = gravity;
        let name = self.name.clone().unwrap_or_else(|| stem(&self.file));
        let robot = Articulation { name, bodies: l.links, gravity: [x, z, -y], ground: !touching.is_empty() };
        let robot = robot.welded(Inertia::Exact);
        if robot.bodies.is_empty() || robot.offsets().1.last() == Some(&0) {
            return Err(self.wrong(self.bodies[0].place, "nothing moves here\n  give a body a joint"));
        }
        let timestep = Some(self.option.timestep).filter(Given::is_given);
        Ok(Lowered { robot, motors, start: l.start, timestep })
    }

    fn refuse_options(&self) -> Read<()> {
        let (o, f, here) = (&self.option, &self.option.flags, self.bodies[0].place);
        let medium = "there is no medium in this law: nothing resists but the ground\n  leave it out";
        self.refuse(&o.wind, o.wind.value == [0.0; 3], here, medium)?;
        self.refuse(&o.density, o.density.value == 0.0, here, medium)?;
        self.refuse(&o.viscosity, o.viscosity.value == 0.0, here, medium)?;
        let euler = o.integrator.value == Integrator::Euler;
        self.refuse(
            &o.integrator,
            euler,
            here,
            "this law is integrated by Euler's symplectic method alone\n  leave `integrator` out",
        )?;
        let message = "contacts have one set of constants here, keys of the task\n  leave the override out";
        self.refuse(&f.contact_override, !f.contact_override.value, here, message)?;
        let message = "actions are cut to [-1, 1] by every task\n  leave `clampctrl` out";
        self.refuse(&f.clampctrl, f.clampctrl.value, here, message)?;
        let message = "damping is explicit in this law\n  leave `eulerdamp` out";
        self.refuse(&f.eulerdamp, !(f.eulerdamp.is_given() && f.eulerdamp.value), here, message)?;
        let align = &self.compiler.align_free;
        self.refuse(
            align,
            !align.value,
            here,
            "`alignfree` cannot be represented\n  move the frames of free bodies instead",
        )
    }

    fn refuse_constraints(&self) -> Read<()> {
        let f = &self.option.flags;
        let refuse = |listed: &[Given<String>], on: bool, message: &str| match listed.first() {
            Some(first) if on => {
                Err(self.wrong(first.place.unwrap_or_default(), format!("`{}`: {message}", first.value)))
            }
            _ => Ok(()),
        };
        let message =
            "this law has no equality constraints\n  leave it out, or switch it off by <flag equality=\"disable\"/>";
        refuse(&self.equalities, f.equality.value && f.constraint.value, message)?;
        let message = "what touches the ground follows from `contype` and `conaffinity` here\n  leave the pair out";
        refuse(&self.pairs, f.contact.value && f.constraint.value, message)?;
        for t in &self.tendons {
            let acts = t.stiffness.value > 0.0
                || t.damping.value > 0.0
                || t.frictionloss.value > 0.0
                || t.armature.value > 0.0
                || t.limited;
            if acts {
                let message =
                    "this law has no tendons\n  leave it out, or all that it does: its limits, stiffness, damping";
                return Err(self.wrong(t.place, message));
            }
        }
        Ok(())
    }

    /// A body that nothing can accelerate has no acceleration: every joint moves some mass, or has an armature.
    fn refuse_weightless(&self, masses: &[crate::sim::mass::MassProperties]) -> Read<()> {
        // What a body carries, itself included: mass, and whether anything resists rotation.
        let mut carried: Vec<(f64, f64)> =
            masses.iter().map(|m| (m.mass, m.inertia[0][0] + m.inertia[1][1] + m.inertia[2][2])).collect();
        for i in (1..self.bodies.len()).rev() {
            if let Some(p) = self.bodies[i].parent {
                let (mass, inertia) = carried[i];
                carried[p] = (carried[p].0 + mass, carried[p].1 + inertia);
            }
            for j in self.bodies[i].joints.iter().filter(|j| j.armature.value == 0.0) {
                let (mass, inertia) = carried[i];
                if mass <= 0.0 || (j.kind != JointType::Slide && inertia <= 0.0) {
                    let message = "this joint moves nothing that has mass and inertia\n  give its body a geom or an \
                                   `inertial`, or the joint an `armature`";
                    return Err(self.wrong(j.place, message));
                }
            }
        }
        Ok(())
    }

    /// Geoms that touch the ground, by body and number, each with its friction.
    fn touching(&self) -> Read<HashMap<(usize, usize), f64>> {
        let moves = |id: GeomId| self.weld_root(id.body) != 0;
        let all: Vec<GeomId> = self.geoms().collect();
        let (mut ground, mut touching): (Option<GeomId>, _) = (None, HashMap::new());
        for (n, &a) in all.iter().enumerate().filter(|(_, a)| moves(**a)) {
            let others = all.iter().enumerate().filter(|(m, b)| *m > n || !moves(**b));
            for &b in others.map(|(_, b)| b) {
                if !self.may_touch(a, b) {
                    continue;
                }
                let (ga, gb) = (self.geom(a), self.geom(b));
                if gb.kind.value != GeomType::Plane || moves(b) {
                    // What does not move is in the way.
                    let (at, other) = if moves(b) { (ga, gb) } else { (gb, ga) };
                    let message = format!(
                        "this {} may touch the {} of line {}, and this law knows contact with the ground alone\n  set \
                         `contype` and `conaffinity` so that only the ground answers: contype=\"1\" conaffinity=\"0\" for \
                         the robot",
                        at.kind.value.name(),
                        other.kind.value.name(),
                        other.place.line
                    );
                    return Err(self.wrong(at.place, message));
                }
                if ground.is_none() {
                    self.check_ground(b)?;
                }
                if let Some(first) = ground.filter(|first| *first != b) {
                    let message =
                        format!("there is a ground already, in line {}\n  keep one", self.geom(first).place.line);
                    return Err(self.wrong(gb.place, message));
                }
                ground = Some(b);
                touching.insert((a.body, a.geom), self.friction(ga, gb)?);
            }
        }
        Ok(touching)
    }

    /// The ground is the plane of height 0.
    fn check_ground(&self, id: GeomId) -> Read<()> {
        let geom = self.geom(id);
        let path: Vec<usize> = std::iter::successors(Some(id.body), |&b| self.bodies[b].parent).collect();
        let carrier = path.iter().rev().fold(Transform::identity(), |at, &b| at * self.bodies[b].frame);
        let at = carrier * geom.frame;
        let normal = at.q.rotate(Vec3::new(0.0, 0.0, 1.0));
        if normal.z < 1.0 - 1e-12 || at.p.z.abs() > 1e-12 {
            let message = "the ground of this law is level, at height 0\n  place the plane there, or keep it from \
                           touching (contype=\"0\" conaffinity=\"0\")";
            return Err(self.wrong(geom.place, message));
        }
        Ok(())
    }

    /// The friction coefficient of a geom on the ground, as MuJoCo combines two.
    fn friction(&self, geom: &Geom, ground: &Geom) -> Read<f64> {
        let key = "the constants of contact are keys of the task here (`contact` in its specification)";
        for g in [geom, ground] {
            let places = [g.solref.place, g.solimp.place, g.solmix.place];
            let names = ["solref", "solimp", "solmix"];
            if let Some((name, Some(place))) = names.into_iter().zip(places).find(|(_, p)| p.is_some()) {
                return Err(self.wrong(place, format!("`{name}`: {key}\n  leave it out")));
            }
            for (name, x) in [("margin", &g.margin), ("gap", &g.gap)] {
                let message = format!("`{name}`: contact begins at the surface in this law\n  leave it out");
                self.refuse(x, x.value == 0.0, g.place, &message)?;
            }
        }
        let (cone, impratio) = (&self.option.cone, &self.option.impratio);
        let message = "friction is the same in all directions in this law\n  leave `cone` out, or make it elliptic";
        self.refuse(cone, !cone.is_given() || cone.value == Cone::Elliptic, geom.place, message)?;
        let message = format!("`impratio`: {key}\n  leave it out");
        self.refuse(impratio, impratio.value == 1.0, geom.place, &message)?;

        let (a, b) = (geom.priority.value, ground.priority.value);
        let by = |pick: &dyn Fn(&Geom) -> f64| match a.cmp(&b) {
            std::cmp::Ordering::Greater => pick(geom),
            std::cmp::Ordering::Less => pick(ground),
            std::cmp::Ordering::Equal => pick(geom).max(pick(ground)),
        };
        match by(&|g| f64::from(g.condim.value)) as i32 {
            1 => Ok(0.0),
            3 => Ok(by(&|g| g.friction.value[0])),
            n => {
                let of = if geom.condim.value == n { &geom.condim } else { &ground.condim };
                let message = "a contact slides in this law, it does not resist turning or rolling\n  make `condim` 3";
                Err(self.wrong(of.place.unwrap_or(geom.place), message))
            }
        }
    }

    /// A geom as a shape, if it weighs, touches or can be drawn; the body's frame is `offset` away from its link's.
    fn shape(&self, body: &Body, g: &Geom, friction: Option<f64>, offset: Vec3<f64>) -> Read<Option<Shape>> {
        let weighs = self.weighs(body, g);
        let matters = weighs || friction.is_some();
        let named = match (g.kind.value, &g.asset) {
            (GeomType::Sphere | GeomType::Capsule | GeomType::Box, None) => None,
            (GeomType::Ellipsoid, None) => Some("an ellipsoid".into()),
            (kind, None) => Some(format!("a {}", kind.name())),
            (kind, Some(_)) if kind != GeomType::Mesh => Some(format!("a {} fitted to a mesh", kind.name())),
            _ => Some("a mesh".into()),
        };
        if let Some(what) = named {
            if !matters || g.kind.value == GeomType::Plane {
                return Ok(None);
            }
            let how = if friction.is_some() { "touches the ground" } else { "weighs" };
            let message = format!(
                "{what} that {how} cannot be represented: this law has spheres, capsules and boxes\n  take one of those; \
                 one that is only seen has contype=\"0\" conaffinity=\"0\" mass=\"0\""
            );
            return Err(self.wrong(g.kind.place.unwrap_or(g.place), message));
        }
        let [a, b, _] = g.size;
        let geometry = match g.kind.value {
            GeomType::Sphere => Geometry::Sphere { radius: a },
            GeomType::Capsule => Geometry::Capsule { radius: a, half_length: b },
            _ => Geometry::Box { half: g.size },
        };
        let density = match (weighs, g.own_mass(), g.volume()) {
            (true, Some(mass), Some(volume)) if (mass / volume).is_finite() => mass / volume,
            _ => 0.0,
        };
        let material = Material { stiffness: 0.0, damping: 0.0, viscosity: 0.0, friction: friction.unwrap_or(0.0) };
        let frame = match (geometry, g.ends) {
            // From the first end to the second.
            (Geometry::Capsule { radius, .. }, Some([from, to])) => {
                Shape::capsule(from, to, radius, density, material).frame
            }
            (Geometry::Capsule { .. }, None) => Transform { p: g.frame.p, q: lengthwise(g.frame.q) },
            _ => g.frame,
        };
        let frame = Transform { p: frame.p + offset, q: frame.q };
        Ok(Some(Shape { geometry, frame, density, material, touches: friction.is_some() }))
    }
}

/// A file's name without folder and ending.
fn stem(file: &str) -> String {
    std::path::Path::new(file).file_stem().map_or_else(|| file.into(), |s| s.to_string_lossy().into_owned())
}

impl Lowering<'_> {
    /// Adds the links of a body: one for each joint, or a fixed one.
    fn body(&mut self, i: usize, body: &Body) -> Read<()> {
        let file = self.file;
        let (parent, shift) = self.carriers[body.parent.unwrap_or(0)];
        let message = "nothing takes gravity off a body in this law\n  leave `gravcomp` out";
        file.refuse(&body.gravcomp, body.gravcomp.value == 0.0, body.place, message)?;
        file.refuse(
            &body.mocap,
            !body.mocap.value,
            body.place,
            "nothing moves a body from outside here\n  leave `mocap` out",
        )?;

        // The body's frame in what carries it; that of the model is z-up.
        let here = Transform { p: body.frame.p + shift, q: body.frame.q };
        let here = if parent.is_none() { upright([0.0; 3]) * here } else { here };
        let own = match (&body.name, body.joints.first().and_then(|j| j.name.clone())) {
            (Some(name), _) => name.clone(),
            (None, Some(joint)) => joint,
            (None, None) => format!("body_{i}"),
        };
        if body.joints.is_empty() {
            self.link(own, body.place, parent, Joint::fixed(here))?;
            self.carriers.push((Some(self.links.len() - 1), Vec3::zero()));
            return Ok(());
        }
        let (mut frame, mut carrier, mut anchor) = (here, parent, Vec3::zero());
        for (k, joint) in body.joints.iter().enumerate() {
            let kind = self.check(body, joint, parent.is_none() && body.parent == Some(0))?;
            let last = k + 1 == body.joints.len();
            let name = if last { own.clone() } else { joint.name.clone().unwrap_or_else(|| format!("{own}_joint{k}")) };
            if kind == JointKind::Free {
                self.start.extend(here.p.array());
                let mut q = [0.0; 4];
                here.q.write(&mut q);
                self.start.extend(q);
                self.seat(joint, &name, kind);
                self.link(name, joint.place, None, Joint::free())?;
                carrier = Some(self.links.len() - 1);
                continue;
            }
            let at = Vec3::of(joint.anchor);
            let step = Transform { p: at - anchor, q: Quat::identity() };
            anchor = at;
            match kind {
                JointKind::Ball => self.start.extend([0.0, 0.0, 0.0, 1.0]),
                _ => self.start.push(joint.reference),
            }
            self.seat(joint, &name, kind);
            let lowered = self.joint(joint, kind, frame * step * joint.at_zero());
            self.link(name, joint.place, carrier, lowered)?;
            carrier = Some(self.links.len() - 1);
            frame = Transform::identity();
        }
        self.carriers.push((carrier, -anchor));
        Ok(())
    }

    fn seat(&mut self, joint: &FileJoint, body: &str, kind: JointKind) {
        if let Some(name) = &joint.name {
            self.joint_links.insert(name.clone(), JointLink { body: body.into(), kind });
        }
    }

    fn link(&mut self, name: String, place: Place, parent: Option<usize>, joint: Joint) -> Read<()> {
        if self.links.iter().any(|l| l.name == name) {
            let message = format!(
                "there are two bodies `{name}`: every joint of a body but the last becomes a body of its own name\n  \
                 rename one of the two"
            );
            return Err(self.file.wrong(place, message));
        }
        self.links.push(Link { name, parent, joint, shapes: vec![], inertial: None });
        Ok(())
    }

    /// The kind of a joint, if the law has all of it.
    fn check(&self, body: &Body, j: &FileJoint, on_world: bool) -> Read<JointKind> {
        let (file, f) = (self.file, &self.file.option.flags);
        let refuse = |given: &Given<f64>, message: &str| file.refuse(given, given.value == 0.0, j.place, message);
        if f.frictionloss.value && f.constraint.value {
            refuse(
                &j.frictionloss,
                "there is no dry friction of joints in this law\n  leave `frictionloss` out, or take damping",
            )?;
        }
        let message = "stiffness and damping do not follow from time constants here\n  write `stiffness` and `damping`";
        file.refuse(&j.springdamper, j.springdamper.value == [0.0; 2], j.place, message)?;
        if let Some(range) = &j.actuator_range {
            file.refuse(
                range,
                false,
                j.place,
                "forces of motors are not cut here\n  choose the control range accordingly",
            )?;
        }
        let message = "motors do not take gravity off here\n  leave `actuatorgravcomp` out";
        file.refuse(&j.actuator_gravcomp, !j.actuator_gravcomp.value, j.place, message)?;
        if j.limited && self.limits_hold() {
            let places = [("solreflimit", j.solref_limit.place), ("solimplimit", j.solimp_limit.place)];
            if let Some((name, Some(place))) = places.into_iter().find(|(_, p)| p.is_some()) {
                let message = format!(
                    "`{name}`: limits are springs here, keys of the task (`limits` in its specification)\n  \
                     leave it out"
                );
                return Err(file.wrong(place, message));
            }
            refuse(&j.margin, "a limit begins at its range in this law\n  leave `margin` out")?;
        }
        match j.kind {
            JointType::Hinge => return Ok(JointKind::Hinge),
            JointType::Slide => return Ok(JointKind::Slide),
            JointType::Ball => {
                let message = "a ball joint has no limits in this law\n  leave the range out, or take hinges";
                file.refuse(&j.range, !(j.limited && self.limits_hold()), j.place, message)?;
                refuse(
                    &j.stiffness,
                    "a ball joint has no spring in this law\n  leave `stiffness` out, or take hinges",
                )?;
                return Ok(JointKind::Ball);
            }
            JointType::Free => {}
        }
        if !on_world || body.joints.len() != 1 {
            return Err(file.wrong(j.place, "a free joint is the only one of a body that hangs on the world"));
        }
        for (name, given) in [("stiffness", &j.stiffness), ("damping", &j.damping), ("armature", &j.armature)] {
            refuse(given, &format!("a free joint has no {name} in this law\n  leave it out"))?;
        }
        Ok(JointKind::Free)
    }

    fn limits_hold(&self) -> bool {
        self.file.option.flags.limit.value && self.file.option.flags.constraint.value
    }

    fn joint(&self, j: &FileJoint, kind: JointKind, frame: Transform<f64>) -> Joint {
        let f = &self.file.option.flags;
        let on = |switch: &Given<bool>, x: &Given<f64>| if switch.value { x.value } else { 0.0 };
        let [lower, upper] = match j.limited && self.limits_hold() {
            true => j.range.value,
            false => [f64::NEG_INFINITY, f64::INFINITY],
        };
        let drive_stiffness = on(&f.spring, &j.stiffness);
        Joint {
            kind,
            frame,
            axis: if kind == JointKind::Ball { Vec3::zero() } else { Vec3::of(j.axis) },
            lower,
            upper,
            drive_stiffness,
            drive_damping: on(&f.damper, &j.damping),
            target: if drive_stiffness == 0.0 { 0.0 } else { j.springref },
            armature: j.armature.value,
            ..Joint::free()
        }
    }

    fn motors(&self) -> Read<Vec<Motor>> {
        let file = self.file;
        if !file.option.flags.actuation.value {
            return Ok(vec![]);
        }
        let mut motors: Vec<Motor> = Vec::new();
        for a in &file.actuators {
            let gain = match &a.actuation {
                Actuation::Affine { gain, bias: [0.0, 0.0, 0.0] } => *gain,
                Actuation::Affine { .. } => {
                    let message = format!(
                        "`{}`: the force of a motor does not depend on the state here\n  take a `motor`, and \
                         `stiffness` and `damping` of the joint",
                        a.element
                    );
                    return Err(file.wrong(a.place, message));
                }
                Actuation::Other(what) => {
                    let message = format!("an actuator with {} cannot be represented\n  take a `motor`", what.value);
                    return Err(file.wrong(what.place.unwrap_or(a.place), message));
                }
            };
            let joint = match &a.transmission {
                Transmission::Joint(joint) | Transmission::JointInParent(joint) => joint,
                Transmission::Tendon(at) => {
                    let message = "nothing is driven by tendons in this law\n  name a joint: joint=\"...\"";
                    return Err(file.wrong(at.place.unwrap_or(a.place), message));
                }
                Transmission::Other(at) => {
                    let message = format!(
                        "nothing is driven through a `{}` in this law\n  name a joint: joint=\"...\"",
                        at.value
                    );
                    return Err(file.wrong(at.place.unwrap_or(a.place), message));
                }
                Transmission::None => return Err(file.wrong(a.place, "this actuator acts on nothing")),
            };
            let at = joint.place.unwrap_or(a.place);
            let Some(seat) = self.joint_links.get(&joint.value) else {
                let near = crate::config::nearest(&joint.value, self.joint_links.keys().map(String::as_str));
                let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
                return Err(file.wrong(at, format!("there is no joint `{}`{near}", joint.value)));
            };
            if !matches!(seat.kind, JointKind::Hinge | JointKind::Slide) {
                return Err(file.wrong(at, "only hinges and slides are driven here\n  take a hinge for each axis"));
            }
            if let Some(range) = &a.force_range {
                let message =
                    "forces of motors are not cut here\n  leave the force range out, choose the control range";
                file.refuse(range, false, a.place, message)?;
            }
            let rest = a.gear.value[1..].iter().all(|x| *x == 0.0);
            file.refuse(&a.gear, rest, a.place, "the joint has one coordinate\n  give `gear` one number")?;
            let most = match &a.control_range {
                None => 1.0,
                Some(Given { value: [low, high], .. }) if *low == -high && *high > 0.0 => *high,
                Some(range) => {
                    let message =
                        "actions are from -1 to 1 here\n  make the control range symmetric: ctrlrange=\"-a a\"";
                    return Err(file.wrong(range.place.unwrap_or(a.place), message));
                }
            };
            if let Some(twin) = motors.iter().find(|m| m.body == seat.body) {
                let message = format!("the motor of line {} drives this joint already\n  keep one", twin.place.line);
                return Err(file.wrong(a.place, message));
            }
            let (name, body) = (a.name.clone(), seat.body.clone());
            motors.push(Motor { name, body, gain: gain * a.gear.value[0] * most, place: a.place });
        }
        Ok(motors)
    }
}
