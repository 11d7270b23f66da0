//! Every kernel compiles for every architecture it is meant for, and those that are meant to live in registers do.
//!
//! The run-time compiler is a library that needs no GPU: `PWM_NVRTC_PATH` says where it is. Without it these tests say
//! so and fail; they are behind the feature `kernel-tests`.

#[path = "support/tiny.rs"]
mod tiny;

use pwm::algo::written;
use pwm::config::Config;
use pwm::device::cuda::Launch;
use pwm::device::cuda::nvrtc::{Nvrtc, Usage};
use pwm::device::cuda::unit::{FILES, units};
use pwm::tape::cuda::round;
use pwm::tape::exec::describe_launches;
use std::collections::BTreeSet;

const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_100a"];

fn launches(c: &Config) -> Vec<Launch> {
    let (vars, programs) = written(c);
    let mut all = describe_launches(&vars, &programs).unwrap().concat();
    all.extend(round::describe_launches());
    all
}

/// Shipped configurations, and choices that reach the kernels they leave out.
fn configurations() -> Vec<Config> {
    let two_hot = ["reward_head=two_hot", "rew_norm=none", "obs_norm=true", "critic_shuffle=true"];
    let ends = ["replay_sampling=episode", "bootstrap=reference", "inertia=exact", "reference_point=world"];
    vec![
        tiny::config(&two_hot),
        tiny::config(&ends),
        tiny::shipped("pwm_small"),
        tiny::shipped("pwm_5M"),
        tiny::shipped("pwm_48M"),
        tiny::config(&["dynamics=flow", "flow_head=simnorm", "flow_projection=simplex", "actor=flow"]),
        tiny::shipped("pwm_5M_flow_v2"),
        tiny::shipped("pwm_48M_flow_v2_rk4"),
        tiny::shipped("shac"),
        tiny::config(&["alg=shac_small", "subgradient=central", "reference_point=world"]),
    ]
}

fn compile(arch: &str) -> Vec<Usage> {
    let nvrtc = Nvrtc::load().unwrap();
    let all: Vec<Launch> = configurations().iter().flat_map(launches).collect();
    let (units, _) = units(&all);
    units.iter().flat_map(|u| nvrtc.compile(u, arch).unwrap_or_else(|e| panic!("{e}")).usage).collect()
}

#[test]
fn every_kernel_compiles_without_spills() {
    for arch in ARCHITECTURES {
        let usage = compile(arch);
        assert!(usage.len() > 60, "{} entry points reported for {arch}", usage.len());
        println!("{arch}: registers, shared memory, stack, spills");
        for u in &usage {
            println!(
                "{:60} {:4} {:6} {:5} {:5}",
                u.symbol,
                u.registers,
                u.shared,
                u.stack,
                u.spill_stores + u.spill_loads
            );
        }
        // Every kernel is meant to have none.
        let spilling: Vec<_> = usage.iter().filter(|u| u.spill_stores + u.spill_loads > 0).collect();
        assert!(spilling.is_empty(), "{arch}: {spilling:#?}");
    }
}

#[test]
fn every_file_is_launched_by_some_configuration() {
    let used: BTreeSet<_> = configurations().iter().flat_map(launches).map(|l| l.kernel.file).collect();
    for (file, _) in FILES.iter().filter(|(f, _)| f.ends_with(".cu")) {
        assert!(used.contains(file), "{file} is not used");
    }
}
