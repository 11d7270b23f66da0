//! `pwm plan`: what a run would hold, whether that fits, and what would.

use std::io::Write;

use serde_json::{Value, json};

use crate::config::{Bytes, Config, Kind, Shipped, load};
use crate::mem::Budget;
use crate::run::plan::{Budgets, DoesNotFit, Place, Plan, knobs};

/// Say what memory a run takes, and what fits, before anything is allocated.
#[derive(Clone, Debug, clap::Args)]
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
    /// Print one JSON object, or with --all one a configuration
    #[arg(long)]
    pub json: bool,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let place = if args.device_mem.is_some() { Place::Device } else { Place::Host };
    if args.all {
        return all(args, place, out);
    }
    let (c, budgets) = configure(args, None)?;
    let plan = Plan::within(&c, place, &budgets);
    if args.json {
        writeln!(out, "{}", to_json(&c, &plan, &budgets))?;
    } else {
        show(&c, &plan, &budgets, out)?;
    }
    Ok(())
}

/// The configuration, `alg` in place of the chosen one if given, and what it may take.
fn configure(args: &PlanArgs, alg: Option<&str>) -> anyhow::Result<(Config, Budgets)> {
    let mut settings = args.overrides.clone();
    settings.extend(alg.map(|alg| format!("alg={alg}")));
    let mut c = load(&settings)?;
    c.mem = args.mem.or(c.mem);
    c.device_mem = args.device_mem.or(c.device_mem);
    let budgets = Budgets::of(&c);
    Ok((c, budgets))
}

fn show(c: &Config, plan: &Plan, budgets: &Budgets, out: &mut dyn Write) -> anyhow::Result<()> {
    let number = |b: u64| if b == 0 { "-".to_string() } else { Bytes(b).to_string() };
    writeln!(out, "{:<14} {:>10} {:>10}", c.alg, "host", "device")?;
    let mut line = |name: &str, host: u64, device: u64, what: &str| {
        writeln!(out, "  {name:<12} {:>10} {:>10}  {what}", number(host), number(device))
    };
    for (item, host, device) in plan.lines() {
        line(item.name, host, device, item.what)?;
    }
    line("peak", plan.host(), plan.device(), "")?;
    let mut programs = plan.programs.clone();
    programs.retain(|p| p.1 > 0);
    programs.sort_by_key(|p| std::cmp::Reverse(p.1));
    let programs: Vec<String> = programs.iter().map(|(name, b)| format!("{name} {}", Bytes(*b))).collect();
    writeln!(out, "\nactivations  {}", programs.join(", "))?;
    show_levels(c, plan, out)?;
    for (name, budget) in [("host", &budgets.host), ("device", &budgets.device)] {
        match budget {
            Some(b) => writeln!(out, "budget       {name}: {b}")?,
            None if name == "host" => writeln!(out, "budget       {name}: not known here; --mem gives one")?,
            None => {}
        }
    }
    if budgets.hold(plan) {
        writeln!(out, "verdict      fits{}", spare(plan, &budgets.host))?;
    } else {
        writeln!(out, "verdict      does not fit: {}", DoesNotFit::new(c, plan, budgets))?;
    }
    if budgets.host.is_some() || budgets.device.is_some() {
        writeln!(out, "\nwhat fits, one setting changed and the others as they are")?;
        for (knob, most) in knobs(c).map(|k| (k, k.largest(c, plan.place, budgets))) {
            let most = most.map_or("none".into(), |n| format!("up to {n} {}", knob.unit));
            writeln!(out, "  {:<15} {most} (now {})", knob.key, (knob.get)(c))?;
        }
    }
    Ok(())
}

