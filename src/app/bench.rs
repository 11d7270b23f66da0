//! `pwm bench`: how long things take on this machine's processor or GPU, as tables or as one JSON object a line.
//!
//! The JSON of `pwm bench phases` has the keys of the PyTorch peer (`benches/peers`), so that both can be compared.

pub mod env;
pub mod epoch;
pub mod kernels;
pub mod measure;
pub mod phases;

use super::misused;
use crate::algo::target;
use crate::backend::Target;
use crate::config::{Config, Device, Precision, load};
use crate::run::recorded::complete;
use crate::tape::profile::Profile;
use crate::version;
use measure::{Measurement, repeat, timed};
use phases::{Phase, Subject};
use serde_json::json;
use std::io::Write;

/// What `pwm bench` can measure.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// The phases of an epoch, without simulator and replay
    Phases {
        #[command(flatten)]
        what: What,
        /// Phases to time
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = Phase::ALL)]
        phases: Vec<Phase>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Every operation of an epoch at the shapes of a configuration, beside the limits of the device
    Kernels {
        #[command(flatten)]
        what: What,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Whole epochs, and each program of an epoch
    Epoch {
        #[command(flatten)]
        what: What,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Steps of the environment on one thread or a GPU
    Env {
        #[command(flatten)]
        what: What,
        /// Numbers of environments
        #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 128, 1024])]
        envs: Vec<usize>,
        /// Also with the gradient of what the steps earn
        #[arg(long)]
        adjoint: bool,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Where the time of a phase goes: each operation timed by itself, on one thread
    Ops {
        #[command(flatten)]
        what: What,
        /// Phases to look into
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Phase::WmUpdate])]
        phases: Vec<Phase>,
        /// The programs of an epoch of training instead, simulator and replay included
        #[arg(long, conflicts_with = "phases")]
        epoch: bool,
        /// Keep phases of an operation and shapes apart
        #[arg(long)]
        shapes: bool,
    },
}

/// Options that all measurements share.
#[derive(Clone, Debug, clap::Args)]
pub struct What {
    /// Shipped configurations or files ending in .yaml
    #[arg(long, alias = "config", value_delimiter = ',', default_value = "pwm_small")]
    configs: Vec<String>,
    /// Time spent on each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Threads; 0 means one for each core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Settings as key=value, for all configurations
    overrides: Vec<String>,
}

impl What {
    /// The configurations with their names.
    fn load(&self) -> anyhow::Result<Vec<(&str, Config)>> {
        let one = |name: &String| {
            let mut settings = vec![format!("alg={name}")];
            settings.extend_from_slice(&self.overrides);
            settings.push(format!("threads={}", self.threads));
            settings.extend(self.device.map(|d| format!("device={d}")));
            let c = complete(load(&settings)?)?;
            crate::env::check(&c)?;
            anyhow::Ok(c)
        };
        self.configs.iter().map(|name| Ok((name.as_str(), one(name)?))).collect()
    }

    /// The same of PWM, whose phases and epochs are timed.
    fn models(&self) -> anyhow::Result<Vec<(&str, Config)>> {
        let all = self.load()?;
        if let Some((name, _)) = all.iter().find(|(_, c)| !c.has_world_model()) {
            let instead = "`pwm bench env --adjoint` times what it learns through";
            anyhow::bail!(misused(format_args!("{name} has no world model to time; {instead}")));
        }
        Ok(all)
    }
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(command: &BenchCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        BenchCommand::Phases { what, phases, json } => time_phases(what, phases, *json, out),
        BenchCommand::Kernels { what, json } => time_kernels(what, *json, out),
        BenchCommand::Epoch { what, json } => time_epochs(what, *json, out),
        BenchCommand::Env { what, envs, adjoint, json } => time_env(what, envs, *adjoint, *json, out),
        BenchCommand::Ops { what, epoch: true, shapes, .. } => look_into_epoch(what, *shapes, out),
        BenchCommand::Ops { what, phases, shapes, .. } => look_into(what, phases, *shapes, out),
    }
}

/// Times one phase; an error if an update that was timed was skipped.
pub fn time_phase(phase: Phase, c: &Config, seconds: f64) -> anyhow::Result<(Measurement, Option<f64>)> {
    let mut subject = Subject::new(phase, c)?;
    let timing = repeat(seconds, || timed(|| subject.run()))?;
    anyhow::ensure!(subject.is_sound(), "{}: a gradient was not finite", phase.name());
    Ok((timing, subject.flops.map(|f| f / timing.median / 1e12)))
}

