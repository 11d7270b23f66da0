//! The report of one or several runs: figures as SVG, tables as CSV, Markdown and LaTeX, and one HTML page that holds
//! them all and needs no network.
//!
//! Runs whose settings differ in nothing but the seed (and in what changes no result) are one group: a curve with the
//! spread over its seeds, an inter-quartile mean with its bootstrap interval. Peak is the highest evaluation of a run
//! and so a maximum over noise; final is the last one.

mod figures;
mod runs;
mod scores;
mod table;
mod tables;

pub use figures::Figure;
pub use runs::{ReportError, Run, RunGroup, group, reservations};
pub use table::ReportTable;

use crate::algo::metrics::CATALOGUE;
use crate::draw::plot::escape;
use crate::draw::viewer::base64;
use figures::{bars, line_figure, peak_final, phases, returns};
use tables::{differences, of_groups, of_runs, references};

/// All of a report.
#[derive(Clone, Debug)]
pub struct Report {
    pub title: String,
    pub figures: Vec<Figure>,
    pub tables: Vec<ReportTable>,
    /// What must be known to read them.
    pub reservations: Vec<String>,
    incidents: Vec<String>,
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
        for (m, f) in CATALOGUE.iter().filter_map(|m| Some((m, m.figure?))) {
            figures.extend(line_figure(runs, f.name, f.title, f.unit, m.name));
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
        let scores = scores::scores(runs);
        let scored = scores::table(&scores);
        if scored.is_some() {
            let of = |s: &scores::TaskScore| {
                let published = ["PWM", "TD-MPC2"].into_iter().filter_map(|p| Some((p, s.published(p)?)));
                (format!("{}: {}", s.name, s.kind), [("score", s.own())].into_iter().chain(published).collect())
            };
            let of: Vec<_> = scores.iter().map(of).collect();
            figures.push(Figure { name: "scores", svg: bars("Score of each task, % of all that can be earned", &of) });
        }
        let tables =
            [Some(of_runs(runs)), Some(of_groups(runs, &groups)), scored, differences(runs, &groups), references(runs)];
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
        let tables: String = self.tables.iter().map(ReportTable::html).collect();
        let list = |lines: &[String]| {
            let lines: String = lines.iter().map(|n| format!("<li>{}</li>\n", escape(n))).collect();
            if lines.is_empty() { String::new() } else { format!("<ul>{lines}</ul>") }
        };
        let incidents = if self.incidents.is_empty() { "<p>No incidents.</p>".into() } else { list(&self.incidents) };
        include_str!("page.html")
            .replace("<!--TITLE-->", &escape(&self.title))
            .replace("<!--TABLES-->", &tables)
            .replace("<!--RESERVATIONS-->", &list(&self.reservations))
            .replace("<!--NOTES-->", &incidents)
            .replace("<!--FIRST-->", &first)
            .replace("<!--FIGURES-->", &others)
            .replace("<!--VERSION-->", &escape(crate::version::version()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::metrics::EVAL_MEAN;
    use crate::analysis::stats::std;
    use crate::config::{Config, Dynamics, load};
    use crate::io::metrics::Row;
    use crate::run::folder::RunInfo;
    use crate::run::incidents::{self, Incident};
    use approx::assert_abs_diff_eq;
    use figures::over_seeds;

    fn run(seed: u64, alg: &str, evals: &[(u64, f64)]) -> Run {
        let rows =
            evals.iter().map(|&(step, y)| Row { step, epoch: step / 10, values: [(EVAL_MEAN.name.into(), y)].into() });
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
        assert_abs_diff_eq!(points[1].spread, std(&[5.0, 3.0]), epsilon = 1e-12);
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

    /// Runs as they are found in a folder: one that has just begun, one that was killed early, one that ended in NaN,
    /// one with a single evaluation.
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
        let t = ReportTable {
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
        one.incidents = vec![Incident { epoch: 150, step: 1500, kind: incidents::IncidentKind::Rollback, text }];
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
