//! A task under MuJoCo's law: its system, what is drawn at the start, and formulas of what is shown and rewarded.

use super::reader::{Fields, Read, Reader};
use crate::config::spec::{Data, SpecNode};
use crate::config::{ConfigError, Value as Scalar};
use crate::env::mujoco::formula::{Formula, Names, Value, is_reserved, parse};
use crate::env::mujoco::reading::{Axis, MOST_READINGS, Reading};
use crate::env::mujoco::start::Start;
use crate::env::mujoco::{MOST_ACTIONS, MOST_DRAWN, MOST_GOALS, MOST_SENSORS, MujocoSpec};
use crate::env::task::{Law, MOST_ENTRIES, Task};
use crate::sim::mjcf::Mjcf;
use crate::sim::mjcf::model::{Integrator, JointType};
use crate::sim::mujoco::compile::{JointSeat, Seat, System};
use crate::sim::mujoco::size::Size;
use crate::sim::mujoco::touch::TouchSensor;
use crate::sim::robots::mujoco::{SYSTEMS, system};
use std::path::Path;

impl<'a> Reader<'a> {
    pub(super) fn under_mujoco(self, f: Fields<'a>) -> Read<Task> {
        let robot = f.need("robot")?;
        let system = self.system(&f, robot)?;
        let class = Size::of(&system.law).class();
        class.map_err(|e| self.wrong(robot, format!("the robot has no room: {e}")))?;
        let actions = system.law.actuators.len();
        if actions == 0 {
            return Err(self.wrong(robot, "the robot has nothing to drive\n  give it an actuator"));
        }
        if actions > MOST_ACTIONS {
            return Err(self.wrong(robot, format!("the robot has {actions} actuators\n  room is for {MOST_ACTIONS}")));
        }
        let count = |name, most| f.get(name).map_or(Ok(1), |n| self.count(n, most));
        let (substeps, repeat) = (count("substeps", 1024)?, count("action_repeat", 64)?);
        let dt = system.law.timestep * (substeps * repeat) as f64;

        let mut s = Shown { system: &system, readings: vec![], sensors: vec![], goals: 0, named: vec![], draws: false };
        let started = f.get("start");
        let (mut start, accepted) = self.mujoco_start(started, &mut s)?;
        s.goals = start.goal.len();
        for (name, node) in f.get("let").map_or(Ok(&[][..]), |n| self.map(n))? {
            let value = self.formula(node, &mut s)?;
            self.new_name(&s, name, node)?;
            s.named.push((name.clone(), value));
        }
        let mut observation = vec![];
        let shown = f.need("observation")?;
        for item in self.list(shown)? {
            observation.extend(self.formula(item, &mut s)?);
        }
        if observation.is_empty() || observation.len() > MOST_ENTRIES {
            let n = observation.len();
            return Err(
                self.wrong(shown, format!("the observation has {n} entries\n  room is for 1 to {MOST_ENTRIES}"))
            );
        }
        let reward = self.one(f.need("reward")?, &mut s)?;
        // It reads the state too, and of names those that were drawn.
        if let Some((node, drawn)) = accepted {
            s.named = drawn;
            start.accepted = Some(self.one(node, &mut s)?);
        }
        let Shown { readings, sensors, .. } = s;
        let sensors: Vec<_> = sensors.into_iter().map(|(_, sensor)| sensor).collect();
        for (what, has, room) in
            [("numbers of the state", readings.len(), MOST_READINGS), ("touch sensors", sensors.len(), MOST_SENSORS)]
        {
            if has > room {
                return Err(self.wrong(shown, format!("the task reads {has} {what}\n  room is for {room}")));
            }
        }
        let spec = self.common(&f, system.robot.clone(), dt)?;
        f.finish()?;
        let law = MujocoSpec { system, substeps, repeat, readings, sensors, observation, reward, start };
        let task = Task::under_mujoco(spec, law);
        match &task.law {
            Law::Mujoco(law) if !law.has_starts() => {
                let message = "no start of ten thousand is as it is asked for\n  look at `untouched` and `accepted`";
                Err(self.wrong(started.unwrap_or(shown), message))
            }
            _ => Ok(task),
        }
    }

