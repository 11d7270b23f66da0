//! Runs the programs of SHAC: initialisation, epochs, evaluation, state in and out.

use super::rollout::{observe, rollout};
use super::{Loss, Shac};
use crate::algo::learner::{InFlight, Submitted, ahead};
use crate::algo::pwm::trainer::TrainError;
use crate::algo::pwm::{EpochReport, Evaluation, StepView, critic, evaluate};
use crate::algo::schedule::{Network, Schedule};
use crate::algo::{ExecPlan, Learner, rematerialised};
use crate::backend::Target;
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, EpisodeStat, Mode};
use crate::model::Group;
use crate::ops::control::{accumulate, increment};
use crate::ops::random::normal;
use crate::ops::replay::ReplayVars;
use crate::tape::{EpochIo, Machine, Number, Program, ProgramId, VarId, Vars};
use std::sync::Arc;

/// How many there are of [`Programs`].
const PROGRAMS: usize = 6;

/// Programs of a trainer, in the order they were written.
#[derive(Clone, Copy, Debug)]
struct Programs {
    begin: ProgramId,
    evaluate: [ProgramId; 2],
}

/// A run of SHAC on a machine.
pub struct Trainer<F: Number> {
    pub shac: Shac,
    pub eval_env: EnvBatch,
    pub machine: Machine<F>,
    programs: Programs,
    /// Factor on all learning rates: below 1 after a rollback.
    lr_scale: f64,
    in_flight: InFlight,
}

/// Variables and programs of a run, before anything is allocated: what `Layout` plans.
pub fn write(c: &Config) -> (Vars, Shac, EnvBatch, Vec<Program>) {
    let mut vars = Vars::default();
    let shac = Shac::new(&mut vars, c);
    let eval_env = EnvBatch::of_config(&mut vars, "eval", c, c.eval_episodes, Mode::Evaluate, Stream::Eval);
    let mut begin = Program::new("begin");
    shac.env.reset(&mut begin, &vars);
    let mut targets = Program::new("targets");
    critic::targets(&mut targets, &vars, c, &shac.buffers);
    let mut regress = Program::new("critic_update");
    let p = &mut regress;
    let (passes, loss) = (p.var(&vars, shac.passes), p.var_at(&vars, shac.losses, Loss::Critic as usize, &[1]));
    critic::pass(p, &vars, c, &shac.nets.critics, &shac.buffers, passes, loss);
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
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, s.env.act_dim]);
    increment(p, epoch);
    let (loss, observed) = rollout(p, vars, s, noise);
    s.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
    observe(p, vars, s, &observed);
    let slot = p.var_at(vars, s.losses, Loss::Actor as usize, &[1]);
    accumulate(p, loss, slot, true);
    program
}

/// What must be finite beside the networks.
fn others(s: &Shac) -> impl Iterator<Item = VarId> + '_ {
    let (nets, e) = (&s.nets, &s.env);
    [nets.obs_stats, nets.ret_stats].into_iter().chain(e.states()).chain([e.obs])
}

/// Sums over an epoch, which begin at zero.
fn sums(s: &Shac) -> [VarId; 3] {
    [s.losses, s.env.episode_stats, s.bounded]
}

/// The programs of an epoch, by number, and how often each runs.
fn steps(c: &Config) -> [(usize, usize); 3] {
    [(1, 1), (2, 1), (3, c.critic_iterations)]
}

/// Every epoch is the same.
fn sequences(c: &Config) -> Vec<Vec<(usize, usize)>> {
    vec![steps(c).into()]
}

/// What host and device tell each other about an epoch.
pub(in crate::algo) fn epoch_io(s: &Shac) -> EpochIo {
    let groups = [&s.nets.actor.group, &s.nets.critics.group];
    EpochIo {
        inputs: groups.iter().flat_map(|g| [g.rate, g.norm]).chain(sums(s)).collect(),
        outputs: groups.iter().flat_map(|g| [g.norm, g.skipped]).chain(sums(s)).chain([s.epoch]).collect(),
        finite_checked: groups.iter().flat_map(|g| [g.params, g.m, g.v]).chain(others(s)).collect(),
        sequences: sequences(&s.config),
        ahead: ahead(&s.config),
    }
}

impl<F: Number> Trainer<F> {
    /// Plans, allocates and initialises a run, on the processor whatever `device` says.
    pub fn new(c: &Config) -> Result<Self, TrainError> {
        Self::from_plan(c, &Target::Cpu, &ExecPlan::rematerialising(&rematerialised(c, PROGRAMS)))
    }
}

impl<F: Number> Learner for Trainer<F> {
    type F = F;

    fn build(c: &Config) -> (Vars, Vec<Program>) {
        let (vars, _, _, programs) = write(c);
        (vars, programs)
    }

    fn from_plan(c: &Config, target: &Target, exec_plan: &ExecPlan) -> Result<Self, TrainError> {
        let team = Arc::new(Team::new(c.threads)?);
        let (vars, shac, eval_env, programs) = write(c);
        let (vars, programs) = exec_plan.of(vars, programs);
        let io = epoch_io(&shac);
        let machine = Machine::with_epochs(target, vars, programs, &io, team, &exec_plan.replay)?;
        let id = |i| machine.program(i);
        let programs = Programs { begin: id(0), evaluate: [id(4), id(5)] };
        let mut t = Self { shac, eval_env, machine, programs, lr_scale: 1.0, in_flight: InFlight::default() };
        t.shac.nets.init(&mut t.machine, c.seed);
        t.machine.run(t.programs.begin)?;
        Ok(t)
    }

