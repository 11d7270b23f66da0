//! Every member resolved and planned, before anything is written or started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rayon::prelude::*;

use crate::app::misused;
use crate::app::train::{LauncherKind, TrainArgs, admit};
use crate::config::{Bytes, Config, ConfigError, ConfigErrors, Device, Grid, Key, SourceLocation, load_with_notes};
use crate::device::cpu::team;
use crate::env;
use crate::io::atomic::FileError;
use crate::io::crc64::Crc64;
use crate::mem::Budget;
use crate::run::folder::RunFolder;
use crate::run::plan::{ArenaPlace, Limits, Plan};
use crate::run::recorded::{self, complete};
use crate::run::tracker::resident_mib;
use crate::sweep::{self, Capacity, Draft, MemberInfo, Resources, slurm};

/// Names of the setting that says where a sweep lies: a run's, a short one, and Hydra's.
const FOLDER_KEYS: [&str; 3] = ["run_dir", "out", "hydra.sweep.dir"];
/// Longest name of a sweep's folder that is made of settings.
const LONGEST: usize = 100;

/// A sweep that may start: nothing speaks against the settings of any member.
pub(super) struct Prepared {
    pub path: PathBuf,
    /// The settings that take several values.
    pub axes: Vec<String>,
    pub drafts: Vec<Draft>,
    /// What each of them takes.
    pub resources: Vec<Resources>,
    /// What there is for all.
    pub capacity: Capacity,
    /// What became of settings that change nothing, each once.
    pub notes: Vec<String>,
    /// Where they are started.
    pub launcher: LauncherKind,
}

impl Prepared {
    pub fn new(args: &TrainArgs) -> anyhow::Result<Self> {
        let (folder, settings) = folder_of(args)?;
        let grid = Grid::new(&settings)?;
        let (axes, points) = match &args.resume {
            None => (grid.axes, grid.points.into_iter().map(Point::new).collect()),
            Some(dir) => (vec![], members_of(dir, grid)?),
        };
        let mut notes = vec![];
        let drafts = resolve(&axes, points, &mut notes)?;
        sweep::unlike(&axes, &drafts)?;
        let path = folder.unwrap_or_else(|| default_folder(&axes, &drafts));
        let before = sweep::read(&path).ok().filter(|s| s.launcher == slurm::NAME).map(|_| LauncherKind::Slurm);
        let launcher = args.launcher.or(before).unwrap_or(LauncherKind::Local);
        ensure!(
            launcher == LauncherKind::Slurm || args.sbatch.is_empty(),
            misused(format_args!("--sbatch is for --launcher slurm"))
        );
        let (resources, capacity) = plan(&path, &axes, &drafts, launcher, args)?;
        Ok(Self { path, axes, drafts, resources, capacity, notes, launcher })
    }
}

/// Where the sweep lies, if the command says so, and the other settings.
fn folder_of(args: &TrainArgs) -> anyhow::Result<(Option<PathBuf>, Vec<String>)> {
    let mut folder = args.resume.clone();
    let mut settings = vec![];
    for text in args.settings() {
        let Some((_, value)) = text.split_once('=').filter(|(k, _)| FOLDER_KEYS.contains(&k.trim())) else {
            settings.push(text);
            continue;
        };
        if args.resume.is_some() {
            let message = "the folder of a sweep that is continued is the one that --resume names".into();
            return Err(
                ConfigErrors::from(ConfigError::Syntax { place: SourceLocation::Override(text), message }).into()
            );
        }
        if Grid::new(&[&text])?.axes.len() == 1 {
            let message = "a sweep has one folder; quotes make a comma part of its name".into();
            return Err(
                ConfigErrors::from(ConfigError::Syntax { place: SourceLocation::Override(text), message }).into()
            );
        }
        folder = Some(value.trim().trim_matches(['\'', '"']).into()).filter(|p: &PathBuf| !p.as_os_str().is_empty());
    }
    Ok((folder, settings))
}

