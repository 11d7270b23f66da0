//! Steps of the environment a second on one thread or a GPU, as a training epoch takes them: dynamics, observation,
//! reward, resets; and as SHAC takes them, with the gradient of all that they earn.

use super::measure::{Measurement, repeat, timed};
use crate::algo::programs::Programs;
use crate::algo::{TrainError, target};
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::{Philox, Stream};
use crate::env::{EnvBatch, GradientBound, Mode};
use crate::ops::returns::{ActorLossSpec, Bootstrap, actor_loss};
use crate::tape::{DType, Machine, Placement, Program, Region, VarId, Vars, grad};
use std::sync::Arc;

/// Steps of one run of the program.
const STEPS: usize = 16;
/// Runs before the first timed one: the robot has fallen from its start height and touches the ground.
const SETTLE: usize = 4;

/// Seconds of one step of `envs` environments under random actions; with `adjoint` together with its share of the
/// gradient of the segment's reward with respect to every action.
pub fn env(c: &Config, envs: usize, adjoint: bool, seconds: f64) -> Result<Measurement, TrainError> {
    let mut vars = Vars::default();
    let random = Philox::new(c.seed, Stream::Test);
    let env = EnvBatch::of_config(&mut vars, "env", c, envs, Mode::Train, Stream::Test);
    let actions = vars.add(Region::RolloutBuffers, "actions", DType::Real, &[STEPS, envs, env.act_dim]);
    let (mut begin, mut steps) = (Program::new("env_begin"), Program::new("env_steps"));
    env.reset(&mut begin, &vars);
    let all = steps.var(&vars, actions);
    if adjoint {
        segment(&mut steps, &mut vars, &env, actions);
    } else {
        for i in 0..STEPS {
            let action = steps.at(all, i);
            env.step(&mut steps, &vars, action, None);
        }
    }
    let team = Arc::new(Team::new(1)?);
    let mut programs = Programs::default();
    let [begin, steps] = [begin, steps].map(|p| programs.add(p));
    let target = target(crate::env::device(c), c.precision)?;
    let mut machine = Machine::<f32>::on(&target, vars, programs.into_vec(), team, &Placement::Arena)?;
    for (i, a) in machine.real_mut(actions).iter_mut().enumerate() {
        *a = 2.0 * random.uniform(0, i as u32) as f32 - 1.0;
    }
    machine.run(begin.on(&machine))?;
    let steps = steps.on(&machine);
    (0..SETTLE).try_for_each(|_| machine.run(steps))?;
    let t = repeat(seconds, || timed(|| machine.run(steps).and_then(|()| machine.wait())))?;
    let each = |x: f64| x / STEPS as f64;
    Ok(Measurement { median: each(t.median), min: each(t.min), max: each(t.max), n: t.n })
}

/// Steps that a gradient flows through, and the gradient.
fn segment(p: &mut Program, vars: &mut Vars, env: &EnvBatch, actions: VarId) {
    let (n, act) = (env.count, env.act_dim);
    let mut add = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
    let [count, value, stats] =
        [("count", &[2][..]), ("value", &[STEPS, n]), ("stats", &[3])].map(|(name, shape)| add(name, shape));
    let gradient = add("gradient", &[STEPS, n, act]);
    let before = p.real(&[STEPS, n, env.obs_dim]);
    let [reward, done, terminated] = [(); 3].map(|()| p.real(&[STEPS, n]));
    let bound = GradientBound { norm: f64::MAX, count: p.var(vars, count) };
    let (mut state, mut wrt) = (env.state(p, vars), Vec::new());
    for i in 0..STEPS {
        let part = |p: &mut Program, v| p.var_at(vars, v, i * n * act, &[n, act]);
        let (action, to) = (part(p, actions), part(p, gradient));
        let into = [before, reward, done, terminated].map(|v| p.at(v, i));
        (_, state) = env.step_through(p, vars, &state, action, bound, into);
        wrt.push((action, to));
    }
    let spec = ActorLossSpec { gamma: 1.0, lambda: 1.0, bootstrap: Bootstrap::Exact, normalise: false, decay: 1.0 };
    let (value, stats) = (p.var(vars, value), p.var(vars, stats));
    let loss = actor_loss(p, spec, reward, value, done, terminated, stats);
    grad(p, &[(loss, 1.0)], &wrt);
}
