//! Reads a task from the part `spec` of an environment's file. `configs/env/ant.yaml` shows its shape.
//!
//! A number may be the name of a setting, which then decides it. Whatever is wrong is refused with its place and what
//! would be right.

use super::feature::{Feature, Observation, Source};
use super::reset::{Draw, Reset};
use super::task::{Drive, KnownReturn, MOST_ENTRIES, Task, TaskSpec, Termination};
use super::term::{Fall, Term, Tolerance};
use crate::config::spec::{Data, Spec, SpecNode};
use crate::config::{Config, ConfigError, ConfigErrors, Shipped, ShippedKind, Value, nearest, one_of};
use crate::sim::articulation::Joint;
use crate::sim::mjcf::{Lowered, Mjcf, Motor};
use crate::sim::{Articulation, JointKind, robots};
use std::cell::RefCell;
use std::path::Path;

/// An error is boxed: it is large, and rare.
type Read<T> = Result<T, Box<ConfigError>>;

impl Task {
    /// The task that a configuration describes.
    ///
    /// # Errors
    /// What is wrong with its specification, and where.
    pub fn from_config(c: &Config) -> Result<Self, ConfigErrors> {
        let shipped = || Shipped::find(ShippedKind::Env, &c.env).unwrap_or_else(|| Shipped::default(ShippedKind::Env));
        let robot = |name: &str| robots::by_name(name).map(|r| r.welded(c.inertia));
        match &c.spec {
            Some(own) => Self::read(own, c, robot),
            None => Self::read(&shipped().spec().expect("invariant: a shipped environment has one"), c, robot),
        }
    }

    /// The task of a specification, on a robot that `robot` knows by name; `c` has the settings that it refers to.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(spec: &Spec, c: &Config, robot: impl Fn(&str) -> Option<Articulation>) -> Result<Self, ConfigErrors> {
        Ok(Self::new(Reader { spec, config: c }.task(robot)?))
    }
}

/// A specification and the settings it refers to.
#[derive(Clone, Copy)]
struct Reader<'a> {
    spec: &'a Spec,
    config: &'a Config,
}

/// The entries of a mapping, of which all must be asked for.
struct Fields<'a> {
    reader: Reader<'a>,
    node: &'a SpecNode,
    entries: &'a [(String, SpecNode)],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &'static str) -> Option<&'a SpecNode> {
        self.asked.borrow_mut().push(name);
        self.get_quietly(name)
    }

    /// The same without asking for it.
    fn get_quietly(&self, name: &str) -> Option<&'a SpecNode> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, node)| node)
    }

    fn need(&self, name: &'static str) -> Read<&'a SpecNode> {
        self.get(name).ok_or_else(|| self.reader.wrong(self.node, format!("`{name}` is missing\n  add `{name}: ...`")))
    }

    fn number(&self, name: &'static str, default: f64) -> Read<f64> {
        self.get(name).map_or(Ok(default), |node| self.reader.number(node))
    }

    fn flag(&self, name: &'static str, default: bool) -> Read<bool> {
        self.get(name).map_or(Ok(default), |node| self.reader.flag(node))
    }

    /// Refuses entries that were not asked for.
    fn finish(self) -> Read<()> {
        let asked = self.asked.into_inner();
        for (i, (name, node)) in self.entries.iter().enumerate() {
            if !asked.contains(&name.as_str()) {
                return Err(self.reader.unknown(node, "entry", name, &asked));
            }
            if self.entries[..i].iter().any(|(n, _)| n == name) {
                return Err(self.reader.wrong(node, format!("`{name}` stands here twice\n  keep one of the two")));
            }
        }
        Ok(())
    }
}

/// A robot from a file of its own: what the file says beside it.
struct OwnRobot {
    /// As messages call it.
    file: String,
    lowered: Lowered,
}

/// The shape of the constants that a robot's file cannot say.
const CONTACT: &str = "{stiffness: 2e4, damping: 2e3, viscosity: 1e3}";
const LIMITS: &str = "{stiffness: 1e3, damping: 1}";

/// A robot and where its joints are.
struct Joints {
    robot: Articulation,
    q: Vec<usize>,
    qd: Vec<usize>,
}

impl Joints {
    fn has_free_root(&self) -> bool {
        self.robot.bodies[0].joint.kind == JointKind::Free
    }

