//! The report of one or several runs: figures as SVG, tables as CSV, Markdown and LaTeX, and one HTML page that holds
//! them all and needs no network.
//!
//! Runs whose settings differ in nothing but the seed (and in what changes no result) are one group: a curve with the
//! spread over its seeds, an inter-quartile mean with its bootstrap interval. Peak is the highest evaluation of a run and
//! so a maximum over noise; final is the last one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::atomic::FileError;
use super::folder::{self, FolderError, RunInfo};
use super::incidents::{self, Incident};
use super::metrics::{self, MetricsError, Row, column};
use super::plot::{Look, Plot, Point, Reference, Series, ant_references, escape};
use super::progress::{Short, Time};
use super::stats::{interval, interval_of_difference, iqm, mean, permutation_test, probability_of_improvement, std};
use super::tracker::{EVAL_MEAN, EVAL_STD, RSS, TIMES, TRAIN_RETURN};
use super::viewer::base64;
use crate::config::{Algorithm, Config, ConfigErrors, Dynamics, KEYS, Kind, Shipped, load};

/// Published returns on dFlex's Ant, and what they say.
pub const REFERENCES: [(&str, &str); 7] = [
    ("random actions", "104-126"),
    ("doing nothing", "149"),
    ("standing still", "1,144-1,174"),
    ("TD-MPC2, published", "6,183"),
    ("PPO, published", "6,605"),
    ("SHAC, published", "7,641"),
    ("PWM, published", "9,559"),
];
/// The published ones as levels, drawn where the curves come near them.
const LEVELS: [(&str, f64); 4] = [("TD-MPC2", 6183.0), ("PPO", 6605.0), ("SHAC", 7641.0), ("PWM", 9559.0)];

/// What keeps a run out of a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A run as the report sees it.
#[derive(Clone, Debug)]
pub struct Run {
    pub path: PathBuf,
    pub config: Config,
    pub info: RunInfo,
    pub rows: Vec<Row>,
    pub incidents: Vec<Incident>,
}

impl Run {
    /// Reads a run folder; the run may still be going on.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let file = path.join("config.yaml");
        let text = std::fs::read_to_string(&file).map_err(FileError::at(&file, "reading it"))?;
        Ok(Self {
            path: path.into(),
            // A run of an older build lacks keys that are younger than it: they have their defaults.
            config: Config::from_yaml::<&str>(&file.display().to_string(), &text, &[])?,
            info: folder::read_info(path)?.unwrap_or_default(),
            // A run that has just begun has none yet.
            rows: match metrics::read_metrics(&path.join(metrics::FILE_NAME)) {
                Err(MetricsError::File(FileError::Missing { .. })) => vec![],
                rows => rows?,
            },
            incidents: incidents::read(path)?,
        })
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Evaluations `(environment steps, mean return)`.
    pub fn evaluations(&self) -> Vec<(f64, f64)> {
        column(&self.rows, EVAL_MEAN)
    }

    /// The highest evaluation and the environment steps before it.
    pub fn peak(&self) -> (f64, f64) {
        self.evaluations().into_iter().fold((f64::NAN, f64::NAN), |best, e| if best.1 >= e.1 { best } else { e })
    }

    /// The last evaluation; NaN if there was none, or if it was not finite.
    pub fn last(&self) -> f64 {
        self.last_row().map_or(f64::NAN, |r| r.values[EVAL_MEAN])
    }

    /// The row of the last evaluation, finite or not.
    fn last_row(&self) -> Option<&Row> {
        self.rows.iter().rev().find(|r| r.values.contains_key(EVAL_MEAN))
    }

    /// What a reader of its last evaluation should know, if it is not that of a whole run.
    fn reservation(&self) -> Option<String> {
        let (name, epochs) = (self.name(), self.config.max_epochs);
        let done = self.rows.last().map_or(0, |r| r.epoch);
        match self.last_row() {
            None => Some(format!("{name} has no evaluation and is left out of statistics")),
            Some(r) if !r.values[EVAL_MEAN].is_finite() => {
                Some(format!("the last evaluation of {name} is not finite, and left out of statistics"))
            }
            Some(_) if done < epochs => {
                let why = self.info.finished.as_deref().unwrap_or("running, or killed");
                Some(format!("{name} has {done} of {epochs} epochs ({why}); its last evaluation counts as final"))
            }
            Some(_) => None,
        }
    }

