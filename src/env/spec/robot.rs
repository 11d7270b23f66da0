//! The robot of a task: a shipped one or a file, its constants, and what drives it.

use super::reader::{Fields, Read, Reader};
use crate::config::spec::{Data, SpecNode};
use crate::config::{ConfigError, Value};
use crate::env::dflex::Drive;
use crate::sim::articulation::{Body, Joint};
use crate::sim::mjcf::{Lowered, Mjcf, Motor};
use crate::sim::{Articulation, JointKind, robots};

/// A robot from a file of its own: what the file says beside it.
pub(super) struct OwnRobot {
    /// As messages call it.
    pub(super) file: String,
    pub(super) lowered: Lowered,
}

/// The shape of the constants that a robot's file cannot say.
const CONTACT: &str = "{stiffness: 2e4, damping: 2e3, viscosity: 1e3}";
const LIMITS: &str = "{stiffness: 1e3, damping: 1}";

/// A robot and where its joints are.
pub(super) struct Joints {
    pub(super) robot: Articulation,
    pub(super) q: Vec<usize>,
    pub(super) qd: Vec<usize>,
}

impl Joints {
    pub(super) fn has_free_root(&self) -> bool {
        self.robot.bodies[0].joint.kind == JointKind::Free
    }

    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.q[self.q.len() - 1], self.qd[self.qd.len() - 1])
    }

    /// Bodies whose joint moves by one number.
    pub(super) fn simple(&self) -> impl Iterator<Item = usize> {
        let kinds = self.robot.bodies.iter().map(|b| b.joint.kind).enumerate();
        kinds.filter(|(_, k)| matches!(k, JointKind::Hinge | JointKind::Slide)).map(|(i, _)| i)
    }
}

