//! `pwm`: everything but training. Only the arguments are read here.

use clap::Parser;
use pwm::app::{bench, config, eval, fidelity, gradcheck};
use std::process::ExitCode;

/// Look at and judge what `pwm-train` makes
#[derive(Parser)]
#[command(name = "pwm", version)]
enum Command {
    /// Show and document settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Play a stored policy on the true environment
    Eval(eval::EvalArgs),
    /// Measure how far a model's gradient agrees with the true environment
    Fidelity(fidelity::FidelityArgs),
    /// Check the gradient of the simulator against dual numbers and differences
    Gradcheck(gradcheck::GradcheckArgs),
    /// Measure how long things take on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

fn main() -> ExitCode {
    let command = Command::parse();
    pwm::app::exit(|out| match command {
        Command::Config(command) => config::run(&command, out),
        Command::Eval(args) => eval::run(&args, out),
        Command::Fidelity(args) => fidelity::run(&args, out),
        Command::Gradcheck(args) => gradcheck::run(&args, out),
        Command::Bench(command) => bench::run(&command, out),
    })
}