    fn final_value(&self, name: &str) -> f64 {
        column(&self.rows, name).last().map_or(f64::NAN, |p| p.1)
    }

    fn sum(&self, name: &str) -> f64 {
        column(&self.rows, name).iter().map(|p| p.1).sum()
    }
}

/// Runs of one experiment.
#[derive(Clone, Debug)]
pub struct Group {
    pub label: String,
    /// Indices of its runs.
    pub runs: Vec<usize>,
}

/// Groups runs by the settings that decide what is learned and are read; labels say what tells groups apart.
pub fn group(runs: &[Run]) -> Vec<Group> {
    let decisive = |r: &Run| -> Vec<Setting> {
        let keys = KEYS.iter().filter(|k| k.effect.is_experiment() && r.config.unread(k.name).is_none());
        keys.filter_map(|k| Some((k.name, r.config.get(k.name)?.to_string()))).collect()
    };
    let all: Vec<_> = runs.iter().map(decisive).collect();
    let mut groups: Vec<Group> = Vec::new();
    for (i, settings) in all.iter().enumerate() {
        match groups.iter_mut().find(|g| all[g.runs[0]] == *settings) {
            Some(g) => g.runs.push(i),
            None => groups.push(Group { label: runs[i].config.alg.clone(), runs: vec![i] }),
        }
    }
    name_apart(&mut groups, &all);
    groups
}

/// A key and its value.
type Setting = (&'static str, String);

/// Adds to the label of each group that shares it with others the settings that tell them apart: as few keys as make all of
/// them different, without the values that the shipped configuration of that name has (of a file's name, the defaults).
fn name_apart(groups: &mut [Group], all: &[Vec<Setting>]) {
    let mut names: Vec<String> = groups.iter().map(|g| g.label.clone()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let mut family: Vec<&mut Group> = groups.iter_mut().filter(|g| g.label == name).collect();
        let shipped = Shipped::find(Kind::Alg, &name).and_then(|_| load(&[format!("alg={name}")]).ok());
        let usual = shipped.unwrap_or_default();
        let told = |g: &Group, key: &str| {
            let (_, value) = all[g.runs[0]].iter().find(|(k, _)| *k == key)?;
            (usual.get(key)?.to_string() != *value).then(|| format!(" {key}={value}"))
        };
        let mut additions = vec![String::new(); family.len()];
        for key in KEYS.iter().filter(|k| k.name != "alg") {
            let with = |(g, a): (&&mut Group, &String)| format!("{a}{}", told(g, key.name).unwrap_or_default());
            let longer: Vec<String> = family.iter().zip(&additions).map(with).collect();
            // A key that tells nobody apart now never will.
            if distinct(&longer) > distinct(&additions) {
                additions = longer;
            }
        }
        family.iter_mut().zip(additions).for_each(|(g, a)| g.label += &a);
    }
}

fn distinct(of: &[String]) -> usize {
    of.iter().collect::<BTreeSet<_>>().len()
}

/// What must be said of runs whose last evaluations are compared: which of them are not over or have none, and that they
/// are of different lengths.
pub fn reservations(what: &str, runs: &[&Run]) -> Vec<String> {
    let mut told: Vec<String> = runs.iter().filter_map(|r| r.reservation()).collect();
    let steps = runs.iter().filter_map(|r| r.last_row().map(|row| row.step));
    let (least, most) = (steps.clone().min().unwrap_or(0), steps.max().unwrap_or(0));
    if least < most {
        let (least, most) = (Short(least as f64), Short(most as f64));
        told.push(format!("final evaluations of {what} are after {least} to {most} environment steps"));
    }
    told
}

/// A table with a name for its files.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    pub caption: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn csv(&self) -> String {
        let quote = |s: &str| {
            if s.contains([',', '"', '\n']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_owned() }
        };
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        let mut out = line(self.head.iter().map(|h| quote(h)).collect());
        self.rows.iter().for_each(|r| out += &line(r.iter().map(|c| quote(c)).collect()));
        out
    }

    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.head.iter().map(|h| (*h).to_owned()).collect());
        out += &line(self.head.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.into()).collect());
        self.rows.iter().for_each(|r| out += &line(r.iter().map(|c| c.replace('|', "\\|")).collect()));
        out
    }

    /// A `tabular` with rules of the package booktabs.
    pub fn latex(&self) -> String {
        let text = |s: &str| {
            let mut out = String::new();
            for c in s.chars() {
                match c {
                    '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
                    '\\' => out += "\\textbackslash{}",
                    '~' => out += "\\textasciitilde{}",
                    '^' => out += "\\textasciicircum{}",
                    '±' => out += "$\\pm$",
                    c => out.push(c),
                }
            }
            out
        };
        let line = |cells: &[String]| cells.iter().map(|c| text(c)).collect::<Vec<_>>().join(" & ") + " \\\\\n";
        let head: Vec<String> = self.head.iter().map(|h| (*h).to_owned()).collect();
        let mut out = format!("% {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", self.caption, "r".repeat(head.len() - 1));
        out += &line(&head);
        out += "\\midrule\n";
        self.rows.iter().for_each(|r| out += &line(r));
        out + "\\bottomrule\n\\end{tabular}\n"
    }

    fn html(&self) -> String {
        let cells = |tag: &str, cells: Vec<String>| {
            let inner: String = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
            format!("<tr>{inner}</tr>\n")
        };
        let head = cells("th", self.head.iter().map(|h| (*h).to_owned()).collect());
        let body: String = self.rows.iter().map(|r| cells("td", r.clone())).collect();
        format!(
            "<table><caption>{}</caption><thead>{head}</thead><tbody>{body}</tbody></table>\n",
            escape(&self.caption)
        )
    }
}

