//! A run: the epoch loop, its folder, what it holds, when it stops, what it shows while it goes.
//!
//! `session` is the loop; `state`, `tracker` and `trajectory` stand between it and the algorithm.

pub mod cpu_time;
pub mod dashboard;
pub mod early_stop;
pub mod export;
pub mod folder;
pub mod import;
pub mod incidents;
pub mod plan;
pub mod progress;
pub mod recorded;
pub mod retention;
pub mod session;
pub mod signal_health;
pub mod signals;
pub mod state;
pub mod status;
pub mod tracker;
pub mod trajectory;
