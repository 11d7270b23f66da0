//! Ant steps a second on one thread, as a training epoch takes them: dynamics, observation, reward, resets.

use super::measure::{Timing, repeat, timed};
use crate::algo::pwm::trainer::TrainError;
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::{Philox, Stream};
use crate::env::ant::ACT;
use crate::env::step::{EnvVars, Mode, ant_from_config};
use crate::tape::{DType, Machine, Program, Region, Vars};
use std::sync::Arc;

/// Steps of one run of the program.
const STEPS: usize = 16;
/// Runs before the first timed one: the Ant has fallen from its start height and its feet touch the ground.
const SETTLE: usize = 4;

/// Seconds of one step of `envs` environments under random actions.
pub fn env(c: &Config, envs: usize, seconds: f64) -> Result<Timing, TrainError> {
    let mut vars = Vars::default();
    let random = Philox::new(c.seed, Stream::Test);
    let env = EnvVars::new(&mut vars, "env", Arc::new(ant_from_config(c)), envs, Mode::Train, random);
    let actions = vars.add(Region::Exchange, "actions", DType::Real, &[STEPS, envs, ACT]);
    let (mut begin, mut steps) = (Program::new("env_begin"), Program::new("env_steps"));
    env.reset(&mut begin, &vars);
    let all = steps.var(&vars, actions);
    for i in 0..STEPS {
        let action = steps.at(all, i);
        env.step(&mut steps, &vars, action, None);
    }
    let mut machine = Machine::<f32>::new(vars, vec![begin, steps], Arc::new(Team::new(1)?))?;
    for (i, a) in machine.real_mut(actions).iter_mut().enumerate() {
        *a = 2.0 * random.uniform(0, i as u32) as f32 - 1.0;
    }
    machine.run(machine.program(0))?;
    let steps = machine.program(1);
    (0..SETTLE).try_for_each(|_| machine.run(steps))?;
    let t = repeat(seconds, || timed(|| machine.run(steps)))?;
    let each = |x: f64| x / STEPS as f64;
    Ok(Timing { median: each(t.median), min: each(t.min), max: each(t.max), n: t.n })
}
