//! Bodies and joints of a file as links with one joint each.

use super::{Compiling, JointSeat, Read, Seat};
use crate::sim::articulation::{Body as Link, Joint, JointKind};
use crate::sim::mass::MassProperties;
use crate::sim::mjcf::Given;
use crate::sim::mjcf::model::{Body, Integrator, Joint as FileJoint, JointType};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;

impl Compiling<'_> {
    fn link(&mut self, name: String, parent: Option<usize>, joint: Joint) -> usize {
        let at = Some(MassProperties { mass: 0.0, com: Vec3::zero(), inertia: [[0.0; 3]; 3] });
        self.links.push(Link { name, parent, joint, shapes: vec![], inertial: at });
        self.links.len() - 1
    }

    /// Adds the links of a body, one for each joint; a body without joints is part of what carries it.
    pub(super) fn body(&mut self, i: usize, body: &Body) -> Read<()> {
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
            let kind = if joint.kind == JointType::Slide { JointKind::Slide } else { JointKind::Hinge };
            self.start.push(joint.reference);
            let f = &self.file.option.flags;
            let on = |switch: &Given<bool>, x: &Given<f64>| if switch.value { x.value } else { 0.0 };
            let stiffness = on(&f.spring, &joint.stiffness);
            let lowered = Joint {
                drive_stiffness: stiffness,
                drive_damping: on(&f.damper, &joint.damping),
                target: if stiffness == 0.0 { 0.0 } else { joint.springref },
                armature: joint.armature.value,
                axis: Vec3::of(joint.axis),
                ..Joint::simple(kind, frame * step * joint.at_zero(), joint.axis)
            };
            link = Some(self.link(name(k, joint), link, lowered));
            frame = Transform::identity();
        }
        let frame = if body.joints.is_empty() { here } else { Transform { p: -anchor, q: Quat::identity() } };
        self.seats.push(Seat { link, frame });
        Ok(())
    }

    pub(super) fn dofs(&self) -> usize {
        self.links.iter().map(|l| l.joint.kind.velocities()).sum()
    }

    pub(super) fn limits_hold(&self) -> bool {
        self.file.option.flags.limit.value && self.file.option.flags.constraint.value
    }

    fn check(&self, body: &Body, j: &FileJoint) -> Read<()> {
        let file = self.file;
        let refuse = |given: &Given<f64>, message: &str| file.refuse(given, given.value == 0.0, j.place, message);
        let message = "stiffness and damping do not follow from time constants here\n  write `stiffness` and `damping`";
        file.refuse(&j.springdamper, j.springdamper.value == [0.0; 2], j.place, message)?;
        if let Some(range) = &j.actuator_range {
            let message = "forces of actuators are not cut here\n  choose the control range accordingly";
            return Err(file.wrong(range.place.unwrap_or(j.place), message));
        }
        let message = "actuators do not take gravity off here\n  leave `actuatorgravcomp` out";
        file.refuse(&j.actuator_gravcomp, !j.actuator_gravcomp.value, j.place, message)?;
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
}
