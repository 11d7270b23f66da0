//! Weights for use elsewhere: a plain safetensors file with a recipe, which needs nothing of this program to be used.
//!
//! Matrices are `[out, in]`, `y = x Wᵀ + b`. The metadata hold one recipe for each function, as JSON: the inputs that
//! are joined, and steps that are applied to them one after another. docs/EXPORT.md says what each step computes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::algo::learner;
use crate::config::RewardHead;
use crate::config::{ActorKind, Config, Decode, Dynamics, FlowHead, FlowProjection, Integrator, Latent};
use crate::device::numerics::{NORM_EPSILON, NORMALISED_BOUND, STATS_EPSILON};
use crate::env;
use crate::io::atomic;
use crate::io::checkpoint::{Checkpoint, CheckpointError};
use crate::io::tensors::{self, Tensor};
use crate::model::{Actor, Critics, Mlp, ParamGroup, WorldModel};
use crate::ops::linear::Epilogue;
use crate::tape::Vars;

/// What an export may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum ExportPart {
    /// What is needed to act: statistics of observations, encoder, policy.
    Actor,
    /// The critics.
    Critic,
    /// Dynamics and reward, with the encoder.
    World,
}

/// Names and shapes of what was written.
pub type Written = Vec<(String, Vec<usize>)>;

/// Writes `parts` of a checkpoint to `path`, whole or not at all.
pub fn export(
    stored: &Checkpoint,
    config: &Config,
    parts: &[ExportPart],
    path: &Path,
) -> Result<Written, CheckpointError> {
    let (obs_dim, act_dim) = env::dims(config);
    let mut e = Export { stored, config, obs_dim, act_dim, tensors: vec![], recipes: BTreeMap::new() };
    let mut vars = Vars::default();
    let nets = learner(config.algorithm).networks(config, &mut vars);
    e.parts(parts, &nets.actor, &nets.critics, nets.world.as_ref(), nets.obs_stats.is_some())?;
    let mut list: Vec<Tensor> = e.tensors.iter().map(|(name, shape, x)| Tensor::of(name, shape, x)).collect();
    tensors::sort(&mut list);
    let header =
        tensors::header(e.metadata(), &list).map_err(|what| CheckpointError::BadInput { path: path.into(), what })?;
    atomic::replace(path, |file| tensors::write(file, &header, &list))?;
    Ok(list.iter().map(|t| (t.name.into(), t.shape.to_vec())).collect())
}

struct Export<'a> {
    stored: &'a Checkpoint,
    config: &'a Config,
    obs_dim: usize,
    act_dim: usize,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    recipes: BTreeMap<&'static str, Value>,
}

