//! `pwm-train`: begins a run or continues one, and says where to find what it made.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::{misused, say};
use crate::algo::{Runner, learner, resolve};
use crate::backend::Target;
use crate::config::{
    Bytes, Config, ConfigError, ConfigErrors, Device, Grid, KEYS, Key, LrSchedule, Precision, SourceLocation,
    load_with_notes,
};
use crate::device::cpu::team;
use crate::device::cuda::matmul::FORCE;
use crate::env;
use crate::io::atomic::FileError;
use crate::io::checkpoint::Checkpoint;
use crate::run::folder::{self, FolderError, RunFolder, RunInfo};
use crate::run::plan::{ArenaPlace, Limits, Plan};
use crate::run::progress::{Short, Time, Ui};
use crate::run::recorded::{self, checkpoint_of, complete};
use crate::run::session::{CURVE, Session, SessionError, StopReason, Watch, movie_name, still_name};
use crate::run::signals::StopFlag;
use crate::run::state;
use crate::sweep::is_sweep;

/// Where the runs of a sweep are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LauncherKind {
    /// As processes of this machine
    Local,
    /// As a job array of SLURM
    Slurm,
}

/// Train a policy inside a learned world model, or through the simulator.
///
/// Without arguments: the small configuration, about a quarter of an hour on two cores. Ctrl-C ends a run at any time
/// with its checkpoint, evaluation and pictures saved; `--resume` goes on from there.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TrainArgs {
    /// Settings as key=value, as in alg=pwm_5M seed=3 (all of them are listed below)
    pub overrides: Vec<String>,
    /// Continue the run in this folder. What decides how it learns stays as it was; its length, when it stops, how
    /// often it is evaluated and saved and where it computes may be given anew (the end of this help lists them)
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Host memory the run may take, as in 128G; by default what the control group or the machine has
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<Bytes>,
    /// Memory of the accelerator the run may take
    #[arg(long, value_name = "SIZE")]
    pub device_mem: Option<Bytes>,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// How to show where the run is; by default what fits: a dashboard on a terminal, lines in a file
    #[arg(long, value_name = "HOW")]
    pub ui: Option<Ui>,
    /// Train every combination of the values that settings have, as in `env=a,b alg=x,y seed=0,1,2`: as many runs side
    /// by side as memory and cores allow, one folder (run_dir=FOLDER), one report. The same command again goes on
    #[arg(long, short)]
    pub multirun: bool,
    /// The most runs of a sweep side by side
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Where the runs of a sweep are started; by default where they were before, at first on this machine. `slurm` submits
    /// them as one job array, whose memory, cores and time come from their plans; `pwm sweep status` shows them, and the
    /// same command again submits what is left
    #[arg(long, value_name = "WHERE")]
    pub launcher: Option<LauncherKind>,
    /// An option for sbatch, as in --sbatch=--partition=gpu; wins over what the plans ask for. One argument each, as many
    /// as there are
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// With --resume and a sweep: this process is the task of a job array for the member at this place
    #[arg(long, hide = true)]
    pub member: Option<usize>,
    /// Try members of a sweep again that failed
    #[arg(long)]
    pub retry: bool,
    /// Standard input is held open by the process that started this one: end with it
    #[arg(long, hide = true)]
    pub lifeline: bool,
}

impl TrainArgs {
    /// The settings, with those that flags give at the end: the last one counts.
    pub(super) fn settings(&self) -> Vec<String> {
        let flag = |key: &str, b: Option<Bytes>| b.map(|Bytes(b)| format!("{key}={b}"));
        let device = self.device.map(|d| format!("device={d}"));
        let flags = [flag("mem", self.mem), flag("device_mem", self.device_mem), device];
        self.overrides.iter().cloned().chain(flags.into_iter().flatten()).collect()
    }
}

/// Trains from beginning to end. `out` is standard output, or a test's buffer; progress goes to stderr.
pub fn run(args: &TrainArgs, out: &mut dyn Write, stop: &StopFlag) -> anyhow::Result<()> {
    run_watched(args, out, stop, None)
}

/// The same inside another program, which sees every row of metrics as it is written; those of a sweep it does not.
pub fn run_watched(args: &TrainArgs, out: &mut dyn Write, stop: &StopFlag, watch: Option<Watch>) -> anyhow::Result<()> {
    if args.lifeline {
        stop.follow(std::io::stdin())?;
    }
    if args.multirun || args.resume.as_deref().is_some_and(is_sweep) {
        return super::sweep::run(args, out, stop);
    }
    let alone = args.jobs.is_none() && !args.retry && args.launcher.is_none() && args.sbatch.is_empty();
    ensure!(alone, ConfigErrors::from(only_sweeps()));
    let run = match &args.resume {
        None => begin(args, out)?,
        Some(dir) => Some(resume(dir, args)?),
    };
    let Some(run) = run else { return Ok(()) };
    // The sweep of this member has ended: another may have begun, which starts it itself.
    if args.lifeline && stop.requested() {
        return Ok(());
    }
    drive(run, args.ui, watch, out, stop)
}

