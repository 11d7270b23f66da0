//! Writes the programs of SHAC and says what they are for.

use super::rollout::{observe, rollout};
use super::{Shac, ShacLoss, ShacNets};
use crate::algo::evaluate::{EvalPlan, Judge};
use crate::algo::metrics::{self, Measured, MetricSource};
use crate::algo::programs::{Handle, Programs, Sequence};
use crate::algo::schedule::Network;
use crate::algo::{Blueprint, EpochSchedule, Learner, Networks, Parts, TrainedNetwork, critic};
use crate::config::Config;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode};
use crate::ops::control::{accumulate, increment};
use crate::ops::random::normal;
use crate::tape::{Program, Vars};

/// SHAC as one of the algorithms.
pub struct ShacLearner;

impl Learner for ShacLearner {
    fn title(&self) -> &'static str {
        "SHAC"
    }

    fn build(&self, c: &Config) -> Blueprint {
        let (mut vars, mut programs) = (Vars::default(), Programs::default());
        let s = Shac::new(&mut vars, c);
        let eval = EnvBatch::of_config(&mut vars, "eval", c, c.eval_episodes, Mode::Evaluate, Stream::Eval);
        let networks = Networks::from(s.nets.clone());

        let begin = programs.push("begin", |p| s.env.reset(p, &vars));
        let actor_update = programs.push("actor_update", |p| act(p, &vars, &s));
        let targets = programs.push("targets", |p| critic::targets(p, &vars, c, &s.buffers));
        let critic_update = programs.push("critic_update", |p| {
            let (passes, loss) = (p.var(&vars, s.passes), p.var_at(&vars, s.losses, ShacLoss::Critic as usize, &[1]));
            critic::pass(p, &vars, c, &s.nets.critics, &s.buffers, None, (passes, loss));
        });
        let evaluation =
            EvalPlan::push(&mut programs, &vars, eval, |p, obs| networks.policy(p, &vars, obs, c.played()));

        let trained = vec![
            TrainedNetwork::new(c, Network::Actor, &s.nets.actor.group, 1),
            TrainedNetwork::new(c, Network::Critic, &s.nets.critics.group, c.critic_iterations * c.critic_batches),
        ];
        let parts = Parts {
            config: c.clone(),
            constants: vec![],
            statistics: vec![s.nets.obs_stats, s.nets.ret_stats],
            replay: None,
            epoch: s.epoch,
            sums: vec![s.losses, s.env.episode_stats, s.bounded],
            feeds: vec![],
            begin: Some(begin),
            judge: Judge::Play(evaluation),
            probe: None,
            probe_feed: None,
            epochs: EpochSchedule {
                usual: Sequence::new([(actor_update, 1), (targets, 1), (critic_update, c.critic_iterations)]),
                first: None,
                collect: None,
            },
            metrics: metrics(&s, actor_update, [targets, critic_update], &trained),
            networks: trained,
            env: Some(s.env),
        };
        Blueprint { vars, programs, parts }
    }

    fn networks(&self, c: &Config, vars: &mut Vars) -> Networks {
        let (obs_dim, act_dim) = crate::env::dims(c);
        ShacNets::new(vars, c, obs_dim, act_dim).into()
    }
}

/// The rollout and the actor's update.
fn act(p: &mut Program, vars: &Vars, s: &Shac) {
    let c = &s.config;
    let epoch = p.var(vars, s.epoch);
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, s.env.act_dim]);
    increment(p, epoch);
    let (loss, observed) = rollout(p, vars, s, noise);
    s.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
    observe(p, vars, s, &observed);
    let slot = p.var_at(vars, s.losses, ShacLoss::Actor as usize, &[1]);
    accumulate(p, loss, slot, true);
}

/// What an epoch measures.
fn metrics(s: &Shac, actor: Handle, critics: [Handle; 2], trained: &[TrainedNetwork]) -> Vec<Measured> {
    let loss = |metric, slot: ShacLoss, program, updates| {
        Measured::new(metric, MetricSource::PerUpdate { var: s.losses, index: slot as usize, program, updates })
    };
    let mut all = Vec::from(Measured::of_episodes());
    all.extend([
        loss(metrics::LOSS_ACTOR, ShacLoss::Actor, actor, 1),
        loss(metrics::LOSS_CRITIC, ShacLoss::Critic, critics[1], s.config.critic_batches),
    ]);
    all.extend(TrainedNetwork::metrics(trained));
    all.extend([
        Measured::new(metrics::ACTOR_SECONDS, MetricSource::Seconds(vec![actor])),
        Measured::new(metrics::CRITIC_SECONDS, MetricSource::Seconds(critics.into())),
        // There is no world model; rows have said so since they have times.
        Measured::new(metrics::MODEL_SECONDS, MetricSource::Zero),
        Measured::new(metrics::BOUNDED_GRADIENTS, MetricSource::Sum { var: s.bounded, index: 0 }),
        Measured::new(metrics::LOST_GRADIENTS, MetricSource::Sum { var: s.bounded, index: 1 }),
    ]);
    all
}
