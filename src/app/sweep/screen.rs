//! The members while they run, on stderr: a table or one line in place on a terminal, a line for every change in a
//! file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::run::progress::{Time, Ui};
use crate::sweep::{self, Event, Line, Outcome, State, SweepInfo};

/// Time between two pictures.
const EVERY: Duration = Duration::from_secs(1);

/// What shows the members.
pub(super) struct Screen {
    path: PathBuf,
    ui: Ui,
    /// The members of this sitting, by their place.
    members: Vec<usize>,
    last: Option<Instant>,
    /// Lines that the next picture overwrites; the cursor is below them.
    open: usize,
}

impl Screen {
    pub fn new(path: &Path, ui: Option<Ui>, members: Vec<usize>) -> Self {
        let usual = if io::stderr().is_terminal() { Ui::Full } else { Ui::Plain };
        Self { path: path.into(), ui: ui.unwrap_or(usual), members, last: None, open: 0 }
    }

    /// Shows what has happened.
    pub fn tell(&mut self, info: &SweepInfo, place: usize, event: &Event<'_>) {
        if let Event::Tick = event {
            return self.picture(info);
        }
        let Some(member) = info.members.get(place) else { return };
        let run = self.path.join(&member.name);
        let text = match event {
            Event::Tick => return,
            Event::Started => "begins".to_owned(),
            Event::InUse => "in use by another process; waits for it".to_owned(),
            Event::Note(text) => text.clone(),
            Event::Ended(Outcome::Failed(failure)) => format!("failed: {}", failure.reason),
            Event::Ended(outcome) => {
                let status = sweep::MemberStatus::read(&run, None);
                let word = if matches!(outcome, Outcome::Over) { "over" } else { "interrupted" };
                let best = status.best_return.map_or_else(String::new, |b| format!(", best return {b:.0}"));
                let time = Time(60.0 * status.minutes);
                let why = status.why.map_or_else(String::new, |why| format!(" ({why})"));
                format!("{word} after {} epochs and {time}{best}{why}", status.epoch)
            }
        };
        self.note(&format!("{}: {text}", member.name));
    }

    /// The members as they are now, if it is time for it.
    fn picture(&mut self, info: &SweepInfo) {
        if matches!(self.ui, Ui::Plain | Ui::None) || self.last.is_some_and(|t| t.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let all = sweep::lines(&self.path, info);
        let lines: Vec<Line> = self.members.iter().filter_map(|&place| all.get(place)).cloned().collect();
        let (width, height) = terminal_size::terminal_size_of(io::stderr())
            .map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)));
        let mut text = vec![sweep::summary(&lines)];
        if self.ui == Ui::Full {
            // Where not all have room, those that run are worth the most.
            let room = height.saturating_sub(3);
            let few = if lines.len() <= room { lines } else { worth_most(lines, room) };
            text.extend(sweep::table(info, &few));
        }
        let mut picture = self.rewound();
        for line in &text {
            picture.extend(line.chars().take(width.saturating_sub(1)));
            picture.push('\n');
        }
        self.open = text.len();
        let _ = io::stderr().write_all(picture.as_bytes());
    }

    /// What moves the cursor to where the picture begins, and wipes it off.
    fn rewound(&mut self) -> String {
        match std::mem::take(&mut self.open) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }

    /// A line that stays.
    fn note(&mut self, text: &str) {
        let text = format!("{}{text}\n", self.rewound());
        let _ = io::stderr().write_all(text.as_bytes());
        self.last = None;
    }

    /// Wipes the picture off: what follows tells the same.
    pub fn finish(&mut self) {
        let text = self.rewound();
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// So many lines of those that run, then of those that failed, then of the others, in their order.
fn worth_most(lines: Vec<Line>, room: usize) -> Vec<Line> {
    let rank = |l: &Line| match l.status.state {
        State::Running => 0,
        State::Failed => 1,
        State::Interrupted | State::Waiting | State::Queued => 2,
        State::Finished | State::StoppedEarly => 3,
    };
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|&i| (rank(&lines[i]), i));
    order.truncate(room);
    order.sort_unstable();
    let mut lines: Vec<Option<Line>> = lines.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| lines[i].take()).collect()
}
