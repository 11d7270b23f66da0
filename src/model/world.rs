//! The world model: encoder `o -> z`, dynamics `(z, a) -> z'`, reward head `(z, a) -> r`.
//!
//! Hidden layers are Linear, LayerNorm, Mish. An *encoded* latent ends in LayerNorm and SimNorm, so that it lies on a
//! product of simplices (Hansen et al., TD-MPC2, 2024), and the dynamics give the next one. An *observed* latent is the
//! normalised observation itself; the dynamics give its change, which starts at zero. The last layer of the reward head
//! starts at zero. In place of a network that gives the next latent at once there may be a flow that leads to it
//! ([`super::flow`]).
//!
//! A model of several tasks has an embedding of each ([`super::tasks`]), which is one more input of every network: of the
//! encoder behind the observation, of dynamics and reward head between latent and action (as in TD-MPC2), of a velocity
//! behind everything else and of the reward head beside it behind the action (as in the published flow models).

use super::flow::{BoundFlow, Flow};
use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{GroupBuilder, Init, ParamGroup};
use super::tasks::{TaskRows, TaskTables};
use crate::config::{self, Config, Latent, RewardHead};
use crate::ops::control::copy;
use crate::ops::linear::Epilogue;
use crate::ops::optim::AdamSpec;
use crate::ops::sum::sum;
use crate::tape::{Program, Val, Vars};

#[derive(Clone, Debug)]
pub struct WorldModel {
    pub group: ParamGroup,
    /// Width of a latent.
    pub width: usize,
    /// None if the observation is the latent.
    encoder: Option<Mlp>,
    dynamics: Transition,
    reward: Mlp,
    tasks: Option<TaskTables>,
}

#[derive(Clone, Debug)]
enum Transition {
    Mlp(Mlp),
    Flow(Flow),
}

impl WorldModel {
    pub fn new(vars: &mut Vars, c: &Config, obs_dim: usize, act_dim: usize) -> Self {
        let mut g = GroupBuilder::default();
        let tasks = c.model_tasks().len();
        let tasks = (tasks > 1).then(|| TaskTables::new(&mut g, vars, tasks, c.task_dim, act_dim));
        let task_dim = tasks.as_ref().map_or(0, |t| t.width);
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
        let (width, last) = match c.latent {
            Latent::Encoded => (c.latent_dim, Epilogue::NormSimplex { group: c.simnorm_dim }),
            Latent::Observed => (obs_dim, Epilogue::Bias),
        };
        let encoder = (c.latent == Latent::Encoded)
            .then(|| Mlp::new(&mut g, &spec("encoder", obs_dim + task_dim, &c.encoder_units, width, last), init));
        let (name, dynamics) = match c.dynamics {
            config::Dynamics::Mlp => {
                let spec = spec("dynamics", width + task_dim + act_dim, &c.units, width, last);
                ("dynamics", Transition::Mlp(Mlp::new(&mut g, &spec, init)))
            }
            config::Dynamics::Flow => {
                ("velocity", Transition::Flow(Flow::new(&mut g, c, [width, act_dim, task_dim], init)))
            }
        };
        if encoder.is_none() {
            g.zero(&format!("{name}.{}.weight", c.units.len()));
        }
        let outputs = if c.reward_head == RewardHead::TwoHot { c.num_bins } else { 1 };
        let inputs = width + task_dim + act_dim;
        let reward = Mlp::new(&mut g, &spec("reward", inputs, &c.units, outputs, Epilogue::Bias), init);
        g.zero(&format!("reward.{}.weight", c.units.len()));
        let adam = AdamSpec { beta1: c.model_betas[0], beta2: c.model_betas[1], max_norm: c.wm_grad_norm };
        Self { group: g.finish(vars, "world_model", adam), width, encoder, dynamics, reward, tasks }
    }

    /// What it knows of each of its tasks, if there are several.
    pub fn tasks(&self) -> Option<&TaskTables> {
        self.tasks.as_ref()
    }

    /// Width of what actor and critics see: a latent and, in a model of several tasks, the embedding of the task.
    pub fn seen(&self) -> usize {
        self.width + self.tasks.as_ref().map_or(0, |t| t.width)
    }

