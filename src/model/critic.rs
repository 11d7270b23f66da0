//! The critics: independent value networks of the latent, run as one ensemble; their minimum is the value.

use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{GroupBuilder, Init, ParamGroup};
use crate::config::Config;
use crate::ops::linear::Epilogue;
use crate::ops::optim::AdamSpec;
use crate::ops::policy::ensemble_min;
use crate::tape::{Program, Val, Vars};

#[derive(Clone, Debug)]
pub struct Critics {
    pub group: ParamGroup,
    pub count: usize,
    scale: f64,
    value: Mlp,
}

impl Critics {
    /// `latent` is the width of what they see: of a latent and, for several tasks, of an embedding.
    pub fn new(vars: &mut Vars, c: &Config, latent: usize) -> Self {
        let mut g = GroupBuilder::default();
        let init = MlpInit {
            weight: |_, _| Init::Orthogonal { gain: std::f64::consts::SQRT_2 },
            bias: |_, _| Init::Constant(0.0),
            gain: 1.0,
        };
        let spec = MlpSpec {
            name: "value",
            ensemble: c.num_critics,
            inputs: latent,
            hidden: &c.critic_units,
            outputs: 1,
            hidden_epilogue: Epilogue::MishNorm,
            last_epilogue: Epilogue::Bias,
        };
        let value = Mlp::new(&mut g, &spec, init);
        let adam = AdamSpec { beta1: c.critic_betas[0], beta2: c.critic_betas[1], max_norm: c.critic_grad_norm };
        Self { group: g.finish(vars, "critics", adam), count: c.num_critics, scale: c.value_scale, value }
    }

    /// All critics, stacked.
    pub fn network(&self) -> &Mlp {
        &self.value
    }

    pub fn bind(&self, p: &mut Program, vars: &Vars) -> BoundCritics {
        BoundCritics { value: self.value.bind(p, vars, &self.group), count: self.count, scale: self.scale }
    }
}

/// The critics inside a program.
#[derive(Clone, Debug)]
pub struct BoundCritics {
    value: BoundMlp,
    count: usize,
    scale: f64,
}

impl BoundCritics {
    /// Every critic's output, `[E, M, 1]`: values divided by `value_scale`.
    pub fn all(&self, p: &mut Program, seen: &[Val], save: bool) -> Val {
        let v = self.value.apply(p, seen, save, None);
        let m = p.len_of(v) / self.count;
        p.reshape(v, &[self.count, m, 1])
    }

    /// The smallest value, `[M]`.
    pub fn min(&self, p: &mut Program, seen: &[Val], save: bool) -> Val {
        let v = self.all(p, seen, save);
        ensemble_min(p, v, self.scale)
    }
}
