//! `pwm-train`: trains.

use clap::FromArgMatches;
use pwm::app::cli::train_command;
use pwm::app::train::{self, TrainArgs};
use pwm::run::signals::StopFlag;
use std::process::ExitCode;

fn main() -> ExitCode {
    pwm::version::set_commit(pwm::commit!());
    let args = TrainArgs::from_arg_matches(&train_command().get_matches()).unwrap_or_else(|e| e.exit());
    pwm::app::exit(|out| train::run(&args, out, &StopFlag::install()?))
}