/// A member before its settings are resolved.
struct Point {
    /// Its name, if it has one.
    name: Option<String>,
    /// Its settings.
    overrides: Vec<String>,
    /// Where it was begun, and what is set beside what its folder holds: a file that the command named may be another
    /// one now, or be gone.
    begun: Option<(PathBuf, Vec<String>)>,
}

impl Point {
    fn new(overrides: Vec<String>) -> Self {
        Self { name: None, overrides, begun: None }
    }
}

/// The members of a sweep that is continued, with what the command adds to the settings of all.
fn members_of(dir: &Path, more: Grid) -> anyhow::Result<Vec<Point>> {
    let info = sweep::read(dir)?;
    if let Some(axis) = more.axes.first() {
        let message = "members are added by the whole command with --multirun, not by --resume".into();
        return Err(
            ConfigErrors::from(ConfigError::Syntax { place: SourceLocation::Override(axis.clone()), message }).into()
        );
    }
    let more = more.points.into_iter().next().unwrap_or_default();
    let key = |o: &str| o.split_once('=').map(|(k, _)| k.to_owned());
    let is_free = |o: &&String| key(o).is_some_and(|key| Key::free().any(|k| k.name == key));
    let point = |m: MemberInfo| {
        let own: Vec<String> = m.overrides.into_iter().filter(|o| more.iter().all(|m| key(m) != key(o))).collect();
        let run = dir.join(&m.name);
        let begun = RunFolder::holds_run(&run).then(|| own.iter().filter(is_free).chain(&more).cloned().collect());
        let overrides = own.iter().chain(&more).cloned().collect();
        Point { name: Some(m.name), overrides, begun: begun.map(|with| (run, with)) }
    };
    Ok(info.members.into_iter().map(point).collect())
}

/// The settings in a run's folder, with others beside them.
fn stored(run: &Path, with: &[String]) -> anyhow::Result<Config> {
    let file = run.join("config.yaml");
    let text = std::fs::read_to_string(&file).map_err(FileError::at(&file, "reading it"))?;
    Ok(Config::from_yaml(&file.display().to_string(), &text, with)?)
}

/// Something is wrong with a member: says with which, and with how many others.
fn of_member(axes: &[String], point: &Point, others: usize, e: anyhow::Error) -> anyhow::Error {
    let Point { name, overrides, .. } = point;
    let own = |o: &&String| o.split_once('=').is_some_and(|(k, _)| axes.iter().any(|a| a == k));
    let name = name.clone().unwrap_or_else(|| overrides.iter().filter(own).cloned().collect::<Vec<_>>().join(","));
    let name = if name.is_empty() { "the only member".into() } else { format!("member {name}") };
    let others = match others {
        0 => String::new(),
        1 => " (and 1 other)".into(),
        _ => format!(" (and {others} others)"),
    };
    e.context(format!("{name}{others}, and nothing was started"))
}

/// The first error, with the number of others that say the same.
fn all_or_first<T>(axes: &[String], points: &[Point], results: Vec<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let text = |r: &anyhow::Result<T>| r.as_ref().err().map(|e| format!("{e:#}"));
    let Some(first) = results.iter().position(Result::is_err) else { return results.into_iter().collect() };
    let same = results.iter().filter(|r| r.is_err() && text(r) == text(&results[first])).count();
    let error = results.into_iter().nth(first).and_then(Result::err).context("invariant: it is an error")?;
    Err(of_member(axes, &points[first], same - 1, error))
}