    fn config(&self) -> &Config {
        &self.shac.config
    }

    fn machine(&self) -> &Machine<F> {
        &self.machine
    }

    fn machine_mut(&mut self) -> &mut Machine<F> {
        &mut self.machine
    }

    fn eval_env(&self) -> &EnvBatch {
        &self.eval_env
    }

    fn groups(&self) -> [Option<&Group>; 3] {
        [Some(&self.shac.nets.actor.group), Some(&self.shac.nets.critics.group), None]
    }

    fn replay(&self) -> Option<&ReplayVars> {
        None
    }

    fn steps(&self) -> Vec<(ProgramId, usize)> {
        steps(&self.shac.config).map(|(i, runs)| (self.machine.program(i), runs)).into()
    }

    fn epoch(&self) -> u64 {
        self.in_flight.epoch().unwrap_or_else(|| u64::from(self.machine.index(self.shac.epoch)[0]))
    }

    /// Rollout and actor, targets, critics.
    fn begin_epoch(&mut self) -> Result<(), TrainError> {
        let (c, e) = (&self.shac.config, self.epoch());
        let rates = [Network::Actor, Network::Critic].map(|n| self.lr_scale * Schedule::of(c, n).rate(e));
        let groups = self.groups().map(|g| g.map(|g| (g.rate, g.norm)));
        for ((rate, norm), lr) in groups.into_iter().flatten().zip(rates) {
            self.machine.input(rate)[0] = F::of(lr);
            self.machine.input(norm)[0] = F::of(f64::NAN);
        }
        for sums in sums(&self.shac) {
            self.machine.input(sums).fill(F::zero());
        }
        self.machine.submit(&steps(&self.shac.config).map(|(i, runs)| (self.machine.program(i), runs)))?;
        self.in_flight.push(e, Submitted { learned: true, updates: 0, rates: [rates[0], rates[1], f64::NAN] });
        Ok(())
    }

    fn sync(&mut self, mut each: impl FnMut(&EpochReport)) -> Result<(), TrainError> {
        self.machine.sync()?;
        let (s, m) = (&self.shac, &self.machine);
        let [actor, targets, critics] = [0, 1, 2].map(|step| m.seconds().get(step).copied().unwrap_or(0.0));
        let passes = s.config.critic_iterations * s.config.critic_batches;
        let groups = [&s.nets.actor.group, &s.nets.critics.group];
        for (back, begun) in self.in_flight.take() {
            let real = |v: VarId, i: usize| m.output(back, v)[i].value();
            let stat = |m: EpisodeStat| s.env.total(|i| real(s.env.episode_stats, i), m);
            let episodes = stat(EpisodeStat::Episodes);
            let per_episode = |m: EpisodeStat| if episodes > 0.0 { stat(m) / episodes } else { f64::NAN };
            let [actor_skipped, critic_skipped] = groups.map(|g| m.output_index(back, g.skipped)[0]);
            each(&EpochReport {
                learned: true,
                actor_loss: real(s.losses, Loss::Actor as usize),
                critic_loss: real(s.losses, Loss::Critic as usize) / passes as f64,
                dynamics_loss: f64::NAN,
                reward_loss: f64::NAN,
                actor_grad_norm: real(groups[0].norm, 0),
                critic_grad_norm: real(groups[1].norm, 0),
                wm_grad_norm: f64::NAN,
                rates: begun.rates,
                seconds: [actor, targets + critics, 0.0],
                episodes,
                train_return: per_episode(EpisodeStat::Return),
                train_length: per_episode(EpisodeStat::Length),
                blown_up: stat(EpisodeStat::BlownUp),
                bounded: [real(s.bounded, 0), real(s.bounded, 1)],
                skipped: [actor_skipped, critic_skipped, 0],
            });
        }
        Ok(())
    }

    fn must_sync(&self) -> bool {
        self.machine.must_sync()
    }

    fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        let length = self.shac.config.episode_length;
        Ok(evaluate::play(&mut self.machine, self.programs.evaluate, &self.eval_env, length, watch)?)
    }

    fn non_finite(&self) -> Option<String> {
        if !self.machine.non_finite() {
            return None;
        }
        let nets = &self.shac.nets;
        let groups = [&nets.actor.group, &nets.critics.group];
        if let Some(name) = groups.iter().find_map(|g| g.non_finite(&self.machine)) {
            return Some(name);
        }
        let bad = |id: &VarId| !self.machine.real(*id).iter().all(|x| x.value().is_finite());
        others(&self.shac).find(bad).map(|id| self.machine.vars().info(id).name.clone())
    }

    /// No epoch is longer than another.
    fn bootstrapped(&self) -> bool {
        true
    }

    fn set_bootstrapped(&mut self, _: bool) {}

    fn lr_scale(&self) -> f64 {
        self.lr_scale
    }

    fn set_lr_scale(&mut self, scale: f64) {
        self.lr_scale = scale;
    }

    fn reset_optimisers(&mut self) {
        for group in [&self.shac.nets.actor.group, &self.shac.nets.critics.group] {
            group.reset(&mut self.machine);
        }
    }
}
