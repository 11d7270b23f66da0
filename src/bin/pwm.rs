//! `pwm`: everything but training.

use clap::Parser;
use pwm::app::cli::PwmCommand;
use std::process::ExitCode;

fn main() -> ExitCode {
    pwm::version::set_commit(pwm::commit!());
    let command = PwmCommand::parse();
    pwm::app::exit(|out| command.run(out))
}
