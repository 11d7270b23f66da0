//! `pwm data`: recorded episodes of many tasks, looked at, indexed, sorted by task.

use super::misused;
use crate::io::episodes::names::{mt30, published};
use crate::io::episodes::scan::{Depth, TASKS, chunks_in, scan};
use crate::io::episodes::write::Episodes;
use crate::io::episodes::{DataError, Index, Store};
use anyhow::ensure;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Recorded episodes, in the files that TD-MPC2 published or that `pwm collect` writes
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DataCommand {
    /// Say whose episodes there are, from what describes them
    Inspect(InspectArgs),
    /// Read every number once and write an index, by which runs find episodes in the files where they lie
    Index(IndexArgs),
    /// Write the episodes of each task to files of their own
    Split(SplitArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct InspectArgs {
    /// Folders with chunks (*.pt), single chunks, or indices
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct IndexArgs {
    /// Folders with chunks (*.pt), or single chunks. They must not change while runs use them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// The index to write
    #[arg(long, value_name = "FILE.idx")]
    pub out: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct SplitArgs {
    /// An index
    pub index: PathBuf,
    /// The folder to write to, which need not exist
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Tasks, by name; all without
    #[arg(long, value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// Episodes of a file at most: they are held in memory while it is written
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
}

/// Carries a command out; `out` is standard output, or a test's buffer.
pub fn run(command: &DataCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        DataCommand::Inspect(args) => inspect(args, out),
        DataCommand::Index(args) => index(args, out),
        DataCommand::Split(args) => split(args, out),
    }
}

/// Shows what is done of a pass over the data, on a terminal.
pub(super) fn progress(what: &'static str) -> impl FnMut(u64, u64) {
    let (shown, mut last) = (std::io::stderr().is_terminal(), 101);
    move |done, all| {
        let percent = done * 100 / all.max(1);
        if shown && percent != last {
            last = percent;
            let end = if done == all { "\n" } else { "" };
            // A terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr(), "\r{what} {percent} % of {:.1} GB{end}", all as f64 / 1e9);
        }
    }
}

fn inspect(args: &InspectArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut found: Vec<Index> = vec![];
    for path in &args.paths {
        found.push(if path.is_file() && path.extension().is_none_or(|e| e != "pt") {
            Index::load(path)?
        } else {
            scan(&chunks_in(path)?, Depth::Tasks, progress("reading the tasks:"))?
        });
    }
    for index in &found {
        if args.json { show_json(index, out)? } else { show(index, out)? }
    }
    Ok(())
}

/// Published tasks that have no episodes; of MT30 alone where there is none of Meta-World.
fn missing(index: &Index) -> Vec<&'static str> {
    let has = |name: &&'static str| index.tasks.iter().any(|t| t.name == **name);
    let first = mt30().len();
    let all = if published()[first..].iter().any(has) { published() } else { &published()[..first] };
    let is_published = all.iter().any(has);
    all.iter().filter(|name| is_published && !has(name)).copied().collect()
}

fn show_json(index: &Index, out: &mut dyn Write) -> anyhow::Result<()> {
    let files: Vec<_> = (index.files.iter())
        .map(|f| {
            json!({
                "path": f.path, "bytes": f.bytes, "episodes": f.chunk.episodes, "rows_of_an_episode": f.chunk.rows,
                "obs": f.chunk.obs.width, "action": f.chunk.action.width,
            })
        })
        .collect();
    let tasks: Vec<_> = (index.tasks.iter())
        .map(|t| {
            json!({
                "number": t.number, "task": t.name, "episodes": t.episodes, "rows": t.rows,
                "steps": t.rows - t.episodes, "obs": t.obs, "action": t.action,
            })
        })
        .collect();
    let all = json!({ "files": files, "tasks": tasks, "missing": missing(index) });
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?)
}

fn show(index: &Index, out: &mut dyn Write) -> anyhow::Result<()> {
    for f in &index.files {
        let (c, gb) = (&f.chunk, f.bytes as f64 / 1e9);
        let (obs, action) = (c.obs.width, c.action.width);
        let path = f.path.display();
        writeln!(out, "{path}: {} episodes of {} rows, obs {obs}, action {action}, {gb:.2} GB", c.episodes, c.rows)?;
    }
    let width = index.tasks.iter().map(|t| t.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "\n  id  {:<width$}  episodes         rows  obs  action", "task")?;
    for t in &index.tasks {
        writeln!(
            out,
            "{:>4}  {:<width$}  {:>8}  {:>11}  {:>3}  {:>6}",
            t.number, t.name, t.episodes, t.rows, t.obs, t.action
        )?;
    }
    let (episodes, rows) = index.tasks.iter().fold((0, 0), |(e, r), t| (e + t.episodes, r + t.rows));
    writeln!(out, "{} tasks, {episodes} episodes, {rows} rows", index.tasks.len())?;
    let missing = missing(index);
    if !missing.is_empty() {
        writeln!(out, "without episodes: {}", missing.join(", "))?;
    }
    Ok(())
}

fn index(args: &IndexArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut chunks = vec![];
    for path in &args.paths {
        chunks.extend(chunks_in(path)?);
    }
    let begun = std::time::Instant::now();
    let index = scan(&chunks, Depth::All, progress("reading all numbers:"))?;
    index.save(&args.out)?;
    show(&index, out)?;
    for t in &index.tasks {
        let (r, e) = (&t.reward, &t.episode_return);
        writeln!(
            out,
            "{}: a step earns {:.3} ± {:.3} ({:.3} to {:.3}), an episode {:.1} ± {:.1} ({:.1} to {:.1})",
            t.name, r.mean, r.std, r.min, r.max, e.mean, e.std, e.min, e.max
        )?;
        if t.not_finite > 0 {
            writeln!(out, "{}: {} numbers are not finite", t.name, t.not_finite)?;
        }
    }
    let bytes: u64 = index.files.iter().map(|f| f.chunk.bytes()).sum();
    let seconds = begun.elapsed().as_secs_f64();
    writeln!(
        out,
        "written: {}; {:.2} GB read in {seconds:.1} s; pwm-train mode=pretrain data={}",
        args.out.display(),
        bytes as f64 / 1e9,
        args.out.display()
    )?;
    Ok(())
}

fn split(args: &SplitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let index = Index::load(&args.index)?;
    let known: Vec<String> = index.tasks.iter().map(|t| t.name.clone()).collect();
    let tasks = if args.tasks.is_empty() { known.clone() } else { args.tasks.clone() };
    for task in &tasks {
        ensure!(known.contains(task), misused(format_args!("there are no episodes of `{task}`; there are {known:?}")));
    }
    std::fs::create_dir_all(&args.out).map_err(crate::io::atomic::FileError::at(&args.out, "creating the folder"))?;
    let store = Store::open(&[(args.index.clone(), index)], &tasks)?;
    let mut numbers = Numbers::of(&args.out)?;
    for (k, task) in store.tasks().iter().enumerate() {
        let number = numbers.of_task(&task.name);
        // Names come first: chunks whose tasks have none cannot be read.
        numbers.save()?;
        let (mut part, mut file) = (Episodes::default(), 0);
        for i in 0..task.episodes {
            let e = store.episode(k, i);
            let (obs, act) = store.widths(e);
            let same = (part.rows, part.obs_dim, part.act_dim) == (store.rows(e), obs, act);
            if !part.is_empty() && (!same || part.len() >= args.episodes as usize) {
                file = write_part(&args.out, &task.name, file, &mut part, out)?;
            }
            (part.rows, part.obs_dim, part.act_dim) = (store.rows(e), obs, act);
            for row in 0..part.rows {
                let at = part.obs.len();
                part.obs.resize(at + obs, 0.0);
                store.obs(e, row, &mut part.obs[at..]);
                let at = part.action.len();
                part.action.resize(at + act, 0.0);
                store.action(e, row, &mut part.action[at..]);
                part.reward.push(store.reward(e, row));
            }
            part.task.push(number);
        }
        if !part.is_empty() {
            write_part(&args.out, &task.name, file, &mut part, out)?;
        }
    }
    Ok(())
}

/// Writes episodes to the next file of a task that is not there yet.
pub(super) fn write_part(
    folder: &Path,
    task: &str,
    from: usize,
    part: &mut Episodes,
    out: &mut dyn Write,
) -> anyhow::Result<usize> {
    let free = (from..).find(|i| !folder.join(format!("{task}_{i}.pt")).exists()).unwrap_or(from);
    let path = folder.join(format!("{task}_{free}.pt"));
    part.write(&path)?;
    writeln!(out, "{}: {} episodes", path.display(), part.len())?;
    *part = Episodes::default();
    Ok(free + 1)
}

/// The numbers of tasks in a folder of chunks.
pub(super) struct Numbers {
    folder: PathBuf,
    names: Vec<String>,
    /// Whether the folder's file lacks some.
    added: bool,
}

impl Numbers {
    /// Those of a folder: the published ones, or the folder's own.
    pub fn of(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(TASKS);
        let names = if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(crate::io::atomic::FileError::at(&path, "reading it"))?;
            serde_json::from_str(&text).map_err(|e| DataError::bad(&path, format!("it is no list of names ({e})")))?
        } else {
            published().iter().map(|name| (*name).to_owned()).collect()
        };
        Ok(Self { folder: folder.into(), names, added: false })
    }

    /// The number of a task, a new one if it has none.
    pub fn of_task(&mut self, name: &str) -> i32 {
        let known = self.names.iter().position(|n| n == name);
        let number = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.added = true;
            self.names.len() - 1
        });
        number as i32
    }

    /// Writes the names, if there are new ones.
    pub fn save(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.added) {
            let text = serde_json::to_string_pretty(&self.names)? + "\n";
            crate::io::atomic::replace_bytes(&self.folder.join(TASKS), text.as_bytes())?;
        }
        Ok(())
    }
}