/// What options of a sweep are refused with where there is none.
fn only_sweeps() -> ConfigError {
    let place = SourceLocation::Override("--jobs, --launcher, --retry, --sbatch".into());
    ConfigError::Syntax { place, message: "are for a sweep: --multirun, or --resume with the folder of one".into() }
}

/// A run that may start: nothing speaks against its settings and its folder.
struct Accepted {
    config: Config,
    admitted: Admitted,
    /// Of a run that is continued; a new one has none yet.
    folder: Option<RunFolder>,
    latest: Option<Checkpoint>,
}

fn drive(
    run: Accepted,
    ui: Option<Ui>,
    watch: Option<Watch>,
    out: &mut dyn Write,
    stop: &StopFlag,
) -> anyhow::Result<()> {
    let budget = run.admitted.limits.host.as_ref().map(|b| b.usable());
    // A large model takes a while to begin, and its first evaluation longer: a scheduler does not wait for that either.
    let mut session = stop.interruptible(|| set_up(run, ui, out))?;
    if let Some(watch) = watch {
        session.set_watch(watch);
    }
    if let Some(budget) = budget {
        session.progress.set_budget(budget);
    }
    let stop_reason = session.run(stop)?;
    conclude(&session, &stop_reason, out);
    if let StopReason::Collapsed(what) = stop_reason {
        return Err(SessionError::Collapsed(what).into());
    }
    Ok(())
}

/// The run in its folder, new or as it was left.
fn set_up(run: Accepted, ui: Option<Ui>, out: &mut dyn Write) -> anyhow::Result<Session<f32>> {
    let Accepted { config, admitted, folder, latest } = run;
    let runner = Runner::from_plan(&config, &admitted.target, &admitted.plan.exec_plan())?;
    let (folder, info) = match folder {
        None => (RunFolder::create(&config.run_folder(), &config.to_yaml())?, None),
        Some(folder) => {
            folder.write_config(&config.to_yaml())?;
            let info = folder.read_info()?;
            (folder, info)
        }
    };
    let info = describe(&runner, &admitted.plan, info.unwrap_or_else(|| RunInfo::begin(config.seed)));
    announce(&runner, &admitted, &folder, &info, out);
    Ok(match latest {
        Some(latest) => {
            say(out, format_args!("  continues      after epoch {}", state::epoch_of(&latest)?));
            Session::resume_shown(runner, folder, info, &latest, ui)?
        }
        // A new run, or one that was ended before it could write its first checkpoint.
        None => {
            let mut runner = runner;
            if !config.model.is_empty() {
                let from = checkpoint_of(&config);
                state::restore_model(&mut runner, &Checkpoint::load(&from)?)?;
                say(out, format_args!("  begins with    the world model of {}", from.display()));
            }
            Session::begin_shown(runner, folder, info, ui)?
        }
    })
}

/// A new run, or the one that the same command began; none where that is over and nothing is left to do.
fn begin(args: &TrainArgs, out: &mut dyn Write) -> anyhow::Result<Option<Accepted>> {
    let settings = args.settings();
    let (config, notes) = load_with_notes(&settings).map_err(|e| several_values(e.into(), &settings))?;
    let config = complete(config)?;
    env::check(&config)?;
    for note in notes {
        say(out, format_args!("  {note}"));
    }
    let path = config.run_folder();
    ensure!(
        !is_sweep(&path),
        misused(format_args!(
            "{}: holds a sweep; go on with it by --resume, or choose another run_dir",
            path.display()
        ))
    );
    // Before a minute is spent on anything else; `create` asks again when it holds the lock.
    if RunFolder::holds_run(&path) {
        if !is_same(&path, &config)? {
            return Err(FolderError::Exists { path }.into());
        }
        let info = folder::read_info(&path)?.unwrap_or_default();
        if let Some(reason) = StopReason::of_whole_run(&info, &config) {
            let done = match reason {
                StopReason::CpuTimeUp => format!("{} minutes of the processor's time", config.max_cpu_minutes),
                _ => format!("{} epochs", info.epoch),
            };
            let run = path.display();
            say(out, format_args!("{run}: this run is over, its {done} are done; there is nothing left to do"));
            say(out, format_args!("  go on          {}", go_on(&path, &further(&config, &reason))));
            return Ok(None);
        }
        let is_free = |key: &str| Key::free().any(|k| k.name == key);
        let goes_on = |o: &&String| o.split_once('=').is_some_and(|(k, _)| is_free(k.trim()));
        let overrides = args.overrides.iter().filter(goes_on).cloned().collect();
        return Ok(Some(resume(&path, &TrainArgs { overrides, resume: Some(path.clone()), ..args.clone() })?));
    }
    let admitted = admit(&config)?;
    Ok(Some(Accepted { config, admitted, folder: None, latest: None }))
}

