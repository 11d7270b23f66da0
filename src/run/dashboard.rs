//! The run at a glance: eight lines that a terminal redraws in place.
//!
//! ```text
//! pwm_small on walker, seed 0, runs/walker_pwm_small_s0
//! ━━━━━━━━━━──────────────────────────   8 %  epoch 812/10000  4m 31s gone  41m 07s left
//! return       1873   best 2011   length 934   12.4k steps/s   1.66M steps
//! evaluations  ▁▂▂▃▄▅▆▇▇█  149 to 2011
//! losses       actor -1.24   critic 0.0312   model 1.90e-4
//! rates        actor 1.84e-3   critic 1.84e-3   model 9.20e-4
//! time         actor and simulator 26 %   critics 31 %   model 43 %
//! memory       239 MiB of 22.1 GiB
//! ```

use std::fmt::{self, Write as _};

use crate::algo::metrics::MetricKind;
use crate::run::progress::{Short, Status, ThreeDigits, Time};

/// Lines of a dashboard.
pub const LINES: usize = 8;
/// The least width of a terminal that holds one, in characters.
pub const WIDTH: usize = 64;

/// What stays the same during a run.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Configuration, environment, seed, folder.
    pub title: String,
    /// The budget of host memory in MiB; NaN if it is not known.
    pub budget_mib: f64,
}

/// Evaluations of a run, all of it in a fixed number of places: when they are full, every second one is dropped.
#[derive(Clone, Copy, Debug)]
pub struct History {
    means: [f64; Self::PLACES],
    len: usize,
    /// One of so many evaluations is kept.
    stride: u64,
    seen: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { means: [f64::NAN; Self::PLACES], len: 0, stride: 1, seen: 0 }
    }
}

impl History {
    const PLACES: usize = 48;

    /// One more evaluation; a mean that is not finite has no place.
    pub fn add(&mut self, mean: f64) {
        if !mean.is_finite() {
            return;
        }
        if self.seen.is_multiple_of(self.stride) {
            if self.len == Self::PLACES {
                for i in 0..Self::PLACES / 2 {
                    self.means[i] = self.means[2 * i];
                }
                self.len /= 2;
                self.stride *= 2;
            }
            self.means[self.len] = mean;
            self.len += 1;
        }
        self.seen += 1;
    }

    fn means(&self) -> &[f64] {
        &self.means[..self.len]
    }
}

/// Appends the eight lines, each cut to `width` characters and ended by `end`.
pub fn format_dashboard(
    out: &mut String,
    header: &Header,
    s: &Status,
    history: &History,
    resident_mib: f64,
    width: usize,
    end: &str,
) {
    let mut line = |write: &dyn Fn(&mut String) -> fmt::Result| {
        let begin = out.len();
        // Writing to a String cannot fail.
        let _ = write(out);
        if let Some((cut, _)) = out[begin..].char_indices().nth(width) {
            out.truncate(begin + cut);
        }
        out.push_str(end);
    };
    line(&|o| write!(o, "{}", header.title));
    line(&|o| {
        let share = s.epoch as f64 / s.epochs.max(1) as f64;
        let places = width.saturating_sub(52).clamp(10, 40);
        let done = (share * places as f64).round() as usize;
        (0..places).for_each(|i| o.push(if i < done { '━' } else { '─' }));
        write!(o, " {:3.0} %  epoch {}/{}  {} gone", 100.0 * share, s.epoch, s.epochs, Time(s.seconds))?;
        if s.seconds_left.is_nan() { Ok(()) } else { write!(o, "  {} left", Time(s.seconds_left)) }
    });
    line(&|o| {
        o.push_str("return       ");
        let known = [("", s.episode_return), ("best ", s.best_return), ("length ", s.episode_length)];
        for (name, x) in known.into_iter().filter(|(_, x)| !x.is_nan()) {
            write!(o, "{name}{x:.0}   ")?;
        }
        write!(o, "{} steps/s   {} steps", Short(s.steps_per_second), Short(s.env_steps as f64))
    });
    line(&|o| {
        o.push_str("evaluations  ");
        let means = history.means();
        let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(l, h), &m| (l.min(m), h.max(m)));
        for &m in means {
            let height = if high > low { (m - low) / (high - low) } else { 0.0 };
            o.push(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][(7.0 * height).round() as usize]);
        }
        if means.is_empty() { Ok(()) } else { write!(o, "  {low:.0} to {high:.0}") }
    });
    let of_kind = |kind: MetricKind| s.metrics.iter().filter(move |m| m.kind == kind);
    let numbers = |o: &mut String, name: &str, kind: MetricKind| {
        write!(o, "{name:13}")?;
        of_kind(kind).filter(|m| !m.value.is_nan()).try_for_each(|m| match kind {
            MetricKind::LearningRate => write!(o, "{} {:.2e}   ", m.label, m.value),
            _ => write!(o, "{} {}   ", m.label, ThreeDigits(m.value)),
        })
    };
    line(&|o| numbers(o, "losses", MetricKind::Loss));
    line(&|o| numbers(o, "rates", MetricKind::LearningRate));
    line(&|o| {
        o.push_str("time         ");
        let taken = || of_kind(MetricKind::Seconds).filter(|m| m.value > 0.0);
        let all: f64 = taken().map(|m| m.value).sum();
        taken().try_for_each(|m| write!(o, "{} {:.0} %   ", m.label, 100.0 * m.value / all))
    });
    line(&|o| {
        write!(o, "memory       {}", Mebi(resident_mib))?;
        if header.budget_mib.is_nan() { Ok(()) } else { write!(o, " of {}", Mebi(header.budget_mib)) }
    });
}

