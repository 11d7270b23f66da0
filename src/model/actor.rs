//! The policy, before and after the squash `a = tanh(u)`.
//!
//! *Gaussian*: `u = mean(z) + e^logstd ε`, a network's mean and a deviation free of the state. *Flow*: `u` is the end
//! of the integration of a velocity field `v(z, y, τ)` from `y = e^logstd ε` at τ = 0 to τ = 1. Without noise the first
//! gives its mean, the second starts from zero.

use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{GroupBuilder, Init, Param, ParamGroup};
use crate::config::{ActorKind, Config};
use crate::ops::control::clamp_below;
use crate::ops::flow::{InputPart, Steps, VelocityField, integrate};
use crate::ops::linear::Epilogue;
use crate::ops::optim::AdamSpec;
use crate::ops::policy::{spread, squash};
use crate::tape::fill::Fill;
use crate::tape::{Program, Val, Vars};

/// Input columns of a flow policy's velocity field; the last, a task's embedding, in one for several tasks alone.
const PARTS: [InputPart; 4] = [InputPart::Fixed(0), InputPart::State, InputPart::Time, InputPart::Fixed(1)];

/// The logarithm of the deviation of a flow policy's noise is kept above this.
const MIN_NOISE: f64 = -10.0;

#[derive(Clone, Debug)]
pub struct Actor {
    pub group: ParamGroup,
    network: Mlp,
    logstd: Param,
    min_logstd: f64,
    /// How a flow policy is integrated; none for a Gaussian one.
    flow: Option<Steps>,
}

impl Actor {
    /// `latent` is the width of what it sees: of a latent and, in a policy for several tasks, of an embedding.
    pub fn new(vars: &mut Vars, c: &Config, latent: usize, act_dim: usize) -> Self {
        let mut g = GroupBuilder::default();
        let uniform = |fan_in, gain| Init::UniformFanIn { fan_in, gain };
        let init = MlpInit { weight: uniform, bias: uniform, gain: c.actor_init_gain };
        let (name, inputs, flow) = match c.actor {
            ActorKind::Gaussian => ("mean", latent, None),
            ActorKind::Flow => {
                let steps = Steps { integrator: c.actor_flow_integrator, substeps: c.actor_flow_substeps };
                ("velocity", latent + act_dim + 1, Some(steps))
            }
        };
        let spec = MlpSpec {
            name,
            ensemble: 1,
            inputs,
            hidden: &c.actor_units,
            outputs: act_dim,
            hidden_epilogue: Epilogue::MishNorm,
            last_epilogue: Epilogue::Bias,
        };
        let network = Mlp::new(&mut g, &spec, init);
        // As published: the gain is on all that a Gaussian policy starts with, and on a flow policy's network alone.
        let gain = if flow.is_none() { c.actor_init_gain } else { 1.0 };
        let logstd = g.add("logstd", &[act_dim], Init::Constant(c.actor_init_logstd * gain));
        let min_logstd = if flow.is_none() { c.actor_min_logstd } else { MIN_NOISE };
        let adam = AdamSpec { beta1: c.actor_betas[0], beta2: c.actor_betas[1], max_norm: c.actor_grad_norm };
        Self { group: g.finish(vars, "actor", adam), network, logstd, min_logstd, flow }
    }

    /// The network of the mean, or of the velocity.
    pub fn network(&self) -> &Mlp {
        &self.network
    }

    /// Binds the policy; the stored deviation is first clamped from below, outside the gradient.
    pub fn bind(&self, p: &mut Program, vars: &Vars) -> BoundActor {
        let logstd = self.group.val(p, vars, self.logstd);
        clamp_below(p, logstd, self.min_logstd);
        BoundActor { network: self.network.bind(p, vars, &self.group), logstd, flow: self.flow }
    }
}

/// The policy inside a program.
#[derive(Clone, Debug)]
pub struct BoundActor {
    /// Gives the mean `[N, A]`, or the velocity.
    network: BoundMlp,
    /// `[A]`.
    logstd: Val,
    flow: Option<Steps>,
}

impl BoundActor {
    /// Actions `[N, A]` within (-1, 1) on `seen`: latents `[N, D]` and, for several tasks, their embeddings `[N, E]`. Drawn
    /// with standard normal `noise` `[N, A]` or, without, the deterministic ones; in `out` if given. `save` keeps what the
    /// reverse pass needs.
    pub fn act(&self, p: &mut Program, seen: &[Val], noise: Option<Val>, save: bool, out: Option<Val>) -> Val {
        let u = self.unsquashed(p, seen, noise, save);
        // The noise is already in what a flow policy ends with.
        let noise = if self.flow.is_none() { noise } else { None };
        squash(p, u, self.logstd, noise, out)
    }

    /// Before the squash: the mean of a Gaussian policy, the end point of a flow policy.
    pub fn unsquashed(&self, p: &mut Program, seen: &[Val], noise: Option<Val>, save: bool) -> Val {
        let Some(steps) = self.flow else { return self.network.apply(p, seen, save, None) };
        let start = match noise {
            Some(noise) => spread(p, self.logstd, noise),
            None => {
                let zero = p.real(&[p.shape(seen[0])[0], p.len_of(self.logstd)]);
                p.push(Fill { value: 0.0 }, &[], &[zero]);
                zero
            }
        };
        let field = VelocityField { layers: self.network.layers(), parts: &PARTS[..2 + seen.len()], tangent: None };
        integrate(p, &field, steps, start, seen, save, None)
    }

    /// `[A]`: logarithm of the deviation.
    pub fn logstd(&self) -> Val {
        self.logstd
    }
}
