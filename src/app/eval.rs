//! `pwm eval`: plays a stored policy on the true environment; of several runs, or with `--all`, every checkpoint, in
//! one table.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use super::misused;
use super::stored::{StoredPolicy, checkpoint_in};
use crate::algo::{Evaluator, TaskEvaluation};
use crate::analysis::report::ReportTable;
use crate::analysis::{select, stats};
use crate::device::philox::Stream;
use crate::env::sizes;
use crate::io::atomic::{FileError, replace_bytes};
use crate::run::folder::RunFolder;
use crate::run::trajectory::Trajectory;
use crate::run::{folder, state};
use crate::version;

/// Evaluate a stored policy: closed loop, deterministic, acting on what is observed at each step.
#[derive(Clone, Debug, clap::Args)]
pub struct EvalArgs {
    /// A checkpoint; the folder of a run: then its best checkpoint, or with --episodes every one; a folder of runs or a
    /// pattern as in 'runs/*_s1': then every checkpoint of them
    pub checkpoint: PathBuf,
    /// Every checkpoint of a single run
    #[arg(long)]
    pub all: bool,
    /// Go on evaluating checkpoints as they appear, until no process works on the runs any more; waits for a run that
    /// is not there yet
    #[arg(long)]
    pub watch: bool,
    /// Write the table to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the table to this file as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Episodes; by default as many as in training, or 100 with --fresh and in a table, which always takes fresh starts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub episodes: Option<u32>,
    /// Start from states that no evaluation during training used, for figures that are published
    #[arg(long)]
    pub fresh: bool,
    /// Write the episode of median return as a moving picture to this file (and beside it a .gif, and a still as .svg)
    #[arg(long, value_name = "FILE.html")]
    pub movie: Option<PathBuf>,
    /// Write every state of every episode to this file as CSV: time, return so far, coordinates and velocities in SI
    /// units, y up; of a free body those of its origin in world axes
    #[arg(long, value_name = "FILE.csv")]
    pub states: Option<PathBuf>,
    /// Worker threads, which share the episodes of one checkpoint after another; 0 means one for each core. The result
    /// does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Show a stored policy: a page with the robot in three dimensions, an animated GIF and a still.
#[derive(Clone, Debug, clap::Args)]
pub struct RenderArgs {
    /// A checkpoint, or the folder of a run: then its best checkpoint
    pub checkpoint: PathBuf,
    /// The page; the others are written beside it. By default it is called as the checkpoint: in the folder `render` of
    /// the run, or beside a checkpoint that is in none
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Episodes to choose the one of median return from
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub episodes: u32,
}

/// Carries `pwm render` out: an evaluation whose states are kept and drawn.
pub fn render(args: &RenderArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let checkpoint = checkpoint_in(&args.checkpoint)?;
    let page = match &args.out {
        Some(file) => file.clone(),
        None => page_of(&checkpoint)?,
    };
    let eval = EvalArgs {
        checkpoint,
        all: false,
        watch: false,
        csv: None,
        markdown: None,
        episodes: Some(args.episodes),
        fresh: false,
        movie: Some(page),
        states: None,
        threads: 0,
    };
    run(&eval, out)
}

/// Where the page of a checkpoint goes by default; the folder is made.
fn page_of(checkpoint: &Path) -> anyhow::Result<PathBuf> {
    let mut page = checkpoint.file_stem().context("the checkpoint has no name")?.to_os_string();
    page.push(".html");
    let of_a_run = checkpoint.parent().filter(|p| p.ends_with("checkpoints")).and_then(Path::parent);
    let Some(run) = of_a_run else { return Ok(checkpoint.with_file_name(page)) };
    let folder = run.join("render");
    std::fs::create_dir_all(&folder).map_err(FileError::at(&folder, "creating the folder"))?;
    Ok(folder.join(page))
}

/// Rows of a file of states, at most: they are kept in memory until the episodes are over.
const MOST_STATES: u64 = 2_000_000;

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &EvalArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let several = !args.checkpoint.exists() || (args.checkpoint.is_dir() && !RunFolder::holds_run(&args.checkpoint));
    let of_run = RunFolder::holds_run(&args.checkpoint) && args.episodes.is_some() && !args.fresh && !of_one(args);
    let table = args.all || args.watch || args.csv.is_some() || args.markdown.is_some() || of_run;
    if table || (several && !select::runs(&args.checkpoint).is_empty()) {
        return many(args, out);
    }
    let StoredPolicy { path, mut config, checkpoint } = StoredPolicy::open(&args.checkpoint)?;
    config.threads = args.threads;
    let (stream, usual) = if args.fresh { (Stream::FreshEval, 100) } else { (Stream::Eval, config.eval_episodes) };
    let episodes = args.episodes.map_or(usual, |n| n as usize);

