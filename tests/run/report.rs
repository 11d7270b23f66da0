//! `pwm report` and `pwm compare` on real runs: what they say is what the runs' own metrics say.

use crate::support::tiny;
use approx::assert_abs_diff_eq;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use pwm::algo::Probe;
use pwm::algo::metrics::{CATALOGUE, EVAL_MEAN, MetricKind};
use pwm::analysis::stats::{interval, interval_of_difference, iqm, mean, permutation_test, std};
use pwm::io::metrics::{Row, column, read_metrics};
use pwm::run::folder::read_info;
use pwm::run::incidents::{self, Incident, IncidentKind};

const SEEDS: usize = 4;
/// Experiments: PWM's own model, a flow model, and the first with episodes five times as long, which pay more.
const EXPERIMENTS: [(&str, &[&str]); 3] = [
    ("mlp", &[]),
    ("flow", &["dynamics=flow", "flow_substeps=2"]),
    ("long", &["episode_length=120", "early_termination=false"]),
];

/// Four seeds of each experiment, trained once for all tests.
static RUNS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for (name, more) in EXPERIMENTS {
        for seed in 0..SEEDS {
            let own =
                [format!("seed={seed}"), format!("run_dir={}", dir.path().join(format!("{name}_s{seed}")).display())];
            let short = ["max_epochs=12", "eval_every=4", "threads=1"];
            let settings = tiny::settings(&[&short, more, &[&own[0], &own[1]]].concat());
            let o = Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(settings).output().unwrap();
            assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        }
    }
    dir
});

fn folder(name: &str, seed: usize) -> PathBuf {
    RUNS.path().join(format!("{name}_s{seed}"))
}

fn pwm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).current_dir(RUNS.path()).output().unwrap()
}

fn said(args: &[&str]) -> String {
    let o = pwm(args);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    String::from_utf8(o.stdout).unwrap()
}

fn rows(run: &Path) -> Vec<Row> {
    read_metrics(&run.join("metrics.jsonl")).unwrap()
}

/// The last evaluation of every seed, or the highest.
fn scores(name: &str, peak: bool) -> Vec<f64> {
    let of = |seed| {
        let evals = column(&rows(&folder(name, seed)), EVAL_MEAN.name);
        assert_eq!(evals.len(), 4, "{name} {seed}");
        if peak { evals.iter().map(|e| e.1).fold(f64::MIN, f64::max) } else { evals[3].1 }
    };
    (0..SEEDS).map(of).collect()
}

/// Rows of a CSV file without quotes, under their heads.
fn table(file: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|l| l.split(',').map(String::from).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    lines.map(|l| head.iter().cloned().zip(l).collect()).collect()
}

/// `IQM [low, high]` as the report writes it; its comma makes a CSV cell one in quotes.
fn with_interval(x: &[f64]) -> String {
    let (low, high) = interval(x, iqm);
    assert!(low <= iqm(x) && iqm(x) <= high && low < high);
    format!("{:.0} [{low:.0}, {high:.0}]", iqm(x))
}