    fn sizes(&self) -> (usize, usize) {
        (self.q[self.q.len() - 1], self.qd[self.qd.len() - 1])
    }

    /// Bodies whose joint moves by one number.
    fn simple(&self) -> impl Iterator<Item = usize> {
        let kinds = self.robot.bodies.iter().map(|b| b.joint.kind).enumerate();
        kinds.filter(|(_, k)| matches!(k, JointKind::Hinge | JointKind::Slide)).map(|(i, _)| i)
    }
}

const FEATURES: [&str; 11] = [
    "height",
    "rotation",
    "linear_velocity",
    "angular_velocity",
    "coordinates",
    "velocities",
    "up",
    "heading",
    "sine",
    "cosine",
    "action",
];
const TERMS: [&str; 8] =
    ["linear", "clipped_quadratic", "angle", "squared", "wrapped_angle", "action_cost", "tolerance", "product"];
const DRAWS: [&str; 4] = ["position", "rotation", "coordinates", "velocities"];

impl<'a> Reader<'a> {
    fn wrong(self, node: &SpecNode, message: impl Into<String>) -> Box<ConfigError> {
        Box::new(ConfigError::Syntax { place: self.spec.place(node), message: message.into() })
    }

    fn unknown(self, node: &SpecNode, what: &str, name: &str, known: &[&str]) -> Box<ConfigError> {
        let near = nearest(name, known.iter().copied());
        let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
        self.wrong(node, format!("there is no {what} `{name}` here\n  known: {}{near}", one_of(known)))
    }

