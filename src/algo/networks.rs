//! The networks of a policy, whichever algorithm trained them.

use crate::model::{Actor, Critics, TaskRows, WorldModel};
use crate::ops::embedding::task_ids;
use crate::ops::stats::normalise;
use crate::tape::{Program, Val, VarId, Vars};
use std::ops::Range;

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
    /// Appends the mean action `[N, A]` on observations `[N, O]` of environments of `played`, numbers of tasks of the
    /// world model, with equally many rows each.
    pub fn policy(&self, p: &mut Program, vars: &Vars, obs: Val, played: Range<usize>) -> Val {
        let rows = p.shape(obs)[0];
        let obs = normalised(p, vars, self.obs_stats, obs);
        let encoder = self.world.as_ref().map(|w| w.bind_encoder(p, vars));
        let actor = self.actor.bind(p, vars);
        let tasks = self.world.as_ref().map_or_else(TaskRows::default, |w| of_played(p, vars, w, rows, played));
        let z = encoder.map_or(obs, |e| e.apply(p, obs, tasks.embedding, false, None));
        let action = actor.act(p, &tasks.seen(z), None, false, None);
        tasks.masked(p, action)
    }
}

/// Appends what belongs to the tasks of `rows` rows that are played, equally many of each.
pub(super) fn of_played(
    p: &mut Program,
    vars: &Vars,
    world: &WorldModel,
    rows: usize,
    played: Range<usize>,
) -> TaskRows {
    let ids = world.tasks().map(|_| task_ids(p, rows, played.start, played.len()));
    world.rows(p, vars, ids)
}

/// Observations as networks take them: normalised if there are statistics.
pub(super) fn normalised(p: &mut Program, vars: &Vars, stats: Option<VarId>, obs: Val) -> Val {
    let Some(stats) = stats else { return obs };
    let stats = p.var(vars, stats);
    normalise(p, obs, stats, true)
}
