//! `pwm`: everything but training.

use clap::Parser;
use pwm::app::{bench, config};

#[derive(Parser)]
#[command(name = "pwm", version, about)]
enum Command {
    /// Show and document settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Measure how long things take on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

fn main() -> anyhow::Result<()> {
    let out = &mut std::io::stdout().lock();
    match Command::parse() {
        Command::Config(command) => config::run(&command, out),
        Command::Bench(command) => bench::run(&command, out),
    }
}
