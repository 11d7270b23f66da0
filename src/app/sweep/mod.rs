//! `pwm-train --multirun`: many runs in one folder. `pwm sweep status`: how far they are.
//!
//! `prepare` resolves and plans every member before the first is started; `screen` shows them while they run.

mod prepare;
mod screen;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::report::{self, ReportArgs};
use super::train::{LauncherKind, TrainArgs, go_on, quoted};
use super::{misused, say};
use crate::run::folder::{self, RunFolder};
use crate::run::signals::StopFlag;
use crate::sweep::{self, Local, Member, REPORT, State, SweepEnd, SweepFolder, SweepRunner, slurm};
use prepare::Prepared;
use screen::Screen;

/// Look at a sweep.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SweepCommand {
    /// Show how far every member of a sweep is
    Status(StatusArgs),
}

/// How far every member of a sweep is, read from its folder alone.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// The folder of the sweep
    pub folder: PathBuf,
    /// Show it again and again, until no process works on the sweep any more
    #[arg(long)]
    pub watch: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Time between two looks of a watch.
const WATCH: Duration = Duration::from_secs(2);

/// Carries `pwm sweep` out; `out` is standard output, or a test's buffer.
pub fn command(command: &SweepCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        SweepCommand::Status(args) => status(args, out),
    }
}

