//! Checkpoints of published PWM, of its flow fork and of TD-MPC2, as policies of ours, or as models where there is no
//! policy in them.
//!
//! | theirs | ours |
//! |---|---|
//! | `world_model._task_emb` | `task_emb` of the world model |
//! | `world_model._encoder.I`, `._dynamics.I` or `._velocity.I`, `._reward.I` | `encoder.I`, `dynamics.I` or `velocity.I`, `reward.I` of the world model |
//! | `actor.mu_net.J`: linear at J = 3 I, its norm at 3 I + 2; `actor.logstd` | `mean.I`, `logstd` |
//! | `actor.velocity_net.J`, `actor.init_logstd` | `velocity.I`, `logstd` |
//! | `critic.params.J`: all critics stacked, in the order of the layers | `value.I` |
//! | `obs_rms`, `rew_rms`, `ret_rms`: mean, variance, count | statistics |
//!
//! TD-MPC2's own files have `model.` in place of `world_model.` and `_encoder.state.I`; of them the model is taken, not
//! its policy (`_pi`) and values (`_Qs`). Optimisers, counters and everything else are named and left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::algo::pwm::PwmNets;
use crate::config::{Config, Dynamics};
use crate::env;
use crate::io::checkpoint::{self, CheckpointError, Section, Tensor};
use crate::io::episodes::names::{mt30, published as published_tasks};
use crate::io::torch::{Leaf, TorchFile};
use crate::model::ParamGroup;
use crate::ops::stats::START_COUNT;
use crate::run::state;
use crate::tape::Vars;

/// What became of a file.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Their name, our name, shape.
    pub taken: Vec<(String, String, Vec<usize>)>,
    /// Name, and what stands in its way.
    pub missing: Vec<(String, String)>,
    /// Where in the file, and what is there that is not taken.
    pub ignored: BTreeMap<String, String>,
    /// In words: which statistics there were, and what they say.
    pub statistics: Vec<String>,
}

/// A policy made of a file.
#[derive(Debug)]
pub struct Imported {
    pub report: ImportReport,
    config: Config,
    variables: Vec<(String, Section, Vec<usize>, Vec<f32>)>,
}

/// The settings (`key=value`) that the shapes in a file ask for.
pub fn settings(file: &TorchFile) -> Vec<String> {
    let stack = |name: &str, step: usize, what: &str, axis: usize| -> Vec<usize> {
        let shape = |i: usize| file.tensor(&format!("{name}.{}{what}", i * step)).map(|t| t.shape.clone());
        (0..).map_while(|i| shape(i)?.get(axis).copied()).collect()
    };
    let world = prefix(file);
    let of = |what: &str| world_stack(file, &world, what);
    let mut found = vec!["latent=encoded".to_string()];
    let mut list = |key: &str, units: &[usize]| {
        if let Some((_, hidden)) = units.split_last() {
            found.push(format!("{key}={hidden:?}"));
        }
    };
    let encoder = stack(&of("_encoder"), 1, ".weight", 0);
    let velocity = stack(&of("_velocity"), 1, ".weight", 0);
    let flow_actor = stack("actor.velocity_net", 3, ".weight", 0);
    list("encoder_units", &encoder);
    list("units", &velocity);
    list("units", &stack(&of("_dynamics"), 1, ".weight", 0));
    list("actor_units", &stack("actor.mu_net", 3, ".weight", 0));
    list("actor_units", &flow_actor);
    list("critic_units", &stack("critic.params", 4, "", 1));
    if let Some(latent) = encoder.last() {
        found.push(format!("latent_dim={latent}"));
    }
    if !velocity.is_empty() {
        // The head of the published field.
        found.extend(["dynamics=flow".into(), "flow_head=simnorm".into()]);
    }
    if !flow_actor.is_empty() {
        found.push("actor=flow".into());
    }
    match stack(&of("_reward"), 1, ".weight", 0).last() {
        Some(0) | None => {}
        Some(1) => found.push("reward_head=scalar".into()),
        Some(bins) => found.extend(["reward_head=two_hot".into(), format!("num_bins={bins}"), "rew_norm=none".into()]),
    }
    if let Some([tasks, width]) =
        file.tensor(&of("_task_emb.weight")).and_then(|t| <[usize; 2]>::try_from(&t.shape[..]).ok())
    {
        found.push(format!("task_dim={width}"));
        // The published models, whose tasks have no names in the file.
        if tasks == mt30().len() || tasks == published_tasks().len() {
            found.push(format!("tasks=[{}]", published_tasks()[..tasks].join(",")));
        }
    }
    if !has_policy(file) {
        found.push("mode=pretrain".into());
    }
    if let Some(&critics) = file.tensor("critic.params.0").and_then(|t| t.shape.first()) {
        found.push(format!("num_critics={critics}"));
    }
    found.push(format!("obs_norm={}", file.objects.contains_key("obs_rms")));
    found
}

