//! Where the run is, on stderr: a dashboard or one live line on a terminal, a plain line every ten seconds in a log
//! file.
//!
//! ```text
//! epoch 812/15000  3.33M steps  12.4k/s  return 1873 (best 2011)  left 41m 07s  length 934  actor -1.24  critic 0.0312  model 1.90e-4
//! ```
//!
//! Formatting goes into one reused buffer; an update allocates nothing. A line that cannot be written (a closed pipe)
//! is no reason to end a run, so errors are dropped here.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::algo::metrics::MetricKind;
use crate::run::dashboard::{self, Header, History, format_dashboard};
use crate::run::tracker::{Shown, resident_mib};

/// How a run shows where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ui {
    /// A line every ten seconds, for files
    Plain,
    /// One live line
    Bar,
    /// A dashboard of eight lines
    Full,
    /// Nothing: rows of metrics and incidents are in the run's folder
    None,
}

/// What one update shows. NaN means "not measured yet" and leaves the part out.
#[derive(Clone, Debug)]
pub struct Status {
    /// Epochs done.
    pub epoch: u64,
    /// Epochs the run will do.
    pub epochs: u64,
    /// Environment steps done.
    pub env_steps: u64,
    /// Environment steps a second, lately.
    pub steps_per_second: f64,
    /// Mean return of the episodes that ended lately, or of the last evaluation, on the true environment.
    pub episode_return: f64,
    /// Highest evaluation so far.
    pub best_return: f64,
    /// Mean length of those episodes, in steps.
    pub episode_length: f64,
    /// Losses, learning rates and the times of the last epoch, as the algorithm declares them.
    pub metrics: Vec<Shown>,
    /// Seconds of training.
    pub seconds: f64,
    /// Seconds to the end at the present speed.
    pub seconds_left: f64,
}

impl Default for Status {
    fn default() -> Self {
        let nan = f64::NAN;
        Self {
            epoch: 0,
            epochs: 0,
            env_steps: 0,
            steps_per_second: nan,
            episode_return: nan,
            best_return: nan,
            episode_length: nan,
            metrics: Vec::new(),
            seconds: 0.0,
            seconds_left: nan,
        }
    }
}

/// Writer of the progress line or the dashboard.
#[derive(Debug)]
pub struct Progress {
    ui: Ui,
    header: Header,
    history: History,
    last: Option<Instant>,
    text: String,
    /// Lines of the terminal that the next update overwrites; the cursor is on the last of them.
    open: usize,
}

/// Characters and lines of the terminal behind stderr.
fn terminal() -> (usize, usize) {
    terminal_size::terminal_size_of(io::stderr()).map_or((80, 24), |(w, h)| (w.0.into(), h.0.into()))
}

impl Progress {
    /// On stderr, as fits: a dashboard on a terminal that has room for it, lines in a file.
    pub fn stderr(title: String) -> Self {
        let (width, height) = terminal();
        let ui = match (io::stderr().is_terminal(), width > dashboard::WIDTH && height > dashboard::LINES) {
            (true, true) => Ui::Full,
            (true, false) => Ui::Bar,
            (false, _) => Ui::Plain,
        };
        let header = Header { title, budget_mib: f64::NAN };
        let text = String::with_capacity(4096);
        Self { ui, header, history: History::default(), last: None, text, open: 0 }
    }

    /// Shows it as asked, whatever fits.
    pub fn set_ui(&mut self, ui: Ui) {
        self.finish();
        self.ui = ui;
    }

    /// Tells the budget of host memory.
    pub fn set_budget(&mut self, bytes: u64) {
        self.header.budget_mib = bytes as f64 / (1 << 20) as f64;
    }

    /// Shows the status, if it is time for it.
    pub fn update(&mut self, status: &Status) {
        // Ten frames a second is as much as an eye or a slow connection wants.
        let every = if self.ui == Ui::Plain { Duration::from_secs(10) } else { Duration::from_millis(100) };
        if self.ui != Ui::None && self.last.is_none_or(|t| t.elapsed() >= every) {
            self.show(status);
        }
    }

    /// Shows the status now.
    pub fn show(&mut self, status: &Status) {
        self.last = Some(Instant::now());
        self.text.clear();
        // One column is left free: a full line makes some terminals wrap.
        let width = terminal().0.saturating_sub(1);
        self.rewind();
        match self.ui {
            Ui::None => {}
            Ui::Plain => {
                format_status(&mut self.text, status, usize::MAX);
                self.text.push('\n');
            }
            Ui::Bar => {
                format_status(&mut self.text, status, width);
                self.text.push_str("\x1b[K");
                self.open = 1;
            }
            Ui::Full => {
                format_dashboard(
                    &mut self.text,
                    &self.header,
                    status,
                    &self.history,
                    resident_mib(),
                    width,
                    "\x1b[K\n",
                );
                // The cursor rests on the last line, as with the live line.
                self.text.pop();
                self.open = dashboard::LINES;
            }
        }
        let _ = io::stderr().write_all(self.text.as_bytes());
    }

    /// An evaluation, for the dashboard's curve.
    pub fn evaluated(&mut self, mean: f64) {
        self.history.add(mean);
    }