/// `239 MiB`, `22.1 GiB`.
struct Mebi(f64);

impl fmt::Display for Mebi {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            x if x.is_nan() => f.write_str("unknown"),
            x if x < 1024.0 => write!(f, "{x:.0} MiB"),
            x => write!(f, "{:.1} GiB", x / 1024.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tracker::Shown;

    fn drawn(s: &Status, history: &History, width: usize) -> Vec<String> {
        let mut out = String::new();
        let header = Header { title: "pwm_small on walker, seed 0".into(), budget_mib: 22_630.0 };
        format_dashboard(&mut out, &header, s, history, 239.0, width, "\n");
        out.lines().map(Into::into).collect()
    }

    #[test]
    fn eight_lines_of_what_is_known() {
        let mut history = History::default();
        [149.0, 1000.0, 2011.0, f64::NAN].into_iter().for_each(|m| history.add(m));
        let s = Status {
            epoch: 812,
            epochs: 10_000,
            env_steps: 1_662_976,
            steps_per_second: 12_431.0,
            episode_return: 1873.4,
            best_return: 2011.0,
            episode_length: 934.0,
            metrics: [
                (MetricKind::Loss, [("actor", -1.2412), ("critic", 0.0312), ("model", 1.9e-4)]),
                (MetricKind::LearningRate, [("actor", 1.84e-3), ("critic", 1.84e-3), ("model", 9.2e-4)]),
                (MetricKind::Seconds, [("actor and simulator", 0.026), ("critics", 0.031), ("model", 0.043)]),
            ]
            .into_iter()
            .flat_map(|(kind, each)| each.map(|(label, value)| Shown { kind, label, value }))
            .collect(),
            seconds: 271.0,
            seconds_left: 2467.0,
        };
        let lines = drawn(&s, &history, 100);
        assert_eq!(lines.len(), LINES);
        assert!(lines[1].ends_with("   8 %  epoch 812/10000  4m 31s gone  41m 07s left"), "{}", lines[1]);
        assert_eq!(lines[2], "return       1873   best 2011   length 934   12.4k steps/s   1.66M steps");
        assert_eq!(lines[3], "evaluations  ▁▄█  149 to 2011");
        assert_eq!(lines[4].trim_end(), "losses       actor -1.24   critic 0.0312   model 1.90e-4");
        assert_eq!(lines[5].trim_end(), "rates        actor 1.84e-3   critic 1.84e-3   model 9.20e-4");
        assert_eq!(lines[6].trim_end(), "time         actor and simulator 26 %   critics 31 %   model 43 %");
        assert_eq!(lines[7], "memory       239 MiB of 22.1 GiB");
        for width in WIDTH..140 {
            assert!(drawn(&s, &history, width).iter().all(|l| l.chars().count() <= width));
        }
        assert_eq!(drawn(&Status::default(), &History::default(), WIDTH).len(), LINES);
    }

    #[test]
    fn a_history_of_any_length_keeps_its_shape() {
        let mut history = History::default();
        for i in 0..10_000 {
            history.add(f64::from(i));
            assert!(history.means().windows(2).all(|w| w[0] < w[1]) && history.means()[0] == 0.0);
        }
        assert!(history.means().len() >= History::PLACES / 2);
        assert!(history.means()[history.len - 1] > 9_500.0);
    }
}
