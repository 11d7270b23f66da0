//! A task under MuJoCo's law: what is shown and rewarded are formulas of the new state, there is no gradient.
//!
//! An environment step is `repeat` control steps with one action, whose rewards are added; a control step is `substeps`
//! physics steps. The rules are those of dm_control and of TD-MPC2's wrapper of it.
//!
//! | file | what |
//! |---|---|
//! | [`formula`] | formulas, from their text to their value |
//! | [`reading`] | what can be read of a state |
//! | [`start`] | how episodes start |
//! | `rows` | rows of environments, in lanes or one by one |

pub mod formula;
pub mod reading;
mod rows;
pub mod start;

pub(super) use rows::{MujocoReal, START_STACK};

use super::task::{EnvSizes, MOST_ENTRIES};
use crate::device::cpu::lanes::Lanes8;
use crate::sim::SimScalar;
use crate::sim::mujoco::size::{CLASSES, Size};
use crate::sim::mujoco::touch::TouchSensor;
use crate::sim::mujoco::{Law, Scratch, System};
use formula::Formula;
use reading::Reading;
use start::Start;

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::{Avx8, avx2_fma};

/// Numbers of a goal, and numbers drawn once an episode, at most.
pub const MOST_GOALS: usize = 8;
pub const MOST_DRAWN: usize = 16;
/// Touch sensors at most.
pub const MOST_SENSORS: usize = 8;
const MOST_COORDINATES: usize = CLASSES[CLASSES.len() - 1].coordinates + MOST_GOALS;
const MOST_VELOCITIES: usize = CLASSES[CLASSES.len() - 1].velocities;
/// Entries of an action at most.
pub const MOST_ACTIONS: usize = MOST_VELOCITIES;

/// What a task says beside what it says under any law.
#[derive(Clone, Debug)]
pub struct MujocoSpec {
    pub system: System,
    /// Physics steps of a control step, and control steps of an environment step.
    pub substeps: usize,
    pub repeat: usize,
    /// What its formulas read.
    pub readings: Vec<Reading>,
    pub sensors: Vec<TouchSensor<f64>>,
    pub observation: Vec<Formula>,
    /// Of the state after each control step.
    pub reward: Formula,
    pub start: Start,
}

/// The law and its sensors in one number type.
#[derive(Clone, Debug)]
struct Compiled<S> {
    law: Law<S>,
    sensors: Vec<TouchSensor<S>>,
}

impl<S: SimScalar> Compiled<S> {
    fn of(spec: &MujocoSpec) -> Self {
        Self { law: spec.system.law_in(), sensors: spec.sensors.iter().map(TouchSensor::cast).collect() }
    }

    /// What every sensor felt in the step that `room` holds.
    #[inline(always)]
    fn feel<const B: usize, const D: usize, const R: usize>(&self, room: &Scratch<S, B, D, R>, into: &mut [S]) {
        for (into, sensor) in into.iter_mut().zip(&self.sensors) {
            *into = sensor.read(room.view(), &room.rows, &room.row_force);
        }
    }
}

/// Its robot compiled for every number type that it is stepped in.
#[derive(Clone)]
pub struct MujocoTask {
    pub spec: MujocoSpec,
    pub sizes: EnvSizes,
    class: usize,
    f64: Compiled<f64>,
    lanes: Compiled<Lanes8>,
    /// Present where the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    avx: Option<Compiled<Avx8>>,
}

impl MujocoTask {
    /// Compiles the robot of a specification that [`super::spec`] found right.
    ///
    /// # Panics
    /// If the robot or the observation is larger than any that can be stepped.
    pub(super) fn new(spec: MujocoSpec) -> Self {
        let law = &spec.system.law;
        let sizes = EnvSizes {
            obs: spec.observation.len(),
            act: law.actuators.len(),
            nq: law.model.coordinates + spec.start.goal.len(),
            nqd: law.model.velocities,
        };
        assert!(sizes.obs <= MOST_ENTRIES, "invariant: a specification's observation has room");
        Self {
            sizes,
            class: Size::of(law).class().expect("invariant: a specification's robot has room"),
            f64: Compiled::of(&spec),
            lanes: Compiled::of(&spec),
            #[cfg(target_arch = "x86_64")]
            avx: avx2_fma().then(|| Compiled::of(&spec)),
            spec,
        }
    }

    /// Philox blocks (of four uniforms) that a start takes.
    pub(super) fn start_blocks(&self) -> u32 {
        self.spec.start.blocks()
    }
}
