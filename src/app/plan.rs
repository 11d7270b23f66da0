//! `pwm plan`: what a run would hold, whether that fits, and what would.

mod epoch;

use std::io::Write;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::algo::pwm::recorded::open;
use crate::config::{Bytes, Config, Device, Mode, ReplayPlace, Shipped, ShippedKind, load};
use crate::env::{dims, task_sizes};
use crate::mem::Budget;
use crate::run::plan::{ArenaPlace, DoesNotFit, Fit, Knob, Limits, MemoryKind, Plan, Planner, knobs};
use crate::run::recorded::complete;
use crate::tape::Placement;

/// Say what memory a run takes, and what fits, before anything is allocated.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PlanArgs {
    /// Settings as key=value, as in alg=pwm_48M wm_batch_size=512
    pub overrides: Vec<String>,
    /// Host memory, as in 128G; by default what the control group or the machine has
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<Bytes>,
    /// Plan for an accelerator with this much memory, which then holds the arena
    #[arg(long, value_name = "SIZE")]
    pub device_mem: Option<Bytes>,
    /// A table of every shipped configuration
    #[arg(long)]
    pub all: bool,
    /// What a GPU launches in an epoch, counted, and how long models of three GPUs would take; needs none
    #[arg(long, conflicts_with = "all")]
    pub epoch: bool,
    /// Print one JSON object, or with --all one a configuration
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.all {
        return all(args, out);
    }
    let (c, place, limits) = configure(args, None)?;
    let planner = Planner::new(&c, place);
    let plan = planner.within(&limits);
    if args.epoch {
        return epoch::show(&c, &planner, &plan, args.json, out);
    }
    if args.json {
        writeln!(out, "{}", to_json(&c, &planner, &plan, &limits))?;
    } else {
        show(&c, &planner, &plan, &limits, out)?;
    }
    Ok(())
}

/// The configuration, `alg` in place of the chosen one if given; where its arena lies, and what it may take.
fn configure(args: &PlanArgs, alg: Option<&str>) -> anyhow::Result<(Config, ArenaPlace, Limits)> {
    let mut settings = args.overrides.clone();
    settings.extend(alg.map(|alg| format!("alg={alg}")));
    let mut c = complete(load(&settings)?)?;
    crate::env::check(&c)?;
    c.mem = args.mem.or(c.mem);
    c.device_mem = args.device_mem.or(c.device_mem);
    let limits = Limits::of(&c);
    // A GPU is planned for if the command speaks of one; none is looked for.
    let place = match c.device {
        Device::Cuda(_) => ArenaPlace::Device,
        Device::Auto if c.device_mem.is_some() => ArenaPlace::Device,
        _ if args.epoch => ArenaPlace::Device,
        _ => ArenaPlace::Host,
    };
    place.suits(&c)?;
    Ok((c, place, limits))
}

fn show(c: &Config, planner: &Planner, plan: &Plan, limits: &Limits, out: &mut dyn Write) -> anyhow::Result<()> {
    let number = |b: u64| if b == 0 { "-".to_string() } else { Bytes(b).to_string() };
    writeln!(out, "{:<14} {:>10} {:>10} {:>10}", c.alg, "host", "device", "disk")?;
    let mut line = |name: &str, bytes: [u64; 3], what: &str| {
        let [host, device, disk] = bytes.map(number);
        writeln!(out, "{}", format!("  {name:<12} {host:>10} {device:>10} {disk:>10}  {what}").trim_end())
    };
    for (item, bytes) in plan.lines() {
        line(item.name, bytes, item.what)?;
    }
    line("peak", [plan.host(), plan.device(), plan.disk()], "")?;
    let mut programs = plan.programs.clone();
    programs.retain(|p| p.1 > 0);
    programs.sort_by_key(|p| std::cmp::Reverse(p.1));
    let programs: Vec<String> = programs.iter().map(|(name, b)| format!("{name} {}", Bytes(*b))).collect();
    writeln!(out, "\nactivations  {}", programs.join(", "))?;
    show_levels(planner, plan, out)?;
    show_data(c, out)?;
    if let Some(place) = plan.replay_place() {
        let chosen = if c.replay == ReplayPlace::Auto { ", by budget (replay=auto)" } else { "" };
        writeln!(out, "replay       {place}{chosen}")?;
    }
    for (name, budget, flag, shown) in [
        ("host", &limits.host, "mem", true),
        ("device", &limits.device, "device-mem", plan.place == ArenaPlace::Device),
        ("disk", &limits.disk, "", plan.disk() > 0),
    ] {
        match budget {
            Some(b) if shown => writeln!(out, "budget       {name}: {b}")?,
            None if shown && !flag.is_empty() => {
                writeln!(out, "budget       {name}: not known; --{flag} gives one")?;
            }
            _ => {}
        }
    }
    if !limits.hold(plan) {
        writeln!(out, "verdict      does not fit: {}", DoesNotFit::new(planner, plan, limits))?;
    } else if plan.place == ArenaPlace::Device && limits.device.is_none() {
        writeln!(out, "verdict      fits on the host; on the device if {} are free", Bytes(plan.device()))?;
    } else {
        writeln!(out, "verdict      fits{}", spare(plan, limits))?;
    }
    let least = planner.least();
    writeln!(
        out,
        "least        {}: {}",
        held(&least),
        least.replay_place().map_or("".into(), |p| format!("replay {p}, ")) + &costs(&least)
    )?;
    if limits.host.is_some() || limits.device.is_some() {
        writeln!(out, "\nwhat fits, one setting changed and the others as they are")?;
        let fit = Fit::new(planner, limits);
        for (knob, most) in largest(c, &fit) {
            let most = most.map_or("none".into(), |n| {
                let bound = if knob.is_most(c, n) { ", the most that other settings allow" } else { "" };
                format!("up to {n} {}{bound}", knob.unit)
            });
            let own = in_arena(knob, c, &fit).map_or(String::new(), |most| {
                let most = most.map_or("none".into(), |n| n.to_string());
                format!(", {most} of them with replay=device")
            });
            writeln!(out, "  {:<15} {most}{own} (now {})", knob.key, (knob.get)(c))?;
        }
    }
    Ok(())
}