impl<'a> Reader<'a> {
    /// The bodies from `from` to `to`, by name; all that are not a free root if neither is given. `of` is one.
    pub(super) fn bodies(self, f: &Fields<'a>, joints: &Joints) -> Read<std::ops::Range<usize>> {
        let body = |node: &'a SpecNode| {
            let name = self.text(node)?;
            let known: Vec<&str> = joints.robot.bodies.iter().map(|b| b.name.as_str()).collect();
            let at = known.iter().position(|n| *n == name);
            at.ok_or_else(|| self.unknown(node, "body", name, &known))
        };
        let (of, from, to) = (f.get("of"), f.get("from"), f.get("to"));
        if let Some(of) = of {
            if let Some(other) = from.or(to) {
                return Err(self.wrong(other, "`of` names one body: leave `from` and `to` out, or `of`"));
            }
            let i = body(of)?;
            return Ok(i..i + 1);
        }
        let first = from.map_or(Ok(usize::from(joints.has_free_root())), body)?;
        let last = to.map_or(Ok(joints.robot.bodies.len() - 1), body)?;
        if last < first {
            return Err(self.wrong(to.or(from).unwrap_or(f.node), "`to` comes before `from`\n  exchange them"));
        }
        Ok(first..last + 1)
    }

    /// The robot that `node` names, welded; with what its own file says beside it, if it comes from one.
    pub(super) fn robot(
        self,
        node: &'a SpecNode,
        by_name: impl Fn(&str) -> Option<Articulation>,
    ) -> Read<(&'a str, Articulation, Option<OwnRobot>)> {
        if let Data::Map(_) = node.data {
            // A robot's file, taken along by what read this one.
            let f = self.fields(node)?;
            let (name, xml) = (self.text(f.need("file")?)?, self.text(f.need("xml")?)?);
            f.finish()?;
            let file = self.spec.folder().join(name).display().to_string();
            let lowered = Mjcf::read(&file, xml).and_then(|m| m.lower()).map_err(|e| {
                let (place, message) = (e.location(), e.message);
                Box::new(ConfigError::Syntax { place, message })
            })?;
            return Ok((name, lowered.robot.clone(), Some(OwnRobot { file, lowered })));
        }
        let name = self.text(node)?;
        let robot = by_name(name).ok_or_else(|| {
            let known: Vec<&str> = robots::ROBOTS.iter().map(|(name, _)| *name).collect();
            self.unknown(node, "robot", name, &known)
        })?;
        Ok((name, robot, None))
    }

    /// The robot with the constants of contact and of limits that the task gives. A robot's file can say none of them.
    pub(super) fn constants(
        self,
        f: &Fields<'a>,
        named: &SpecNode,
        mut robot: Articulation,
        own: bool,
    ) -> Read<Articulation> {
        let amount = |f: &Fields<'a>, name: &'static str| {
            let Some(node) = f.get(name) else { return Ok(None) };
            match self.number(node)? {
                x if x < 0.0 => Err(self.wrong(node, format!("`{name}` is not negative"))),
                x => Ok(Some(x)),
            }
        };
        let missing = |group: &str, name: &str, like: &str| {
            let message = format!(
                "the robot's file cannot say `{name}` of its {group}\n  add it to the specification, as in \
                 `{group}: {like}`"
            );
            Err(self.wrong(f.get_quietly(group).unwrap_or(named), message))
        };
        let touches = !robot.contact_points().is_empty();
        match f.get("contact") {
            Some(node) => {
                let g = self.fields(node)?;
                let given = [amount(&g, "stiffness")?, amount(&g, "damping")?, amount(&g, "viscosity")?];
                let friction = amount(&g, "friction")?;
                g.finish()?;
                if !touches {
                    return Err(self.wrong(node, "nothing of this robot touches a ground\n  leave `contact` out"));
                }
                if given.iter().chain([&friction]).all(Option::is_none) {
                    let all = "stiffness, damping, viscosity, friction";
                    return Err(
                        self.wrong(node, format!("`contact` sets nothing\n  give some of {all}, or leave it out"))
                    );
                }
                let names = ["stiffness", "damping", "viscosity"];
                if let (true, Some(at)) = (own, given.iter().position(Option::is_none)) {
                    return missing("contact", names[at], CONTACT);
                }
                for shape in robot.bodies.iter_mut().flat_map(|b| &mut b.shapes) {
                    let m = &mut shape.material;
                    let numbers = [&mut m.stiffness, &mut m.damping, &mut m.viscosity, &mut m.friction];
                    for (number, given) in numbers.into_iter().zip(given.into_iter().chain([friction])) {
                        *number = given.unwrap_or(*number);
                    }
                }
            }
            None if own && touches => return missing("contact", "stiffness", CONTACT),
            None => {}
        }
        let limited = |b: &Body| b.joint.lower > f64::NEG_INFINITY || b.joint.upper < f64::INFINITY;
        let has_limits = robot.bodies.iter().any(limited);
        let stiffness = match f.get("limits") {
            Some(node) => {
                let g = self.fields(node)?;
                let (stiffness, damping) = (amount(&g, "stiffness")?, amount(&g, "damping")?);
                g.finish()?;
                if !has_limits {
                    return Err(self.wrong(node, "no joint of this robot has limits\n  leave `limits` out"));
                }
                if stiffness.is_none() && damping.is_none() {
                    let message = "`limits` sets nothing\n  give stiffness, damping or both, or leave it out";
                    return Err(self.wrong(node, message));
                }
                let simple = |j: &Joint| matches!(j.kind, JointKind::Hinge | JointKind::Slide);
                for joint in robot.bodies.iter_mut().map(|b| &mut b.joint).filter(|j| simple(j)) {
                    joint.limit_stiffness = stiffness.unwrap_or(joint.limit_stiffness);
                    joint.limit_damping = damping.unwrap_or(joint.limit_damping);
                }
                stiffness
            }
            None => None,
        };
        if own && stiffness.is_none() && has_limits {
            return missing("limits", "stiffness", LIMITS);
        }
        Ok(robot)
    }

    /// The motors of the robot's own file: an entry of the action for each, in the order of their joints.
    pub(super) fn motors(self, node: &'a SpecNode, joints: &Joints, own: &OwnRobot) -> Read<Vec<Drive>> {
        let bodies = &joints.robot.bodies;
        let drive = |m: &Motor| {
            let body = bodies.iter().position(|b| b.name == m.body);
            Drive { dof: joints.qd[body.expect("invariant: a motor drives a body of the robot")], gain: m.gain }
        };
        let mut drives: Vec<Drive> = own.lowered.motors.iter().map(drive).collect();
        drives.sort_by_key(|d| d.dof);
        let file = &own.file;
        let Some(first) = drives.first() else {
            return Err(
                self.wrong(node, format!("{file} has no motors\n  add some there, or write `action: {{gain: ...}}`"))
            );
        };
        if let Some((gap, _)) = (first.dof..).zip(&drives).find(|(dof, d)| d.dof != *dof) {
            let idle = (0..bodies.len()).find(|&i| (joints.qd[i]..joints.qd[i + 1]).contains(&gap));
            let name = idle.map_or("", |i| &bodies[i].name);
            let message = format!(
                "joints that are driven follow each other, but the one of `{name}` between two of {file} is not driven\n  \
                 give it a motor of gear 0, or write `action: {{from: ..., to: ..., gain: ...}}`"
            );
            return Err(self.wrong(node, message));
        }
        Ok(drives)
    }

    pub(super) fn drives(self, node: &'a SpecNode, joints: &Joints, own: Option<&OwnRobot>) -> Read<Vec<Drive>> {
        if let Data::Scalar(Value::Text(word)) = &node.data
            && word == "motors"
        {
            let message = "`motors` are those of a robot's own file\n  write `action: {gain: ...}`";
            return self.motors(node, joints, own.ok_or_else(|| self.wrong(node, message))?);
        }
        let f = self.fields(node)?;
        let bodies = self.bodies(&f, joints)?;
        let gain = f.need("gain")?;
        let free = joints.robot.bodies[bodies.clone()].iter().find(|b| b.joint.kind == JointKind::Free);
        if let Some(body) = free {
            return Err(self.wrong(node, format!("nothing drives the free joint of `{}`", body.name)));
        }
        self.moving(node, &bodies, joints)?;
        let dofs: Vec<usize> = (joints.qd[bodies.start]..joints.qd[bodies.end]).collect();
        let gains = match &gain.data {
            Data::List(items) => items.iter().map(|n| self.number(n)).collect::<Read<Vec<_>>>()?,
            _ => vec![self.number(gain)?; dofs.len()],
        };
        if gains.len() != dofs.len() {
            let (n, m) = (gains.len(), dofs.len());
            return Err(self.wrong(gain, format!("{n} gains for {m} degrees of freedom\n  give one number, or {m}")));
        }
        f.finish()?;
        Ok(dofs.into_iter().zip(gains).map(|(dof, gain)| Drive { dof, gain }).collect())
    }
}