#[test]
fn a_report_says_what_the_metrics_say() {
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("r");
    // The flow runs first: the baseline is PWM's own model wherever it stands.
    let text = said(&["report", "flow_*", "mlp_*", "--out", to.to_str().unwrap()]);
    let file = |name: &str| std::fs::read_to_string(to.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let html = file("report.html");
    assert!(text.contains("2 experiments, 8 runs") && html.contains("2 experiments, 8 runs"), "{text}");

    // Of every run: peak against final.
    let of_runs = table(&to.join("runs.csv"));
    assert_eq!(of_runs.len(), 8);
    for (name, seed) in ["flow", "mlp"].into_iter().flat_map(|n| (0..SEEDS).map(move |s| (n, s))) {
        let row = of_runs.iter().find(|r| r["run"] == format!("{name}_s{seed}")).unwrap();
        let (peak, last) = (scores(name, true)[seed], scores(name, false)[seed]);
        assert_eq!((row["peak"].clone(), row["final"].clone()), (format!("{peak:.0}"), format!("{last:.0}")));
        assert_eq!(
            (&row["epochs"][..], &row["seed"][..], &row["ended"][..]),
            ("12", &seed.to_string()[..], "max_epochs are done")
        );
        assert!(row["MiB"].parse::<f64>().unwrap() > 0.0);
        let commit = read_info(&folder(name, seed)).unwrap().unwrap().commit;
        assert!(!commit.is_empty() && row["commit"] == commit, "{commit}: {row:?}");
    }
    // Of every experiment: inter-quartile means over seeds, with their intervals.
    for (name, label) in [("mlp", "pwm_small"), ("flow", "pwm_small dynamics=flow")] {
        let (peaks, finals) = (scores(name, true), scores(name, false));
        for of in [&peaks, &finals] {
            let mut sorted = of.clone();
            sorted.sort_by(f64::total_cmp);
            // Of four the middle two.
            assert_abs_diff_eq!(iqm(of), (sorted[1] + sorted[2]) / 2.0, epsilon = 1e-9);
        }
        let line = format!(
            "| {SEEDS} | {} | {} | {:.0} | {:.0} |",
            with_interval(&peaks),
            with_interval(&finals),
            mean(&finals),
            std(&finals)
        );
        for place in [&text, &file("groups.md")] {
            let found = place.lines().find(|l| l.starts_with(&format!("| {label} |")) && l.contains(&line));
            assert!(found.is_some(), "{label}: {line} in\n{place}");
        }
    }
    // Flow against baseline.
    let (base, flow) = (scores("mlp", false), scores("flow", false));
    let (low, high) = interval_of_difference(&base, &flow, mean);
    let difference = format!("{:.0} [{low:.0}, {high:.0}]", mean(&flow) - mean(&base));
    let differences = file("differences.md");
    assert_eq!(differences.lines().count(), 3, "{differences}");
    assert!(differences.contains(&difference), "{difference} in\n{differences}");
    assert!(differences.contains(&format!("| {:.3} |", permutation_test(&base, &flow).p)), "{differences}");
    assert!(text.contains(&difference) && html.contains(&difference));

    // What a return is worth.
    let worth = file("references.csv");
    for value in ["104-126", "149", "1,144-1,174", "6,605", "6,183", "7,641", "9,559"] {
        assert!(worth.contains(value) && html.contains(value), "{value}");
    }
    let returns = file("returns.svg");
    assert!(returns.contains("standing still") && returns.contains("doing nothing"));
    assert_eq!(returns.matches("4 seeds, ± std of seeds").count(), 2, "a shaded curve an experiment");

    // Memory over time, and a figure for every probe that was measured: a line a run.
    assert_eq!(file("memory.svg").matches("<polyline").count(), 8);
    let measured = |key: &&str| {
        !column(&rows(&folder("flow", 0)), key).is_empty() || !column(&rows(&folder("mlp", 0)), key).is_empty()
    };
    let probes: Vec<&str> = Probe::NONE.columns().map(|(k, _)| k).into_iter().filter(|k| measured(k)).collect();
    assert!(probes.len() > 5, "{probes:?}");
    let drawn: Vec<String> = (1..=probes.len()).map(|i| file(&format!("probe{i}.svg"))).collect();
    for key in probes {
        assert!(drawn.iter().any(|svg| svg.contains(&format!(">{key}<"))), "{key}");
    }
    // Time by phase, in per cent of it.
    let run = rows(&folder("mlp", 2));
    let times = CATALOGUE.iter().filter(|m| m.kind == MetricKind::Seconds);
    let seconds: Vec<f64> = times.clone().map(|m| column(&run, m.name).iter().map(|p| p.1).sum()).collect();
    assert_eq!(seconds.len(), 5);
    let bars = file("time.svg");
    let mine = bars.split("mlp_s2").nth(1).unwrap();
    for (phase, s) in times.map(|m| m.label).zip(&seconds) {
        let share = format!(">{:.0}</text>", 100.0 * s / seconds.iter().sum::<f64>());
        let line = mine.lines().find(|l| l.contains(phase)).unwrap();
        assert!(line.contains(&share), "{phase}: {share} in {line}");
    }

    // The page holds every figure and needs nothing else.
    let svgs: Vec<_> = std::fs::read_dir(&to)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().unwrap() == "svg")
        .collect();
    assert_eq!(html.matches("src=\"data:image/svg+xml;base64,").count(), svgs.len());
    assert!(!html.contains("http") && !html.contains("<script") && !html.contains("<link"));
    // The same tables for a paper.
    for name in ["runs", "groups", "differences", "references"] {
        let (csv, tex) = (file(&format!("{name}.csv")), file(&format!("{name}.tex")));
        assert!(tex.contains("\\toprule") && tex.ends_with("\\bottomrule\n\\end{tabular}\n"), "{tex}");
        assert_eq!(tex.matches("\\\\\n").count(), csv.lines().count(), "{name}: a line a row");
    }
}