    /// What belongs to the tasks `ids` of rows, an index value `[M]`; none in a model of one task.
    pub fn rows(&self, p: &mut Program, vars: &Vars, ids: Option<Val>) -> TaskRows {
        match (&self.tasks, ids) {
            (Some(tasks), Some(ids)) => tasks.rows(p, vars, &self.group, ids),
            _ => TaskRows::default(),
        }
    }

    /// The network that makes latents, if the observation is none.
    pub fn encoder(&self) -> Option<&Mlp> {
        self.encoder.as_ref()
    }

    /// The network of the dynamics, or of their velocity.
    pub fn dynamics_network(&self) -> &Mlp {
        match &self.dynamics {
            Transition::Mlp(network) => network,
            Transition::Flow(flow) => flow.network(),
        }
    }

    /// The network of the reward.
    pub fn reward_network(&self) -> &Mlp {
        &self.reward
    }

    pub fn bind(&self, p: &mut Program, vars: &Vars) -> BoundWorldModel {
        BoundWorldModel {
            encoder: self.bind_encoder(p, vars),
            dynamics: match &self.dynamics {
                Transition::Mlp(network) => BoundDynamics::Mlp(network.bind(p, vars, &self.group)),
                Transition::Flow(flow) => BoundDynamics::Flow(flow.bind(p, vars, &self.group)),
            },
            reward: self.reward.bind(p, vars, &self.group),
        }
    }

    /// The encoder alone, for programs that need no more.
    pub fn bind_encoder(&self, p: &mut Program, vars: &Vars) -> BoundEncoder {
        BoundEncoder(self.encoder.as_ref().map(|e| e.bind(p, vars, &self.group)))
    }
}

/// What makes latents of observations, inside a program.
#[derive(Clone, Debug)]
pub struct BoundEncoder(Option<BoundMlp>);

impl BoundEncoder {
    /// Latents `[M, D]` of prepared observations `[M, O]` of tasks with embeddings `[M, E]`, in `out` if given; else they
    /// may be the observations themselves. `save` keeps what the reverse pass needs.
    pub fn apply(&self, p: &mut Program, obs: Val, task: Option<Val>, save: bool, out: Option<Val>) -> Val {
        match (&self.0, out) {
            (Some(network), out) => network.apply(p, &inputs([Some(obs), task]), save, out),
            (None, Some(out)) => {
                copy(p, obs, out);
                out
            }
            (None, None) => obs,
        }
    }
}

/// The world model inside a program.
#[derive(Clone, Debug)]
pub struct BoundWorldModel {
    pub encoder: BoundEncoder,
    dynamics: BoundDynamics,
    reward: BoundMlp,
}

#[derive(Clone, Debug)]
enum BoundDynamics {
    Mlp(BoundMlp),
    Flow(BoundFlow),
}

impl BoundWorldModel {
    /// Latent after one step, `[M, D]`, in the tasks of embeddings `[M, E]`.
    pub fn next(&self, p: &mut Program, z: Val, a: Val, task: Option<Val>, save: bool, out: Option<Val>) -> Val {
        let network = match &self.dynamics {
            BoundDynamics::Flow(flow) => return flow.next(p, z, a, task, save, out),
            BoundDynamics::Mlp(network) => network,
        };
        if self.encoder.0.is_some() {
            return network.apply(p, &inputs([Some(z), task, Some(a)]), save, out);
        }
        let change = network.apply(p, &inputs([Some(z), task, Some(a)]), save, None);
        sum(p, z, change, out)
    }

    /// The velocity field, if the dynamics have one.
    pub fn flow(&self) -> Option<&BoundFlow> {
        match &self.dynamics {
            BoundDynamics::Mlp(_) => None,
            BoundDynamics::Flow(flow) => Some(flow),
        }
    }

    /// Output of the reward head on rows: `[M, 1]`, or `[M, bins]` for the two-hot head.
    pub fn reward(&self, p: &mut Program, z: Val, a: Val, task: Option<Val>, save: bool) -> Val {
        let parts = match &self.dynamics {
            BoundDynamics::Mlp(_) => [Some(z), task, Some(a)],
            BoundDynamics::Flow(_) => [Some(z), Some(a), task],
        };
        self.reward.apply(p, &inputs(parts), save, None)
    }
}

/// The inputs of a network that are there.
fn inputs<const N: usize>(parts: [Option<Val>; N]) -> Vec<Val> {
    parts.into_iter().flatten().collect()
}
