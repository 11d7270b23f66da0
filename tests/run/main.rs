//! Whole runs, mostly as processes of their own: what they leave, how they end, what happens to them meanwhile.

mod app;
mod earlier_builds;
mod early_stop;
mod faults;
mod kill;
mod memory;
mod multitask;
mod outside;
mod report;
mod robot;
#[cfg(target_os = "linux")]
mod slurm;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
mod tracker;
