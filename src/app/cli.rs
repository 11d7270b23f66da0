//! The command lines of both programs, in one place: what reads arguments, `--help`, completions and manual pages are all
//! made from these definitions.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::train::TrainArgs;
use super::{
    EXIT_STATUS, baseline, bench, collect, config, data, doctor, eval, export, fidelity, gradcheck, import, plan,
    report, robot, selftest, sweep,
};
use crate::config::{KEYS, help_text};
use crate::io::atomic::{FileError, replace_bytes};
use crate::version::version;

/// Look at and judge what `pwm-train` makes
#[derive(clap::Parser)]
#[command(name = "pwm", version = version(), after_help = EXIT_STATUS)]
pub enum PwmCommand {
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
    /// Write what makes a shell complete commands and settings, as in `pwm completions bash pwm-train`
    Completions(CompletionsArgs),
    /// Write the manual pages of both programs
    Man(ManArgs),
}

/// What completes what.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell; what is printed belongs where it looks for completions
    pub shell: Shell,
    /// The program whose arguments are completed
    #[arg(default_value = PROGRAMS[0], value_parser = PROGRAMS)]
    pub program: String,
}

const PROGRAMS: [&str; 2] = ["pwm", "pwm-train"];

/// Where manual pages go.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The folder, as in ~/.local/share/man/man1; made if it is not there
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
}

impl PwmCommand {
    /// Carries the command out.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            PwmCommand::Config(command) => config::run(command, out),
            PwmCommand::Doctor => doctor::run(out),
            PwmCommand::Selftest(args) => selftest::run(args, out),
            PwmCommand::Eval(args) => eval::run(args, out),
            PwmCommand::Baseline(args) => baseline::run(args, out),
            PwmCommand::Collect(args) => collect::run(args, out),
            PwmCommand::Data(command) => data::run(command, out),
            PwmCommand::Fidelity(args) => fidelity::run(args, out),
            PwmCommand::Gradcheck(args) => gradcheck::run(args, out),
            PwmCommand::Render(args) => eval::render(args, out),
            PwmCommand::Export(args) => export::run(args, out),
            PwmCommand::Import(args) => import::run(args, out),
            PwmCommand::Robot(command) => robot::run(command, out),
            PwmCommand::Report(args) => report::report(args, out),
            PwmCommand::Compare(args) => report::compare(args, out),
            PwmCommand::Sweep(command) => sweep::command(command, out),
            PwmCommand::Plan(args) => plan::run(args, out),
            PwmCommand::Bench(command) => bench::run(command, out),
            PwmCommand::Completions(args) => completions(args, out),
            PwmCommand::Man(args) => man(args, out),
        }
    }
}

/// The command line of `pwm-train`.
pub fn train_command() -> Command {
    let after = format!("{}\n{EXIT_STATUS}", help_text());
    TrainArgs::augment_args(Command::new("pwm-train").version(version())).after_help(after)
}

/// Settings are words `key=value`, which definitions of arguments do not know: the shell completes the keys.
fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let [pwm, _] = PROGRAMS;
    let mut command = if args.program == pwm { PwmCommand::command() } else { with_keys(train_command()) };
    let mut text = vec![];
    clap_complete::generate(args.shell, &mut command, &args.program, &mut text);
    out.write_all(&text)?;
    Ok(())
}

/// The same command whose settings have values to be completed from.
fn with_keys(command: Command) -> Command {
    let keys: Vec<String> = KEYS.iter().map(|k| format!("{}=", k.name)).collect();
    command.mut_arg("overrides", |a| a.value_parser(clap::builder::PossibleValuesParser::new(keys)))
}

/// A command and all below it, called as their words are typed, with dashes between.
fn with_subcommands(command: Command, name: String, pages: &mut Vec<(Command, String)>) {
    for sub in command.get_subcommands() {
        let name = format!("{name}-{}", sub.get_name());
        with_subcommands(sub.clone().version(version()), name, pages);
    }
    pages.push((command, name));
}

fn man(args: &ManArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).map_err(FileError::at(&args.out, "creating the folder"))?;
    let mut pages = vec![(train_command(), PROGRAMS[1].to_owned())];
    with_subcommands(PwmCommand::command(), PROGRAMS[0].into(), &mut pages);
    for (command, name) in pages {
        // A page is called as its command is typed.
        let mut text = vec![];
        clap_mangen::Man::new(command.name(name.clone())).render(&mut text)?;
        let file = args.out.join(format!("{name}.1"));
        replace_bytes(&file, &text)?;
        writeln!(out, "{}", file.display())?;
    }
    Ok(())
}