fn status(args: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut shown, live) = (None, args.watch && std::io::stdout().is_terminal());
    loop {
        let alive = sweep::is_alive(&args.folder);
        let info = sweep::read(&args.folder)?;
        let lines = sweep::lines(&args.folder, &info);
        let states: Vec<State> = lines.iter().map(|l| l.status.state).collect();
        // In a file only what has changed is worth another table.
        if live || shown.as_ref() != Some(&states) {
            if args.json {
                writeln!(out, "{:#}", sweep::json(&args.folder, &info, &lines))?;
            } else {
                write!(out, "{}", if live { "\x1b[H\x1b[2J" } else { "" })?;
                writeln!(out, "{}: {}", args.folder.display(), sweep::summary(&lines))?;
                sweep::table(&info, &lines).iter().try_for_each(|line| writeln!(out, "  {line}"))?;
            }
            out.flush()?;
        }
        let goes_on = sweep::goes_on(alive, &info, &lines) || states.contains(&State::Running);
        shown = Some(states);
        if !args.watch || !goes_on {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

/// Carries `pwm-train --multirun` out, and `--resume` of a sweep.
pub fn run(args: &TrainArgs, out: &mut dyn Write, stop: &StopFlag) -> anyhow::Result<()> {
    if let Some(place) = args.member {
        return member(args.resume.as_deref().unwrap_or(Path::new("")), place, stop);
    }
    let Prepared { path, axes, drafts, resources, capacity, notes, launcher } = Prepared::new(args)?;
    let folder = SweepFolder::take(&path)?;
    let mut info = folder.read()?.unwrap_or_default();
    let before = info.clone();
    let places = sweep::reconcile(&path, &mut info, &axes, &drafts)?;
    if launcher == LauncherKind::Slurm {
        // What may be in the queue is not submitted a second time.
        sweep::queue(&info).map_err(sweep::SweepError::Submit)?;
    }
    let known: Vec<State> = sweep::lines(&path, &info).iter().map(|l| l.status.state).collect();
    let mut members = vec![];
    for ((place, draft), resources) in places.into_iter().zip(&drafts).zip(&resources) {
        let at = path.join(&info.members[place].name);
        let is_due = match known[place] {
            State::Failed => args.retry,
            State::Queued => false,
            // It is not ours; what it leaves is taken up, where somebody waits for it.
            State::Running => launcher == LauncherKind::Local,
            _ => !sweep::is_over(&at, &draft.config),
        };
        let job = sweep::Job { args: prepare::args(draft, &at), folder: at, resources: *resources };
        members.push(Member { place, job, is_due });
    }
    if launcher == LauncherKind::Slurm {
        // The task of one that is not submitted again was planned for what it was.
        for place in members.iter().filter(|m| !m.is_due).map(|m| m.place) {
            if let Some(was) = before.members.get(place) {
                info.members[place].overrides.clone_from(&was.overrides);
            }
        }
        return submit(&folder, info, &members, &drafts, args, &notes, out);
    }
    announce(&path, &members, &info, &capacity, &notes, out);
    // Members that the command does not name stay as they are.
    let mut launcher = Local { program: std::env::current_exe()?, capacity };
    let mut screen = Screen::new(&path, args.ui, members.iter().map(|m| m.place).collect());
    let runner = SweepRunner { folder: &folder, info, launcher: &mut launcher, members };
    let ended = runner.run(stop, &mut |info, place, event| screen.tell(info, place, &event));
    screen.finish();
    conclude(&path, ended.as_ref().ok().copied(), stop, out);
    ended?;
    Ok(())
}

/// Submits the members that are due as a job array.
fn submit(
    folder: &SweepFolder,
    mut info: sweep::SweepInfo,
    members: &[Member],
    drafts: &[sweep::Draft],
    args: &TrainArgs,
    notes: &[String],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for note in notes {
        say(out, format_args!("  {note}"));
    }
    let path = std::path::absolute(folder.path())?;
    info.launcher = slurm::NAME.into();
    info.ended = None;
    let due: Vec<(&Member, &sweep::Draft)> = members.iter().zip(drafts).filter(|(m, _)| m.is_due).collect();
    let places: Vec<usize> = due.iter().map(|(m, _)| m.place).collect();
    say(out, format_args!("sweep of {} runs, {} of them to be submitted", members.len(), due.len()));
    say(out, format_args!("  sweep folder   {}", path.display()));
    if due.is_empty() {
        folder.write(&info)?;
        say(out, format_args!("  nothing is left to do: all are over, failed (--retry) or in the queue"));
        return Ok(());
    }
    let most = |of: fn(&sweep::Resources) -> u64| due.iter().map(|(m, _)| of(&m.job.resources)).max().unwrap_or(0);
    // A task that says nothing of time has what its partition gives.
    let minutes = due.iter().map(|(_, d)| prepare::minutes(&d.config)).collect::<Option<Vec<_>>>();
    let program = std::env::current_exe()?;
    let array = slurm::Array {
        folder: &path,
        program: &program,
        reporter: &program.with_file_name("pwm"),
        places: &places,
        most: sweep::Resources {
            threads: due.iter().map(|(m, _)| m.job.resources.threads).max().unwrap_or(1),
            host: most(|r| r.host),
            device: most(|r| r.device),
        },
        minutes: minutes.and_then(|all| all.into_iter().reduce(f64::max)),
        jobs: args.jobs.map(Into::into),
        options: &args.sbatch,
    };
    // Tasks read it: what it says must be there before the first of them starts.
    for (member, draft) in &due {
        info.members[member.place].settings = Some(prepare::fingerprint(&draft.config));
    }
    folder.write(&info)?;
    let job = array.submit().map_err(sweep::SweepError::Submit)?;
    let place = if array.most.device > 0 { "a GPU" } else { "the processor" };
    let (mib, threads) = (array.most.host >> 20, array.most.threads);
    say(out, format_args!("  job array      {job}: {mib} MiB and {threads} threads a task, on {place}"));
    for &place in &places {
        // What its folder says of an earlier failure its task takes away; it may have failed again by now.
        let member = &mut info.members[place];
        (member.failure, member.job) = (None, Some(format!("{job}_{place}")));
    }
    folder.write(&info)?;
    let shown = quoted(&path.display().to_string());
    say(out, format_args!("  look at it     pwm sweep status {shown} --watch"));
    say(out, format_args!("  end it         scancel {job}; the same command goes on"));
    match array.submit_report(&job) {
        Ok(_) => say(
            out,
            format_args!("  report         {} when all have ended", path.join(REPORT).join("report.html").display()),
        ),
        Err(e) => say(out, format_args!("  report         not by itself ({e}); pwm report {shown} makes it")),
    }
    let _ = out.flush();
    Ok(())
}

/// What the task of a job array does: starts its member here and waits for it. Whatever goes wrong is noted in the
/// member's folder, where `pwm sweep status` finds it.
fn member(path: &Path, place: usize, stop: &StopFlag) -> anyhow::Result<()> {
    let info = sweep::read(path)?;
    let Some(member) = info.members.get(place) else {
        return Err(sweep::SweepError::NoMember { path: path.into(), place }.into());
    };
    let at = path.join(&member.name);
    let noted = |e: anyhow::Error| {
        let failure = sweep::Failure { reason: format!("{e:#}"), at: folder::utc_now(), ..sweep::Failure::default() };
        let _ = sweep::write_failure(&at, &failure);
        e
    };
    let draft = prepare::draft_of(path, place).map_err(noted)?;
    let is_begun = RunFolder::holds_run(&at);
    if !is_begun && member.settings.as_ref().is_some_and(|s| *s != prepare::fingerprint(&draft.config)) {
        let what = "its settings are others than when it was submitted: a file that they name has changed";
        return Err(noted(misused(format_args!("{what}; the same command submits it again")).into()));
    }
    let job =
        sweep::Job { args: prepare::args(&draft, &at), folder: at.clone(), resources: sweep::Resources::default() };
    let mut launcher = Local { program: std::env::current_exe()?, capacity: sweep::Capacity::default() };
    match sweep::run_member(&mut launcher, &job, || sweep::is_over(&at, &draft.config), stop)? {
        sweep::Outcome::Over => Ok(()),
        sweep::Outcome::Interrupted(_) => {
            // The time limit of the job, not somebody who wants it to end.
            if stop.reason() == Some("SIGUSR1") {
                slurm::requeue().map_err(|e| noted(e.into()))?;
            }
            Ok(())
        }
        sweep::Outcome::Failed(failure) => {
            let status = failure.status.unwrap_or(1);
            let list = format!("  {}: {}", member.name, failure.reason);
            Err(sweep::SweepError::Failed { failed: 1, of: 1, list, status }.into())
        }
    }
}

/// What is about to happen.
fn announce(
    path: &Path,
    members: &[Member],
    info: &sweep::SweepInfo,
    capacity: &sweep::Capacity,
    notes: &[String],
    out: &mut dyn Write,
) {
    for note in notes {
        say(out, format_args!("  {note}"));
    }
    let due: Vec<sweep::Resources> = members.iter().filter(|m| m.is_due).map(|m| m.job.resources).collect();
    let over = members.len() - due.len();
    let done = if over > 0 { format!(", {over} of them over or failed before") } else { String::new() };
    say(out, format_args!("sweep of {} runs{done}", members.len()));
    say(out, format_args!("  sweep folder   {}", path.display()));
    let others = info.members.len() - members.len();
    if others > 0 {
        say(out, format_args!("                 {others} more are there, which this command does not name"));
    }
    if let Some(first) = due.first() {
        say(
            out,
            format_args!(
                "  side by side   {} at first: {}",
                capacity.side_by_side(&due),
                prepare::why(first, capacity)
            ),
        );
    }
    say(out, format_args!("  Ctrl-C         ends it at any time, with everything saved"));
    let _ = out.flush();
}

/// What came of it, and how to go on.
fn conclude(path: &Path, ended: Option<SweepEnd>, stop: &StopFlag, out: &mut dyn Write) {
    let Ok(info) = sweep::read(path) else { return };
    let lines = sweep::lines(path, &info);
    say(out, format_args!(""));
    for line in sweep::table(&info, &lines) {
        say(out, format_args!("  {line}"));
    }
    say(out, format_args!(""));
    match stop.reason() {
        Some(reason) => say(out, format_args!("stopped by {reason}: {}", sweep::summary(&lines))),
        None => say(out, format_args!("{}", sweep::summary(&lines))),
    }
    // A scheduler that sends a signal does not wait for a page.
    if stop.reason().is_none() {
        let args = ReportArgs { runs: vec![path.into()], out: Some(path.join(REPORT)) };
        match report::report(&args, &mut std::io::sink()) {
            Ok(()) => say(out, format_args!("  report         {}", path.join(REPORT).join("report.html").display())),
            Err(e) => say(out, format_args!("  report         none: {e:#}")),
        }
    }
    if ended != Some(SweepEnd::Finished) {
        say(out, format_args!("  go on          {}", go_on(path, "")));
    }
    let _ = out.flush();
}
