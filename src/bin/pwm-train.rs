//! `pwm-train`: trains. Only the arguments are read here.

use clap::{CommandFactory, FromArgMatches, Parser};
use pwm::app::train::{self, TrainArgs};
use pwm::run::signals::StopFlag;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "pwm-train", version = pwm::version::version())]
struct Cli {
    #[command(flatten)]
    args: TrainArgs,
}

fn main() -> ExitCode {
    pwm::version::set_commit(pwm::commit!());
    let matches =
        Cli::command().after_help(format!("{}\n{}", pwm::config::help_text(), pwm::app::EXIT_STATUS)).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    pwm::app::exit(|out| train::run(&cli.args, out, &StopFlag::install()?))
}
