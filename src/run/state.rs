//! Checkpoints of a run: which variables go into the file, and back.
//!
//! | file | holds | serves |
//! |---|---|---|
//! | `latest` | everything the next epoch depends on | to continue to the same bits |
//! | `best` | networks and statistics | to act |
//!
//! Of the replay's ring only the rows written so far are stored. The configuration goes with them, without the keys
//! that change no result, so that a file's bytes depend on the state alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::algo::pwm::PwmNets;
use crate::algo::{Evaluation, Evaluator, Runner};
use crate::config::{Config, ConfigErrors};
use crate::io::checkpoint::{self, Checkpoint, CheckpointError, Element, Section, Tensor};
use crate::io::crc64::Crc64;
use crate::model::tasks::EMBEDDINGS;
use crate::ops::replay::Counter;
use crate::run::early_stop::EarlyStop;
use crate::run::signal_health::SignalHealth;
use crate::run::tracker::PartialRow;
use crate::tape::{DType, Machine, Region, TapeReal, VarId, Vars};

/// A number type that can be trained in and stored.
pub trait Stored: TapeReal + Element {}
impl<T: TapeReal + Element> Stored for T {}

/// What stands in a checkpoint beside the tensors.
mod key {
    pub const KIND: &str = "kind";
    pub const CONFIG: &str = "config";
    pub const EPOCH: &str = "epoch";
    pub const BOOTSTRAPPED: &str = "bootstrapped";
    pub const RETURN_MEAN: &str = "return_mean";
    pub const RETURN_STD: &str = "return_std";
    pub const LENGTH_MEAN: &str = "length_mean";
    pub const EARLY_STOP: &str = "guard";
    pub const LR_SCALE: &str = "lr_scale";
    pub const PARTIAL_ROW: &str = "pending";
    pub const SIGNAL_HEALTH: &str = "vitals";
}

/// The evaluation that made a checkpoint the best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    pub epoch: u64,
    pub mean: f64,
    pub std: f64,
    pub length: f64,
}

fn describe<F: TapeReal>(t: &Runner<F>, kind: &str) -> BTreeMap<String, String> {
    about(t.config(), kind, t.epoch())
}

/// What stands beside the tensors of any checkpoint.
pub(super) fn about(config: &Config, kind: &str, epoch: u64) -> BTreeMap<String, String> {
    // Settings that change no result have their defaults there.
    let c = config.with_defaults(|key| !key.effect.is_state());
    BTreeMap::from([
        (key::KIND.into(), kind.into()),
        (key::CONFIG.into(), c.to_yaml()),
        (key::EPOCH.into(), epoch.to_string()),
    ])
}

/// Rows of the ring that hold something, and their width; nothing without a replay buffer.
fn ring_shape<F: TapeReal>(t: &Runner<F>) -> [usize; 2] {
    t.replay().map_or([0, 0], |r| {
        let rows = t.machine.index(r.counters)[Counter::Rows as usize] as usize;
        [rows.min(r.spec.capacity), r.spec.width()]
    })
}

fn tensors<'a, F: Stored>(
    t: &'a Runner<F>,
    vars: &[VarId],
    ring_shape: &'a [usize; 2],
) -> impl Iterator<Item = Tensor<'a>> {
    let ring = t.replay().map(|r| r.ring);
    vars.iter().map(move |&id| {
        let info = t.machine.vars().info(id);
        let tensor = match info.dtype {
            DType::Real if Some(id) == ring => {
                Tensor::of(&info.name, ring_shape, &t.machine.real(id)[..ring_shape[0] * ring_shape[1]])
            }
            DType::Real => Tensor::of(&info.name, &info.shape, t.machine.real(id)),
            DType::Index => Tensor::of(&info.name, &info.shape, t.machine.index(id)),
        };
        tensor.within(section(info.region))
    })
}

fn section(region: Region) -> Section {
    match region {
        Region::Parameters => Section::Networks,
        Region::Statistics => Section::Statistics,
        Region::Optimiser => Section::Optimiser,
        Region::Environment => Section::Environment,
        Region::Replay | Region::Episodes => Section::Replay,
        Region::Control | Region::Gradients | Region::RolloutBuffers => Section::Counters,
    }
}

/// What the epoch loop remembers from one epoch to the next, beside its learner. A resumed run judges and logs as the
/// uninterrupted one would have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopState {
    /// Of the evaluations.
    pub early_stop: EarlyStop,
    /// Of the epochs since the last row of metrics.
    pub partial_row: PartialRow,
    /// Of the probes.
    pub signal_health: SignalHealth,
}