    /// The robot that `node` names, with the changes that the task asks for.
    fn system(self, f: &Fields<'a>, node: &'a SpecNode) -> Read<System> {
        let (called, file, text) = match &node.data {
            Data::Map(_) => {
                let f = self.fields(node)?;
                let (name, xml) = (self.text(f.need("file")?)?, self.text(f.need("xml")?)?);
                f.finish()?;
                (name, self.spec.folder().join(name).display().to_string(), xml)
            }
            _ => {
                let name = self.text(node)?;
                let known = SYSTEMS.map(|(name, _)| name);
                let text = system(name).ok_or_else(|| self.unknown(node, "robot under MuJoCo's law", name, &known))?;
                (name, format!("{name}.xml"), text)
            }
        };
        let wrong = |e: crate::sim::mjcf::MjcfError| {
            let (place, message) = (e.location(), e.message);
            Box::new(ConfigError::Syntax { place, message })
        };
        let mut read = Mjcf::read(&file, text).map_err(wrong)?;
        for (name, value) in f.get("damping").map_or(Ok(&[][..]), |n| self.map(n))? {
            let damping = self.number(value)?;
            if damping < 0.0 {
                return Err(self.wrong(value, "damping is not negative"));
            }
            let mut joints = read.bodies.iter_mut().flat_map(|b| &mut b.joints);
            let Some(joint) = joints.find(|j| j.name.as_ref() == Some(name)) else {
                return Err(self.wrong(value, format!("there is no joint `{name}`")));
            };
            joint.damping.value = damping;
        }
        let mut system = read.compile(self.config.mujoco_version).map_err(wrong)?;
        // Wherever the file lies.
        system.robot.name = Path::new(called).file_stem().and_then(|s| s.to_str()).unwrap_or(called).to_owned();
        Ok(system)
    }