    /// Moves the cursor to the start of what is to be overwritten.
    fn rewind(&mut self) {
        if self.open > 0 {
            self.text.push('\r');
        }
        if self.open > 1 {
            let _ = write!(self.text, "\x1b[{}A", self.open - 1);
        }
    }

    /// Prints a line of its own (a warning, an evaluation) without tearing what is live.
    pub fn note(&mut self, text: fmt::Arguments) {
        if self.ui == Ui::None {
            return;
        }
        self.text.clear();
        self.rewind();
        if std::mem::take(&mut self.open) > 0 {
            self.text.push_str("\x1b[J");
        }
        let _ = writeln!(self.text, "{text}");
        let _ = io::stderr().write_all(self.text.as_bytes());
        self.last = None;
    }

    /// Leaves what is live standing and moves below it.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.open) > 0 {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

impl Drop for Progress {
    /// An error message that follows must not land on the live line.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Appends the parts of a status, whole parts only, as many as `width` characters hold; the first always.
pub fn format_status(out: &mut String, s: &Status, width: usize) {
    let begin = out.len();
    let mut part = |text: fmt::Arguments, shown: bool| {
        let before = out.len();
        if !shown {
            return;
        }
        if before > begin {
            out.push_str("  ");
        }
        let _ = out.write_fmt(text);
        if before > begin && out.len() - begin > width {
            out.truncate(before);
        }
    };
    let some = |v: f64| !v.is_nan();
    part(format_args!("epoch {}/{}", s.epoch, s.epochs), true);
    part(format_args!("{} steps", Short(s.env_steps as f64)), true);
    part(format_args!("{}/s", Short(s.steps_per_second)), some(s.steps_per_second));
    if some(s.best_return) {
        part(format_args!("return {:.0} (best {:.0})", s.episode_return, s.best_return), some(s.episode_return));
    } else {
        part(format_args!("return {:.0}", s.episode_return), some(s.episode_return));
    }
    // On a narrow terminal the time left is worth more than the losses, so it is placed before them.
    part(format_args!("left {}", Time(s.seconds_left)), some(s.seconds_left));
    part(format_args!("length {:.0}", s.episode_length), some(s.episode_length));
    for m in s.metrics.iter().filter(|m| m.kind == MetricKind::Loss) {
        part(format_args!("{} {}", m.label, ThreeDigits(m.value)), some(m.value));
    }
}

/// `950`, `12.4k`, `3.28M`.
pub struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let v = self.0;
        match v.abs() {
            a if a >= 1e9 => write!(f, "{:.2}G", v / 1e9),
            a if a >= 1e6 => write!(f, "{:.2}M", v / 1e6),
            a if a >= 1e4 => write!(f, "{:.1}k", v / 1e3),
            _ => write!(f, "{v:.0}"),
        }
    }
}

/// Three digits, with an exponent where they would all be zero.
pub struct ThreeDigits(pub f64);

impl fmt::Display for ThreeDigits {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let v = self.0;
        match v.abs() {
            0.0 => write!(f, "0"),
            a if !(1e-3..1e5).contains(&a) => write!(f, "{v:.2e}"),
            a if a >= 100.0 => write!(f, "{v:.1}"),
            a if a >= 1.0 => write!(f, "{v:.2}"),
            _ => write!(f, "{v:.4}"),
        }
    }
}

/// `41s`, `12m 05s`, `3h 20m`, `2d 04h`.
pub struct Time(pub f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let s = self.0.clamp(0.0, 1e9) as u64;
        match s {
            0..60 => write!(f, "{s}s"),
            60..3600 => write!(f, "{}m {:02}s", s / 60, s % 60),
            3600..86400 => write!(f, "{}h {:02}m", s / 3600, s % 3600 / 60),
            _ => write!(f, "{}d {:02}h", s / 86400, s % 86400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        Status {
            epoch: 812,
            epochs: 15000,
            env_steps: 3_325_952,
            steps_per_second: 12_431.0,
            episode_return: 1873.4,
            best_return: 2011.0,
            episode_length: 934.0,
            metrics: vec![
                Shown { kind: MetricKind::Loss, label: "actor", value: -1.2412 },
                Shown { kind: MetricKind::Loss, label: "critic", value: 0.0312 },
                Shown { kind: MetricKind::Loss, label: "model", value: 0.00019 },
                Shown { kind: MetricKind::Loss, label: "unknown", value: f64::NAN },
                Shown { kind: MetricKind::LearningRate, label: "actor", value: 1e-3 },
            ],
            seconds_left: 2467.0,
            ..Status::default()
        }
    }

    #[test]
    fn a_full_line() {
        let mut s = String::new();
        format_status(&mut s, &sample(), usize::MAX);
        assert_eq!(
            s,
            "epoch 812/15000  3.33M steps  12.4k/s  return 1873 (best 2011)  left 41m 07s  length 934  \
             actor -1.24  critic 0.0312  model 1.90e-4"
        );
    }

    #[test]
    fn fits_any_width_and_leaves_out_what_is_not_measured() {
        for width in 16..200 {
            let mut s = String::new();
            format_status(&mut s, &sample(), width);
            assert!(s.chars().count() <= width, "{width}: {s}");
        }
        let mut s = String::new();
        format_status(&mut s, &Status { epochs: 10, ..Status::default() }, 80);
        assert_eq!(s, "epoch 0/10  0 steps");
    }
}