    let mut evaluator = Evaluator::<f32>::new(&config, episodes, stream)?;
    state::restore_policy(&mut evaluator, &checkpoint)?;
    let states = episodes as u64 * config.episode_length as u64;
    ensure!(
        args.states.is_none() || states <= MOST_STATES,
        misused(format_args!(
            "--states of {episodes} episodes would be {states} rows, the most are {MOST_STATES}; give fewer --episodes"
        ))
    );
    let room = if args.states.is_some() { Trajectory::of_all } else { Trajectory::new };
    let mut trajectory = room(sizes(&config), episodes, config.episode_length);
    let e = evaluator.evaluate(|view| {
        if of_one(args) {
            trajectory.frame(view);
        }
    })?;
    let epoch = state::epoch_of(&checkpoint)?;
    writeln!(out, "{}: {} on the {}, seed {}, epoch {epoch}", path.display(), config.alg, config.env, config.seed)?;
    writeln!(out, "{e}{}", if args.fresh { ", fresh starts" } else { "" })?;

    if let Some(file) = &args.states {
        let states = trajectory.states(&evaluator.env().groups[0].task, &e.tasks[0]);
        replace_bytes(file, states.as_bytes())?;
        writeln!(out, "states {}", file.display())?;
    }
    if let Some(file) = &args.movie {
        let e = &e.tasks[0];
        let env = trajectory.episode(e);
        let task = &evaluator.env().groups[0].task;
        let title = format!("{}, {}, seed {}", task.spec.title, config.alg, config.seed);
        let subtitle = format!(
            "epoch {epoch}; the median of {} evaluation episodes: return {:.0}, {} steps",
            e.returns.len(),
            e.returns[env],
            e.lengths[env]
        );
        let pictures = trajectory.pictures(task, e, env, &title, &subtitle)?;
        let still = file.with_extension("svg");
        replace_bytes(file, pictures.html.as_bytes())?;
        replace_bytes(&still, pictures.svg.as_bytes())?;
        let gif = file.with_extension("gif");
        replace_bytes(&gif, &trajectory.gif(task, e, env)?)?;
        writeln!(out, "moving picture {} and {}, still {}", file.display(), gif.display(), still.display())?;
    }
    Ok(())
}

/// Whether states are asked for, which are those of one checkpoint.
fn of_one(args: &EvalArgs) -> bool {
    args.movie.is_some() || args.states.is_some()
}

/// Evaluates every checkpoint of every run that is meant; with `watch` those that change, until no run goes on.
fn many(args: &EvalArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(!of_one(args), misused(format_args!("--movie and --states are of one checkpoint; name it")));
    let mut table = ReportTable {
        name: "evaluations",
        caption: String::new(),
        head: vec![
            "run",
            "checkpoint",
            "task",
            "seed",
            "epoch",
            "mean",
            "± error",
            "median",
            "length",
            "falls",
            "episodes",
            "commit",
        ],
        rows: vec![],
    };
    let mut seen: BTreeMap<PathBuf, SystemTime> = BTreeMap::new();
    let (mut begun, mut waits, mut left_out, mut judged) = (false, false, Vec::new(), 0);
    let runs = loop {
        let runs = select::runs(&args.checkpoint);
        let missing = format!("{}: no run there", args.checkpoint.display());
        if runs.is_empty() && args.watch {
            if !std::mem::replace(&mut waits, true) {
                let _ = writeln!(std::io::stderr(), "{missing} yet; waiting for one");
            }
            std::thread::sleep(WATCH);
            continue;
        }
        ensure!(
            !runs.is_empty(),
            misused(format_args!(
                "{missing}; a table is made of runs: give the folder of one, of several, or a pattern"
            ))
        );
        // Asked before the files are listed, so that the last file of a run is still seen.
        let over = !runs.iter().any(|r| folder::goes_on(r));
        if !std::mem::replace(&mut begun, true) {
            table.markdown().lines().try_for_each(|l| writeln!(out, "{l}"))?;
            write_tables(args, &table)?;
        }
        for (run, path) in runs.iter().flat_map(|r| checkpoints(r).into_iter().map(move |p| (r, p))) {
            let written = std::fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if seen.insert(path.clone(), written) == Some(written) {
                continue;
            }
            match judge(args, run, &path) {
                Ok(rows) => {
                    let line = ReportTable { rows: rows.clone(), ..table.clone() }.markdown();
                    line.lines().skip(2).try_for_each(|l| writeln!(out, "{l}"))?;
                    out.flush()?;
                    table.rows.extend(rows);
                    judged += 1;
                    write_tables(args, &table)?;
                }
                // A policy that is no longer among the best may be deleted after the files were listed.
                Err(_) if args.watch && !path.exists() => {}
                // A checkpoint that cannot be read does not stop the others.
                Err(e) => {
                    let _ = writeln!(std::io::stderr(), "left out: {e:#}");
                    left_out.push(e);
                }
            }
        }
        if !args.watch || over {
            break runs;
        }
        std::thread::sleep(WATCH);
    };
    let silent = |r: &&PathBuf| folder::read_info(r).is_ok_and(|i| i.is_none_or(|i| i.finished.is_none()));
    for run in runs.iter().filter(silent).filter(|r| !folder::goes_on(r)) {
        let _ = writeln!(std::io::stderr(), "{}: it is not over, and no process works on it", run.display());
    }
    match left_out.into_iter().next() {
        Some(e) => Err(e.context(format!("{judged} checkpoints were judged, others could not be; the first"))),
        None => Ok(()),
    }
}

