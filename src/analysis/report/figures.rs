//! The figures of a report: returns over seeds, numbers of training, bars.

use std::fmt::Write as _;

use super::runs::{Run, RunGroup};
use super::table::points;
use super::tables::tasks_of;
use crate::algo::metrics::{CATALOGUE, EVAL_MEAN, EVAL_STD, MetricKind, TRAIN_RETURN};
use crate::analysis::stats::{mean, std};
use crate::draw::plot::{COLORS, Look, Plot, Point, Reference, Series, escape};
use crate::env::KnownReturn;
use crate::io::metrics::{Row, column};
use crate::run::progress::Short;

/// Levels nearer to each other than this share of the axis are drawn as one band: their names would not fit.
const APART: f64 = 0.02;

/// The returns that are known of a task, as far as curves with this top come near them.
fn levels(known: &[KnownReturn], top: f64) -> Vec<Reference> {
    let mut near: Vec<&KnownReturn> = known.iter().filter(|r| r.draw || r.high <= 1.35 * top).collect();
    near.sort_by(|a, b| a.low.total_cmp(&b.low));
    let axis = near.iter().fold(top, |axis, r| axis.max(r.high));
    let mut levels: Vec<Reference> = Vec::new();
    for r in near {
        match levels.last_mut() {
            Some(below) if r.low - below.high < APART * axis => {
                below.label += &format!(", {}", r.policy);
                below.high = below.high.max(r.high);
            }
            _ => levels.push(r.level()),
        }
    }
    levels
}

/// A figure with a name for its file.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub svg: String,
}

/// Evaluations: one curve a group, its band the deviation over seeds (of a single run: over episodes); a mark where a
/// run had an incident.
pub(super) fn returns(runs: &[Run], groups: &[RunGroup]) -> Plot {
    let mut series = Vec::new();
    for (color, g) in groups.iter().enumerate() {
        if let [only] = g.runs[..] {
            let rows = &runs[only].rows;
            let plain = |k| column(rows, k).into_iter().map(|(x, y)| Point { x, y, spread: 0.0 }).collect();
            if groups.len() == 1 {
                series.push(Series {
                    label: "while training".into(),
                    points: plain(TRAIN_RETURN.name),
                    look: Look::Faint,
                    color,
                });
            }
            let spread = |r: &Row| r.values.get(EVAL_STD.name).copied().filter(|v| v.is_finite()).unwrap_or(0.0);
            let measured = rows.iter().filter_map(|r| {
                let y = *r.values.get(EVAL_MEAN.name)?;
                y.is_finite().then(|| Point { x: r.step as f64, y, spread: spread(r) })
            });
            let label = format!("{} (± std of episodes)", g.label);
            series.push(Series { label, points: measured.collect(), look: Look::Measured, color });
        } else {
            let mut curves: Vec<Vec<(f64, f64)>> = g.runs.iter().map(|&i| runs[i].evaluations()).collect();
            curves.retain(|c| !c.is_empty());
            let ends = curves.iter().map(|c| c[c.len() - 1].0);
            let (first, last) = (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max));
            let go_on = curves.iter().filter(|c| c[c.len() - 1].0 > first).count();
            let fewer = if first < last { format!(", {go_on} after {} steps", Short(first)) } else { String::new() };
            let label = format!("{} ({} seeds{fewer}, ± std of seeds)", g.label, curves.len());
            series.push(Series { label, points: over_seeds(&curves), look: Look::Measured, color });
        }
    }
    let top = series.iter().flat_map(|s| &s.points).map(|p| p.y).filter(|y| y.is_finite()).fold(0.0, f64::max);
    // Levels of one task say nothing of another's returns.
    let references = match &tasks_of(runs)[..] {
        [one] => levels(&one.returns, top),
        _ => vec![],
    };
    // A collapse and the rollback that follows it are one mark.
    let mut marks: Vec<(f64, String)> = Vec::new();
    for i in runs.iter().flat_map(|r| &r.incidents) {
        match marks.last_mut() {
            Some((step, names)) if *step == i.step as f64 => *names += &format!(", {}", i.kind.name()),
            _ => marks.push((i.step as f64, i.kind.name().into())),
        }
    }
    Plot {
        title: "Return on the true environment".into(),
        subtitle: "deterministic policy, closed loop, undiscounted; published returns as dashed lines".into(),
        series,
        references,
        marks,
        ..Plot::returns()
    }
}