    fn fields(self, node: &'a SpecNode) -> Read<Fields<'a>> {
        match &node.data {
            Data::Map(entries) => Ok(Fields { reader: self, node, entries, asked: RefCell::default() }),
            _ => Err(self.wrong(node, "this is a mapping\n  write lines `name: value`, or {name: value, ...}")),
        }
    }

    fn list(self, node: &'a SpecNode) -> Read<&'a [SpecNode]> {
        match &node.data {
            Data::List(items) => Ok(items),
            _ => Err(self.wrong(node, "this is a list\n  write lines `- item`, or [item, ...]")),
        }
    }

    fn text(self, node: &'a SpecNode) -> Read<&'a str> {
        match &node.data {
            Data::Scalar(Value::Text(t)) => Ok(t),
            _ => Err(self.wrong(node, format!("this is a name, not {}", node.value()))),
        }
    }

    /// A scalar, or the setting that it names.
    fn scalar(self, node: &SpecNode) -> Read<Value> {
        match &node.data {
            Data::Scalar(Value::Text(name)) => self.config.get(name).ok_or_else(|| {
                let near = nearest(name, crate::config::KEYS.iter().map(|key| key.name));
                let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
                self.wrong(node, format!("there is no setting `{name}`\n  give a value or the name of a setting{near}"))
            }),
            Data::Scalar(value) => Ok(value.clone()),
            _ => Err(self.wrong(node, "this is one value\n  give a value or the name of a setting")),
        }
    }

    fn number(self, node: &SpecNode) -> Read<f64> {
        match self.scalar(node)? {
            Value::Int(i) => Ok(i as f64),
            Value::Float(x) if x.is_finite() => Ok(x),
            _ => Err(self.wrong(node, format!("{} is no number\n  give one, or a setting that is one", node.value()))),
        }
    }

    fn count(self, node: &SpecNode, most: usize) -> Read<usize> {
        match self.scalar(node)? {
            Value::Int(i) if (1..=most as i128).contains(&i) => Ok(i as usize),
            _ => {
                Err(self
                    .wrong(node, format!("{} is not allowed\n  give a whole number from 1 to {most}", node.value())))
            }
        }
    }

    fn flag(self, node: &SpecNode) -> Read<bool> {
        match self.scalar(node)? {
            Value::Bool(b) => Ok(b),
            _ => Err(self.wrong(node, format!("{} is neither true nor false, nor a setting that is", node.value()))),
        }
    }

    /// An item of a list: a word, or one with what follows it.
    fn item(self, node: &'a SpecNode) -> Read<(&'a str, Option<&'a SpecNode>)> {
        match &node.data {
            Data::Scalar(Value::Text(t)) => Ok((t, None)),
            Data::Map(entries) if entries.len() == 1 => Ok((&entries[0].0, Some(&entries[0].1))),
            _ => Err(self.wrong(node, "an item is a name, or one name with what belongs to it: `- name: ...`")),
        }
    }

    fn task(self, robot: impl Fn(&str) -> Option<Articulation>) -> Read<TaskSpec> {
        let f = self.fields(&self.spec.root)?;
        let c = self.config;
        let named = f.need("robot")?;
        let (name, robot, own) = self.robot(named, robot)?;
        let robot = self.constants(&f, named, robot, own.is_some())?;
        robot.validate().map_err(|e| self.wrong(named, format!("the robot `{name}` cannot be simulated: {e}")))?;
        let (q, qd) = robot.offsets();
        let joints = Joints { robot, q, qd };

        // The published code's name for it is read with the configuration.
        f.get("published");
        let rate = f.need("steps_per_second")?;
        let per_second = self.number(rate)?;
        if per_second <= 0.0 {
            return Err(self.wrong(rate, "steps a second are more than 0"));
        }
        let substeps_at = f.need("substeps")?;
        let substeps = self.count(substeps_at, 1024)?;
        if let Some(OwnRobot { file, lowered: Lowered { timestep: Some(step), .. }, .. }) = &own {
            let substep = 1.0 / (per_second * substeps as f64);
            if (step.value / substep - 1.0).abs() > 1e-9 {
                let line = step.place.unwrap_or_default().line;
                let message = format!(
                    "a substep of {substep} s, but `timestep` in line {line} of {file} is {} s\n  leave `timestep` out \
                     there, or make `steps_per_second` times `substeps` its inverse",
                    step.value
                );
                return Err(self.wrong(substeps_at, message));
            }
        }
        crate::sim::size::Size::of(&joints.robot, substeps)
            .class()
            .map_err(|e| self.wrong(substeps_at, format!("the robot `{name}` has no room: {e}")))?;

        let drives = self.drives(f.need("action")?, &joints, own.as_ref())?;
        let start = match (f.get("start"), &own) {
            (None, Some(own)) => own.lowered.start.clone(),
            _ => self.start(f.need("start")?, &joints)?,
        };
        let observation = Observation {
            features: self.features(f.need("observation")?, &joints)?,
            start: if joints.has_free_root() { [start[3], start[4], start[5], start[6]] } else { [0.0, 0.0, 0.0, 1.0] },
            actions: drives.len(),
        };
        let width = observation.width();
        if width > MOST_ENTRIES {
            let node = f.need("observation")?;
            return Err(self.wrong(node, format!("the observation has {width} entries\n  room is for {MOST_ENTRIES}")));
        }
        let entries = Entries { reader: self, observation: &observation, joints: &joints };
        let mut terms = Vec::new();
        for item in self.list(f.need("reward")?)? {
            terms.extend(entries.summand(item)?);
        }
        let termination = f.get("termination").map(|n| entries.termination(n)).transpose()?.flatten();
        let draws = f.get("noise").map_or(Ok(vec![]), |n| self.noise(n, &joints))?;
        let returns = f.get("returns").map_or(Ok(vec![]), |n| self.returns(n))?;
        let name = Path::new(&c.env).file_stem().and_then(|s| s.to_str()).unwrap_or(&c.env).to_owned();
        let title = f.get("title").map_or(Ok(name.as_str()), |n| self.text(n))?.to_owned();
        f.finish()?;
        Ok(TaskSpec {
            name,
            title,
            inertia: c.inertia,
            subgradient: c.subgradient,
            dt: 1.0 / per_second,
            substeps,
            mass_matrix_every: c.mm_caching_frequency.clamp(1, substeps),
            reference_point: c.reference_point,
            drives,
            observation,
            terms,
            termination,
            reset: Reset { start, draws },
            episode_length: c.episode_length,
            returns,
            robot: joints.robot,
        })
    }

    /// The bodies from `from` to `to`, by name; all that are not a free root if neither is given. `of` is one.
    fn bodies(self, f: &Fields<'a>, joints: &Joints) -> Read<std::ops::Range<usize>> {
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
    fn robot(
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
    fn constants(self, f: &Fields<'a>, named: &SpecNode, mut robot: Articulation, own: bool) -> Read<Articulation> {
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
        let limited = |j: &Joint| j.lower > f64::NEG_INFINITY || j.upper < f64::INFINITY;
        let stiffness = match f.get("limits") {
            Some(node) => {
                let g = self.fields(node)?;
                let (stiffness, damping) = (amount(&g, "stiffness")?, amount(&g, "damping")?);
                g.finish()?;
                let simple = |j: &Joint| matches!(j.kind, JointKind::Hinge | JointKind::Slide);
                for joint in robot.bodies.iter_mut().map(|b| &mut b.joint).filter(|j| simple(j)) {
                    joint.limit_stiffness = stiffness.unwrap_or(joint.limit_stiffness);
                    joint.limit_damping = damping.unwrap_or(joint.limit_damping);
                }
                stiffness
            }
            None => None,
        };
        if own && stiffness.is_none() && robot.bodies.iter().any(|b| limited(&b.joint)) {
            return missing("limits", "stiffness", LIMITS);
        }
        Ok(robot)
    }

    /// The motors of the robot's own file: an entry of the action for each, in the order of their joints.
    fn motors(self, node: &'a SpecNode, joints: &Joints, own: &OwnRobot) -> Read<Vec<Drive>> {
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

    fn drives(self, node: &'a SpecNode, joints: &Joints, own: Option<&OwnRobot>) -> Read<Vec<Drive>> {
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

    fn start(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<f64>> {
        let x = self.list(node)?.iter().map(|n| self.number(n)).collect::<Read<Vec<_>>>()?;
        let nq = joints.sizes().0;
        if x.len() != nq {
            let n = x.len();
            return Err(self.wrong(node, format!("a start of {n} coordinates\n  the robot has {nq}")));
        }
        for (i, body) in joints.robot.bodies.iter().enumerate() {
            let at = joints.q[i]
                + match body.joint.kind {
                    JointKind::Free => 3,
                    JointKind::Ball => 0,
                    _ => continue,
                };
            let norm = x[at..at + 4].iter().map(|x| x * x).sum::<f64>().sqrt();
            if (norm - 1.0).abs() > 1e-6 {
                let name = &body.name;
                return Err(
                    self.wrong(node, format!("the orientation of `{name}` (x, y, z, w) has norm {norm}, not 1"))
                );
            }
        }
        Ok(x)
    }

    fn features(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<Feature>> {
        let mut features = Vec::new();
        for item in self.list(node)? {
            let (name, inside) = self.item(item)?;
            let feature = self.feature(item, name, inside, joints)?;
            if feature.source() == Source::Root && !joints.has_free_root() {
                return Err(self.wrong(item, format!("`{name}` is one of a free root, which the robot has not")));
            }
            features.push(feature);
        }
        Ok(features)
    }

    fn feature(self, item: &'a SpecNode, name: &str, inside: Option<&'a SpecNode>, joints: &Joints) -> Read<Feature> {
        let plain = |feature| match inside {
            None => Ok(feature),
            Some(node) => Err(self.wrong(node, format!("nothing belongs to `{name}`"))),
        };
        // A bare word is one with nothing inside.
        let fields = || match inside {
            Some(node) => self.fields(node),
            None => Ok(Fields { reader: self, node: item, entries: &[], asked: RefCell::default() }),
        };
        let feature = match name {
            "height" => return plain(Feature::Height),
            "rotation" => return plain(Feature::Rotation),
            "linear_velocity" => return plain(Feature::LinearVelocity),
            "angular_velocity" => return plain(Feature::AngularVelocity),
            "up" => return plain(Feature::Up),
            "coordinates" => {
                let f = fields()?;
                let b = self.bodies(&f, joints)?;
                f.finish()?;
                self.not_of_root(item, &b, joints)?;
                self.moving(item, &b, joints)?;
                let (first, end) = (joints.q[b.start], joints.q[b.end]);
                Feature::Coordinates { first, count: end - first }
            }
            "velocities" => {
                let f = fields()?;
                let (b, scale) = (self.bodies(&f, joints)?, f.number("scale", 1.0)?);
                f.finish()?;
                self.not_of_root(item, &b, joints)?;
                self.moving(item, &b, joints)?;
                let (first, end) = (joints.qd[b.start], joints.qd[b.end]);
                Feature::Velocities { first, count: end - first, scale }
            }
            "heading" => {
                let f = fields()?;
                let at = f.need("target")?;
                let [x, z] = self.list(at)? else { return Err(self.wrong(at, "a target is [x, z] on the ground")) };
                f.finish()?;
                Feature::Heading { target: [self.number(x)?, self.number(z)?] }
            }
            "sine" | "cosine" => {
                let f = fields()?;
                let at = f.need("of")?;
                let b = self.bodies(&f, joints)?;
                f.finish()?;
                if joints.robot.bodies[b.start].joint.kind != JointKind::Hinge {
                    return Err(self.wrong(at, "only a hinge has an angle"));
                }
                let of = joints.q[b.start];
                if name == "sine" { Feature::Sine { of } } else { Feature::Cosine { of } }
            }
            "action" => {
                let f = fields()?;
                let shown = f.flag("when", true)?;
                f.finish()?;
                Feature::Action { shown }
            }
            _ => return Err(self.unknown(item, "feature", name, &FEATURES)),
        };
        Ok(feature)
    }

    fn not_of_root(self, item: &SpecNode, bodies: &std::ops::Range<usize>, joints: &Joints) -> Read<()> {
        let free = joints.robot.bodies[bodies.clone()].iter().find(|b| b.joint.kind == JointKind::Free);
        let Some(body) = free else { return Ok(()) };
        let shown = "height, rotation, linear_velocity, angular_velocity, up and heading";
        Err(self.wrong(item, format!("the joint of `{}` is free\n  it is shown by {shown}", body.name)))
    }

    /// Refuses bodies whose joints are all fixed: they have no coordinate.
    fn moving(self, item: &SpecNode, bodies: &std::ops::Range<usize>, joints: &Joints) -> Read<()> {
        if joints.qd[bodies.start] < joints.qd[bodies.end] {
            return Ok(());
        }
        let name = &joints.robot.bodies[bodies.start].name;
        Err(self.wrong(item, format!("the joint of `{name}` is fixed\n  name a body whose joint moves")))
    }

    fn noise(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<Draw>> {
        let f = self.fields(node)?;
        let on = f.flag("when", true)?;
        let draws = self.list(f.need("draws")?)?.iter().map(|n| self.draw(n, joints)).collect::<Read<Vec<_>>>()?;
        f.finish()?;
        Ok(if on { draws } else { vec![] })
    }

    fn draw(self, item: &'a SpecNode, joints: &Joints) -> Read<Draw> {
        let (name, inside) = self.item(item)?;
        let inside = inside.ok_or_else(|| self.wrong(item, format!("write how wide: `- {name}: 0.1`")))?;
        // One number, or a mapping with `width` and what it is of.
        let fields = match &inside.data {
            Data::Map(_) => Some(self.fields(inside)?),
            _ => None,
        };
        let width = match &fields {
            Some(f) => self.number(f.need("width")?)?,
            None => self.number(inside)?,
        };
        let bodies = match &fields {
            Some(f) => Some(self.bodies(f, joints)?),
            None => None,
        };
        let root = || {
            if joints.has_free_root() { Ok(()) } else { Err(self.wrong(item, "the robot has no free root to move")) }
        };
        let all = 0..joints.robot.bodies.len();
        let draw = match name {
            "position" => {
                root()?;
                if let Some(f) = &fields {
                    return Err(self.wrong(f.node, "a position is the root's\n  write one number: `- position: 0.1`"));
                }
                Draw::Position { width }
            }
            "rotation" => match &bodies {
                Some(b) if joints.robot.bodies[b.start].joint.kind == JointKind::Ball => {
                    Draw::Rotation { at: joints.q[b.start], degrees: width }
                }
                Some(_) => return Err(self.wrong(inside, "only a ball joint, or the root, turns freely")),
                None => {
                    root()?;
                    Draw::Rotation { at: 3, degrees: width }
                }
            },
            "coordinates" => {
                let b = bodies.unwrap_or(all);
                let which: Vec<_> = joints.simple().filter(|i| b.contains(i)).map(|i| joints.q[i]).collect();
                if which.is_empty() {
                    return Err(self.wrong(item, "none of these joints is a hinge or a slide\n  name a body on one"));
                }
                Draw::Coordinates { which, width }
            }
            "velocities" => {
                let b = bodies.unwrap_or(all);
                self.moving(item, &b, joints)?;
                Draw::Velocities { which: (joints.qd[b.start]..joints.qd[b.end]).collect(), width }
            }
            _ => return Err(self.unknown(item, "noise", name, &DRAWS)),
        };
        if let Some(f) = fields {
            f.finish()?;
        }
        Ok(draw)
    }

    fn returns(self, node: &'a SpecNode) -> Read<Vec<KnownReturn>> {
        let each = |node| {
            let f = self.fields(node)?;
            let policy = self.text(f.need("policy")?)?.to_owned();
            let low = self.number(f.need("from")?)?;
            let (high, draw) = (f.number("to", low)?, f.flag("draw", false)?);
            f.finish()?;
            Ok(KnownReturn { policy, low, high, draw })
        };
        self.list(node)?.iter().map(each).collect()
    }
}

/// The entries of an observation by name.
struct Entries<'a> {
    reader: Reader<'a>,
    observation: &'a Observation,
    joints: &'a Joints,
}

impl<'a> Entries<'a> {
    /// The entry that a node names: its number, a feature of one number, or `feature.part`, where a part is x, y, z or
    /// w, a number from 0 on, or the body of a joint.
    fn entry(&self, node: &'a SpecNode) -> Read<usize> {
        let width = self.observation.width();
        if let Data::Scalar(Value::Int(i)) = node.data {
            return match usize::try_from(i) {
                Ok(i) if i < width => Ok(i),
                _ => Err(self
                    .reader
                    .wrong(node, format!("the observation has no entry {i}\n  they are 0 to {}", width - 1))),
            };
        }
        let text = self.reader.text(node)?;
        let (name, part) = text.split_once('.').map_or((text, None), |(n, p)| (n, Some(p)));
        let mut at = 0;
        for &feature in &self.observation.features {
            let width = feature.width(self.observation.actions);
            if feature.name() == name {
                let found = match part {
                    None if width == 1 => Some(0),
                    None => None,
                    Some(part) => self.part(feature, part).filter(|i| *i < width),
                };
                if let Some(i) = found {
                    return Ok(at + i);
                }
            }
            at += width;
        }
        let known: Vec<&str> = self.observation.features.iter().map(|f| f.name()).collect();
        if known.contains(&name) {
            let body = self.joints.robot.bodies.iter().find(|b| part == Some(b.name.as_str()));
            let kind = match body.map(|b| b.joint.kind) {
                Some(JointKind::Fixed) => Some("is fixed and has no coordinate"),
                Some(JointKind::Ball | JointKind::Free) => Some("has several coordinates"),
                _ => None,
            };
            let why = match (body, kind) {
                (Some(b), Some(kind)) => format!(": the joint of `{}` {kind}", b.name),
                _ => String::new(),
            };
            let text =
                format!("`{text}` is no single entry{why}\n  say which, as in `{name}.x`, `{name}.0` or `{name}.BODY`");
            return Err(self.reader.wrong(node, text));
        }
        Err(self.reader.unknown(node, "feature", name, &known))
    }

    fn part(&self, feature: Feature, part: &str) -> Option<usize> {
        if let Some(i) = ["x", "y", "z", "w"].iter().position(|p| *p == part) {
            return Some(i);
        }
        if let Ok(i) = part.parse() {
            return Some(i);
        }
        let bodies = &self.joints.robot.bodies;
        let body = bodies.iter().position(|b| b.name == part)?;
        // A body's name stands for one number: that of a joint that has one.
        if !matches!(bodies[body].joint.kind, JointKind::Hinge | JointKind::Slide) {
            return None;
        }
        match feature {
            Feature::Coordinates { first, .. } => self.joints.q[body].checked_sub(first),
            Feature::Velocities { first, .. } => self.joints.qd[body].checked_sub(first),
            Feature::Sine { of } | Feature::Cosine { of } => (self.joints.q[body] == of).then_some(0),
            _ => None,
        }
    }

    /// The terms of a summand: one, or the factors of a product.
    fn summand(&self, item: &'a SpecNode) -> Read<Vec<Term>> {
        let r = self.reader;
        let (name, inside) = r.item(item)?;
        let (true, Some(factors)) = (name == "product", inside) else { return Ok(vec![self.term(item)?]) };
        let mut terms = Vec::new();
        for factor in r.list(factors)? {
            match self.term(factor)? {
                Term::Tolerance(t) => terms.push(Term::Tolerance(Tolerance { times_next: true, ..t })),
                _ => return Err(r.wrong(factor, "only tolerances can be factors of a product")),
            }
        }
        match terms.last_mut() {
            Some(Term::Tolerance(last)) => last.times_next = false,
            _ => return Err(r.wrong(factors, "a product has at least one factor")),
        }
        Ok(terms)
    }

    fn term(&self, item: &'a SpecNode) -> Read<Term> {
        let r = self.reader;
        let (name, inside) = r.item(item)?;
        let node = inside.ok_or_else(|| r.wrong(item, format!("write what it is of: `- {name}: {{...}}`")))?;
        let f = r.fields(node)?;
        let of = || self.entry(f.need("of")?);
        let range = || {
            let (low, high) = (f.number("low", f64::NEG_INFINITY)?, f.number("high", f64::INFINITY)?);
            if low > high {
                return Err(r.wrong(node, format!("`low` ({low}) is above `high` ({high})\n  exchange them")));
            }
            Read::Ok((low, high))
        };
        let term = match name {
            "linear" => {
                let (low, high) = range()?;
                Term::Linear {
                    of: of()?,
                    weight: f.number("weight", 1.0)?,
                    offset: f.number("offset", 0.0)?,
                    low,
                    high,
                }
            }
            "clipped_quadratic" => {
                let (low, high) = range()?;
                let (below, above) = (r.number(f.need("below")?)?, r.number(f.need("above")?)?);
                Term::ClippedQuadratic { of: of()?, offset: f.number("offset", 0.0)?, low, high, below, above }
            }
            "angle" => {
                let at = f.need("scale")?;
                let scale = r.number(at)?;
                if scale == 0.0 {
                    return Err(r.wrong(at, "the angle at which it is zero is not zero itself"));
                }
                Term::Angle { of: of()?, offset: f.number("offset", 0.0)?, scale }
            }
            "squared" => {
                Term::Squared { of: of()?, offset: f.number("offset", 0.0)?, weight: r.number(f.need("weight")?)? }
            }
            "wrapped_angle" => Term::WrappedAngle {
                sine: self.entry(f.need("sine")?)?,
                cosine: self.entry(f.need("cosine")?)?,
                weight: r.number(f.need("weight")?)?,
            },
            "tolerance" => {
                let (low, high) = range()?;
                let share = |name: &'static str, default: f64| {
                    let x = f.number(name, default)?;
                    let inside = (0.0..1.0).contains(&x);
                    if inside { Ok(x) } else { Err(r.wrong(node, format!("`{name}` is from 0 to below 1, not {x}"))) }
                };
                let margin = f.number("margin", 0.0)?;
                if margin < 0.0 {
                    return Err(r.wrong(node, format!("`margin` is a distance, not {margin}")));
                }
                let fall = match f.get("fall") {
                    None => Fall::LongTail,
                    Some(at) => {
                        let (name, names) = (r.text(at)?, Fall::ALL.map(|(name, _)| name));
                        let found = Fall::ALL.into_iter().find(|(n, _)| *n == name);
                        found.ok_or_else(|| r.unknown(at, "fall", name, &names))?.1
                    }
                };
                let at_margin = share("at_margin", 0.1)?;
                if fall == Fall::LongTail && at_margin == 0.0 {
                    return Err(r.wrong(node, "a long tail never ends: `at_margin` is more than 0"));
                }
                Term::Tolerance(Tolerance {
                    of: of()?,
                    low,
                    high,
                    margin,
                    at_margin,
                    fall,
                    least: share("least", 0.0)?,
                    times_next: false,
                })
            }
            "product" => return Err(r.wrong(item, "a product is a summand of its own, not a factor")),
            "action_cost" => Term::ActionCost { weight: r.number(f.need("weight")?)? },
            _ => return Err(r.unknown(item, "term", name, &TERMS)),
        };
        f.finish()?;
        Ok(term)
    }

    fn termination(&self, node: &'a SpecNode) -> Read<Option<Termination>> {
        let r = self.reader;
        let f = r.fields(node)?;
        let entry = self.entry(f.need("of")?)?;
        let below = r.number(f.need("below")?)?;
        let on = f.flag("when", true)?;
        f.finish()?;
        Ok(on.then_some(Termination { entry, below }))
    }
}
