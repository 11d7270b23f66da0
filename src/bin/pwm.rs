//! `pwm`: everything but training. Only the arguments are read here.

use clap::Parser;
use pwm::app::{
    baseline, bench, collect, config, data, doctor, eval, export, fidelity, gradcheck, import, plan, report, robot,
    selftest, sweep,
};
use std::process::ExitCode;

/// Look at and judge what `pwm-train` makes
#[derive(Parser)]
#[command(name = "pwm", version = pwm::version::version(), after_help = pwm::app::EXIT_STATUS)]
enum Command {
    /// Show and document settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show what this machine has to compute with, and what is missing to use its GPU
    Doctor,
    /// Test every operation on a device against the processor in double precision
    Selftest(selftest::SelftestArgs),
    /// Play a stored policy on the true environment
    Eval(eval::EvalArgs),
    /// Play a task with random actions, and with none
    Baseline(baseline::BaselineArgs),
    /// Record episodes of tasks, to learn from
    Collect(collect::CollectArgs),
    /// Look at recorded episodes of many tasks, index them, sort them by task
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Measure how far a model's gradient agrees with the true environment
    Fidelity(fidelity::FidelityArgs),
    /// Check the gradient of the simulator against dual numbers and differences
    Gradcheck(gradcheck::GradcheckArgs),
    /// Show a stored policy: a page in three dimensions, a GIF, a still
    Render(eval::RenderArgs),
    /// Write the weights of a policy for use elsewhere
    Export(export::ExportArgs),
    /// Make a policy of a checkpoint of published PWM
    Import(import::ImportArgs),
    /// Show a robot: its bodies, joints and masses, as a table, a picture and a page; list those that are shipped
    #[command(subcommand)]
    Robot(robot::RobotCommand),
    /// Make a page of curves and tables from runs
    Report(report::ReportArgs),
    /// Say whether two experiments differ by more than chance
    Compare(report::CompareArgs),
    /// Look at a sweep: many runs that `pwm-train --multirun` started
    #[command(subcommand)]
    Sweep(sweep::SweepCommand),
    /// Say what memory a run takes, and what fits, before anything is allocated
    Plan(plan::PlanArgs),
    /// Measure how long things take on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

fn main() -> ExitCode {
    pwm::version::set_commit(pwm::commit!());
    let command = Command::parse();
    pwm::app::exit(|out| match command {
        Command::Config(command) => config::run(&command, out),
        Command::Doctor => doctor::run(out),
        Command::Selftest(args) => selftest::run(&args, out),
        Command::Eval(args) => eval::run(&args, out),
        Command::Baseline(args) => baseline::run(&args, out),
        Command::Collect(args) => collect::run(&args, out),
        Command::Data(command) => data::run(&command, out),
        Command::Fidelity(args) => fidelity::run(&args, out),
        Command::Gradcheck(args) => gradcheck::run(&args, out),
        Command::Render(args) => eval::render(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Import(args) => import::run(&args, out),
        Command::Robot(command) => robot::run(&command, out),
        Command::Report(args) => report::report(&args, out),
        Command::Compare(args) => report::compare(&args, out),
        Command::Sweep(command) => sweep::command(&command, out),
        Command::Plan(args) => plan::run(&args, out),
        Command::Bench(command) => bench::run(&command, out),
    })
}