    fn map(self, node: &'a SpecNode) -> Read<&'a [(String, SpecNode)]> {
        match &node.data {
            Data::Map(entries) => Ok(entries),
            _ => Err(self.wrong(node, "this is a mapping\n  write lines `name: value`, or {name: value, ...}")),
        }
    }

    fn formula(self, node: &'a SpecNode, names: &mut impl Names) -> Read<Value> {
        let text = match &node.data {
            Data::Scalar(Scalar::Text(text)) => text.clone(),
            Data::Scalar(number) => number.to_string(),
            _ => return Err(self.wrong(node, "this is a formula, as in `2*action.x + 1`")),
        };
        parse(&text, names).map_err(|e| self.wrong(node, e))
    }

    /// A formula of one number.
    fn one(self, node: &'a SpecNode, names: &mut impl Names) -> Read<Formula> {
        let value = self.formula(node, names)?;
        let n = value.len();
        <[Formula; 1]>::try_from(value).map(|[one]| one).map_err(|_| {
            self.wrong(
                node,
                format!("this is one number, not {n}\n  take one of them, as in `goal.x`, or their `length`"),
            )
        })
    }

    fn new_name(self, s: &Shown, name: &str, node: &SpecNode) -> Read<()> {
        let starts = name.starts_with(|c: char| c.is_alphabetic());
        let is_word = starts && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let taken = is_reserved(name) || WORDS.contains(&name) || FUNCTIONS.contains(&name);
        if !is_word || taken || s.named.iter().any(|(known, _)| known == name) {
            let message =
                format!("`{name}` cannot be named\n  take a word of letters, digits and _ that means nothing yet");
            return Err(self.wrong(node, message));
        }
        Ok(())
    }

    /// How an episode starts, but for `accepted`: its place, and the names that it knows beside those of a state.
    fn mujoco_start(self, node: Option<&'a SpecNode>, s: &mut Shown) -> Read<(Start, Option<Accepted<'a>>)> {
        let system = s.system;
        let mut start = Start {
            pose: system.start.clone(),
            drawn: vec![],
            coordinates: vec![],
            velocities: vec![],
            turned: vec![],
            goal: vec![],
            untouched: false,
            accepted: None,
            settle: 0,
        };
        let Some(node) = node else { return Ok((start, None)) };
        let f = self.fields(node)?;
        s.draws = true;
        for (i, (name, node)) in f.get("drawn").map_or(Ok(&[][..]), |n| self.map(n))?.iter().enumerate() {
            if i == MOST_DRAWN {
                return Err(self.wrong(node, format!("room is for {MOST_DRAWN} numbers that are drawn")));
            }
            start.drawn.push(self.one(node, s)?);
            self.new_name(s, name, node)?;
            s.named.push((name.clone(), vec![Formula::drawn(i)]));
        }
        let words = |f: &Fields<'a>, name| match f.get(name) {
            None => Ok(vec![]),
            Some(n) => self.list(n)?.iter().map(|n| Ok((n, self.text(n)?))).collect::<Read<Vec<_>>>(),
        };
        for (node, name) in words(&f, "within_ranges")? {
            let joint = s.joint(name).map_err(|e| self.wrong(node, e))?;
            let Some([low, high]) = joint.range else {
                return Err(self
                    .wrong(node, format!("the joint `{name}` has no range\n  give it a formula under `coordinates`")));
            };
            start.coordinates.push((joint.q, Formula::uniform(low, high)));
        }
        for (name, node) in f.get("coordinates").map_or(Ok(&[][..]), |n| self.map(n))? {
            let joint = s.joint(name).map_err(|e| self.wrong(node, e))?;
            let all = match &node.data {
                Data::List(items) => {
                    items.iter().map(|n| self.formula(n, s)).collect::<Read<Vec<_>>>()?.into_iter().flatten().collect()
                }
                _ => self.formula(node, s)?,
            };
            let room = if joint.kind == JointType::Free { 3 } else { 1 };
            if all.len() != room {
                return Err(self.wrong(
                    node,
                    format!(
                        "{} numbers for {room} coordinates\n  a free joint takes three formulas, [x, y, z], others one",
                        all.len()
                    ),
                ));
            }
            start.coordinates.extend((joint.q..).zip(all));
        }
        let seats: Vec<usize> = start.coordinates.iter().map(|(q, _)| *q).collect();
        if let Some(k) = (1..seats.len()).find(|&k| seats[..k].contains(&seats[k])) {
            let joint = system.joints.iter().find(|j| j.q == seats[k]).and_then(|j| j.name.as_deref()).unwrap_or("");
            return Err(self.wrong(node, format!("the joint `{joint}` is set twice\n  keep one of the two")));
        }
        for (name, node) in f.get("velocities").map_or(Ok(&[][..]), |n| self.map(n))? {
            let joint = s.joint(name).map_err(|e| self.wrong(node, e))?;
            if joint.kind == JointType::Free {
                return Err(self.wrong(node, "what is free starts at rest\n  leave it out"));
            }
            start.velocities.push((joint.dof, self.one(node, s)?));
        }
        for (node, name) in words(&f, "turned")? {
            let joint = s.joint(name).map_err(|e| self.wrong(node, e))?;
            if joint.kind != JointType::Free {
                return Err(self.wrong(node, format!("the joint `{name}` is not free to turn")));
            }
            start.turned.push(joint.q + 3);
        }
        for node in f.get("goal").map_or(Ok(&[][..]), |n| self.list(n))? {
            start.goal.extend(self.formula(node, s)?);
            if start.goal.len() > MOST_GOALS {
                return Err(self.wrong(node, format!("room is for {MOST_GOALS} numbers of a goal")));
            }
        }
        start.untouched = f.flag("untouched", false)?;
        let accepted = f.get("accepted");
        start.settle = f.get("settle").map_or(Ok(0), |n| self.count(n, 100_000))?;
        f.finish()?;
        s.draws = false;
        let drawn = std::mem::take(&mut s.named);
        Ok((start, accepted.map(|node| (node, drawn))))
    }
}

/// A formula that is read when all that it may read is known, and the names that are its own.
type Accepted<'a> = (&'a SpecNode, Vec<(String, Value)>);

