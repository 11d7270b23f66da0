//! Writes the programs of PWM and says what they are for.

use super::rollout::{EnvStepVals, rollout};
use super::world::Batch;
use super::{Pwm, PwmLoss, PwmNets, RewardLoss, critic, probe, recorded, world};
use crate::algo::evaluate::{EvalPlan, Judge};
use crate::algo::metrics::{self, Measured, MetricSource};
use crate::algo::programs::{Handle, Programs, Sequence};
use crate::algo::schedule::Network;
use crate::algo::{Blueprint, EpochSchedule, Learner, Networks, Parts, TrainedNetwork};
use crate::config::{self, Config};
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode};
use crate::ops::control::{accumulate, clip, increment};
use crate::ops::embedding::{repeat_ids, task_ids};
use crate::ops::random::normal;
use crate::ops::replay::{Transition, Windows, replay_begin, replay_record, replay_sample};
use crate::tape::{Program, Val, VarId, Vars};

/// PWM as one of the algorithms.
pub struct PwmLearner;

impl Learner for PwmLearner {
    fn title(&self) -> &'static str {
        "PWM"
    }

    fn build(&self, c: &Config) -> Blueprint {
        match c.mode {
            config::Mode::Train => build(c, world::reward_loss),
            config::Mode::Pretrain => recorded::pretrain(c, world::reward_loss),
            config::Mode::Policy => recorded::policy(c, world::reward_loss),
        }
    }

    fn networks(&self, c: &Config, vars: &mut Vars) -> Networks {
        let (obs_dim, act_dim) = crate::env::dims(c);
        PwmNets::new(vars, c, obs_dim, act_dim).into()
    }
}

/// The programs of an epoch.
#[derive(Clone, Copy)]
struct EpochPrograms {
    collect: Handle,
    actor_update: Handle,
    targets: Handle,
    critic_update: Handle,
    wm_update: Handle,
}

/// Writes a run whose reward head learns by `reward_loss`: [`world::reward_loss`], or another one in tests of what a
/// run does when its rewards cannot be learned.
pub fn build(c: &Config, reward_loss: RewardLoss) -> Blueprint {
    let (mut vars, mut programs) = (Vars::default(), Programs::default());
    let mut pwm = Pwm::new(&mut vars, c);
    pwm.nets.reward_loss = reward_loss;
    let eval = EnvBatch::of_config(&mut vars, "eval", c, c.eval_episodes, Mode::Evaluate, Stream::Eval);
    let networks = Networks::from(pwm.nets.clone());

    let begin = programs.push("begin", |p| begin(p, &vars, &pwm));
    let of_epoch = EpochPrograms {
        collect: programs.push("collect", |p| act(p, &vars, &pwm, false)),
        actor_update: programs.push("actor_update", |p| act(p, &vars, &pwm, true)),
        targets: programs.push("targets", |p| critic::targets(p, &vars, c, &pwm.buffers)),
        critic_update: programs.push("critic_update", |p| {
            let (passes, loss) =
                (p.var(&vars, pwm.passes), p.var_at(&vars, pwm.losses, PwmLoss::Critic as usize, &[1]));
            let embeddings = rollout_embeddings(p, &vars, c, &pwm.nets);
            critic::pass(p, &vars, c, &pwm.nets.critics, &pwm.buffers, embeddings, (passes, loss));
        }),
        wm_update: programs.push("wm_update", |p| update_model(p, &vars, &pwm)),
    };
    let evaluation = EvalPlan::push(&mut programs, &vars, eval, |p, obs| networks.policy(p, &vars, obs, c.played()));
    let probe = programs.push("probe", |p| {
        let batch = probe::replayed(p, &vars, &pwm);
        probe::probe(p, &vars, c, &pwm.nets, batch, &pwm.probe);
    });

    let trained = trained(&pwm);
    let parts = Parts {
        config: c.clone(),
        constants: pwm.nets.constants(c),
        statistics: pwm.nets.statistics(),
        replay: Some(pwm.replay.clone()),
        epoch: pwm.epoch,
        sums: vec![pwm.losses, pwm.env.episode_stats],
        feeds: vec![],
        begin: Some(begin),
        judge: Judge::Play(evaluation),
        probe: Some((probe, pwm.probe)),
        probe_feed: None,
        epochs: epochs(c, of_epoch),
        metrics: metrics(&pwm, of_epoch, &trained),
        networks: trained,
        env: Some(pwm.env),
    };
    Blueprint { vars, programs, parts }
}

/// All environments start, and with them the replay's first episodes.
fn begin(p: &mut Program, vars: &Vars, pwm: &Pwm) {
    pwm.env.reset(p, vars);
    let obs = p.var(vars, pwm.env.obs);
    replay_begin(p, vars, &pwm.replay, obs);
}

