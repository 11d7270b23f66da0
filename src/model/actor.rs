//! The policy: a Gaussian before the squash, its mean a network of the latent, its deviation free of the state.

use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{Group, GroupBuilder, Init, Param};
use crate::config::Config;
use crate::ops::control::clamp_below;
use crate::ops::linear::Epilogue;
use crate::ops::optim::AdamSpec;
use crate::tape::{Program, Val, Vars};

#[derive(Clone, Debug)]
pub struct Actor {
    pub group: Group,
    mean: Mlp,
    logstd: Param,
    min_logstd: f64,
}

impl Actor {
    /// `latent` is the width of a latent.
    pub fn new(vars: &mut Vars, c: &Config, latent: usize, act_dim: usize) -> Self {
        let mut g = GroupBuilder::default();
        let uniform = |fan_in, gain| Init::UniformFanIn { fan_in, gain };
        let init = MlpInit { weight: uniform, bias: uniform, gain: c.actor_init_gain };
        let spec = MlpSpec {
            name: "mean",
            ensemble: 1,
            inputs: latent,
            hidden: &c.actor_units,
            outputs: act_dim,
            hidden_epilogue: Epilogue::MishNorm,
            last_epilogue: Epilogue::Bias,
        };
        let mean = Mlp::new(&mut g, &spec, init);
        let logstd = g.add("logstd", &[act_dim], Init::Constant(c.actor_init_logstd * c.actor_init_gain));
        let adam = AdamSpec { beta1: c.actor_betas[0], beta2: c.actor_betas[1], max_norm: c.actor_grad_norm };
        Self { group: g.finish(vars, "actor", adam), mean, logstd, min_logstd: c.actor_min_logstd }
    }

    /// Binds the policy; the stored deviation is first clamped from below, outside the gradient.
    pub fn bind(&self, p: &mut Program, vars: &Vars) -> BoundActor {
        let logstd = self.group.val(p, vars, self.logstd);
        clamp_below(p, logstd, self.min_logstd);
        BoundActor { mean: self.mean.bind(p, vars, &self.group), logstd }
    }
}

/// The policy inside a program.
#[derive(Clone, Debug)]
pub struct BoundActor {
    /// `[N, D] -> [N, A]`, before the squash.
    pub mean: BoundMlp,
    /// `[A]`.
    pub logstd: Val,
}