/// Everything the next epoch depends on.
pub fn save_latest<F: Stored>(path: &Path, t: &Runner<F>, remembered: &LoopState) -> Result<(), CheckpointError> {
    let ring = ring_shape(t);
    let mut meta = describe(t, "run");
    meta.insert(key::BOOTSTRAPPED.into(), t.bootstrapped().to_string());
    meta.insert(key::LR_SCALE.into(), t.lr_scale().to_string());
    let json = "strings and numbers are JSON";
    meta.insert(key::EARLY_STOP.into(), serde_json::to_string(&remembered.early_stop).expect(json));
    meta.insert(key::PARTIAL_ROW.into(), serde_json::to_string(&remembered.partial_row).expect(json));
    meta.insert(key::SIGNAL_HEALTH.into(), serde_json::to_string(&remembered.signal_health).expect(json));
    checkpoint::save(path, tensors(t, &t.state(false), &ring), &meta)
}

/// Networks and statistics, with the evaluation that chose them.
pub fn save_best<F: Stored>(path: &Path, t: &Runner<F>, e: &Evaluation) -> Result<Best, CheckpointError> {
    let best = Best { epoch: t.epoch(), mean: e.mean(), std: e.std(), length: e.mean_length() };
    let mut meta = describe(t, "policy");
    for (name, value) in [(key::RETURN_MEAN, best.mean), (key::RETURN_STD, best.std), (key::LENGTH_MEAN, best.length)] {
        meta.insert(name.into(), value.to_string());
    }
    checkpoint::save(path, tensors(t, &t.state(true), &[0, 0]), &meta)?;
    Ok(best)
}

/// Puts a runner, new and of the same configuration, into the state that `save_latest` stored.
pub fn restore<F: Stored>(t: &mut Runner<F>, from: &Checkpoint) -> Result<(), CheckpointError> {
    let (state, ring) = (t.state(false), t.replay().map(|r| r.ring));
    fill(&mut t.machine, &state, ring, from)?;
    if let Some(ring) = ring {
        let [rows, width] = ring_shape(t);
        let name = t.machine.vars().info(ring).name.clone();
        from.copy_into(&name, &[rows, width], &mut t.machine.real_mut(ring)[..rows * width])?;
    }
    t.set_bootstrapped(from.meta_parse(key::BOOTSTRAPPED)?);
    // Files written before there were rollbacks lack it.
    t.set_lr_scale(if from.meta().contains_key(key::LR_SCALE) { from.meta_parse(key::LR_SCALE)? } else { 1.0 });
    Ok(())
}

/// What the epoch loop remembered when a `latest` checkpoint was written. Files of earlier builds lack some of it:
/// there the loop begins anew, as those builds did.
pub fn loop_state_of(from: &Checkpoint) -> Result<LoopState, CheckpointError> {
    fn part<T: DeserializeOwned + Default>(from: &Checkpoint, key: &str) -> Result<T, CheckpointError> {
        let Some(text) = from.meta().get(key) else { return Ok(T::default()) };
        serde_json::from_str(text)
            .map_err(|e| CheckpointError::Damaged { path: from.path().into(), what: format!("its {key}: {e}") })
    }
    Ok(LoopState {
        early_stop: part(from, key::EARLY_STOP)?,
        partial_row: part(from, key::PARTIAL_ROW)?,
        signal_health: part(from, key::SIGNAL_HEALTH)?,
    })
}

/// Gives a runner the networks and statistics of a policy. Its optimisers start anew: their moments belong to other
/// weights and are not stored with a policy. Replay, environments and counters go on as they are.
pub fn restore_weights<F: Stored>(t: &mut Runner<F>, from: &Checkpoint) -> Result<(), CheckpointError> {
    let state = t.state(true);
    fill(&mut t.machine, &state, None, from)?;
    t.reset_optimisers();
    Ok(())
}

/// Gives a run, new, the world model of a checkpoint: its weights, and the statistics that belong to them.
pub fn restore_model<F: Stored>(t: &mut Runner<F>, from: &Checkpoint) -> Result<(), CheckpointError> {
    let of_model = |name: &str| name == "world_model.params" || MODEL_STATISTICS.contains(&name);
    let old =
        config_of(from)?.map_err(|e| CheckpointError::Damaged { path: from.path().into(), what: e.to_string() })?;
    if old.model_tasks() != t.config().model_tasks() {
        return teach_tasks(t, from, &old);
    }
    let vars = t.machine.vars().iter();
    let state: Vec<VarId> = vars.filter(|(_, info)| of_model(&info.name)).map(|(id, _)| id).collect();
    fill(&mut t.machine, &state, None, from)
}

