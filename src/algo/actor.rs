//! A stored policy that acts on observations from anywhere.

use super::{TrainError, learner};
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::ops::control::copy;
use crate::tape::{DType, Machine, Program, Region, RunError, TapeReal, VarId, Vars};
use std::sync::Arc;

/// The networks of a policy, and a program that acts.
pub struct Actor<F: TapeReal> {
    pub machine: Machine<F>,
    obs: VarId,
    action: VarId,
    /// Entries of an observation and of an action, those of the widest task.
    pub obs_dim: usize,
    pub act_dim: usize,
}

impl<F: TapeReal> Actor<F> {
    /// The policy of `c` in its task of this name, or in its first one, on at most `rows` observations at once. Networks
    /// hold zeros until a checkpoint fills them.
    pub fn new(c: &Config, task: &str, rows: usize) -> Result<Self, TrainError> {
        let mut vars = Vars::default();
        let (obs_dim, act_dim) = crate::env::dims(c);
        let networks = learner(c.algorithm).networks(c, &mut vars);
        let obs = vars.add(Region::RolloutBuffers, "act.obs", DType::Real, &[rows, obs_dim]);
        let action = vars.add(Region::RolloutBuffers, "act.action", DType::Real, &[rows, act_dim]);
        let number = c.model_tasks().iter().position(|t| t == task).unwrap_or(0);
        let mut p = Program::new("act");
        let (seen, to) = (p.var(&vars, obs), p.var(&vars, action));
        let made = networks.policy(&mut p, &vars, seen, number..number + 1);
        copy(&mut p, made, to);
        let machine = Machine::new(vars, vec![p], Arc::new(Team::new(c.threads)?))?;
        Ok(Self { machine, obs, action, obs_dim, act_dim })
    }

    /// The first `act` entries of the mean actions on `rows` observations of `width` numbers each.
    pub fn act(&mut self, obs: &[f32], width: usize, rows: usize, act: usize) -> Result<Vec<f32>, RunError> {
        let all = self.machine.real_mut(self.obs);
        all.fill(F::zero());
        for (to, from) in all.chunks_exact_mut(self.obs_dim).zip(obs.chunks_exact(width)) {
            to.iter_mut().zip(from).for_each(|(to, x)| *to = F::of(f64::from(*x)));
        }
        self.machine.run(self.machine.program(0))?;
        let made = self.machine.real(self.action).chunks_exact(self.act_dim).take(rows);
        Ok(made.flat_map(|a| a[..act].iter().map(|x| x.value() as f32)).collect())
    }
}
