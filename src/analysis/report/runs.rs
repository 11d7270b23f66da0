//! Runs as a report sees them, and which of them are one experiment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::algo::metrics::EVAL_MEAN;
use crate::config::{Config, ConfigErrors, KEYS, Shipped, ShippedKind, load};
use crate::io::atomic::FileError;
use crate::io::metrics::{self, MetricsError, Row, column};
use crate::run::folder::{self, FolderError, RunInfo};
use crate::run::incidents::{self, Incident};
use crate::run::progress::Short;

/// What keeps a run out of a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A run as the report sees it.
#[derive(Clone, Debug)]
pub struct Run {
    pub path: PathBuf,
    pub config: Config,
    pub info: RunInfo,
    pub rows: Vec<Row>,
    pub incidents: Vec<Incident>,
}

impl Run {
    /// Reads a run folder; the run may still be going on.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let file = path.join("config.yaml");
        let text = std::fs::read_to_string(&file).map_err(FileError::at(&file, "reading it"))?;
        Ok(Self {
            path: path.into(),
            // A run of an older build lacks keys that are younger than it: they have their defaults.
            config: Config::from_yaml::<&str>(&file.display().to_string(), &text, &[])?,
            info: folder::read_info(path)?.unwrap_or_default(),
            // A run that has just begun has none yet.
            rows: match metrics::read_metrics(&path.join(metrics::FILE_NAME)) {
                Err(MetricsError::File(FileError::Missing { .. })) => vec![],
                rows => rows?,
            },
            incidents: incidents::read(path)?,
        })
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Evaluations `(environment steps, mean return)`.
    pub fn evaluations(&self) -> Vec<(f64, f64)> {
        column(&self.rows, EVAL_MEAN.name)
    }

    /// The highest evaluation and the environment steps before it.
    pub fn peak(&self) -> (f64, f64) {
        self.evaluations().into_iter().fold((f64::NAN, f64::NAN), |best, e| if best.1 >= e.1 { best } else { e })
    }

    /// The last evaluation; NaN if there was none, or if it was not finite.
    pub fn last(&self) -> f64 {
        self.last_row().map_or(f64::NAN, |r| r.values[EVAL_MEAN.name])
    }

    /// The row of the last evaluation, finite or not.
    pub(super) fn last_row(&self) -> Option<&Row> {
        self.rows.iter().rev().find(|r| r.values.contains_key(EVAL_MEAN.name))
    }

    /// What a reader of its last evaluation should know, if it is not that of a whole run.
    fn reservation(&self) -> Option<String> {
        let (name, epochs) = (self.name(), self.config.max_epochs);
        let done = self.rows.last().map_or(0, |r| r.epoch);
        match self.last_row() {
            None => Some(format!("{name} has no evaluation and is left out of statistics")),
            Some(r) if !r.values[EVAL_MEAN.name].is_finite() => {
                Some(format!("the last evaluation of {name} is not finite, and left out of statistics"))
            }
            Some(_) if done < epochs => {
                let why = self.info.finished.as_deref().unwrap_or("running, or killed");
                Some(format!("{name} has {done} of {epochs} epochs ({why}); its last evaluation counts as final"))
            }
            Some(_) => None,
        }
    }

    pub(super) fn final_value(&self, name: &str) -> f64 {
        column(&self.rows, name).last().map_or(f64::NAN, |p| p.1)
    }

    pub(super) fn sum(&self, name: &str) -> f64 {
        column(&self.rows, name).iter().map(|p| p.1).sum()
    }
}

/// Runs of one experiment.
#[derive(Clone, Debug)]
pub struct RunGroup {
    pub label: String,
    /// Indices of its runs.
    pub runs: Vec<usize>,
}

/// Groups runs by the settings that decide what is learned and are read; labels say what tells groups apart.
pub fn group(runs: &[Run]) -> Vec<RunGroup> {
    let decisive = |r: &Run| -> Vec<Setting> {
        let keys = KEYS.iter().filter(|k| k.effect.is_experiment() && r.config.unread(k.name).is_none());
        keys.filter_map(|k| Some((k.name, r.config.get(k.name)?.to_string()))).collect()
    };
    let all: Vec<_> = runs.iter().map(decisive).collect();
    let mut groups: Vec<RunGroup> = Vec::new();
    for (i, settings) in all.iter().enumerate() {
        match groups.iter_mut().find(|g| all[g.runs[0]] == *settings) {
            Some(g) => g.runs.push(i),
            None => groups.push(RunGroup { label: runs[i].config.alg.clone(), runs: vec![i] }),
        }
    }
    name_apart(&mut groups, &all);
    groups
}

/// A key and its value.
type Setting = (&'static str, String);

/// Adds to the label of each group that shares it with others the settings that tell them apart: as few keys as make
/// all of them different, without the values that the shipped configuration of that name has (of a file's name, the
/// defaults).
fn name_apart(groups: &mut [RunGroup], all: &[Vec<Setting>]) {
    let mut names: Vec<String> = groups.iter().map(|g| g.label.clone()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let mut family: Vec<&mut RunGroup> = groups.iter_mut().filter(|g| g.label == name).collect();
        let shipped = Shipped::find(ShippedKind::Alg, &name).and_then(|_| load(&[format!("alg={name}")]).ok());
        let usual = shipped.unwrap_or_default();
        let told = |g: &RunGroup, key: &str| {
            let (_, value) = all[g.runs[0]].iter().find(|(k, _)| *k == key)?;
            (usual.get(key)?.to_string() != *value).then(|| format!(" {key}={value}"))
        };
        let mut additions = vec![String::new(); family.len()];
        for key in KEYS.iter().filter(|k| k.name != "alg") {
            let with = |(g, a): (&&mut RunGroup, &String)| format!("{a}{}", told(g, key.name).unwrap_or_default());
            let longer: Vec<String> = family.iter().zip(&additions).map(with).collect();
            // A key that separates no groups now separates none later.
            if distinct(&longer) > distinct(&additions) {
                additions = longer;
            }
        }
        family.iter_mut().zip(additions).for_each(|(g, a)| g.label += &a);
    }
}

fn distinct(of: &[String]) -> usize {
    of.iter().collect::<BTreeSet<_>>().len()
}

/// What must be said of runs whose last evaluations are compared: which of them are not over or have none, and that
/// they are of different lengths.
pub fn reservations(what: &str, runs: &[&Run]) -> Vec<String> {
    let mut told: Vec<String> = runs.iter().filter_map(|r| r.reservation()).collect();
    let steps = runs.iter().filter_map(|r| r.last_row().map(|row| row.step));
    let (least, most) = (steps.clone().min().unwrap_or(0), steps.max().unwrap_or(0));
    if least < most {
        let (least, most) = (Short(least as f64), Short(most as f64));
        told.push(format!("final evaluations of {what} are after {least} to {most} environment steps"));
    }
    told
}