/// What the words and functions of a task's formulas mean.
struct Shown<'s> {
    system: &'s System,
    readings: Vec<Reading>,
    sensors: Vec<(String, TouchSensor<f64>)>,
    goals: usize,
    named: Vec<(String, Value)>,
    /// Whether numbers may be drawn; then there is no state yet.
    draws: bool,
}

const FUNCTIONS: [&str; 9] =
    ["coordinate", "velocity", "rotation", "geom_rotation", "body", "geom", "site", "mass_centre", "touch"];
const WORDS: [&str; 3] = ["action", "goal", "mass_velocity"];

impl Shown<'_> {
    fn joint(&self, name: &str) -> Result<JointSeat, String> {
        let found = self.system.joints.iter().find(|j| j.name.as_deref() == Some(name));
        found.cloned().ok_or_else(|| missing("joint", name, self.system.joints.iter().map(|j| &j.name)))
    }

    fn reading(&mut self, reading: Reading) -> Formula {
        let at = self.readings.iter().position(|r| *r == reading).unwrap_or(self.readings.len());
        if at == self.readings.len() {
            self.readings.push(reading);
        }
        Formula::read(at)
    }

    /// A component of a vector that is fixed in the frame of a seat, as seen from the world.
    fn direction(&mut self, seat: Seat, axis: Axis, along: Axis) -> Formula {
        let direction = seat.frame.q.matrix().column(axis).array();
        match seat.link {
            Some(link) => self.reading(Reading::Direction { link, direction, along }),
            None => Formula::constant(direction[along]),
        }
    }

    fn place(&mut self, seat: Seat) -> Value {
        let point = seat.frame.p.array();
        (0..3)
            .map(|along| match seat.link {
                Some(link) => self.reading(Reading::Place { link, point, along }),
                None => Formula::constant(point[along]),
            })
            .collect()
    }

    fn body(&self, name: &str) -> Result<usize, String> {
        let at = self.system.bodies.iter().position(|b| b.name.as_deref() == Some(name));
        at.ok_or_else(|| missing("body", name, self.system.bodies.iter().map(|b| &b.name)))
    }

    fn geom(&self, name: &str) -> Result<Seat, String> {
        let found = self.system.geoms.iter().find(|g| g.name.as_deref() == Some(name));
        found.map(|g| g.seat).ok_or_else(|| missing("geom", name, self.system.geoms.iter().map(|g| &g.name)))
    }

    fn coordinates(&mut self, joint: &JointSeat) -> Value {
        let count = if joint.kind == JointType::Free { 3 } else { 1 };
        (joint.q..joint.q + count).map(|q| self.reading(Reading::Coordinate(q))).collect()
    }

    fn velocities(&mut self, joint: &JointSeat) -> Value {
        let count = if joint.kind == JointType::Free { 3 } else { 1 };
        let mut all: Value = (joint.dof..joint.dof + count).map(|d| self.reading(Reading::Velocity(d))).collect();
        if joint.kind == JointType::Free {
            // A free joint is three slides and a ball.
            let links = &self.system.law.model.links;
            let link =
                links.iter().position(|l| l.qd == joint.dof + 3).expect("invariant: a ball follows three slides");
            all.extend((0..3).map(|axis| self.reading(Reading::BodyRate { link, axis })));
        }
        all
    }

    /// Entries of the rotation of a frame: `xz` is row x, column z.
    fn entries(&mut self, seat: Seat, entries: &[&str]) -> Result<Value, String> {
        let axis = |c: char| "xyz".find(c);
        let each = |s: &mut Self, name: &str| {
            let mut letters = name.chars();
            let pair = (letters.next().and_then(axis), letters.next().and_then(axis), letters.next());
            let (Some(row), Some(column), None) = pair else {
                return Err(format!("a rotation has no entry `{name}`\n  one is row and column, as in `xz`"));
            };
            Ok(s.direction(seat, column, row))
        };
        if entries.is_empty() {
            return Err("say which entries of the rotation, as in `rotation(torso, zz)`".into());
        }
        entries.iter().map(|name| each(self, name)).collect()
    }

    fn touch(&mut self, site: &str) -> Result<Formula, String> {
        if self.system.law.integrator == Integrator::RungeKutta4 {
            return Err("nothing is felt under `RK4` here\n  take `Euler` in the robot's file".into());
        }
        let known = self.sensors.iter().position(|(name, _)| name == site);
        let at = known.unwrap_or(self.sensors.len());
        if known.is_none() {
            self.sensors.push((site.into(), TouchSensor::new(self.system, site)?));
        }
        Ok(self.reading(Reading::Touch(at)))
    }
}