impl Export<'_> {
    fn parts(
        &mut self,
        parts: &[ExportPart],
        actor: &Actor,
        critics: &Critics,
        world: Option<&WorldModel>,
        normalised: bool,
    ) -> Result<(), CheckpointError> {
        let has = |p| parts.contains(&p);
        if has(ExportPart::World) && world.is_none() {
            let what = "a policy that was trained without a world model has no part `world`".into();
            return Err(CheckpointError::BadInput { path: self.stored.path().into(), what });
        }
        let mut seen = vec![];
        if has(ExportPart::Actor) || has(ExportPart::World) {
            if normalised {
                self.statistics("obs_stats", "obs", &[self.obs_dim])?;
                seen.push(json!({"op": "normalise", "mean": "obs.mean", "var": "obs.var", "eps": STATS_EPSILON, "clamp": NORMALISED_BOUND}));
            }
            if let Some((world, encoder)) = world.and_then(|w| Some((w, w.encoder()?))) {
                self.group(&world.group, |name| name.starts_with("encoder.").then(|| name.into()))?;
                seen.extend(stack("encoder", encoder));
            }
        }
        if has(ExportPart::Actor) {
            self.actor(actor, seen.clone())?;
        }
        if has(ExportPart::Critic) {
            self.critics(critics)?;
        }
        if let Some(world) = world.filter(|_| has(ExportPart::World)) {
            self.recipe("latent", &["observation"], seen);
            self.world(world)?;
        }
        Ok(())
    }

    fn actor(&mut self, actor: &Actor, mut steps: Vec<Value>) -> Result<(), CheckpointError> {
        let c = self.config;
        match c.actor {
            ActorKind::Gaussian => steps.extend(stack("actor.mu", actor.network())),
            ActorKind::Flow => steps.push(json!({
                "op": "integrate", "start": "zeros", "width": self.act_dim, "inputs": ["latent", "state", "time"],
                "integrator": integrator(c.actor_flow_integrator), "substeps": c.actor_flow_substeps,
                "field": stack("actor.velocity", actor.network()),
            })),
        }
        steps.push(json!({"op": "tanh"}));
        self.recipe("action", &["observation"], steps);
        self.group(&actor.group, |name| {
            let rest = |stack: &str| name.strip_prefix(stack).map(str::to_string);
            let mu = rest("mean.").map(|r| format!("actor.mu.{r}"));
            Some(mu.unwrap_or_else(|| format!("actor.{name}")))
        })
    }

    /// Each critic by itself; those of an ensemble are stored stacked.
    fn critics(&mut self, critics: &Critics) -> Result<(), CheckpointError> {
        let from = self.tensors.len();
        self.group(&critics.group, |name| name.strip_prefix("value.").map(str::to_string))?;
        let stacked = self.tensors.split_off(from);
        for k in 0..critics.count {
            for (name, shape, x) in &stacked {
                let one = if critics.count > 1 { &shape[1..] } else { &shape[..] };
                let n = x.len() / critics.count;
                self.tensors.push((format!("critic.{k}.{name}"), one.to_vec(), x[k * n..(k + 1) * n].to_vec()));
            }
        }
        let each = (0..critics.count).map(|k| stack(&format!("critic.{k}"), critics.network()));
        let min = json!({"op": "minimum", "of": each.collect::<Vec<_>>()});
        self.recipe("value", &["latent"], vec![min, json!({"op": "scale", "by": self.config.value_scale})]);
        self.statistics("ret_stats", "return", &[])
    }

    fn world(&mut self, world: &WorldModel) -> Result<(), CheckpointError> {
        let c = self.config;
        self.group(&world.group, |name| (!name.starts_with("encoder.")).then(|| format!("world.{name}")))?;
        let next = match c.dynamics {
            Dynamics::Mlp => {
                let mut steps = stack("world.dynamics", world.dynamics_network());
                if c.latent == Latent::Observed {
                    steps.push(json!({"op": "add", "input": "latent"}));
                }
                (vec!["latent", "action"], steps)
            }
            Dynamics::Flow => {
                let mut field = stack("world.velocity", world.dynamics_network());
                if c.flow_head == FlowHead::Tangent {
                    field.push(json!({"op": "remove_group_means", "group": c.simnorm_dim}));
                }
                let mut steps = vec![json!({
                    "op": "integrate", "start": "latent", "inputs": ["state", "action", "time"],
                    "integrator": integrator(c.flow_integrator), "substeps": c.flow_substeps, "field": field,
                })];
                if c.flow_projection == FlowProjection::Simplex {
                    steps.push(json!({"op": "project_simplex", "group": c.simnorm_dim}));
                }
                (vec!["latent"], steps)
            }
        };
        self.recipe("next_latent", &next.0, next.1);
        let mut reward = stack("world.reward", world.reward_network());
        if c.reward_head == RewardHead::TwoHot {
            reward.push(json!({"op": "expectation", "from": c.vmin, "to": c.vmax, "bins": c.num_bins}));
            if c.decode == Decode::Symexp {
                reward.push(json!({"op": "symexp"}));
            }
        }
        self.recipe("reward", &["latent", "action"], reward);
        self.statistics("rew_stats", "reward", &[])
    }

    /// The parameters of a group under the names that `rename` gives them.
    fn group(&mut self, group: &ParamGroup, rename: impl Fn(&str) -> Option<String>) -> Result<(), CheckpointError> {
        let mut all = vec![0f32; group.len];
        self.stored.copy_into(&format!("{}.params", group.name), &[group.len], &mut all)?;
        for e in &group.entries {
            if let Some(name) = rename(&e.name) {
                self.tensors.push((name, e.shape.clone(), all[e.offset..e.offset + e.len()].to_vec()));
            }
        }
        Ok(())
    }

    /// Mean and variance of running statistics.
    fn statistics(&mut self, stored: &str, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let all = self.stored.values::<f32>(stored)?;
        for (i, what) in ["mean", "var"].iter().enumerate() {
            let column = all.iter().skip(i).step_by(3).copied().collect();
            self.tensors.push((format!("{name}.{what}"), shape.to_vec(), column));
        }
        Ok(())
    }

    fn recipe(&mut self, of: &'static str, inputs: &[&str], steps: Vec<Value>) {
        self.recipes.insert(of, json!({"inputs": inputs, "steps": steps}));
    }

    fn metadata(&self) -> Map<String, Value> {
        let mut strings = Map::new();
        strings.insert("format".into(), "pwm-export-1".into());
        for (of, recipe) in &self.recipes {
            strings.insert(format!("recipe.{of}"), recipe.to_string().into());
        }
        for (key, value) in self.stored.meta() {
            if ["config", "epoch", "return_mean", "return_std", "length_mean"].contains(&key.as_str()) {
                strings.insert(key.clone(), value.as_str().into());
            }
        }
        strings
    }
}

/// The steps of a stack of layers whose parameters begin with `name`.
fn stack(name: &str, network: &Mlp) -> Vec<Value> {
    let mut steps = vec![];
    for (i, epilogue) in network.epilogues().enumerate() {
        let linear =
            json!({"op": "linear", "weight": format!("{name}.{i}.weight"), "bias": format!("{name}.{i}.bias")});
        let norm = json!({
            "op": "layer_norm", "weight": format!("{name}.{i}.ln.weight"), "bias": format!("{name}.{i}.ln.bias"),
            "eps": NORM_EPSILON,
        });
        let mish = json!({"op": "mish"});
        steps.extend(match epilogue {
            Epilogue::Bias => vec![linear],
            Epilogue::NormMish => vec![linear, norm, mish],
            Epilogue::MishNorm => vec![linear, mish, norm],
            Epilogue::NormSimplex { group } => vec![linear, norm, json!({"op": "simnorm", "group": group})],
        });
    }
    steps
}

fn integrator(i: Integrator) -> &'static str {
    match i {
        Integrator::Euler => "euler",
        Integrator::Heun => "heun",
        Integrator::Rk4 => "rk4",
    }
}