fn time_phases(what: &What, phases: &[Phase], json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some((name, c)) = what.models()?.into_iter().find(|(_, c)| c.model_tasks().len() > 1) {
        anyhow::bail!(misused(format_args!(
            "phases are timed of models of one task, and {name} is asked for {}; `pwm bench epoch` takes any",
            c.model_tasks().len()
        )));
    }
    if !json {
        header(out)?;
    }
    for (config, c) in what.models()? {
        let on = On::new(&c)?;
        for &phase in phases {
            let (timing, tflops) = time_phase(phase, &c, what.seconds)?;
            if json {
                let mut row = object(&on, config, phase.name(), timing);
                if let Some(tflops) = tflops {
                    row["tflops"] = json!(digits(tflops, 3));
                }
                writeln!(out, "{row}")?;
            } else {
                let note = tflops.map_or(String::new(), |t| format!("{:.1} GFLOP/s", t * 1e3));
                table_row(out, config, phase.name(), timing, &note)?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

fn time_kernels(what: &What, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for (config, c) in what.load()? {
        let (on, ceilings) = (On::new(&c)?, kernels::ceilings(&c)?);
        // There are many kinds of operations, and short ones need little time.
        let list = kernels::kernels(&c, what.seconds / 20.0)?;
        if !json {
            let [gb, gflop] = [ceilings.bytes, ceilings.flops].map(|x| x * 1e-9);
            writeln!(
                out,
                "{config} on {}, {} products: at most {gb:.0} GB/s; {gflop:.0} GFLOP/s without tensor cores",
                on.device, on.dtype
            )?;
            let columns = ["ms an epoch", "calls", "us a call", "GB/s", "of most", "GFLOP/s", "of most"];
            let [a, b, c, d, e, f, g] = columns;
            writeln!(out, "{a:>11} {b:>6} {c:>10} {d:>8} {e:>7} {f:>8} {g:>7}  program operation shapes")?;
        }
        for k in list {
            let [memory, arithmetic] = k.shares(ceilings);
            let rates = [k.bytes, k.flops].map(|x| x / k.timing.median * 1e-9);
            if json {
                let mut row = object(&on, config, k.op, k.timing);
                let more = json!({
                    "program": k.program, "shapes": k.shapes, "calls": k.calls, "bytes": k.bytes, "flops": number(k.flops),
                    "gb_per_s": digits(rates[0], 3), "gflops": number(digits(rates[1], 3)),
                    "of_memory": number(digits(memory, 4)), "of_arithmetic": number(digits(arithmetic, 4)),
                });
                row.as_object_mut().into_iter().for_each(|o| o.extend(more.as_object().cloned().unwrap_or_default()));
                writeln!(out, "{row}")?;
            } else {
                let us = k.timing.median * 1e6;
                let text = |x: f64, places: usize| if x.is_finite() { format!("{x:.places$}") } else { "-".into() };
                writeln!(
                    out,
                    "{:>11.4} {:>6} {us:>10.2} {:>8} {:>7} {:>8} {:>7}  {} {} {}",
                    us * 1e-3 * k.calls as f64,
                    k.calls,
                    text(rates[0], 2),
                    text(memory, 3),
                    text(rates[1], 2),
                    text(arithmetic, 3),
                    k.program,
                    k.op,
                    k.shapes
                )?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn time_epochs(what: &What, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if !json {
        header(out)?;
    }
    for (config, c) in what.models()? {
        let (on, e) = (On::new(&c)?, epoch::epoch(&c, what.seconds)?);
        let rate = e.env_steps as f64 / e.epoch.median;
        if json {
            for &(name, runs, timing) in &e.programs {
                let mut row = object(&on, config, name, timing);
                row["runs"] = json!(runs);
                writeln!(out, "{row}")?;
            }
            let mut row = object(&on, config, "epoch", e.epoch);
            row["env_steps_per_s"] = json!(digits(rate, 1));
            writeln!(out, "{row}")?;
        } else {
            for &(name, runs, timing) in &e.programs {
                table_row(out, config, name, timing, &format!("{runs} x {:.3} ms", timing.median * 1e3 / runs as f64))?;
            }
            table_row(out, config, "epoch", e.epoch, &format!("{rate:.0} environment steps/s"))?;
        }
        out.flush()?;
    }
    Ok(())
}

fn time_env(what: &What, envs: &[usize], adjoint: bool, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if !json {
        header(out)?;
    }
    for (config, c) in what.load()? {
        let differentiable =
            |name: &String| anyhow::Ok(crate::env::Task::from_config(&c.of_env(name))?.is_differentiable());
        if adjoint && !c.env_names().iter().map(differentiable).collect::<anyhow::Result<Vec<_>>>()?.iter().all(|d| *d)
        {
            anyhow::bail!(misused(format_args!(
                "a step under MuJoCo's law has no gradient here\n  leave `--adjoint` out"
            )));
        }
        let on = On::new(&c)?;
        let place = if on.gpu { "the GPU" } else { "one thread" };
        for &n in envs {
            let forward = env::env(&c, n, false, what.seconds)?;
            let both = adjoint.then(|| env::env(&c, n, true, what.seconds)).transpose()?;
            for (name, timing) in [("env_step", Some(forward)), ("env_adjoint", both)] {
                let Some(timing) = timing else { continue };
                let (name, rate) = (format!("{name}_{n}"), n as f64 / timing.median);
                let times = timing.median / forward.median;
                if json {
                    let mut row = object(&on, config, &name, timing);
                    row["envs"] = json!(n);
                    row["env_steps_per_s"] = json!(digits(rate, 1));
                    if adjoint {
                        row["times_forward"] = json!(digits(times, 3));
                    }
                    writeln!(out, "{row}")?;
                } else {
                    let note = if adjoint { format!(", {times:.2} times the forward") } else { String::new() };
                    table_row(out, config, &name, timing, &format!("{rate:.0} steps/s on {place}{note}"))?;
                }
                out.flush()?;
            }
        }
    }
    Ok(())
}

/// Repetitions of a profile take about `seconds`.
fn look_into(what: &What, phases: &[Phase], shapes: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for (config, c) in what.models()? {
        for &phase in phases {
            let mut subject = Subject::new(phase, &Config { threads: 1, device: Device::Cpu, ..c.clone() })?;
            let whole = repeat(what.seconds, || timed(|| subject.run()))?;
            let repetitions = whole.n.max(5);
            let profile = subject.profile(repetitions).grouped(shapes, shapes);
            write_profile(out, config, &profile, shapes)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn look_into_epoch(what: &What, shapes: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for (config, c) in what.models()? {
        for profile in epoch::profiles(&Config { threads: 1, ..c }, what.seconds)? {
            write_profile(out, config, &profile.grouped(shapes, shapes), shapes)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn write_profile(out: &mut dyn Write, config: &str, p: &Profile, shapes: bool) -> std::io::Result<()> {
    let total = p.seconds();
    writeln!(out, "{} of {config}: {:.3} ms a run on one thread, {} barriers", p.name, total * 1e3, p.stages)?;
    writeln!(out, "{:>10} {:>7} {:>7} {:>7} {:>10}  operation", "ms", "share", "calls", "tasks", "us a call")?;
    for l in &p.lines {
        let (ms, each) = (l.seconds * 1e3, l.seconds * 1e6 / l.calls as f64);
        let share = 100.0 * l.seconds / total;
        write!(out, "{ms:>10.4} {share:>6.1}% {:>7} {:>7} {each:>10.2}  {}", l.calls, l.tasks, l.op)?;
        if shapes {
            write!(out, " [{}] {}", l.phase, l.shapes)?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn header(out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<12} {:<16} {:>11} {:>11} {:>11} {:>5}", "config", "phase", "median ms", "min", "max", "n")
}

fn table_row(out: &mut dyn Write, config: &str, phase: &str, t: Measurement, note: &str) -> std::io::Result<()> {
    let [median, min, max] = [t.median, t.min, t.max].map(|x| x * 1e3);
    let line = format!("{config:<12} {phase:<16} {median:>11.4} {min:>11.4} {max:>11.4} {:>5}  {note}", t.n);
    writeln!(out, "{}", line.trim_end())
}

/// What is measured, as figures are labelled.
struct On {
    device: String,
    /// What products multiply in.
    dtype: String,
    gpu: bool,
}

impl On {
    fn new(c: &Config) -> anyhow::Result<Self> {
        Ok(match target(crate::env::device(c), c.precision)? {
            Target::Cpu => Self { device: "cpu".into(), dtype: Precision::Fp32.to_string(), gpu: false },
            Target::Cuda(context, o) => {
                Self { device: context.info.name.clone(), dtype: o.matmul.precision.to_string(), gpu: true }
            }
        })
    }
}

/// A number of JSON; null for what is not known.
fn number(x: f64) -> serde_json::Value {
    if x.is_finite() { json!(x) } else { serde_json::Value::Null }
}

/// A line with the peer's keys.
fn object(on: &On, config: &str, phase: &str, t: Measurement) -> serde_json::Value {
    let ms = |x: f64| digits(x * 1e3, 4);
    json!({
        "peer": concat!("pwm-", env!("CARGO_PKG_VERSION")), "commit": version::commit(), "compiler": version::COMPILER,
        "device": on.device, "phase": phase, "config": config,
        "mode": "program", "dtype": on.dtype, "ms": ms(t.median), "ms_min": ms(t.min), "ms_max": ms(t.max), "n": t.n,
    })
}

fn digits(x: f64, places: i32) -> f64 {
    let unit = 10f64.powi(places);
    (x * unit).round() / unit
}
