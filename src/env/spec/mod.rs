//! Reads a task from the part `spec` of an environment's file. `configs/env/ant.yaml` shows its shape.
//!
//! A number may be the name of a setting, which then decides it. Whatever is wrong is refused with its place and what
//! would be right.
//!
//! | file | what it reads |
//! |---|---|
//! | `reader` | numbers, texts, lists and mappings |
//! | `robot` | the robot, its constants, what drives it |
//! | `mujoco` | a task under MuJoCo's law |
//! | `observation`, `reward`, `start` | what is shown, what is rewarded and ends an episode, how one starts |

mod mujoco;
mod observation;
mod reader;
mod reward;
mod robot;
mod start;

use super::dflex::DflexSpec;
use super::feature::Observation;
use super::reset::Reset;
use super::task::{KnownReturn, MOST_ENTRIES, Task, TaskSpec};
use crate::config::spec::{Spec, SpecNode};
use crate::config::{Broken, Config, ConfigError, ConfigErrors, Shipped, ShippedKind};
use crate::sim::mjcf::Lowered;
use crate::sim::{Articulation, robots};
use observation::Entries;
use reader::{Fields, Read, Reader};
use robot::{Joints, OwnRobot};
use std::path::Path;

impl Task {
    /// The task that a configuration describes; of several the first.
    ///
    /// # Errors
    /// What is wrong with its specification, and where.
    pub fn from_config(c: &Config) -> Result<Self, ConfigErrors> {
        if let [first, _, ..] = &c.env_names()[..] {
            return Self::from_config(&c.of_env(first));
        }
        let robot = |name: &str| robots::by_name(name).map(|r| r.welded(c.inertia));
        match &c.spec {
            Some(own) => Self::read(own, c, robot),
            None => {
                // A file without a specification has settings for the default task.
                let is_file = c.env.ends_with(".yaml") || c.env.ends_with(".yml");
                let default = is_file.then(|| Shipped::default(ShippedKind::Env));
                let shipped = Shipped::find(ShippedKind::Env, &c.env).or(default);
                let spec = shipped.and_then(Shipped::spec).ok_or_else(|| {
                    let rule = Broken {
                        keys: vec!["env"],
                        problem: format!("`{}` is no environment that this program has", c.env),
                        remedy: "name one that `pwm config list` shows, or a file".into(),
                    };
                    ConfigErrors::from(ConfigError::Rule { rule, from: vec![] })
                })?;
                Self::read(&spec, c, robot)
            }
        }
    }

    /// The task of a specification, on a robot that `robot` knows by name; `c` has the settings that it refers to.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(spec: &Spec, c: &Config, robot: impl Fn(&str) -> Option<Articulation>) -> Result<Self, ConfigErrors> {
        Ok(Reader { spec, config: c }.task(robot)?)
    }
}

impl<'a> Reader<'a> {
    fn task(self, robot: impl Fn(&str) -> Option<Articulation>) -> Read<Task> {
        let f = self.fields(&self.spec.root)?;
        // The published code's name for it is read with the configuration.
        f.get("published");
        let law = f.get("physics");
        let (name, names) = (law.map_or(Ok("dflex"), |n| self.text(n))?, ["dflex", "mujoco"]);
        match (name, law) {
            ("dflex", _) => self.under_dflex(f, robot),
            ("mujoco", _) => self.under_mujoco(f),
            (_, Some(node)) => Err(self.unknown(node, "law", name, &names)),
            (_, None) => unreachable!("invariant: a law that is not named is dflex"),
        }
    }

    /// What every task says: `f` is asked for all of it.
    fn common(self, f: &Fields<'a>, robot: Articulation, dt: f64) -> Read<TaskSpec> {
        let c = self.config;
        let returns = f.get("returns").map_or(Ok(vec![]), |n| self.returns(n))?;
        let name = Path::new(&c.env).file_stem().and_then(|s| s.to_str()).unwrap_or(&c.env).to_owned();
        let title = f.get("title").map_or(Ok(name.as_str()), |n| self.text(n))?.to_owned();
        Ok(TaskSpec { name, title, robot, dt, episode_length: c.episode_length, returns })
    }

    fn under_dflex(self, f: Fields<'a>, robot: impl Fn(&str) -> Option<Articulation>) -> Read<Task> {
        let c = self.config;
        let named = f.need("robot")?;
        let (name, robot, own) = self.robot(named, robot)?;
        let robot = self.constants(&f, named, robot, own.is_some())?;
        robot.validate().map_err(|e| self.wrong(named, format!("the robot `{name}` cannot be simulated: {e}")))?;
        let (q, qd) = robot.offsets();
        let joints = Joints { robot, q, qd };

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
        let spec = self.common(&f, joints.robot, 1.0 / per_second)?;
        f.finish()?;
        let law = DflexSpec {
            inertia: c.inertia,
            subgradient: c.subgradient,
            substeps,
            mass_matrix_every: c.mm_caching_frequency.clamp(1, substeps),
            reference_point: c.reference_point,
            drives,
            observation,
            terms,
            termination,
            reset: Reset { start, draws },
        };
        Ok(Task::under_dflex(spec, law))
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