/// What stands in front of the names of a world model in a file.
fn prefix(file: &TorchFile) -> String {
    let has = |prefix: &&str| {
        let names = ["_encoder.0.weight", "_encoder.state.0.weight", "_reward.0.weight"];
        names.iter().any(|name| file.tensor(&format!("{prefix}{name}")).is_some())
    };
    ["world_model.", "model.", ""].into_iter().find(has).unwrap_or("world_model.").into()
}

/// The name of a stack, or of a tensor, of the world model in a file.
fn world_stack(file: &TorchFile, prefix: &str, what: &str) -> String {
    let name = format!("{prefix}{what}");
    let state = name.replacen("_encoder", "_encoder.state", 1);
    let of_state = file.tensor(&format!("{prefix}_encoder.state.0.weight")).is_some();
    if what.starts_with("_encoder") && of_state { state } else { name }
}

/// Whether there is a policy in a file.
fn has_policy(file: &TorchFile) -> bool {
    file.leaves.keys().any(|name| name.starts_with("actor."))
}

/// What is wrong with a reward head whose rows are all alike: it gives one value for every input.
fn dead_head(file: &TorchFile) -> Option<String> {
    let stack = world_stack(file, &prefix(file), "_reward");
    let last = (0..).take_while(|i| file.tensor(&format!("{stack}.{i}.weight")).is_some()).last()?;
    let name = format!("{stack}.{last}.weight");
    let tensor = file.tensor(&name).filter(|t| t.shape.len() == 2 && t.shape[0] > 1)?;
    let values = file.values(tensor).ok()?;
    let rows: Vec<&[f32]> = values.chunks(tensor.shape[1].max(1)).collect();
    let largest = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    let alike = rows.iter().all(|row| row.iter().zip(rows[0]).all(|(a, b)| (a - b).abs() <= 1e-4 * largest));
    alike.then(|| {
        format!(
            "DEAD: the reward head gives one value for every input: the {} rows of {name} are equal, as a squared error \
             on every bin leaves them; learn the model anew, with reward_head=two_hot",
            rows.len()
        )
    })
}

/// Takes what fits the networks of `config`.
pub fn import(file: &TorchFile, config: &Config) -> Imported {
    let mut vars = Vars::default();
    let (obs_dim, act_dim) = env::dims(config);
    let nets = PwmNets::new(&mut vars, config, obs_dim, act_dim);
    let mut variables = vec![];
    let mut take = Take { file, report: ImportReport::default(), used: vec![], left: file.numbers() };
    let all = [&nets.world.group, &nets.actor.group, &nets.critics.group];
    let groups = if has_policy(file) { &all[..] } else { &all[..1] };
    if groups.len() == 1 {
        take.report
            .statistics
            .push("there is no policy in the file: what is written is a model, for model=FILE".into());
    }
    for group in groups {
        let name = vars.info(group.params).name.clone();
        variables.push((name, Section::Networks, vec![group.len], take.group(group)));
    }
    for (name, theirs, columns, wanted) in [
        ("rew_stats", "rew_rms", 1, true),
        ("ret_stats", "ret_rms", 1, groups.len() > 1),
        ("obs_stats", "obs_rms", obs_dim, config.obs_norm),
    ] {
        if wanted {
            let shape = if name == "ret_stats" { vec![3] } else { vec![columns, 3] };
            variables.push((name.into(), Section::Statistics, shape, take.statistics(theirs, columns)));
        }
    }
    for (var, values) in nets.constants(config) {
        let info = vars.info(var);
        let values = values.iter().map(|x| *x as f32).collect();
        variables.push((info.name.clone(), Section::Statistics, info.shape.clone(), values));
    }
    take.report.statistics.extend(dead_head(file));
    take.leave();
    if config.dynamics == Dynamics::Flow {
        take.report.statistics.push(format!(
            "flow: {:?} with {} substeps is not in the file; check flow_integrator and flow_substeps",
            config.flow_integrator, config.flow_substeps
        ));
    }
    Imported { report: take.report, config: config.clone(), variables }
}

/// What can be wrong with an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is some other file, or a damaged one.
    #[error("{path}: cannot be read as a file of torch.save: {what}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It does not hold these networks.
    #[error("{path}: {count} of the wanted tensors are missing or do not fit, the first `{name}`: {why}; nothing is written. Sizes are read from the file; `pwm import FILE alg=NAME key=value` sets them and the rest", path = path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// How many do not fit.
        count: usize,
        /// The first of them.
        name: String,
        /// What stands in its way.
        why: String,
    },
}

impl Imported {
    /// An error if something is missing; `path` is for messages.
    pub fn complete(&self, path: &Path) -> Result<(), ImportError> {
        let Some((name, why)) = self.report.missing.first() else { return Ok(()) };
        let (count, name, why) = (self.report.missing.len(), name.clone(), why.clone());
        Err(ImportError::Misfit { path: path.into(), count, name, why })
    }

    /// Writes it, if it is complete, as a checkpoint of a policy at epoch 0.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let tensors = self.variables.iter().map(|(n, section, shape, x)| Tensor::of(n, shape, x).within(*section));
        checkpoint::save(path, tensors, &state::about(&self.config, "policy", 0))
    }
}