fn missing<'n>(what: &str, name: &str, names: impl Iterator<Item = &'n Option<String>>) -> String {
    let near = crate::config::nearest(name, names.flatten().map(String::as_str));
    format!("there is no {what} `{name}`{}", near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?")))
}

impl Names for Shown<'_> {
    fn word(&mut self, name: &str) -> Option<Value> {
        if let Some((_, value)) = self.named.iter().find(|(n, _)| n == name) {
            return Some(value.clone());
        }
        if self.draws {
            return None;
        }
        let coordinates = self.system.law.model.coordinates;
        let all: Vec<Reading> = match name {
            "action" => (0..self.system.law.actuators.len()).map(Reading::Action).collect(),
            "goal" => (coordinates..coordinates + self.goals).map(Reading::Coordinate).collect(),
            "mass_velocity" => (0..3).map(Reading::MassVelocity).collect(),
            _ => return None,
        };
        (!all.is_empty()).then(|| all.into_iter().map(|r| self.reading(r)).collect())
    }

    fn takes_names(&self, function: &str) -> bool {
        !self.draws && FUNCTIONS.contains(&function)
    }

    fn call(&mut self, function: &str, names: &[&str]) -> Result<Value, String> {
        let Some((&first, rest)) = names.split_first() else { return Err(format!("`{function}` of nothing")) };
        let mut value = vec![];
        match function {
            "rotation" => {
                let body = self.body(first)?;
                return self.entries(self.system.bodies[body].seat, rest);
            }
            "geom_rotation" => {
                let geom = self.geom(first)?;
                return self.entries(geom, rest);
            }
            _ => {}
        }
        for name in names {
            value.extend(match function {
                "coordinate" => {
                    let joint = self.joint(name)?;
                    self.coordinates(&joint)
                }
                "velocity" => {
                    let joint = self.joint(name)?;
                    self.velocities(&joint)
                }
                "body" => {
                    let body = self.body(name)?;
                    self.place(self.system.bodies[body].seat)
                }
                "mass_centre" => {
                    let body = &self.system.bodies[self.body(name)?];
                    let Seat { link, frame } = body.seat;
                    let at = crate::sim::Transform { p: body.mass.com, q: crate::sim::Quat::identity() };
                    self.place(Seat { link, frame: frame * at })
                }
                "geom" => {
                    let geom = self.geom(name)?;
                    self.place(geom)
                }
                "site" => {
                    let found = self.system.sites.iter().find(|s| s.name.as_deref() == Some(name));
                    let site = found.ok_or_else(|| missing("site", name, self.system.sites.iter().map(|s| &s.name)))?;
                    self.place(site.seat)
                }
                _ => vec![self.touch(name)?],
            });
        }
        Ok(value)
    }

    fn may_draw(&self) -> bool {
        self.draws
    }

    fn why_not(&self, name: &str) -> Option<&'static str> {
        let of_state = WORDS.contains(&name) || FUNCTIONS.contains(&name);
        match (self.draws, name) {
            (true, _) if of_state => {
                Some("a start does not know the state\n  what depends on it stands under `accepted`")
            }
            (false, "goal") => Some("the task has no goal\n  `start: {goal: [...]}` gives it one"),
            _ => None,
        }
    }

    fn known(&self) -> Vec<String> {
        let own = self.named.iter().map(|(name, _)| name.clone());
        let of_state = WORDS.iter().chain(&FUNCTIONS).filter(|w| !self.draws && (**w != "goal" || self.goals > 0));
        let of_state = of_state.map(|w| (*w).to_owned());
        own.chain(of_state).collect()
    }
}
