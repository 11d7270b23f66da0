//! The learning curve of a run of any length, in memory that does not grow with it: rows are read one at a time, and a
//! picture has only so many points that can be told apart.

use crate::draw::plot::{Look, Plot, Point, Reference, Series};
use crate::io::metrics::Row;

/// Points of a curve at most: about one a pixel. Even, so that dropping every second one keeps their distances equal.
const MOST: usize = 1024;

/// Every n-th of the points that were added, n the least power of two with which [`MOST`] are enough; and the last one.
#[derive(Clone, Debug)]
struct Thinned {
    points: Vec<Point>,
    every: usize,
    seen: usize,
    last: Option<Point>,
}

impl Thinned {
    fn new() -> Self {
        Self { points: Vec::with_capacity(MOST + 1), every: 1, seen: 0, last: None }
    }

    fn add(&mut self, p: Point) {
        self.last = Some(p);
        if self.seen.is_multiple_of(self.every) {
            if self.points.len() == MOST {
                let mut odd = true;
                self.points.retain(|_| {
                    odd = !odd;
                    !odd
                });
                self.every *= 2;
            }
            self.points.push(p);
            self.last = None;
        }
        self.seen += 1;
    }

    fn finish(mut self) -> Vec<Point> {
        self.points.extend(self.last);
        self.points
    }
}

/// Evaluations on the true environment and, pale behind them, returns while training, as they are read.
#[derive(Clone, Debug)]
pub struct LearningCurve<'a> {
    mean: &'a str,
    std: &'a str,
    training: &'a str,
    evaluations: Thinned,
    trained: Thinned,
    beside: Vec<Reference>,
}

impl<'a> LearningCurve<'a> {
    /// A curve of the columns with these names; the spread of an evaluation without one is 0.
    pub fn new(mean: &'a str, std: &'a str, training: &'a str) -> Self {
        Self { mean, std, training, evaluations: Thinned::new(), trained: Thinned::new(), beside: vec![] }
    }

    /// With these levels beside it.
    #[must_use]
    pub fn beside(mut self, levels: Vec<Reference>) -> Self {
        self.beside = levels;
        self
    }

    /// Adds a row; columns that it lacks, or whose number is not finite, are left out.
    pub fn add(&mut self, row: &Row) {
        let number = |name: &str| row.values.get(name).copied().filter(|v| v.is_finite());
        let x = row.step as f64;
        if let Some(y) = number(self.training) {
            self.trained.add(Point { x, y, spread: 0.0 });
        }
        if let Some(y) = number(self.mean) {
            self.evaluations.add(Point { x, y, spread: number(self.std).unwrap_or(0.0) });
        }
    }

    /// The picture of the rows added.
    pub fn plot(self, title: &str, subtitle: &str) -> Plot {
        let series = vec![
            Series { label: "while training".into(), points: self.trained.finish(), look: Look::Faint, color: 0 },
            Series {
                label: "evaluation (mean ± std)".into(),
                points: self.evaluations.finish(),
                look: Look::Measured,
                color: 0,
            },
        ];
        Plot { title: title.into(), subtitle: subtitle.into(), references: self.beside, series, ..Plot::returns() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_all_there_and_many_are_thinned_evenly() {
        for n in [0, 1, 5, MOST - 1, MOST, MOST + 1, 3 * MOST, 100_000] {
            let mut t = Thinned::new();
            (0..n).for_each(|i| t.add(Point { x: i as f64, y: 0.0, spread: 0.0 }));
            let x: Vec<usize> = t.finish().iter().map(|p| p.x as usize).collect();
            assert!(x.len() <= MOST + 1 && (n <= MOST || x.len() > MOST / 2), "{n}: {}", x.len());
            assert_eq!(x.last().copied(), n.checked_sub(1), "the newest is there");
            let apart = n.div_ceil(MOST).next_power_of_two();
            let even = &x[..x.len().saturating_sub(1)];
            assert!(even.iter().enumerate().all(|(i, &x)| x == i * apart), "{n}: {apart} apart");
        }
    }
}