/// Gives a run the world model of a checkpoint that knows other tasks: weights as they are, embeddings by the names of
/// tasks. A new task has that of `task_init`, or keeps the one that it begins with.
fn teach_tasks<F: Stored>(t: &mut Runner<F>, from: &Checkpoint, old: &Config) -> Result<(), CheckpointError> {
    let (obs_dim, act_dim) = crate::env::dims(old);
    let theirs = PwmNets::new(&mut Vars::default(), old, obs_dim, act_dim).world.group;
    let params = from.values::<F>("world_model.params")?;
    let (c, group) = (t.config().clone(), t.network("world model").group.clone());
    let (old_tasks, new_tasks) = (old.model_tasks(), c.model_tasks());
    let into = t.machine.real_mut(group.params);
    for e in &group.entries {
        let found = theirs.entries.iter().find(|o| o.name == e.name);
        let misfit = || CheckpointError::Mismatch {
            path: from.path().into(),
            name: format!("world_model.{}", e.name),
            found: found.map_or("not there".into(), |o| format!("{:?}", o.shape)),
            expected: format!("{:?}, as wide as the new tasks are", e.shape),
        };
        let o = found.ok_or_else(misfit)?;
        let whole = &params[o.offset..o.offset + o.len()];
        if e.name == EMBEDDINGS {
            let width = e.shape[1];
            for (row, task) in into[e.offset..e.offset + e.len()].chunks_exact_mut(width).zip(&new_tasks) {
                let place = |name: &String| old_tasks.iter().position(|t| t == name);
                if let Some(i) = place(task).or_else(|| place(&c.task_init)) {
                    row.copy_from_slice(&whole[i * width..(i + 1) * width]);
                }
            }
        } else if o.shape == e.shape {
            into[e.offset..e.offset + e.len()].copy_from_slice(whole);
        } else {
            return Err(misfit());
        }
    }
    let statistics = ["rew_stats", "obs_stats"].map(|name| t.machine.vars().find(name));
    fill(&mut t.machine, &statistics.into_iter().flatten().collect::<Vec<_>>(), None, from)
}

/// Statistics that a model was learned with.
const MODEL_STATISTICS: [&str; 3] = ["rew_stats", "obs_stats", "action_mask"];

/// Gives an evaluator the networks and statistics of either kind of checkpoint.
pub fn restore_policy<F: Stored>(e: &mut Evaluator<F>, from: &Checkpoint) -> Result<(), CheckpointError> {
    let state = e.state();
    fill(&mut e.machine, &state, None, from)
}

/// Gives a machine the networks and statistics of either kind of checkpoint.
pub fn restore_networks<F: Stored>(machine: &mut Machine<F>, from: &Checkpoint) -> Result<(), CheckpointError> {
    let keep = |r: Region| matches!(r, Region::Parameters | Region::Statistics);
    let vars = machine.vars().iter();
    let state: Vec<VarId> = vars.filter(|(_, info)| keep(info.region)).map(|(id, _)| id).collect();
    fill(machine, &state, None, from)
}

fn fill<F: Stored>(
    machine: &mut Machine<F>,
    vars: &[VarId],
    skip: Option<VarId>,
    from: &Checkpoint,
) -> Result<(), CheckpointError> {
    for &id in vars.iter().filter(|&&id| Some(id) != skip) {
        let info = machine.vars().info(id).clone();
        match info.dtype {
            DType::Real => from.copy_into(&info.name, &info.shape, machine.real_mut(id))?,
            DType::Index => from.copy_into(&info.name, &info.shape, machine.index_mut(id))?,
        }
    }
    Ok(())
}

/// The configuration that a checkpoint was written with.
pub fn config_of(from: &Checkpoint) -> Result<Result<Config, ConfigErrors>, CheckpointError> {
    let name = format!("configuration in {}", from.path().display());
    let config = Config::from_yaml::<&str>(&name, from.meta_str(key::CONFIG)?, &[]);
    Ok(config.and_then(|c| crate::env::check(&c).map(|()| c)))
}

/// Epochs done when a checkpoint was written.
pub fn epoch_of(from: &Checkpoint) -> Result<u64, CheckpointError> {
    from.meta_parse(key::EPOCH)
}

/// The evaluation stored in a best checkpoint.
pub fn best_of(from: &Checkpoint) -> Result<Best, CheckpointError> {
    Ok(Best {
        epoch: epoch_of(from)?,
        mean: from.meta_parse(key::RETURN_MEAN)?,
        std: from.meta_parse(key::RETURN_STD)?,
        length: from.meta_parse(key::LENGTH_MEAN)?,
    })
}

/// One number that differs if any bit of the state does.
pub fn fingerprint<F: Stored>(t: &Runner<F>) -> u64 {
    let ring = ring_shape(t);
    let mut crc = Crc64::new();
    for tensor in tensors(t, &t.state(false), &ring) {
        crc.update(tensor.name.as_bytes());
        crc.update(tensor.bytes);
    }
    crc.finish()
}
