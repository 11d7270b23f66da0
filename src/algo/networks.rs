//! The networks of a policy, whichever algorithm trained them.

use crate::model::{Actor, Critics, WorldModel};
use crate::ops::stats::normalise;
use crate::tape::{Program, Val, VarId, Vars};

/// What a policy needs to act, with the critics that judged it.
#[derive(Clone, Debug)]
pub struct Networks {
    pub actor: Actor,
    pub critics: Critics,
    /// Its encoder makes latents of observations; without one the actor sees the observations.
    pub world: Option<WorldModel>,
    /// `[O, 3]`: statistics of observations, if they are normalised.
    pub obs_stats: Option<VarId>,
}

impl Networks {
    /// Appends the mean action `[N, A]` on observations `[N, O]`.
    pub fn policy(&self, p: &mut Program, vars: &Vars, obs: Val) -> Val {
        let obs = normalised(p, vars, self.obs_stats, obs);
        let encoder = self.world.as_ref().map(|w| w.bind_encoder(p, vars));
        let actor = self.actor.bind(p, vars);
        let z = encoder.map_or(obs, |e| e.apply(p, obs, false, None));
        actor.act(p, z, None, false, None)
    }
}

/// Observations as networks take them: normalised if there are statistics.
pub(super) fn normalised(p: &mut Program, vars: &Vars, stats: Option<VarId>, obs: Val) -> Val {
    let Some(stats) = stats else { return obs };
    let stats = p.var(vars, stats);
    normalise(p, obs, stats, true)
}
