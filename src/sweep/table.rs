//! All members of a sweep at a glance: a table for people, JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json as object};

use super::folder::{MemberInfo, SweepInfo, is_alive};
use super::slurm::{self, Queue, TaskState};
use super::status::{MemberStatus, State};
use crate::run::progress::{Short, Time};

/// A member as the table shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its folder inside the sweep's.
    pub name: String,
    /// The settings in which members differ.
    pub overrides: BTreeMap<String, String>,
    /// How far it is.
    #[serde(flatten)]
    pub status: MemberStatus,
}

/// The settings in which members differ, in the order in which they were given.
fn differing(info: &SweepInfo) -> Vec<&str> {
    let value = |overrides: &'_ [String], key: &str| -> Option<String> {
        overrides.iter().rev().find_map(|o| Some(o.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    let mut keys: Vec<&str> = vec![];
    for key in info.members.iter().flat_map(|m| &m.overrides).filter_map(|o| Some(o.split_once('=')?.0)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let first = info.members.first();
    keys.retain(|key| {
        first.is_some_and(|f| info.members.iter().any(|m| value(&m.overrides, key) != value(&f.overrides, key)))
    });
    keys
}

/// Reads how far every member is.
pub fn lines(folder: &Path, info: &SweepInfo) -> Vec<Line> {
    let keys = differing(info);
    let line = |m: &MemberInfo| Line {
        name: m.name.clone(),
        overrides: m
            .overrides
            .iter()
            .filter_map(|o| o.split_once('='))
            .filter(|(key, _)| keys.contains(key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        status: MemberStatus::read(&folder.join(&m.name), m.failure.as_ref()),
    };
    let mut lines: Vec<Line> = info.members.par_iter().map(line).collect();
    tell_queue(info, &mut lines);
    lines
}

/// What the queue of a scheduler says of the members that were submitted.
///
/// # Errors
/// If it does not answer.
pub fn queue(info: &SweepInfo) -> io::Result<Queue> {
    let arrays = info.members.iter().filter_map(|m| Some(m.job.as_ref()?.split_once('_')?.0));
    slurm::queue(&arrays.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
}

/// What a scheduler says of members that are not over: it knows of those that wait, and of processes on other machines,
/// whose locks a shared disk may not show.
fn tell_queue(info: &SweepInfo, lines: &mut [Line]) {
    let is_open = |s: State| !matches!(s, State::Finished | State::StoppedEarly | State::Running);
    if !lines.iter().any(|l| is_open(l.status.state)) {
        return;
    }
    let queue = queue(info);
    for (member, Line { status, .. }) in info.members.iter().zip(lines) {
        let (Some(job), true) = (&member.job, is_open(status.state)) else { continue };
        match queue.as_ref().map(|queue| queue.get(job)) {
            Ok(Some(TaskState::Waits(why))) => (status.state, status.why) = (State::Queued, Some(why.clone())),
            Ok(Some(TaskState::Runs)) if status.state != State::Failed => {
                (status.state, status.why) = (State::Running, None);
            }
            Ok(None) if status.state == State::Waiting => {
                status.why = Some(format!("its task left the queue and says nothing: slurm-{job}.log"));
            }
            Err(e) if status.why.is_none() => status.why = Some(format!("the queue does not answer: {e}")),
            _ => {}
        }
    }
}

/// Whether anything works on a sweep: the process that starts its members here, which is `alive`, or a scheduler.
pub fn goes_on(alive: bool, info: &SweepInfo, lines: &[Line]) -> bool {
    let by_scheduler = || lines.iter().any(|l| matches!(l.status.state, State::Running | State::Queued));
    if info.launcher == slurm::NAME { by_scheduler() } else { alive }
}

/// How many members are in each state, without states that no member is in.
pub fn counts(lines: &[Line]) -> Vec<(State, usize)> {
    let count = |state: State| lines.iter().filter(|l| l.status.state == state).count();
    State::ALL.into_iter().map(|s| (s, count(s))).filter(|(_, n)| *n > 0).collect()
}

/// One line on all of them: `12 members: 3 running, 9 finished`.
pub fn summary(lines: &[Line]) -> String {
    let parts: Vec<String> = counts(lines).into_iter().map(|(s, n)| format!("{n} {}", s.words())).collect();
    let members = if lines.len() == 1 { "1 member".into() } else { format!("{} members", lines.len()) };
    if parts.is_empty() { members } else { format!("{members}: {}", parts.join(", ")) }
}

/// A line for each member below a heading, cells in columns.
pub fn table(info: &SweepInfo, lines: &[Line]) -> Vec<String> {
    let keys = differing(info);
    let mut head: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
    if keys.is_empty() {
        head.push("member".into());
    }
    let settings = head.len();
    head.extend(["state", "epoch", "steps", "time", "best", "last", "left", ""].map(String::from));
    let number = |x: Option<f64>| x.map_or_else(|| "-".into(), |x| format!("{x:.0}"));
    let time = |minutes: Option<f64>| minutes.map_or_else(|| "-".into(), |m| Time(60.0 * m).to_string());
    let row = |l: &Line| {
        let s = &l.status;
        let mut cells: Vec<String> =
            keys.iter().map(|k| l.overrides.get(*k).cloned().unwrap_or_else(|| "-".into())).collect();
        if keys.is_empty() {
            cells.push(l.name.clone());
        }
        cells.extend([
            s.state.words().to_owned(),
            s.max_epochs.map_or_else(|| "-".into(), |of| format!("{}/{of}", s.epoch)),
            Short(s.env_steps as f64).to_string(),
            time(Some(s.minutes)),
            number(s.best_return),
            number(s.last_return),
            time(s.minutes_left),
            // That a run did what it was to do needs no words.
            s.why.clone().filter(|_| s.state != State::Finished).unwrap_or_default(),
        ]);
        cells
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines.iter().map(row)).collect();
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let text = |cells: &Vec<String>| {
        let cells = cells.iter().enumerate().map(|(c, cell)| {
            let width = widths[c];
            // Numbers stand below each other, words begin below each other.
            if c <= settings || c + 1 == widths.len() { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(text).collect()
}

/// All of it for programs.
pub fn json(folder: &Path, info: &SweepInfo, lines: &[Line]) -> Value {
    let counts: serde_json::Map<String, Value> =
        counts(lines).into_iter().map(|(s, n)| (s.words().replace(' ', "_"), n.into())).collect();
    object!({
        "schema": 1,
        "folder": folder.display().to_string(),
        "launcher": info.launcher,
        "alive": goes_on(is_alive(folder), info, lines),
        "ended": info.ended,
        "counts": counts,
        "members": lines,
    })
}

#[cfg(test)]
mod tests {
    use super::super::folder::Failure;
    use super::*;

    #[test]
    fn a_line_a_member_with_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        let member = |seed: u64, failure: Option<&str>| MemberInfo {
            name: format!("seed={seed}"),
            overrides: vec!["gamma=0.9".into(), format!("seed={seed}")],
            failure: failure.map(|reason| Failure { reason: reason.into(), ..Failure::default() }),
            ..MemberInfo::default()
        };
        let info = SweepInfo { members: vec![member(0, None), member(10, Some("no room"))], ..SweepInfo::default() };
        let lines = lines(dir.path(), &info);
        assert_eq!(summary(&lines), "2 members: 1 waiting, 1 failed");
        let text = table(&info, &lines);
        assert_eq!(text.len(), 3);
        assert!(text[0].starts_with("seed  state    epoch  steps  time  best"), "{text:?}");
        assert!(text[1].starts_with("0     waiting      -"), "{text:?}");
        assert!(text[2].starts_with("10    failed ") && text[2].ends_with("no room"), "{text:?}");
        let told = json(dir.path(), &info, &lines);
        assert_eq!(told["counts"]["failed"], 1);
        let second = &told["members"][1];
        assert_eq!((&second["state"], &second["why"]), (&"failed".into(), &"no room".into()));
        assert_eq!(second["overrides"], object!({"seed": "10"}));
        assert!(second["best_return"].is_null() && told["alive"] == false);
        let one = SweepInfo { members: vec![member(3, None)], ..SweepInfo::default() };
        assert!(table(&one, &super::lines(dir.path(), &one))[1].starts_with("seed=3"));
    }
}