fn write_tables(args: &EvalArgs, table: &ReportTable) -> Result<(), FileError> {
    for (file, text) in [(&args.csv, table.csv()), (&args.markdown, table.markdown())] {
        file.as_ref().map_or(Ok(()), |f| replace_bytes(f, text.as_bytes()))?;
    }
    Ok(())
}

/// Time between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

/// Checkpoints of a run, sorted by name.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut files = select::expand(&run.join("checkpoints").join("*.safetensors"));
    files.sort();
    files
}

/// The rows of the table for one checkpoint: one for each of its tasks and, of several, one for all of them.
fn judge(args: &EvalArgs, run: &Path, path: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let StoredPolicy { mut config, checkpoint, .. } = StoredPolicy::open(path)?;
    config.threads = args.threads;
    let episodes = args.episodes.map_or(100, |n| n as usize);
    // A table compares policies, so it takes fresh starts: no policy was chosen by those.
    let mut evaluator = Evaluator::<f32>::new(&config, episodes, Stream::FreshEval)?;
    state::restore_policy(&mut evaluator, &checkpoint)?;
    let e = evaluator.evaluate(|_| {})?;
    let name = |p: &Path| p.file_stem().unwrap_or(p.as_os_str()).to_string_lossy().into_owned();
    let epoch = state::epoch_of(&checkpoint)?.to_string();
    let cut: Vec<f64> = evaluator.env().groups.iter().map(|g| g.task.spec.episode_length as f64).collect();
    let falls: Vec<usize> =
        e.tasks.iter().zip(cut).map(|(t, cut)| t.lengths.iter().filter(|l| **l < cut).count()).collect();
    let row = |task: &str, mean: f64, std: f64, returns: &[f64], length: f64, falls: usize| {
        vec![
            name(run),
            name(path),
            task.into(),
            config.seed.to_string(),
            epoch.clone(),
            format!("{mean:.1}"),
            format!("{:.1}", std / (episodes as f64).sqrt()),
            format!("{:.1}", stats::median(returns)),
            format!("{length:.0}"),
            falls.to_string(),
            returns.len().to_string(),
            version::commit().into(),
        ]
    };
    let of_task =
        |(t, falls): (&TaskEvaluation, &usize)| row(&t.task, t.mean(), t.std(), &t.returns, t.mean_length(), *falls);
    let mut rows: Vec<_> = e.tasks.iter().zip(&falls).map(of_task).collect();
    if rows.len() > 1 {
        let all: Vec<f64> = e.returns().collect();
        // Of the mean of means, whose errors are independent.
        let spread = e.tasks.iter().map(|t| t.std().powi(2)).sum::<f64>().sqrt() / e.tasks.len() as f64;
        rows.push(row("mean of all", e.mean(), spread, &all, e.mean_length(), falls.iter().sum()));
    }
    Ok(rows)
}
