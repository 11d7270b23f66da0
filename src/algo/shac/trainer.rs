//! Runs the programs of SHAC: initialisation, epochs, evaluation, state in and out.

use super::rollout::{observe, rollout};
use super::{Loss, Shac};
use crate::algo::pwm::trainer::TrainError;
use crate::algo::pwm::{EpochReport, Evaluation, critic, evaluate};
use crate::algo::schedule::rate;
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::{Philox, Stream};
use crate::env::step::{EnvVars, Meter, Mode, ant_from_config};
use crate::ops::control::{meter, tick};
use crate::ops::random::normal;
use crate::tape::exec::{Number, ProgramId};
use crate::tape::{Machine, Program, VarId, Vars};
use std::sync::Arc;

/// Programs of a trainer, in the order they were written.
#[derive(Clone, Copy, Debug)]
struct Programs {
    begin: ProgramId,
    actor: ProgramId,
    targets: ProgramId,
    critic: ProgramId,
    evaluate: [ProgramId; 2],
}

/// A run of SHAC on a machine.
pub struct Trainer<F: Number> {
    pub shac: Shac,
    pub eval_env: EnvVars,
    pub machine: Machine<F>,
    programs: Programs,
}

/// Variables and programs of a run, before anything is allocated: what `Layout` plans.
pub fn write(c: &Config) -> (Vars, Shac, EnvVars, Vec<Program>) {
    let mut vars = Vars::default();
    let ant = Arc::new(ant_from_config(c));
    let shac = Shac::new(&mut vars, c, ant.clone());
    let rng = Philox::new(c.seed, Stream::Eval);
    let eval_env = EnvVars::new(&mut vars, "eval", ant, c.eval_episodes, Mode::Evaluate, rng);
    let mut begin = Program::new("begin");
    shac.env.reset(&mut begin, &vars);
    let mut targets = Program::new("targets");
    critic::targets(&mut targets, &vars, c, &shac.exchange);
    let mut regress = Program::new("critic_update");
    let p = &mut regress;
    let (passes, loss) = (p.var(&vars, shac.passes), p.var_at(&vars, shac.losses, Loss::Critic as usize, &[1]));
    critic::pass(p, &vars, c, &shac.nets.critics, &shac.exchange, passes, loss);
    let mut programs = vec![begin, act(&vars, &shac), targets, regress];
    programs.extend(evaluate::programs(&vars, &eval_env, |p, obs| shac.nets.policy(p, &vars, obs)));
    (vars, shac, eval_env, programs)
}

/// The rollout and the actor's update.
fn act(vars: &Vars, s: &Shac) -> Program {
    let c = &s.config;
    let mut program = Program::new("actor_update");
    let p = &mut program;
    let epoch = p.var(vars, s.epoch);
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, crate::env::ant::ACT]);
    tick(p, epoch);
    let (loss, observed) = rollout(p, vars, s, noise);
    s.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
    observe(p, vars, s, &observed);
    let slot = p.var_at(vars, s.losses, Loss::Actor as usize, &[1]);
    meter(p, loss, slot, true);
    program
}

impl<F: Number> Trainer<F> {
    /// Plans, allocates and initialises a run.
    pub fn new(c: &Config) -> Result<Self, TrainError> {
        let team = Arc::new(Team::new(c.threads)?);
        let (vars, shac, eval_env, programs) = write(c);
        let machine = Machine::new(vars, programs, team)?;
        let id = |i| machine.program(i);
        let programs = Programs { begin: id(0), actor: id(1), targets: id(2), critic: id(3), evaluate: [id(4), id(5)] };
        let mut t = Self { shac, eval_env, machine, programs };
        t.shac.nets.init(&mut t.machine, c.seed);
        t.machine.run(t.programs.begin)?;
        Ok(t)
    }

    pub fn config(&self) -> &Config {
        &self.shac.config
    }

    /// Epochs begun.
    pub fn epoch(&self) -> u64 {
        u64::from(self.machine.index(self.shac.epoch)[0])
    }

    /// True steps of the training environments so far.
    pub fn env_steps(&self) -> u64 {
        self.epoch() * self.shac.config.rollout_states() as u64
    }

    /// One epoch: rollout and actor, targets, critics.
    pub fn run_epoch(&mut self) -> Result<EpochReport, TrainError> {
        let c = &self.shac.config;
        let e = self.epoch();
        let (passes, batches) = (c.critic_iterations, c.critic_batches);
        let rates = [c.actor_lr, c.critic_lr].map(|lr| rate(c, lr, e));
        let nets = &self.shac.nets;
        let groups = [&nets.actor.group, &nets.critics.group].map(|g| (g.rate, g.norm, g.skipped));
        for ((rate, norm, _), lr) in groups.iter().zip(rates) {
            self.machine.real_mut(*rate)[0] = F::of(lr);
            self.machine.real_mut(*norm)[0] = F::of(f64::NAN);
        }
        let (losses, meters, bounded) = (self.shac.losses, self.shac.env.meters, self.shac.bounded);
        for sums in [losses, meters, bounded] {
            self.machine.real_mut(sums).fill(F::zero());
        }
        for (program, runs) in [(self.programs.actor, 1), (self.programs.targets, 1), (self.programs.critic, passes)] {
            for _ in 0..runs {
                self.machine.run(program)?;
            }
        }
        let real = |v: VarId, i: usize| self.machine.real(v)[i].value();
        let meter = |m: Meter| real(meters, m as usize);
        let episodes = meter(Meter::Episodes);
        let per_episode = |m: Meter| if episodes > 0.0 { meter(m) / episodes } else { f64::NAN };
        Ok(EpochReport {
            learned: true,
            actor_loss: real(losses, Loss::Actor as usize),
            critic_loss: real(losses, Loss::Critic as usize) / (passes * batches) as f64,
            dynamics_loss: f64::NAN,
            reward_loss: f64::NAN,
            actor_grad_norm: real(groups[0].1, 0),
            critic_grad_norm: real(groups[1].1, 0),
            wm_grad_norm: f64::NAN,
            actor_rate: rates[0],
            episodes,
            train_return: per_episode(Meter::Return),
            train_length: per_episode(Meter::Length),
            blown_up: meter(Meter::BlownUp),
            bounded: real(bounded, 0) + real(bounded, 1),
            skipped: groups.iter().map(|g| self.machine.index(g.2)[0]).sum(),
        })
    }

    /// See [`crate::algo::pwm::Trainer::evaluate`].
    pub fn evaluate(&mut self, watch: impl FnMut(&[F], &[F])) -> Result<Evaluation, TrainError> {
        let length = self.shac.config.episode_length;
        Ok(evaluate::play(&mut self.machine, self.programs.evaluate, &self.eval_env, length, watch)?)
    }

    /// Variables of a checkpoint: all that the next epoch depends on, or with `policy_only` networks and statistics.
    pub fn state(&self, policy_only: bool) -> Vec<VarId> {
        evaluate::state(self.machine.vars(), &self.eval_env, policy_only)
    }
}