/// A figure with a name for its file.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub svg: String,
}

/// All of a report.
#[derive(Clone, Debug)]
pub struct Report {
    pub title: String,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
    /// What must be known to read them.
    pub reservations: Vec<String>,
    incidents: Vec<String>,
}

/// A number of points, without digits that mean nothing.
fn points(v: f64) -> String {
    if v.is_finite() { format!("{v:.0}") } else { "-".into() }
}

impl Report {
    pub fn new(runs: &[Run]) -> Self {
        let groups = group(runs);
        let seeds = |n: usize| format!("{n} run{}", if n == 1 { "" } else { "s" });
        let title = match &groups[..] {
            [one] => format!("{}: {}", one.label, seeds(runs.len())),
            many => format!("{} experiments, {}", many.len(), seeds(runs.len())),
        };
        let mut figures = vec![Figure { name: "returns", svg: returns(runs, &groups).svg() }];
        figures.push(Figure { name: "peak_final", svg: bars("Peak and final evaluation", &peak_final(runs)) });
        figures.push(Figure { name: "time", svg: bars("Where the time went, % of it", &phases(runs)) });
        let lines: [(&str, &str, &str, &str); 5] = [
            ("memory", "Memory of the process", "MiB", RSS),
            ("loss_model", "Loss of the world model's dynamics", "loss", "loss/dynamics"),
            ("loss_reward", "Loss of the reward head", "loss", "loss/reward"),
            ("loss_critic", "Loss of the critics", "loss", "loss/critic"),
            ("grad_actor", "Norm of the actor's gradient", "norm before clipping", "grad_norm/actor"),
        ];
        for (name, title, unit, key) in lines {
            figures.extend(line_figure(runs, name, title, unit, key));
        }
        // Probes, whichever the run has: every column that begins so.
        let mut probes: Vec<&str> =
            runs.iter().flat_map(|r| &r.rows).flat_map(|r| r.values.keys()).map(|k| &k[..]).collect();
        probes.retain(|k| k.starts_with("probe"));
        probes.sort_unstable();
        probes.dedup();
        for key in probes {
            figures.extend(line_figure(runs, "probe", key, "", key));
        }
        let reservations = groups.iter().flat_map(|g| {
            let own: Vec<&Run> = g.runs.iter().map(|&i| &runs[i]).collect();
            reservations(&g.label, &own)
        });
        let incidents = runs.iter().flat_map(|r| {
            r.incidents.iter().map(|i| format!("{}, epoch {}: {}", r.name(), i.epoch, i.text)).collect::<Vec<_>>()
        });
        let tables =
            [Some(of_runs(runs)), Some(of_groups(runs, &groups)), differences(runs, &groups), Some(references())];
        Self {
            title,
            figures,
            tables: tables.into_iter().flatten().collect(),
            reservations: reservations.collect(),
            incidents: incidents.collect(),
        }
    }