/// Resolves the settings of every member.
fn resolve(axes: &[String], points: Vec<Point>, notes: &mut Vec<String>) -> anyhow::Result<Vec<Draft>> {
    let read = |point: &Point| -> anyhow::Result<(Draft, Vec<String>)> {
        let Point { name, overrides, begun } = point;
        let (mut config, notes) = match begun {
            Some((run, with)) => (stored(run, with)?, vec![]),
            None => load_with_notes(overrides)?,
        };
        if begun.is_some() {
            recorded::check(&config)?;
        } else {
            config = complete(config)?;
        }
        env::check(&config)?;
        // Runs side by side have one thread each, unless the settings say otherwise.
        if config.threads == 0 && !overrides.iter().any(|o| o.starts_with("threads=")) {
            config.threads = 1;
        }
        let notes = notes.iter().map(ToString::to_string).collect();
        let resumed_with = begun.as_ref().map(|(_, with)| with.clone());
        Ok((Draft { name: name.clone(), overrides: overrides.clone(), resumed_with, config }, notes))
    };
    let drafts = all_or_first(axes, &points, points.par_iter().map(read).collect())?;
    for note in drafts.iter().flat_map(|d| &d.1) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    Ok(drafts.into_iter().map(|d| d.0).collect())
}

/// The arguments with which a member is started.
pub(super) fn args(draft: &Draft, run: &Path) -> Vec<String> {
    let threads = format!("threads={}", draft.config.threads);
    let run = run.display();
    match &draft.resumed_with {
        Some(with) => ["--resume".to_owned(), run.to_string()].iter().chain(with).chain([&threads]).cloned().collect(),
        None => draft.overrides.iter().cloned().chain([threads, format!("run_dir={run}")]).collect(),
    }
}

/// `runs/sweep_ENVS_ALGS`, with the other settings that take several values; seeds may be added, so they are not in it.
fn default_folder(axes: &[String], drafts: &[Draft]) -> PathBuf {
    let distinct = |of: fn(&Config) -> &str| {
        let mut all: Vec<&str> = vec![];
        for draft in drafts {
            let label = of(&draft.config);
            if !all.contains(&label) {
                all.push(label);
            }
        }
        all
    };
    let sides = [distinct(Config::env_label), distinct(Config::alg_label)];
    let name = |side: fn(&Vec<&str>) -> String| {
        let others = axes.iter().filter(|a| !["env", "alg", "seed"].contains(&&a[..])).cloned();
        let parts: Vec<String> = ["sweep".to_owned()].into_iter().chain(sides.iter().map(side)).chain(others).collect();
        parts.join("_")
    };
    let whole = name(|all| all.join("+"));
    let short = |all: &Vec<&str>| match &all[..] {
        [first, rest @ ..] if !rest.is_empty() => format!("{first}+{}", rest.len()),
        all => all.concat(),
    };
    Path::new("runs").join(if whole.len() <= LONGEST { whole } else { name(short) })
}

/// Plans every member as it would be planned alone, and finds what there is for all of them together.
fn plan(
    path: &Path,
    axes: &[String],
    drafts: &[Draft],
    launcher: LauncherKind,
    args: &TrainArgs,
) -> anyhow::Result<(Vec<Resources>, Capacity)> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut capacity = Capacity { jobs: args.jobs.map(Into::into), cores, ..Capacity::default() };
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    // Runs that differ in the seed alone have one plan.
    let mut known: BTreeMap<String, Resources> = BTreeMap::new();
    let mut results: Vec<anyhow::Result<Resources>> = vec![];
    for draft in drafts {
        let config = Config { run_dir: path.display().to_string(), seed: 0, ..draft.config.clone() };
        let key = config.to_yaml();
        let resources = match known.get(&key) {
            Some(resources) => Ok(*resources),
            None if launcher == LauncherKind::Slurm => elsewhere(&config, args).map(|plan| Resources {
                threads: team::count(config.threads),
                host: plan.host(),
                device: plan.device(),
            }),
            None => admit(&config).map(|admitted| {
                let (plan, limits) = (&admitted.plan, &admitted.limits);
                capacity.device = least(capacity.device, limits.device.as_ref().map(Budget::usable));
                capacity.host = least(capacity.host, config.mem.map(|Bytes(b)| b));
                let threads = team::count(config.threads);
                Resources { threads, host: plan.host(), device: plan.device() }
            }),
        };
        known.extend(resources.as_ref().ok().map(|n| (key, *n)));
        results.push(resources);
    }
    let point = |d: &Draft| Point { name: d.name.clone(), ..Point::new(d.overrides.clone()) };
    let points: Vec<Point> = drafts.iter().map(point).collect();
    let resources = all_or_first(axes, &points, results)?;
    // Of what is asked for the members have all; of what the system has this process takes a part.
    let own = resident_mib();
    let own = if own.is_finite() { (own * (1 << 20) as f64) as u64 } else { 0 };
    let system = Budget::of_all_processes().map(|b| b.usable().saturating_sub(own));
    capacity.host = least(capacity.host, system);
    Ok((resources, capacity))
}

