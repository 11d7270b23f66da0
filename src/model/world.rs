//! The world model: encoder `o -> z`, dynamics `(z, a) -> z'`, reward head `(z, a) -> r`.
//!
//! Hidden layers are Linear, LayerNorm, Mish; latents end in LayerNorm and SimNorm, so that they lie on a product of
//! simplices (Hansen et al., TD-MPC2, 2024). The last layer of the reward head starts at zero. With `obs_coef` a linear
//! decoder `z -> o` makes latents keep what the observation says; nothing else reads it.

use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{Group, GroupBuilder, Init};
use crate::config::{Config, RewardHead};
use crate::ops::linear::Epilogue;
use crate::ops::optim::AdamSpec;
use crate::tape::{Program, Val, Vars};

#[derive(Clone, Debug)]
pub struct WorldModel {
    pub group: Group,
    encoder: Mlp,
    dynamics: Mlp,
    reward: Mlp,
    decoder: Option<Mlp>,
}

impl WorldModel {
    pub fn new(vars: &mut Vars, c: &Config, obs_dim: usize, act_dim: usize) -> Self {
        let mut g = GroupBuilder::default();
        let init = MlpInit { weight: |_, _| Init::Normal(0.02), bias: |_, _| Init::Constant(0.0), gain: 1.0 };
        let spec = |name, inputs, hidden, outputs, last_epilogue| MlpSpec {
            name,
            ensemble: 1,
            inputs,
            hidden,
            outputs,
            hidden_epilogue: Epilogue::NormMish,
            last_epilogue,
        };
        let (d, simplex) = (c.latent_dim, Epilogue::NormSimplex { group: c.simnorm_dim });
        let encoder = Mlp::new(&mut g, &spec("encoder", obs_dim, &c.encoder_units, d, simplex), init);
        let dynamics = Mlp::new(&mut g, &spec("dynamics", d + act_dim, &c.units, d, simplex), init);
        let outputs = if c.reward_head == RewardHead::TwoHot { c.num_bins } else { 1 };
        let reward = Mlp::new(&mut g, &spec("reward", d + act_dim, &c.units, outputs, Epilogue::Bias), init);
        g.zero(&format!("reward.{}.weight", c.units.len()));
        let decoder =
            (c.obs_coef > 0.0).then(|| Mlp::new(&mut g, &spec("decoder", d, &[], obs_dim, Epilogue::Bias), init));
        let adam = AdamSpec { beta1: c.model_betas[0], beta2: c.model_betas[1], max_norm: c.wm_grad_norm };
        Self { group: g.finish(vars, "world_model", adam), encoder, dynamics, reward, decoder }
    }

    pub fn bind(&self, p: &mut Program, vars: &Vars) -> BoundWorldModel {
        BoundWorldModel {
            encoder: self.encoder.bind(p, vars, &self.group),
            dynamics: self.dynamics.bind(p, vars, &self.group),
            reward: self.reward.bind(p, vars, &self.group),
        }
    }

    /// The decoder, if there is one.
    pub fn bind_decoder(&self, p: &mut Program, vars: &Vars) -> Option<BoundMlp> {
        self.decoder.as_ref().map(|d| d.bind(p, vars, &self.group))
    }

    /// The encoder alone, for programs that need no more.
    pub fn bind_encoder(&self, p: &mut Program, vars: &Vars) -> BoundMlp {
        self.encoder.bind(p, vars, &self.group)
    }
}

/// The world model inside a program.
#[derive(Clone, Debug)]
pub struct BoundWorldModel {
    pub encoder: BoundMlp,
    pub dynamics: BoundMlp,
    pub reward: BoundMlp,
}

impl BoundWorldModel {
    /// Latent after one step, `[M, D]`.
    pub fn next(&self, p: &mut Program, z: Val, a: Val, save: bool, out: Option<Val>) -> Val {
        self.dynamics.apply(p, &[z, a], save, out)
    }

    /// Output of the reward head on rows: `[M, 1]`, or `[M, bins]` for the two-hot head.
    pub fn reward(&self, p: &mut Program, z: Val, a: Val, save: bool) -> Val {
        self.reward.apply(p, &[z, a], save, None)
    }
}