    /// One page with everything in it: figures as data addresses, no script, nothing fetched.
    pub fn html(&self) -> String {
        let image = |f: &Figure| {
            let data = base64(f.svg.as_bytes());
            format!("<figure><img alt=\"{}\" src=\"data:image/svg+xml;base64,{data}\"></figure>\n", escape(f.name))
        };
        // The curves come first: they are what one looks for.
        let (first, others) = self.figures.split_at(1);
        let [first, others] = [first, others].map(|figures| figures.iter().map(image).collect::<String>());
        let tables: String = self.tables.iter().map(Table::html).collect();
        let list = |lines: &[String]| {
            let lines: String = lines.iter().map(|n| format!("<li>{}</li>\n", escape(n))).collect();
            if lines.is_empty() { String::new() } else { format!("<ul>{lines}</ul>") }
        };
        let incidents = if self.incidents.is_empty() { "<p>No incidents.</p>".into() } else { list(&self.incidents) };
        include_str!("report.html")
            .replace("<!--TITLE-->", &escape(&self.title))
            .replace("<!--TABLES-->", &tables)
            .replace("<!--RESERVATIONS-->", &list(&self.reservations))
            .replace("<!--NOTES-->", &incidents)
            .replace("<!--FIRST-->", &first)
            .replace("<!--FIGURES-->", &others)
    }

    /// Every file of the report: name and contents.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![("report.html".into(), self.html())];
        let mut probe = 0;
        for f in &self.figures {
            let number = if f.name == "probe" {
                probe += 1;
                probe.to_string()
            } else {
                String::new()
            };
            files.push((format!("{}{number}.svg", f.name), f.svg.clone()));
        }
        for t in &self.tables {
            let kinds = [("csv", t.csv()), ("md", t.markdown()), ("tex", t.latex())];
            files.extend(kinds.map(|(ending, text)| (format!("{}.{ending}", t.name), text)));
        }
        files
    }
}