/// What computing again saves and costs.
fn show_levels(c: &Config, plan: &Plan, out: &mut dyn Write) -> anyhow::Result<()> {
    let costs = |plan: &Plan| {
        let repeated = plan.levels.iter().filter(|l| l.taken > 0);
        let parts: Vec<String> =
            repeated.map(|l| format!("{} {} of {} (+{:.0} %)", l.program, l.taken, l.of, 100.0 * l.extra)).collect();
        if parts.is_empty() { "nothing".to_string() } else { parts.join(", ") }
    };
    writeln!(out, "\nrecompute    peak         operations computed twice (more arithmetic of that program)")?;
    for (name, level) in ["none", "a quarter", "half", "3 quarters", "all"].iter().zip(Plan::ladder(c, plan.place)) {
        writeln!(out, "  {name:<10} {:<12} {}", Bytes(level.host() + level.device()).to_string(), costs(&level))?;
    }
    writeln!(out, "  {:<10} {:<12} {}\n", "this plan", Bytes(plan.host() + plan.device()).to_string(), costs(plan))?;
    Ok(())
}

fn spare(plan: &Plan, host: &Option<Budget>) -> String {
    host.as_ref().map_or(String::new(), |b| format!(", {} to spare", Bytes(b.usable().saturating_sub(plan.host()))))
}

fn all(args: &PlanArgs, place: Place, out: &mut dyn Write) -> anyhow::Result<()> {
    if !args.json {
        writeln!(
            out,
            "{:<18} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10}  verdict",
            "configuration", "networks", "replay", "activations", "fixed", "host", "device"
        )?;
    }
    for name in Shipped::names(Kind::Alg) {
        let (c, budgets) = configure(args, Some(name))?;
        let plan = Plan::within(&c, place, &budgets);
        if args.json {
            writeln!(out, "{}", to_json(&c, &plan, &budgets))?;
            continue;
        }
        let sum = |names: &[&str]| Bytes(plan.arena.iter().filter(|i| names.contains(&i.name)).map(|i| i.bytes).sum());
        let verdict = if budgets.hold(&plan) { "fits" } else { "does not fit" };
        writeln!(
            out,
            "{name:<18} {:>10} {:>10} {:>11} {:>10} {:>10} {:>10}  {verdict}",
            sum(&["parameters", "gradients", "optimiser"]),
            sum(&["replay"]),
            sum(&["activations"]),
            Bytes(plan.fixed_bytes()),
            Bytes(plan.host()),
            Bytes(plan.device()),
        )?;
    }
    let host = (configure(args, None)?).1.host;
    if let (Some(b), false) = (host, args.json) {
        writeln!(out, "\nbudget {b}")?;
    }
    Ok(())
}

fn to_json(c: &Config, plan: &Plan, budgets: &Budgets) -> Value {
    let lines = plan.lines().map(|(i, host, device)| json!({"name": i.name, "host": host, "device": device}));
    let programs = plan.programs.iter().map(|(name, b)| json!({"name": name, "bytes": b}));
    let budget = |b: &Option<Budget>| {
        b.as_ref()
            .map(|b| json!({"usable": b.usable(), "limit": b.limit, "margin": b.margin(), "from": b.from.to_string()}))
    };
    let fits = budgets.hold(plan);
    let most = knobs(c).map(|k| (k.key.to_string(), json!(k.largest(c, plan.place, budgets))));
    json!({
        "alg": c.alg,
        "lines": lines.collect::<Vec<_>>(),
        "activations": programs.collect::<Vec<_>>(),
        "arena": plan.arena_bytes(),
        "fixed": plan.fixed_bytes(),
        "host": plan.host(),
        "device": plan.device(),
        "recompute": plan.levels.iter().filter(|l| l.taken > 0).map(|l| json!({
            "program": l.program, "taken": l.taken, "of": l.of, "extra": l.extra,
        })).collect::<Vec<_>>(),
        "levels": Plan::ladder(c, plan.place).iter().map(|p| json!({
            "host": p.host(), "device": p.device(),
            "extra": p.levels.iter().map(|l| (l.program.to_string(), json!(l.extra))).collect::<serde_json::Map<_, _>>(),
        })).collect::<Vec<_>>(),
        "budget": {"host": budget(&budgets.host), "device": budget(&budgets.device)},
        "fits": fits,
        "refusal": (!fits).then(|| DoesNotFit::new(c, plan, budgets).to_string()),
        "largest": most.collect::<serde_json::Map<_, _>>(),
    })
}