#[test]
fn a_comparison_says_whether_a_difference_is_significant() {
    let said_of = |a: &str, b: &str, peak: bool| {
        let (x, y) = (format!("{a}_s*"), format!("{b}_s*"));
        let mut args = vec!["compare", &x, &y];
        args.extend(peak.then_some("--peak"));
        said(&args)
    };
    for (a, b, peak) in [("mlp", "long", false), ("mlp", "flow", false), ("mlp", "long", true), ("long", "mlp", false)]
    {
        let text = said_of(a, b, peak);
        let (x, y) = (scores(a, peak), scores(b, peak));
        let (low, high) = interval_of_difference(&x, &y, mean);
        let difference = format!("B - A  {:.0}, 95 % bootstrap interval [{low:.0}, {high:.0}]", mean(&y) - mean(&x));
        assert!(text.contains(&difference), "{difference} in\n{text}");
        let p = permutation_test(&x, &y).p;
        assert!(text.contains(&format!("p = {p:.4}")), "{text}");
        let verdict = match p < 0.05 {
            true if mean(&y) > mean(&x) => "significant at 5 %: B is better",
            true => "significant at 5 %: A is better",
            false => "not significant at 5 %",
        };
        assert_eq!(text.lines().last().unwrap(), verdict, "{text}");
    }
    // Long episodes pay more, whatever the seed.
    assert!(said_of("mlp", "long", false).ends_with("significant at 5 %: B is better\n"));
    assert!(said_of("mlp", "mlp", false).ends_with("not significant at 5 %\n"));
    // What is compared is said: runs of several experiments on one side, and one that has only begun.
    let young = RUNS.path().join("young");
    std::fs::create_dir_all(&young).unwrap();
    std::fs::copy(folder("mlp", 0).join("config.yaml"), young.join("config.yaml")).unwrap();
    let mixed = said(&["compare", "*l*_s1", "mlp_s?"]);
    assert!(mixed.contains("note: A is 3 different experiments: ") && !mixed.contains("note: B"), "{mixed}");
    let report = said(&["report", "mlp_s0", "young", "--out", "young_report"]);
    assert!(report.contains("note: young has no evaluation") && report.contains("| 1 of 2 |"), "{report}");
    let few = said(&["compare", "mlp_s0", "long_s0"]);
    assert!(few.contains("not decidable") && few.contains("run more seeds"), "{few}");
}

/// A single run: its own folder, and a mark where something happened.
#[test]
fn a_report_of_one_run_marks_what_happened() {
    let run = folder("mlp", 3);
    let step = rows(&run)[4].step;
    let text = "2 evaluations in a row below 0.5 of the best".into();
    incidents::write(&run, &[Incident { epoch: 4, step, kind: IncidentKind::Collapse, text }]).unwrap();
    let out = said(&["report", run.to_str().unwrap()]);
    assert!(out.contains("pwm_small: 1 run") && run.join("report/report.html").is_file(), "{out}");
    let svg = std::fs::read_to_string(run.join("report/returns.svg")).unwrap();
    assert!(svg.contains(">collapse<") && svg.contains("± std of episodes") && svg.contains("while training"));
    let html = std::fs::read_to_string(run.join("report/report.html")).unwrap();
    assert!(html.contains("mlp_s3, epoch 4: 2 evaluations in a row below 0.5 of the best"));
    assert!(!run.join("report/differences.csv").exists(), "there is nothing to differ from");
}

#[test]
fn what_is_no_run_is_refused() {
    let status = |args: &[&str]| {
        let o = pwm(args);
        (o.status.code(), String::from_utf8(o.stderr).unwrap())
    };
    let (code, text) = status(&["report", "nothing_*"]);
    assert!(code == Some(2) && text.contains("nothing_*: no run there"), "{text}");
    let (code, text) = status(&["compare", "mlp_*", "nothing_*"]);
    assert!(code == Some(2) && text.contains("no run there"), "{text}");
    let broken = RUNS.path().join("broken");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::copy(folder("mlp", 0).join("config.yaml"), broken.join("config.yaml")).unwrap();
    std::fs::write(broken.join("metrics.jsonl"), "{\"step\":0,\"epoch\":0}\n{\"oops\n").unwrap();
    let (code, text) = status(&["report", "broken"]);
    assert!(code == Some(4) && text.contains("metrics.jsonl:2"), "{text}");
    let (code, text) = status(&["report", "mlp_s0", "--out", "mlp_s0/config.yaml/r"]);
    assert!(code == Some(3) && text.contains("creating the folder"), "{text}");
}