/// The rollout; with `learn` also the actor's update.
fn act(p: &mut Program, vars: &Vars, pwm: &Pwm, learn: bool) {
    let c = &pwm.config;
    let epoch = p.var(vars, pwm.epoch);
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, pwm.env.act_dim]);
    increment(p, epoch);
    let obs = p.var(vars, pwm.env.obs);
    let mut step = |p: &mut Program, _: usize, action, (done, terminated)| {
        let reward = p.real(&[c.num_envs]);
        let stepped = pwm.env.step(p, vars, action, Some((reward, done, terminated)));
        let reward = if c.reward_clip > 0.0 { clip(p, reward, c.reward_clip) } else { reward };
        let t = Transition { obs: stepped.obs_before_reset, action, reward, done, next: obs };
        replay_record(p, vars, &pwm.replay, &t);
        EnvStepVals { done, next_obs: Some(obs) }
    };
    let loss = rollout(p, vars, c, &pwm.nets, &pwm.buffers, obs, noise, learn, &mut step);
    if learn {
        pwm.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
    }
    let slot = p.var_at(vars, pwm.losses, PwmLoss::Actor as usize, &[1]);
    accumulate(p, loss, slot, true);
}

/// One update of the world model on replayed windows.
fn update_model(p: &mut Program, vars: &Vars, pwm: &Pwm) {
    let c = &pwm.config;
    let Windows { obs, act, rew, tasks } = replay_sample(p, vars, &pwm.replay);
    let tasks = of_windows(p, c, &pwm.nets, tasks);
    let draws = p.var(vars, pwm.replay.draws);
    let tau = world::taus(p, c, draws);
    let loss = world::update(p, vars, c, &pwm.nets, Batch { obs, act, rew, tasks, tau });
    loss.accumulate(p, vars, pwm.losses);
}

/// The tasks of windows: those that they tell or, where one task of a model of several is played, that one.
pub(super) fn of_windows(p: &mut Program, c: &Config, nets: &PwmNets, told: Option<Val>) -> Option<Val> {
    nets.world.tasks()?;
    Some(told.unwrap_or_else(|| task_ids(p, c.wm_batch_size, c.played().start, 1)))
}

/// The embeddings of the tasks of a rollout's rows, time-major, `[H N, E]`; none of one task.
pub(super) fn rollout_embeddings(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets) -> Option<Val> {
    nets.world.tasks()?;
    let played = c.played();
    let ids = task_ids(p, c.num_envs, played.start, played.len());
    let ids = repeat_ids(p, ids, c.horizon);
    nets.world.rows(p, vars, Some(ids)).embedding
}

/// What learns.
fn trained(pwm: &Pwm) -> Vec<TrainedNetwork> {
    let (c, nets) = (&pwm.config, &pwm.nets);
    vec![
        TrainedNetwork::new(c, Network::Actor, &nets.actor.group, 1),
        TrainedNetwork::new(c, Network::Critic, &nets.critics.group, c.critic_iterations * c.critic_batches),
        TrainedNetwork::new(c, Network::Model, &nets.world.group, c.wm_iterations),
    ]
}

/// Actor, critics, world model. The first epoch that learns trains the model for longer.
fn epochs(c: &Config, e: EpochPrograms) -> EpochSchedule {
    let learning = |updates: usize| {
        let critics = [(e.targets, 1), (e.critic_update, c.critic_iterations)];
        Sequence::new([&[(e.actor_update, 1)], &critics[..], &[(e.wm_update, updates)]].concat())
    };
    EpochSchedule {
        usual: learning(c.wm_iterations),
        first: Some(learning(c.bootstrap_updates().max(c.wm_iterations))),
        collect: Some(Sequence::new([(e.collect, 1)])),
    }
}

/// The loss of a slot as a mean over the updates of a program.
pub(super) fn loss_metric(
    losses: VarId,
    metric: metrics::Metric,
    slot: PwmLoss,
    program: Handle,
    updates: usize,
) -> Measured {
    Measured::new(metric, MetricSource::PerUpdate { var: losses, index: slot as usize, program, updates })
}

/// What an epoch measures.
fn metrics(pwm: &Pwm, e: EpochPrograms, trained: &[TrainedNetwork]) -> Vec<Measured> {
    let loss = |metric, slot, program, updates| loss_metric(pwm.losses, metric, slot, program, updates);
    let seconds = |metric, programs: &[Handle]| Measured::new(metric, MetricSource::Seconds(programs.into()));
    let mut all = Vec::from(Measured::of_episodes());
    all.extend([
        loss(metrics::LOSS_ACTOR, PwmLoss::Actor, e.actor_update, 1),
        loss(metrics::LOSS_CRITIC, PwmLoss::Critic, e.critic_update, pwm.config.critic_batches),
        loss(metrics::LOSS_DYNAMICS, PwmLoss::Dynamics, e.wm_update, 1),
        loss(metrics::LOSS_REWARD, PwmLoss::Reward, e.wm_update, 1),
    ]);
    all.extend(TrainedNetwork::metrics(trained));
    all.extend([
        seconds(metrics::ACTOR_SECONDS, &[e.actor_update, e.collect]),
        seconds(metrics::CRITIC_SECONDS, &[e.targets, e.critic_update]),
        seconds(metrics::MODEL_SECONDS, &[e.wm_update]),
        // No gradient flows through the environments.
        Measured::new(metrics::BOUNDED_GRADIENTS, MetricSource::Zero),
        Measured::new(metrics::LOST_GRADIENTS, MetricSource::Zero),
    ]);
    all
}