/// The recorded episodes that a run would learn from.
fn show_data(c: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    if c.mode == Mode::Train {
        return Ok(());
    }
    let store = open(c)?;
    let (obs, act) = dims(c);
    let (episodes, rows) = store.tasks().iter().fold((0, 0), |(e, r), t| (e + t.episodes, r + t.rows));
    let updates = if c.is_played() && !c.finetune { 0 } else { c.max_epochs as usize * c.wm_iterations };
    writeln!(
        out,
        "data         {} tasks, {episodes} episodes, {rows} rows; observations of {obs} and actions of {act} numbers, with \
         zeros behind a narrower task's",
        store.tasks().len()
    )?;
    writeln!(
        out,
        "             {} mapped, of which nothing need stay in memory; {updates} model updates of {} steps each",
        Bytes(store.mapped()),
        c.wm_batch_size * c.horizon
    )?;
    let width = store.tasks().iter().map(|t| t.name.len()).max().unwrap_or(0);
    let sizes = task_sizes(c);
    for t in store.tasks() {
        let Some((_, obs, act)) = sizes.iter().find(|s| s.0 == t.name) else { continue };
        let (name, steps) = (&t.name, t.rows - t.episodes);
        writeln!(
            out,
            "  {name:<width$}  {:>8} episodes  {steps:>10} steps  obs {obs:>3}  action {act:>2}",
            t.episodes
        )?;
    }
    Ok(())
}

/// The largest value of each setting that fits, searched side by side.
fn largest(c: &Config, fit: &Fit) -> Vec<(&'static Knob, Option<usize>)> {
    let knobs: Vec<&'static Knob> = knobs(c).collect();
    knobs.into_par_iter().map(|k| (k, fit.largest(k))).collect()
}

/// The largest replay that fits without leaving the arena, if it may leave it.
fn in_arena(knob: &Knob, c: &Config, fit: &Fit) -> Option<Option<usize>> {
    let asks = knob.key == "wm_buffer_size" && c.replay == ReplayPlace::Auto;
    let c = Config { replay: ReplayPlace::Device, ..c.clone() };
    asks.then(|| fit.of(&c).largest(knob))
}

/// The most that a plan holds, where it is held.
fn held(plan: &Plan) -> String {
    let host = format!("{} of host memory", Bytes(plan.host()));
    if plan.place == ArenaPlace::Device { format!("{host}, {} of the device's", Bytes(plan.device())) } else { host }
}

/// What a plan rematerialises.
fn costs(plan: &Plan) -> String {
    let some = plan.levels.iter().filter(|l| l.taken > 0);
    let parts: Vec<String> =
        some.map(|l| format!("{} {} of {} (+{:.1} %)", l.program, l.taken, l.of, 100.0 * l.extra)).collect();
    if parts.is_empty() {
        "nothing rematerialised".to_string()
    } else {
        format!("rematerialised: {}", parts.join(", "))
    }
}

/// What rematerialising saves and costs.
fn show_levels(planner: &Planner, plan: &Plan, out: &mut dyn Write) -> anyhow::Result<()> {
    let ladder = planner.ladder(plan);
    writeln!(out, "\nrecompute                peak      saves  for more arithmetic of that program")?;
    let mut line = |name: &str, level: &Plan| {
        let saved = ladder[0].working().saturating_sub(level.working());
        let [peak, saves] = [level.working(), saved].map(|b| Bytes(b).to_string());
        writeln!(out, "  {name:<16} {peak:>10} {saves:>10}  {}", costs(level))
    };
    for (name, level) in ["none", "a quarter", "half", "three quarters", "all that saves"].iter().zip(&ladder) {
        line(name, level)?;
    }
    line("this plan", plan)?;
    writeln!(out)?;
    Ok(())
}

