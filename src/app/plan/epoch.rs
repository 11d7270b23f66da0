//! `pwm plan --epoch`: the kernels of an epoch on a GPU, counted, and how long it would take by a model.

use serde_json::{Map, Value, json};
use std::io::Write;

use crate::config::Config;
use crate::device::cuda::estimate::GPUS;
use crate::run::plan::{EpochEstimate, Plan, Planner, ProgramEstimate, Tally};
use crate::run::progress::Short;

/// Kernels of a table.
const SHOWN: usize = 12;

pub(super) fn show(
    c: &Config,
    planner: &Planner,
    plan: &Plan,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let estimates = GPUS.iter().map(|gpu| planner.epoch_on(gpu, plan)).collect::<Result<Vec<_>, _>>()?;
    if as_json {
        writeln!(out, "{}", to_json(c, &estimates))?;
        return Ok(());
    }
    let first = &estimates[0];
    writeln!(out, "{}: an epoch in precision={}, on a model of the {}", c.alg, c.precision, first.gpu.name)?;
    writeln!(out, "\n{:<24} {:>5} {:>8} {:>9} {:>9} {:>9}", "program", "runs", "nodes", "GFLOP", "GB", "ms")?;
    for p in &first.programs {
        row(out, p.name, &p.runs.to_string(), p.all())?;
    }
    row(out, "around them", "1", first.around)?;
    row(out, "epoch", "1", first.total())?;
    writeln!(out, "{} graph launches", first.graph_launches())?;
    writeln!(out, "\n{:<24} {:>14} {:>9} {:>9} {:>9}", "kernel", "nodes", "GFLOP", "GB", "ms")?;
    for (name, t) in first.kernels().into_iter().take(SHOWN) {
        row(out, name, "", t)?;
    }
    writeln!(out, "\n{:<10} {:>8} {:>9}   goes to: nodes  steps  bytes  arithmetic", "GPU", "nodes", "ms")?;
    for e in &estimates {
        let t = e.total();
        let (s, all) = (t.seconds, t.seconds.total());
        let [node, steps, bytes, flops] = [s.node, s.steps, s.bytes, s.flops].map(|x| 100.0 * x / all);
        let shares = format!("{node:>13.0} % {steps:>4.0} % {bytes:>4.0} % {flops:>9.0} %");
        writeln!(out, "{:<10} {:>8} {:>9.1} {shares}", e.gpu.name, t.nodes, 1e3 * all)?;
    }
    writeln!(
        out,
        "\nNodes, arithmetic of products and graph launches are counted; bytes are what blocks of products and layers ask \
         for, and of other kernels one number a thread from each operand. Times are a model's, measured on no GPU: a \
         node's gap and start, then its steps, bytes or arithmetic, whichever takes longest."
    )?;
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, runs: &str, t: Tally) -> std::io::Result<()> {
    let ([gflop, gb], ms) = ([t.flops, t.bytes].map(|x| Short(x / 1e9).to_string()), 1e3 * t.seconds.total());
    writeln!(out, "{name:<24} {runs:>5} {:>8} {gflop:>9} {gb:>9} {ms:>9.2}", t.nodes)
}

/// The counts of the first GPU, and times of all.
fn to_json(c: &Config, estimates: &[EpochEstimate]) -> Value {
    let first = &estimates[0];
    let ms = |of: &dyn Fn(&EpochEstimate) -> f64| -> Map<String, Value> {
        estimates.iter().map(|e| (e.gpu.name.to_owned(), json!(1e3 * of(e)))).collect()
    };
    let program = |p: &ProgramEstimate| {
        let (t, name) = (p.once(), p.name);
        let same =
            |e: &EpochEstimate| e.programs.iter().find(|q| q.name == name).map_or(0.0, |q| q.once().seconds.total());
        let kernels = p
            .kernels
            .iter()
            .map(|&(name, t)| json!({"kernel": name, "kernel_nodes": t.nodes, "flops": t.flops, "bytes": t.bytes}));
        json!({
            "program": name,
            "runs": p.runs,
            "kernel_nodes": t.nodes,
            // Those of a run of it, if the epoch is no graph as a whole.
            "graph_launches": u64::from(t.nodes > 0),
            "flops": t.flops,
            "bytes": t.bytes,
            "estimate_ms": ms(&same),
            "kernels": kernels.collect::<Vec<_>>(),
        })
    };
    let t = first.total();
    let shares = estimates.iter().map(|e| {
        let s = e.total().seconds;
        let all = s.total();
        let shares = json!({
            "nodes": s.node / all, "steps": s.steps / all, "bytes": s.bytes / all, "flops": s.flops / all,
        });
        (
            e.gpu.name.to_owned(),
            json!({"kernel_nodes": e.total().nodes, "graph_launches": e.graph_launches(), "shares": shares}),
        )
    });
    json!({
        "alg": c.alg,
        "precision": c.precision.to_string(),
        "kernel_nodes": t.nodes,
        "graph_launches": first.graph_launches(),
        "flops": t.flops,
        "bytes": t.bytes,
        "estimate_ms": ms(&|e| e.total().seconds.total()),
        "programs": first.programs.iter().map(program).collect::<Vec<_>>(),
        "gpus": shares.collect::<Map<_, _>>(),
    })
}