/// Evaluations: one curve a group, its band the deviation over seeds (of a single run: over episodes); a mark where a run
/// had an incident.
fn returns(runs: &[Run], groups: &[Group]) -> Plot {
    let mut series = Vec::new();
    for (color, g) in groups.iter().enumerate() {
        if let [only] = g.runs[..] {
            let rows = &runs[only].rows;
            let plain = |k| column(rows, k).into_iter().map(|(x, y)| Point { x, y, spread: 0.0 }).collect();
            if groups.len() == 1 {
                series.push(Series {
                    label: "while training".into(),
                    points: plain(TRAIN_RETURN),
                    look: Look::Faint,
                    color,
                });
            }
            let spread = |r: &Row| r.values.get(EVAL_STD).copied().filter(|v| v.is_finite()).unwrap_or(0.0);
            let measured = rows.iter().filter_map(|r| {
                let y = *r.values.get(EVAL_MEAN)?;
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
    // What nobody has to learn for, and the published levels that are near.
    let mut references = ant_references();
    references.retain(|r| r.low != r.high);
    references.push(Reference { label: "random actions, doing nothing".into(), low: 104.0, high: 149.0 });
    let near = LEVELS.iter().filter(|(_, level)| *level <= 1.35 * top);
    references.extend(near.map(|(name, level)| Reference { label: (*name).into(), low: *level, high: *level }));
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
fn over_seeds(curves: &[Vec<(f64, f64)>]) -> Vec<Point> {
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

fn line_figure(runs: &[Run], name: &'static str, title: &str, unit: &str, key: &str) -> Option<Figure> {
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
type Bars = Vec<(String, Vec<(&'static str, f64)>)>;

fn peak_final(runs: &[Run]) -> Bars {
    runs.iter().map(|r| (r.name(), vec![("peak", r.peak().1), ("final", r.last())])).collect()
}

fn phases(runs: &[Run]) -> Bars {
    const NAMES: [&str; 5] = ["rollout and actor", "critics", "world model", "evaluation", "checkpoints"];
    let of = |r: &Run| {
        let seconds = TIMES.map(|k| r.sum(k));
        let all: f64 = seconds.iter().sum();
        (r.name(), NAMES.into_iter().zip(seconds.map(|s| 100.0 * s / all)).collect())
    };
    // Runs of older builds have no times.
    runs.iter()
        .map(of)
        .filter(|(_, parts): &(String, Vec<(&str, f64)>)| parts.iter().all(|p| p.1.is_finite()))
        .collect()
}

/// Horizontal bars, grouped by run.
fn bars(title: &str, of: &Bars) -> String {
    use super::plot::COLORS;
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

/// How a number is shown, if there is one.
fn told(v: f64, shown: impl std::fmt::Display) -> String {
    if v.is_finite() { shown.to_string() } else { "-".into() }
}

fn of_runs(runs: &[Run]) -> Table {
    let row = |r: &Run| {
        let (at, peak) = r.peak();
        vec![
            r.name(),
            r.config.alg.clone(),
            r.config.seed.to_string(),
            r.rows.last().map_or(0, |row| row.epoch).to_string(),
            Short(r.rows.last().map_or(0, |row| row.step) as f64).to_string(),
            points(peak),
            told(at, Short(at)),
            points(r.last()),
            told(r.final_value("time/elapsed_s"), Time(r.final_value("time/elapsed_s"))),
            points(mean(&column(&r.rows, "time/steps_per_s").iter().map(|p| p.1).collect::<Vec<_>>())),
            r.info.planned_bytes.map_or("-".into(), |b| points(b as f64 / f64::from(1 << 20))),
            r.incidents.len().to_string(),
            r.info.finished.clone().unwrap_or_else(|| "running, or killed".into()),
        ]
    };
    Table {
        name: "runs",
        caption: "Runs. Peak is the highest evaluation and so a maximum over noise; memory is what was planned.".into(),
        head: vec![
            "run",
            "configuration",
            "seed",
            "epochs",
            "steps",
            "peak",
            "at steps",
            "final",
            "time",
            "steps/s",
            "MiB",
            "incidents",
            "ended",
        ],
        rows: runs.iter().map(row).collect(),
    }
}

fn of_groups(runs: &[Run], groups: &[Group]) -> Table {
    let row = |g: &Group| {
        let of = |f: &dyn Fn(&Run) -> f64| -> Vec<f64> {
            g.runs.iter().map(|&i| f(&runs[i])).filter(|v| v.is_finite()).collect()
        };
        let with_interval = |x: &[f64]| match x.len() {
            0 => "-".into(),
            1 => points(x[0]),
            _ => {
                let (low, high) = interval(x, iqm);
                format!("{} [{}, {}]", points(iqm(x)), points(low), points(high))
            }
        };
        let (peaks, finals) = (of(&|r| r.peak().1), of(&Run::last));
        let spread = if finals.len() > 1 { points(std(&finals)) } else { "-".into() };
        let (all, used) = (g.runs.len(), finals.len());
        vec![
            g.label.clone(),
            if used == all { all.to_string() } else { format!("{used} of {all}") },
            with_interval(&peaks),
            with_interval(&finals),
            points(mean(&finals)),
            spread,
        ]
    };
    Table {
        name: "groups",
        caption:
            "Experiments: inter-quartile mean over seeds [95 % bootstrap interval]; mean and deviation of the final \
                  evaluations."
                .into(),
        head: vec!["experiment", "runs", "peak, IQM", "final, IQM", "final, mean", "std"],
        rows: groups.iter().map(row).collect(),
    }
}

/// Every experiment against the baseline: the first one whose model is PWM's own, as flow models are meant to be better
/// than it; where there is none, the first. Nothing with a single experiment.
fn differences(runs: &[Run], groups: &[Group]) -> Option<Table> {
    let is_baseline = |g: &Group| {
        let c = &runs[g.runs[0]].config;
        c.algorithm == Algorithm::Pwm && c.dynamics == Dynamics::Mlp
    };
    let baseline = groups.iter().position(is_baseline).unwrap_or(0);
    let finals = |g: &Group| -> Vec<f64> { g.runs.iter().map(|&i| runs[i].last()).filter(|v| v.is_finite()).collect() };
    let base = finals(groups.get(baseline)?);
    let row = |(_, g): (usize, &Group)| {
        let own = finals(g);
        let mut cells = vec![g.label.clone(), groups[baseline].label.clone()];
        if own.is_empty() || base.is_empty() {
            cells.extend(["-"; 3].map(String::from));
        } else {
            let (low, high) = interval_of_difference(&base, &own, mean);
            let difference = points(mean(&own) - mean(&base));
            cells.push(format!("{difference} [{}, {}]", points(low), points(high)));
            cells.push(format!("{:.2}", probability_of_improvement(&base, &own)));
            cells.push(format!("{:.3}", permutation_test(&base, &own).p));
        }
        cells
    };
    (groups.len() > 1).then(|| Table {
        name: "differences",
        caption:
            "Final evaluations against the baseline: difference of the means [95 % bootstrap interval], probability \
                  that a run is better than one of the baseline, two-sided permutation test."
                .into(),
        head: vec!["experiment", "baseline", "difference", "better", "p"],
        rows: groups.iter().enumerate().filter(|(i, _)| *i != baseline).map(row).collect(),
    })
}

fn references() -> Table {
    Table {
        name: "references",
        caption: "What a return is worth on this Ant.".into(),
        head: vec!["policy", "return"],
        rows: REFERENCES.iter().map(|(a, b)| vec![(*a).into(), (*b).into()]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, alg: &str, evals: &[(u64, f64)]) -> Run {
        let rows =
            evals.iter().map(|&(step, y)| Row { step, epoch: step / 10, values: [(EVAL_MEAN.into(), y)].into() });
        Run {
            path: format!("x/{alg}_{seed}").into(),
            config: Config { seed, alg: alg.into(), ..Config::default() },
            info: RunInfo::default(),
            rows: rows.collect(),
            incidents: vec![],
        }
    }

    #[test]
    fn seeds_are_one_group_and_curves_meet_between_their_points() {
        let mut other = run(0, "a", &[(0, 1.0)]);
        other.config.model_lr = 1e-3;
        let runs = [run(0, "a", &[(0, 0.0), (100, 10.0)]), run(1, "a", &[(0, 2.0), (50, 3.0), (200, 6.0)]), other];
        let groups = group(&runs);
        assert_eq!(groups.iter().map(|g| g.runs.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(groups[1].label, "a model_lr=0.001");
        let points = over_seeds(&[runs[0].evaluations(), runs[1].evaluations()]);
        let xy: Vec<(f64, f64)> = points.iter().map(|p| (p.x, p.y)).collect();
        // The second goes on alone, and the legend says so.
        assert_eq!(xy, [(0.0, 1.0), (50.0, 4.0), (100.0, 7.0), (200.0, 6.0)]);
        assert!(Report::new(&runs).figures[0].svg.contains("a (2 seeds, 1 after 100 steps, ± std of seeds)"));
        assert!((points[1].spread - std(&[5.0, 3.0])).abs() < 1e-12);
    }

    #[test]
    fn experiments_of_one_name_are_told_apart() {
        let labels = |runs: &[Run]| group(runs).into_iter().map(|g| g.label).collect::<Vec<_>>();
        let with = |alg: &str, change: &dyn Fn(&mut Config)| {
            let mut r = run(0, alg, &[]);
            r.config = load(&[format!("alg={alg}")]).unwrap();
            change(&mut r.config);
            r
        };
        let rate = |lr: f64| move |c: &mut Config| c.actor_lr = lr;
        let three = [with("pwm_small", &|_| {}), with("shac_small", &rate(1e-3)), with("shac_small", &rate(3e-3))];
        assert_eq!(labels(&three), ["pwm_small", "shac_small actor_lr=0.001", "shac_small actor_lr=0.003"]);
        // Wherever it stands, what is shipped has its plain name.
        let flow = |c: &mut Config| c.dynamics = Dynamics::Flow;
        assert_eq!(labels(&[with("pwm_small", &flow), with("pwm_small", &|_| {})])[1], "pwm_small");
        // Three differences in common, and a fourth that counts.
        let four = |lr: f64| move |c: &mut Config| (c.gamma, c.horizon, c.lam, c.model_lr) = (0.5, 3, 0.5, lr);
        let many = labels(&[with("pwm_small", &|_| {}), with("pwm_small", &four(0.1)), with("pwm_small", &four(0.2))]);
        let [b, c] = [0.1, 0.2].map(|lr| format!("pwm_small horizon=3 model_lr={lr}"));
        assert_eq!(many, ["pwm_small".to_owned(), b, c]);
        // A setting that is not read makes no other experiment.
        assert_eq!(labels(&[with("pwm_small", &|_| {}), with("pwm_small", &|c| c.flow_substeps = 9)]).len(), 1);
        // Where the replay lies makes no other experiment, nor does any other setting that changes nothing.
        let mut elsewhere = with("pwm_small", &|_| {});
        elsewhere.config = elsewhere.config.with_defaults(|k| !k.effect.is_experiment());
        elsewhere.config.replay = crate::config::ReplayPlace::Host;
        assert_eq!(labels(&[with("pwm_small", &|_| {}), elsewhere]), ["pwm_small"]);
    }

    /// Runs as they are found in a folder: one that has just begun, one that was killed early, one that ended in NaN, one
    /// with a single evaluation.
    #[test]
    fn odd_runs_are_told_of_and_take_nothing_from_the_others() {
        let whole = |seed| run(seed, "a", &[(0, 100.0), (150_000, 300.0 + seed as f64)]);
        let killed = run(2, "a", &[(0, 100.0), (10_000, 120.0)]);
        let nan = run(3, "a", &[(0, 100.0), (150_000, f64::NAN)]);
        let runs = [whole(0), whole(1), killed, nan, run(4, "a", &[]), run(5, "a", &[(0, 90.0)])];
        let report = Report::new(&runs);
        let text: String = report.files().into_iter().filter(|f| f.0 != "report.html").map(|f| f.1).collect();
        assert!(!text.contains("NaN"), "{text}");
        let curve = over_seeds(&[runs[0].evaluations(), runs[1].evaluations()]);
        assert!(curve[1].y == 300.5 && report.figures[0].svg.matches("<circle").count() > 3);
        let (of_runs, of_groups) = (&report.tables[0], &report.tables[1]);
        assert_eq!((&of_runs.rows[3][7][..], &of_runs.rows[4][5][..], &of_runs.rows[4][6][..]), ("-", "-", "-"));
        assert_eq!(of_groups.rows[0][1], "4 of 6");
        let told = report.reservations.join("\n");
        for what in
            ["a_4 has no evaluation", "of a_3 is not finite", "a_2 has 1000 of 15000 epochs", "0 to 150.0k environment"]
        {
            assert!(told.contains(what) && report.html().contains(what), "{what} in {told}");
        }
    }

    #[test]
    fn tables_escape_what_each_format_reads() {
        let t = Table {
            name: "t",
            caption: String::new(),
            head: vec!["a_b", "c"],
            rows: vec![vec!["x,|\"&<".into(), "1 ± 2".into()]],
        };
        assert_eq!(t.csv(), "a_b,c\n\"x,|\"\"&<\",1 ± 2\n");
        assert_eq!(t.markdown(), "| a_b | c |\n| --- | ---: |\n| x,\\|\"&< | 1 ± 2 |\n");
        assert!(t.latex().contains("a\\_b & c \\\\") && t.latex().contains("x,|\"\\&< & 1 $\\pm$ 2 \\\\"));
        assert!(t.html().contains("<td>x,|&quot;&amp;&lt;</td>"));
    }

    #[test]
    fn a_report_stands_alone() {
        let mut one = run(0, "a", &[(0, 100.0), (1000, 9000.0), (2000, 4000.0)]);
        let text = "learning rates <b>lowered</b>".into();
        one.incidents = vec![Incident { epoch: 150, step: 1500, kind: incidents::Kind::Rollback, text }];
        let report = Report::new(&[one, run(1, "a", &[(0, 90.0), (2000, 4400.0)])]);
        let html = report.html();
        assert!(!html.contains("<script") && !html.contains("href=") && !html.contains("<!--"), "nothing is fetched");
        assert!(html.contains("9000") && html.contains("&lt;b&gt;lowered"), "the peak and the incident are told");
        let svg = &report.figures[0].svg;
        assert!(svg.contains("TD-MPC2") && !svg.contains("7,641") && svg.contains("rollback"), "{svg}");
        assert_eq!(report.files().iter().filter(|(n, _)| n.ends_with(".tex")).count(), 3);
        assert!(report.tables[1].rows[0][3].contains("4200 ["), "{:?}", report.tables[1]);
    }
}