fn spare(plan: &Plan, limits: &Limits) -> String {
    let on = |name: &str, on| limits.spare(plan, on).map(|b| format!("{} of {name}", Bytes(b)));
    let device = on("device memory", MemoryKind::Device).filter(|_| plan.place == ArenaPlace::Device);
    let parts: Vec<String> = on("host memory", MemoryKind::Host).into_iter().chain(device).collect();
    if parts.is_empty() { String::new() } else { format!(", {} to spare", parts.join(" and ")) }
}

fn all(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    if !args.json {
        writeln!(
            out,
            "{:<18} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10}  verdict",
            "configuration", "networks", "replay", "activations", "fixed", "host", "device"
        )?;
    }
    for name in Shipped::names(ShippedKind::Alg) {
        let (c, place, limits) = configure(args, Some(name))?;
        let planner = Planner::new(&c, place);
        let plan = planner.within(&limits);
        if args.json {
            writeln!(out, "{}", to_json(&c, &planner, &plan, &limits))?;
            continue;
        }
        let lines: Vec<_> = plan.lines().map(|(i, _)| i).collect();
        let sum = |names: &[&str]| Bytes(lines.iter().filter(|i| names.contains(&i.name)).map(|i| i.bytes).sum());
        writeln!(
            out,
            "{name:<18} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10}  {verdict}",
            sum(&["parameters", "gradients", "optimiser"]),
            sum(&["replay", "episodes"]),
            sum(&["activations"]),
            Bytes(plan.fixed_bytes()),
            Bytes(plan.host()),
            Bytes(plan.device()),
            verdict = verdict(&plan, &limits),
        )?;
    }
    if !args.json {
        let (_, place, limits) = configure(args, None)?;
        let device = limits.device.filter(|_| place == ArenaPlace::Device);
        let shown = [("host", limits.host), ("device", device)];
        for (name, budget) in shown.into_iter().filter_map(|(name, b)| Some((name, b?))) {
            writeln!(out, "\nbudget {name}: {budget}")?;
        }
    }
    Ok(())
}

/// Whether a plan fits, and what was done for it, in a few words.
fn verdict(plan: &Plan, limits: &Limits) -> String {
    if !limits.hold(plan) {
        return "does not fit".into();
    }
    let replay = match plan.replay {
        Placement::Arena => "",
        Placement::Pinned => ", replay on the host",
        Placement::File(_) => ", replay in a file",
    };
    let recompute = if plan.levels.iter().any(|l| l.taken > 0) { ", recompute" } else { "" };
    format!("fits{replay}{recompute}")
}

fn to_json(c: &Config, planner: &Planner, plan: &Plan, limits: &Limits) -> Value {
    let lines = plan.lines().map(|(i, [host, device, disk])| {
        json!({"name": i.name, "what": i.what, "host": host, "device": device, "disk": disk})
    });
    let programs = plan.programs.iter().map(|(name, b)| json!({"name": name, "bytes": b}));
    let budget = |b: &Option<Budget>| {
        b.as_ref()
            .map(|b| json!({"usable": b.usable(), "limit": b.limit, "margin": b.margin(), "from": b.from.to_string()}))
    };
    let fits = limits.hold(plan);
    let fit = Fit::new(planner, limits);
    let most = largest(c, &fit).into_iter().map(|(k, n)| (k.key.to_string(), json!(n)));
    let own = knobs(c).find_map(|k| in_arena(k, c, &fit)).flatten();
    let least = planner.least();
    json!({
        "alg": c.alg,
        "lines": lines.collect::<Vec<_>>(),
        "activations": programs.collect::<Vec<_>>(),
        "arena": plan.arena_bytes(),
        "fixed": plan.fixed_bytes(),
        "host": plan.host(),
        "device": plan.device(),
        "disk": plan.disk(),
        "replay": plan.replay_place(),
        "recompute": plan.levels.iter().filter(|l| l.taken > 0).map(|l| json!({
            "program": l.program, "taken": l.taken, "of": l.of, "extra": l.extra,
        })).collect::<Vec<_>>(),
        "levels": planner.ladder(plan).iter().map(|p| json!({
            "host": p.host(), "device": p.device(),
            "extra": p.levels.iter().map(|l| (l.program.to_string(), json!(l.extra))).collect::<serde_json::Map<_, _>>(),
        })).collect::<Vec<_>>(),
        "budget": {"host": budget(&limits.host), "device": budget(&limits.device), "disk": budget(&limits.disk)},
        "fits": fits,
        "least": {"host": least.host(), "device": least.device(), "disk": least.disk()},
        "refusal": (!fits).then(|| DoesNotFit::new(planner, plan, limits).to_string()),
        "largest": most.collect::<serde_json::Map<_, _>>(),
        "largest_replay_in_arena": own,
    })
}
