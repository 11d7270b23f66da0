//! Repetitions and their median, taken as the PyTorch peer takes them so that figures can be set side by side.

use std::time::Instant;

/// Untimed repetitions before the first timed one.
const WARM_UP: usize = 3;
/// Fewer say nothing about the spread, more add nothing to it.
const REPETITIONS: std::ops::RangeInclusive<usize> = 5..=2000;

/// Times of one subject, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Timed repetitions.
    pub n: usize,
}

impl Measurement {
    /// Panics without times.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let n = times.len();
        let median = (times[(n - 1) / 2] + times[n / 2]) / 2.0;
        Self { median, min: times[0], max: times[n - 1], n }
    }
}

/// Repeats `run` for about `seconds` and at least five times. `run` returns the seconds that count.
pub fn repeat<E>(seconds: f64, mut run: impl FnMut() -> Result<f64, E>) -> Result<Measurement, E> {
    for _ in 0..WARM_UP {
        run()?;
    }
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < *REPETITIONS.start()
        || (times.len() < *REPETITIONS.end() && start.elapsed().as_secs_f64() < seconds)
    {
        times.push(run()?);
    }
    Ok(Measurement::of(times))
}

/// Seconds that `f` takes.
pub fn timed<E>(f: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        let t = Measurement::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(t, Measurement { median: 2.0, min: 1.0, max: 3.0, n: 3 });
        assert_eq!(Measurement::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn at_least_five_at_most_two_thousand() {
        let mut calls = 0;
        let mut run = || -> Result<f64, ()> {
            calls += 1;
            Ok(f64::from(calls))
        };
        assert_eq!(repeat(0.0, &mut run).unwrap(), Measurement { median: 6.0, min: 4.0, max: 8.0, n: 5 });
        assert_eq!(repeat(60.0, run).unwrap().n, 2000);
    }
}