/// Mean and deviation of several curves at every place where one of them was measured, of those that reach so far. Each
/// curve has a point.
pub(super) fn over_seeds(curves: &[Vec<(f64, f64)>]) -> Vec<Point> {
    let mut xs: Vec<f64> = curves.iter().flatten().map(|p| p.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let at = |c: &Vec<(f64, f64)>, x: f64| {
        let after = c.partition_point(|p| p.0 < x);
        match (after.checked_sub(1).map(|i| c[i]), c.get(after)) {
            (_, Some(b)) if b.0 == x => Some(b.1),
            (Some(a), Some(b)) => Some(a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0)),
            (Some(_), None) => None,
            (None, b) => b.map(|b| b.1),
        }
    };
    let point = |&x: &f64| {
        let values: Vec<f64> = curves.iter().filter_map(|c| at(c, x)).collect();
        Point { x, y: mean(&values), spread: std(&values) }
    };
    xs.iter().map(point).collect()
}

pub(super) fn line_figure(runs: &[Run], name: &'static str, title: &str, unit: &str, key: &str) -> Option<Figure> {
    let series: Vec<Series> = runs
        .iter()
        .enumerate()
        .map(|(color, r)| {
            let points = column(&r.rows, key).into_iter().map(|(x, y)| Point { x, y, spread: 0.0 }).collect();
            Series { label: r.name(), points, look: Look::Faint, color }
        })
        .collect();
    let plot = Plot { title: title.into(), y_label: unit.into(), series, ..Plot::returns() };
    plot.series.iter().any(|s| !s.points.is_empty()).then(|| Figure { name, svg: plot.svg() })
}

/// Bars of one run: name, and `(part, value)`.
pub(super) type Bars = Vec<(String, Vec<(&'static str, f64)>)>;

pub(super) fn peak_final(runs: &[Run]) -> Bars {
    runs.iter().map(|r| (r.name(), vec![("peak", r.peak().1), ("final", r.last())])).collect()
}

pub(super) fn phases(runs: &[Run]) -> Bars {
    let of = |r: &Run| {
        let times = CATALOGUE.iter().filter(|m| m.kind == MetricKind::Seconds).map(|m| (m.label, r.sum(m.name)));
        let all: f64 = times.clone().map(|(_, s)| s).sum();
        (r.name(), times.map(|(label, s)| (label, 100.0 * s / all)).collect())
    };
    // Runs of older builds have no times.
    runs.iter()
        .map(of)
        .filter(|(_, parts): &(String, Vec<(&str, f64)>)| parts.iter().all(|p| p.1.is_finite()))
        .collect()
}

/// Horizontal bars, grouped by run.
pub(super) fn bars(title: &str, of: &Bars) -> String {
    let rows: usize = of.iter().map(|(_, b)| b.len() + 1).sum();
    let height = 84.0 + 22.0 * rows.max(1) as f64;
    let top = of.iter().flat_map(|(_, b)| b).map(|b| b.1).filter(|v| v.is_finite()).fold(1e-9, f64::max);
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {height:.0}\" width=\"960\" height=\"{height:.0}\" \
         font-family=\"Inter, Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n<title>{title}</title>\n\
         <rect width=\"960\" height=\"{height:.0}\" rx=\"10\" fill=\"#ffffff\"/>\n\
         <text x=\"36\" y=\"42\" font-size=\"21\" font-weight=\"600\" fill=\"#1a1f26\">{title}</text>\n",
        title = escape(title)
    );
    let mut y = 74.0;
    for (run, parts) in of {
        let _ = writeln!(
            s,
            "<text x=\"36\" y=\"{y:.0}\" font-size=\"14\" font-weight=\"600\" fill=\"#1a1f26\">{}</text>",
            escape(run)
        );
        y += 22.0;
        for (i, (part, value)) in parts.iter().enumerate() {
            let width = if value.is_finite() { (620.0 * value / top).max(0.0) } else { 0.0 };
            let _ = writeln!(
                s,
                "<text x=\"190\" y=\"{y:.0}\" font-size=\"13\" fill=\"#3c4550\" text-anchor=\"end\">{}</text>\
                 <rect x=\"200\" y=\"{:.0}\" width=\"{width:.1}\" height=\"14\" rx=\"3\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.0}\" font-size=\"13\" fill=\"#3c4550\">{}</text>",
                escape(part),
                y - 11.0,
                COLORS[i % COLORS.len()],
                208.0 + width,
                points(*value)
            );
            y += 22.0;
        }
    }
    if of.is_empty() {
        s += "<text x=\"36\" y=\"80\" font-size=\"14\" fill=\"#9aa3ad\">not measured</text>\n";
    }
    s + "</svg>\n"
}
