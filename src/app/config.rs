//! `pwm config`: show what a run would use, list what is shipped, write the reference page.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::algo::pwm::PwmNets;
use crate::config::{Config, Dynamics, SHIPPED, Shipped, ShippedKind, load, load_with_notes, markdown};
use crate::env;
use crate::tape::Vars;

/// What `pwm config` can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print the complete configuration that these settings give
    Show {
        /// Settings as key=value; alg= and env= choose the files
        overrides: Vec<String>,
        /// Print a JSON object, the configuration's name to its settings
        #[arg(long)]
        json: bool,
    },
    /// List the shipped configurations
    List,
    /// Print the reference of every setting, docs/CONFIG.md
    Docs {
        /// Write it to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(command: &ConfigCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show { overrides, json: false } => {
            let (config, notes) = load_with_notes(overrides)?;
            env::check(&config)?;
            for note in notes {
                writeln!(out, "# {note}")?;
            }
            write!(out, "{}\n{}", config.to_yaml(), parameters(&config))?;
        }
        ConfigCommand::Show { overrides, json: true } => {
            writeln!(out, "{}", serde_json::to_string_pretty(&named_json(&load(overrides)?))?)?;
        }
        ConfigCommand::List => {
            for Shipped { kind, name, .. } in SHIPPED {
                let summary = Shipped::find(*kind, name).map_or("", Shipped::summary);
                writeln!(out, "{:<24}{summary}", format!("{}={name}", kind.key()))?;
            }
            writeln!(
                out,
                "\nA file of your own: alg=path/to/file.yaml. `pwm config show alg={}` prints one.",
                first_alg()
            )?;
        }
        ConfigCommand::Docs { out: None } => write!(out, "{}", markdown())?,
        ConfigCommand::Docs { out: Some(path) } => {
            std::fs::write(path, markdown()).with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(out, "wrote {}", path.display())?;
        }
    }
    Ok(())
}

/// Parameters of each network, as comments; of flow dynamics also how far they are from the other kind.
fn parameters(c: &Config) -> String {
    let count = |c: &Config| {
        let (obs_dim, act_dim) = env::dims(c);
        let nets = PwmNets::new(&mut Vars::default(), c, obs_dim, act_dim);
        [nets.world.group.len, nets.actor.group.len, nets.critics.group.len]
    };
    let [world, actor, critics] = count(c);
    let mut out = format!(
        "# Parameters: {} (world model {world}, actor {actor}, {} critics {critics})\n",
        world + actor + critics,
        c.num_critics
    );
    if c.dynamics == Dynamics::Flow {
        let [mlp, ..] = count(&Config { dynamics: Dynamics::Mlp, ..c.clone() });
        let percent = 100.0 * (world as f64 / mlp as f64 - 1.0);
        out += &format!("# The world model with dynamics: mlp has {mlp}; this one has {percent:+.3} %\n");
    }
    out
}

fn first_alg() -> &'static str {
    Shipped::names(ShippedKind::Alg)[0]
}

/// `{"pwm_small": {...}}`: what tools that compare several configurations read, one object of shapes a name.
fn named_json(config: &Config) -> serde_json::Value {
    serde_json::json!({ config.alg.as_str(): config.to_json() })
}