/// Takes tensors out of a file and keeps account of it.
struct Take<'a, 'f> {
    file: &'a TorchFile<'f>,
    report: ImportReport,
    used: Vec<String>,
    /// Numbers that may still be taken: tensors may share storage, a policy's do not.
    left: usize,
}

impl Take<'_, '_> {
    /// The parameters of a group, in its layout; fewer if some are missing.
    fn group(&mut self, group: &ParamGroup) -> Vec<f32> {
        let mut all = vec![];
        for (i, e) in group.entries.iter().enumerate() {
            let mut name = match group.name {
                "world_model" => world_stack(self.file, &prefix(self.file), &format!("_{}", e.name)),
                other => published(other, &e.name, i),
            };
            if self.file.tensor(&name).is_none() && name == "actor.logstd" {
                name = "actor.init_logstd".into();
            }
            match self.numbers(&name, &e.shape) {
                Ok(values) => {
                    all.extend(values);
                    self.report.taken.push((name.clone(), format!("{}.{}", group.name, e.name), e.shape.clone()));
                }
                Err(why) => self.report.missing.push((name.clone(), why)),
            }
            self.used.push(name);
        }
        all
    }

    fn numbers(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let t = self.file.tensor(name).ok_or("not in the file")?;
        // A single critic is a stack of one there.
        let bare = t.shape.strip_prefix(&[1]).unwrap_or(&t.shape);
        if t.shape != shape && bare != shape {
            return Err(format!("{:?} in the file, {shape:?} by the settings", t.shape));
        }
        let values = self.file.values(t)?;
        self.left = self.left.checked_sub(values.len()).ok_or("its numbers are those of other tensors, too")?;
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err("it holds numbers that are not finite".into())
        }
    }

    /// Mean, variance and count of each column.
    fn statistics(&mut self, name: &str, columns: usize) -> Vec<f32> {
        let fresh = [0.0, 1.0, START_COUNT as f32].repeat(columns);
        if !self.file.objects.contains_key(name) {
            self.report.statistics.push(format!("{name}: none in the file; ours start anew"));
            return fresh;
        }
        let count = match self.file.leaves.get(&format!("{name}.count")) {
            Some(Leaf::Number(n)) => Some(*n as f32),
            Some(Leaf::Tensor(t)) => self.file.values(t).ok().and_then(|v| v.first().copied()),
            _ => None,
        };
        let column = |what: &str| -> Option<Vec<f32>> {
            let values = self.file.values(self.file.tensor(&format!("{name}.{what}"))?).ok()?;
            (values.len() == columns && values.iter().all(|x| x.is_finite())).then_some(values)
        };
        let (Some(mean), Some(var), Some(count)) = (column("mean"), column("var"), count) else {
            self.report
                .missing
                .push((name.into(), format!("its mean, variance and count are not {columns} numbers each")));
            return fresh;
        };
        self.report.statistics.push(match columns {
            1 => format!("{name}: mean {}, variance {} of {count} numbers", mean[0], var[0]),
            _ => format!("{name}: means and variances of {columns} columns, of {count} rows"),
        });
        self.used.extend(["mean", "var", "count"].map(|what| format!("{name}.{what}")));
        (0..columns).flat_map(|i| [mean[i], var[i], count]).collect()
    }

    /// Accounts for everything that was not taken, in groups where there is much of a kind.
    fn leave(&mut self) {
        let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (path, leaf) in &self.file.leaves {
            let statistics = ["obs_rms.", "rew_rms.", "ret_rms."].iter().any(|s| path.starts_with(s));
            if self.used.contains(path) || statistics {
                continue;
            }
            let head = path.split('.').next().unwrap_or(path);
            let known = ["actor", "critic", "world_model"].contains(&head);
            let (tensors, others) = groups.entry(if known { path.clone() } else { head.into() }).or_default();
            *(if matches!(leaf, Leaf::Tensor(_)) { tensors } else { others }) += 1;
        }
        let count = |(tensors, others)| format!("{tensors} tensors and {others} other values");
        self.report.ignored = groups.into_iter().map(|(path, n)| (path, count(n))).collect();
        for (path, class) in &self.file.objects {
            if !["obs_rms", "rew_rms", "ret_rms"].contains(&path.as_str()) {
                self.report.ignored.insert(path.clone(), format!("an object of class {class}, not made"));
            }
        }
    }
}

/// The published name of a parameter: the `index`th of `group`, called `name` here.
fn published(group: &str, name: &str, index: usize) -> String {
    if group == "critics" {
        return format!("critic.params.{index}");
    }
    let mut parts = name.splitn(3, '.');
    let (stack, layer, what) = (parts.next(), parts.next().and_then(|l| l.parse::<usize>().ok()), parts.next());
    match (stack, layer, what) {
        (Some(stack), Some(layer), Some(what)) => {
            let net = if stack == "mean" { "mu_net" } else { "velocity_net" };
            match what.strip_prefix("ln.") {
                Some(what) => format!("actor.{net}.{}.{what}", 3 * layer + 2),
                None => format!("actor.{net}.{}.{what}", 3 * layer),
            }
        }
        _ => format!("actor.{name}"),
    }
}