/// Says what several values of a setting are for, where there are some.
fn several_values(e: anyhow::Error, settings: &[String]) -> anyhow::Error {
    match Grid::new(settings) {
        Ok(grid) if !grid.axes.is_empty() => {
            e.context(format!("several values of {} are a sweep, which --multirun begins", grid.axes.join(", ")))
        }
        _ => e,
    }
}

/// Whether the run in a folder is the one that `config` describes: then the same command again goes on with it.
fn is_same(path: &Path, config: &Config) -> anyhow::Result<bool> {
    let name = path.join("config.yaml");
    let text = std::fs::read_to_string(&name).map_err(FileError::at(&name, "reading it"))?;
    let stored = Config::from_yaml::<&str>(&name.display().to_string(), &text, &[])?;
    Ok(KEYS.iter().filter(|k| !k.effect.is_free()).all(|k| stored.get(k.name) == config.get(k.name)))
}

fn resume(dir: &Path, args: &TrainArgs) -> anyhow::Result<Accepted> {
    let folder = RunFolder::open(dir)?;
    let name = folder.config_path().display().to_string();
    let settings = args.settings();
    let config = Config::from_yaml(&name, &folder.read_config()?, &settings)?;
    env::check(&config)?;
    recorded::check(&config)?;
    let admitted = admit(&config)?;
    let (latest, original) = if folder.latest().is_file() {
        let latest = Checkpoint::load(&folder.latest())?;
        let original = state::config_of(&latest)??;
        (Some(latest), original)
    } else {
        (None, Config::from_yaml::<&str>(&name, &folder.read_config()?, &[])?)
    };
    refuse_changes(&original, &config, &settings, &name)?;
    Ok(Accepted { config, admitted, folder: Some(folder), latest })
}

