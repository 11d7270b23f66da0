//! `pwm-train --multirun`: many runs in one folder. `pwm sweep status`: how far they are.
//!
//! `prepare` resolves and plans every member before the first is started; `screen` shows them while they run.

mod prepare;
mod screen;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::report::{self, ReportArgs};
use super::say;
use super::train::{TrainArgs, go_on};
use crate::run::signals::StopFlag;
use crate::sweep::{self, Local, Member, REPORT, State, SweepEnd, SweepFolder, SweepRunner};
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
        let goes_on = alive || states.contains(&State::Running);
        shown = Some(states);
        if !args.watch || !goes_on {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

/// Carries `pwm-train --multirun` out, and `--resume` of a sweep.
pub fn run(args: &TrainArgs, out: &mut dyn Write, stop: &StopFlag) -> anyhow::Result<()> {
    let Prepared { path, axes, drafts, resources, capacity, notes } = Prepared::new(args)?;
    let folder = SweepFolder::take(&path)?;
    let mut info = folder.read()?.unwrap_or_default();
    let places = sweep::reconcile(&path, &mut info, &axes, &drafts)?;
    let mut members = vec![];
    for ((place, draft), resources) in places.into_iter().zip(&drafts).zip(&resources) {
        let at = path.join(&info.members[place].name);
        let status = sweep::MemberStatus::read(&at, info.members[place].failure.as_ref());
        let is_due = match status.state {
            State::Failed => args.retry,
            // It is not ours; what it leaves is taken up.
            State::Running => true,
            _ => !sweep::is_over(&at, &draft.config),
        };
        let job = sweep::Job { args: prepare::args(draft, &at), folder: at, resources: *resources };
        members.push(Member { place, job, is_due });
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
