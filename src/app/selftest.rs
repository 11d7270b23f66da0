//! `pwm selftest`: every operation, forward and adjoint, on the user's own device against the CPU in double precision.
//! The cases lie in files by family.

mod elementwise;
mod embedding;
mod env;
mod flow;
pub mod lab;
mod linear;
mod loss;
mod physics;
mod policy;
mod replay;
pub mod training;
pub mod tree;

pub use env::start_anywhere;
pub use lab::{Case, Lab, Outcome, SelftestError, case};
pub use training::{ENCODED, Training, same_bits, train_beside_cpu};

use super::say;
use crate::algo::target;
use crate::backend::Target;
use crate::config::{Device, Precision};
use std::io::Write;

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    linear::linear_cases(&mut list);
    linear::product_cases(&mut list);
    linear::cluster_cases(&mut list);
    elementwise::elementwise_cases(&mut list);
    loss::loss_cases(&mut list);
    flow::flow_cases(&mut list);
    embedding::embedding_cases(&mut list);
    policy::policy_cases(&mut list);
    replay::replay_cases(&mut list);
    physics::physics_cases(&mut list);
    env::env_cases(&mut list);
    env::env_adjoint_cases(&mut list);
    list
}

/// What `pwm selftest` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct SelftestArgs {
    /// What to test: cuda:N, cpu, or auto
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: Device,
    /// Only the cases whose name begins with this, and no training
    #[arg(long, value_name = "NAME")]
    pub cases: Option<String>,
    /// What to multiply in; by default all, one after another
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
}

/// Carries the command out; an error if anything differs.
pub fn run(args: &SelftestArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut passed = true;
    let precisions = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    for precision in precisions.into_iter().filter(|p| args.precision.is_none_or(|only| only == *p)) {
        let target = target(args.device, precision)?;
        let name = match &target {
            Target::Cpu => "the processor, in single precision".to_owned(),
            Target::Cuda(context, o) => format!("cuda:{} {}, {}", context.info.ordinal, context.info.name, o.matmul),
        };
        say(out, format_args!("tests {name}"));
        passed &= run_cases(&target, args.cases.as_deref().unwrap_or_default(), out)?;
        if args.cases.is_some() {
            continue;
        }
        // As `pwm_small` has it, and as published.
        for more in [&[][..], ENCODED] {
            let training = train_beside_cpu(&target, 20, more)?;
            say(out, format_args!("{training}"));
            passed &= training.passed();
            if matches!(target, Target::Cuda(..)) {
                let (words, same) = same_bits(&target, more)?;
                say(out, format_args!("{words}"));
                passed &= same;
            }
        }
        // The processor knows no other precision.
        if matches!(target, Target::Cpu) {
            break;
        }
    }
    anyhow::ensure!(passed, "the self-test failed: see the lines above");
    Ok(())
}

/// Runs every case whose name begins with `name` on `target`, one line each; whether all passed.
pub fn run_cases(target: &Target, name: &str, out: &mut dyn Write) -> Result<bool, SelftestError> {
    say(
        out,
        format_args!("{:58} {:>10} {:>10}", "error relative to the largest number of an array", "device", "cpu f32"),
    );
    let (mut failed, mut count) = (0, 0);
    for case in cases().into_iter().filter(|c| c.name.starts_with(name)) {
        let o = case.run(1, target)?;
        let word = if o.passed { "" } else { "  FAILED" };
        say(out, format_args!("{:58} {:10.1e} {:10.1e}{word}{}", o.name, o.error, o.cpu_error, o.detail));
        failed += usize::from(!o.passed);
        count += 1;
    }
    say(out, format_args!("{} of {count} cases passed", count - failed));
    Ok(failed == 0)
}