/// Plans a member for another machine, of which is known what the settings say alone.
fn elsewhere(c: &Config, args: &TrainArgs) -> anyhow::Result<Plan> {
    let wants_gpu = slurm::wants_gpu(&args.sbatch);
    ensure!(c.threads > 0, misused(format_args!("threads=0 means this machine's cores; say how many a task has")));
    let place = match env::device(c) {
        Device::Cuda(n) if n > 0 => {
            return Err(misused(format_args!("device=cuda:{n}: a task sees one GPU, which is cuda:0")).into());
        }
        Device::Cuda(_) => ArenaPlace::Device,
        Device::Auto if wants_gpu => ArenaPlace::Device,
        _ => ArenaPlace::Host,
    };
    place.suits(c)?;
    let asked = |key, bytes: Option<Bytes>| bytes.map(|b| Budget::asked(key, b));
    let limits = Limits {
        host: asked("mem", c.mem),
        device: asked("device_mem", c.device_mem),
        disk: Budget::of_disk(&c.run_folder()),
    };
    Ok(limits.admit_at(c, place)?)
}

/// Minutes that a run takes at most; none where its settings say nothing of time.
pub(super) fn minutes(c: &Config) -> Option<f64> {
    // A run that computes uses the processor no slower than the clock goes.
    [c.max_minutes, c.max_cpu_minutes].into_iter().filter(|m| *m > 0.0).reduce(f64::min)
}

/// All that settings come to, as a number in hexadecimal digits; folders aside.
pub(super) fn fingerprint(c: &Config) -> String {
    let mut crc = Crc64::new();
    crc.update(c.with_defaults(|key| key.name == "run_dir").to_yaml().as_bytes());
    format!("{:016x}", crc.finish())
}

/// A member of a sweep that is there, as it goes on.
pub(super) fn draft_of(sweep: &Path, place: usize) -> anyhow::Result<Draft> {
    let info = sweep::read(sweep)?;
    let points = members_of(sweep, Grid::default())?;
    let point = points.into_iter().nth(place);
    let point = point.ok_or_else(|| sweep::SweepError::NoMember { path: sweep.into(), place })?;
    let drafts = resolve(&info.axes, vec![point], &mut vec![])?;
    drafts.into_iter().next().context("invariant: one for one")
}

/// What bounds the number of members side by side, in words.
pub(super) fn why(resources: &Resources, capacity: &Capacity) -> String {
    let threads = if resources.threads == 1 { "1 thread".into() } else { format!("{} threads", resources.threads) };
    let mut parts = vec![format!("{threads} each on {} cores", capacity.cores)];
    if let Some(host) = capacity.host {
        parts.push(format!("{} of {} of host memory", Bytes(resources.host), Bytes(host)));
    }
    if let Some(device) = capacity.device.filter(|_| resources.device > 0) {
        parts.push(format!("{} of {} of the device's", Bytes(resources.device), Bytes(device)));
    }
    parts.extend(capacity.jobs.map(|jobs| format!("--jobs {jobs}")));
    parts.join(", ")
}