/// Nothing that decides what is learned may change in the middle of a run.
fn refuse_changes(old: &Config, new: &Config, overrides: &[String], file: &str) -> Result<(), ConfigErrors> {
    let mut errors = Vec::new();
    for key in KEYS.iter().filter(|k| !k.effect.is_free() || k.name == "run_dir") {
        let given = overrides.iter().find(|o| o.split_once('=').is_some_and(|(k, _)| k.trim() == key.name));
        let (was, is) = (old.get(key.name), new.get(key.name));
        // The folder is where --resume says, whatever it was called when the run began.
        let changed = if key.name == "run_dir" { given.is_some() } else { was != is };
        if let (true, Some(was), Some(is)) = (changed, was, is) {
            let place = match given {
                Some(text) => SourceLocation::Override(text.clone()),
                None => SourceLocation::File { name: file.into(), line: 0, column: 0 },
            };
            let message = format!(
                "`{}` cannot change from {was} to {is} when a run is continued\n  what can: {}; for the rest start a \
                 new run",
                key.name,
                Key::free().map(|k| k.name).collect::<Vec<_>>().join(", ")
            );
            errors.push(ConfigError::Syntax { place, message });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

/// Where a run computes, and a plan that keeps within its limits there.
pub(super) struct Admitted {
    target: Target,
    pub plan: Plan,
    pub limits: Limits,
    /// Of the device, before anything was allocated there.
    free: Option<u64>,
}

/// Nothing has been allocated when a plan is refused.
pub(super) fn admit(c: &Config) -> anyhow::Result<Admitted> {
    let (target, why_not) = resolve(env::device(c), c.precision)?;
    if let Some(e) = why_not {
        let _ = writeln!(std::io::stderr(), "device=auto takes the processor: {e}");
    }
    let device = match &target {
        Target::Cpu => None,
        Target::Cuda(context, _) => Some((context.memory()?.0 as u64, context.info.name.as_str())),
    };
    let limits = Limits::of_run(c, device);
    let place = if device.is_none() { ArenaPlace::Host } else { ArenaPlace::Device };
    place.suits(c)?;
    let (plan, free) = (limits.admit_at(c, place)?, device.map(|d| d.0));
    Ok(Admitted { plan, target, limits, free })
}

fn describe(t: &Runner<f32>, plan: &Plan, info: RunInfo) -> RunInfo {
    let c = t.config();
    let threads = team::count(c.threads);
    RunInfo {
        device: t.machine.gpu().map_or_else(processor, |g| g.memory().context.info.name.clone()),
        precision: t.machine.gpu().map_or(Precision::Fp32, |g| g.matmul().precision).to_string(),
        threads,
        planned_bytes: Some(plan.host() + plan.device()),
        replay: plan.replay_place(),
        ..info
    }
}

/// The processor's name, where the system tells it.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// How matrix products are made, and why not as the setting says if they are not.
fn products(t: &Runner<f32>) -> String {
    match (t.machine.gpu().map(|g| g.matmul()), t.config().precision) {
        (None, Precision::Fp32) => Precision::Fp32.to_string(),
        (None, wanted) => format!("fp32 (precision={wanted} is for a GPU)"),
        (Some(how), wanted) if how.precision == wanted => how.to_string(),
        (Some(how), wanted) => format!("{how} (precision={wanted}, but {FORCE} forces them)"),
    }
}

/// What is about to happen, and for how long.
fn announce(t: &Runner<f32>, admitted: &Admitted, folder: &RunFolder, info: &RunInfo, out: &mut dyn Write) {
    let c = t.config();
    let networks = &t.parts.networks;
    let total = Short(networks.iter().map(|n| n.group.len).sum::<usize>() as f64);
    let each: Vec<String> = networks.iter().map(|n| format!("{} {}", n.name, Short(n.group.len as f64))).collect();
    let title = learner(c.algorithm).title();
    match (c.is_played(), &c.env_names()[..]) {
        (true, [one]) => say(out, format_args!("{title} on the {one}: {}, seed {}", c.alg, c.seed)),
        (true, all) => {
            say(out, format_args!("{title} on {} tasks: {}, seed {}", all.len(), c.alg, c.seed));
            say(out, format_args!("  tasks          {}", all.join(", ")));
        }
        (false, all) => {
            say(out, format_args!("{title}, a model of {} tasks: {}, seed {}", all.len(), c.alg, c.seed));
            say(out, format_args!("  tasks          {}", all.join(", ")));
        }
    }
    if !c.data.is_empty() {
        say(out, format_args!("  data           {}", c.data.join(", ")));
    }
    say(out, format_args!("  run folder     {}", folder.path().display()));
    say(out, format_args!("  parameters     {total} ({})", each.join(", ")));
    let Admitted { plan, limits, .. } = admitted;
    let (host, arena) = (Bytes(plan.host()), Bytes(plan.arena_bytes()));
    match (plan.place, &admitted.target, admitted.free) {
        (ArenaPlace::Device, Target::Cuda(context, _), Some(before)) => {
            say(
                out,
                format_args!("  memory         {host} of the host at most, {} of the device", Bytes(plan.device())),
            );
            // The context was there before.
            let now = context.memory().map_or(before, |(free, _)| free as u64);
            let taken = Bytes(before.saturating_sub(now));
            let beside = "beside the driver's context, for the whole run";
            say(out, format_args!("                 {arena} of it the arena; {taken} are taken now {beside}"));
        }
        _ => {
            say(out, format_args!("  memory         {host} at most, {arena} of it allocated now and for the whole run"))
        }
    }
    if let Some(place) = plan.replay_place() {
        let bytes = Bytes(plan.replay_bytes());
        say(out, format_args!("  replay         {bytes} {place}"));
    }
    for budget in [&limits.host, &limits.device].into_iter().flatten() {
        say(out, format_args!("  budget         {budget}"));
    }
    for l in plan.levels.iter().filter(|l| l.taken > 0) {
        let (more, taken, of) = (100.0 * l.extra, l.taken, l.of);
        say(
            out,
            format_args!("  recompute      {}: {taken} of {of} operations, {more:.0} % more arithmetic", l.program),
        );
    }
    say(out, format_args!("  processor      {}, {} threads, {}", info.device, info.threads, products(t)));
    let epochs = format!("{} epochs of {} {}", c.max_epochs, c.epoch_steps(), c.steps_are());
    if c.max_minutes > 0.0 {
        say(
            out,
            format_args!("  length         at most {} minutes (max_minutes), or {epochs} (max_epochs)", c.max_minutes),
        );
    } else {
        say(out, format_args!("  length         {epochs} (max_epochs), no limit of time (max_minutes)"));
    }
    if c.max_cpu_minutes > 0.0 {
        let cpu = c.max_cpu_minutes;
        say(out, format_args!("                 at most {cpu} minutes of the processor's time (max_cpu_minutes)"));
    }
    say(out, format_args!("  Ctrl-C         ends it at any time, with everything saved"));
    let _ = out.flush();
}

/// What came of it, where it lies, and how to go on.
fn conclude(s: &Session<f32>, stop_reason: &StopReason, out: &mut dyn Write) {
    let c = s.runner.config();
    let (epoch, path) = (s.runner.epoch(), s.folder.path());
    let why = match stop_reason {
        StopReason::Finished => "finished".into(),
        StopReason::TimeUp => format!("time is up ({} minutes)", c.max_minutes),
        StopReason::CpuTimeUp => format!("processor time is up ({} minutes)", c.max_cpu_minutes),
        other => other.to_string(),
    };
    let time = Time(s.elapsed());
    let steps = Short(s.runner.env_steps() as f64);
    say(out, format_args!(""));
    say(out, format_args!("{why}: {epoch} of {} epochs, {steps} {}, {time} in all", c.max_epochs, c.steps_are()));
    let what = if c.is_played() { "policy   " } else { "model    " };
    if let Some(e) = s.evaluation() {
        say(out, format_args!("  last {what} {e}"));
    }
    if let Some(b) = s.best().filter(|_| !c.is_played()) {
        say(out, format_args!("  best {what} loss {:.5} ± {:.5}, epoch {}", -b.mean, b.std, b.epoch));
        say(out, format_args!("                 {}", s.folder.best().display()));
    } else if let Some(b) = s.best() {
        say(
            out,
            format_args!(
                "  best policy    return {:.2} ± {:.2}, length {:.1}, epoch {}",
                b.mean, b.std, b.length, b.epoch
            ),
        );
        say(out, format_args!("                 {}", s.folder.best().display()));
    }
    if s.blown_up() > 0.0 {
        say(out, format_args!("  blown up       {} states left physics and were reset", s.blown_up()));
    }
    if path.join(CURVE).is_file() {
        say(out, format_args!("  curve          {}", path.join(CURVE).display()));
    }
    let movie = path.join(movie_name(c));
    if movie.is_file() {
        say(out, format_args!("  moving picture {} (open it in a browser)", movie.display()));
        say(out, format_args!("  still picture  {}", path.join(still_name(c)).display()));
    }
    say(out, format_args!("  numbers        {} and TensorBoard events", path.join("metrics.jsonl").display()));
    say(out, format_args!("  go on          {}", go_on(path, &further(c, stop_reason))));
    if *stop_reason == StopReason::Finished && !has_constant_rates(c) {
        let why = "learning rates fall over max_epochs: with more of them they are higher again at first";
        say(out, format_args!("                 ({why})"));
    }
    let all = if c.max_cpu_minutes > 0.0 { ", max_cpu_minutes all together" } else { "" };
    say(out, format_args!("                 (max_minutes counts each sitting anew{all}; 0 is no limit)"));
    let _ = out.flush();
}

/// Settings with which a run goes on that ended for this reason.
fn further(c: &Config, stop_reason: &StopReason) -> String {
    match stop_reason {
        StopReason::Finished => longer(c),
        StopReason::TimeUp => format!("max_minutes={}", 4.0 * c.max_minutes),
        StopReason::CpuTimeUp => format!("max_cpu_minutes={}", 4.0 * c.max_cpu_minutes),
        StopReason::Asked(_) => String::new(),
        StopReason::Stalled => "early_stop_patience=0".into(),
        StopReason::Collapsed(_) => "collapse=warn".into(),
    }
}

/// Settings with which a run that is over goes on.
fn longer(c: &Config) -> String {
    let cpu = if c.max_cpu_minutes > 0.0 { " max_cpu_minutes=0" } else { "" };
    format!("max_epochs={} max_minutes=0{cpu}", 2 * c.max_epochs)
}

fn has_constant_rates(c: &Config) -> bool {
    let own = [c.actor_lr_schedule, c.critic_lr_schedule, c.model_lr_schedule];
    own.iter().all(|own| own.unwrap_or(c.lr_schedule) == LrSchedule::Constant)
}

/// The command that goes on with a run, to be pasted into a shell.
pub(super) fn go_on(run: &Path, more: &str) -> String {
    format!("{} --resume {} {more}", program(), quoted(&run.display().to_string())).trim_end().into()
}

/// A path as a shell reads it.
pub(super) fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if path.chars().all(plain) { path.into() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// How this program was called, to be called again.
fn program() -> String {
    // Cargo sets this for programs that it runs.
    if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        return "cargo run --release --bin pwm-train --".into();
    }
    quoted(&std::env::args().next().unwrap_or_else(|| "pwm-train".into()))
}
