//! A run and what it leaves behind: the epoch loop, the folder, checkpoints, metrics, plots, the moving picture, signals.
//!
//! `session` is the loop; `state`, `tracker` and `film` stand between it and the trainer. Every other file stands alone:
//! it knows files and numbers, no tensor program and no robot.

pub mod atomic;
pub mod checkpoint;
pub mod crc64;
pub mod curve;
pub mod dashboard;
pub mod export;
pub mod film;
pub mod folder;
pub mod gif;
pub mod guard;
pub mod import;
pub mod incidents;
pub mod keep;
pub mod metrics;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod report;
pub mod select;
pub mod session;
pub mod signals;
pub mod source;
pub mod state;
pub mod stats;
pub mod status;
pub mod tensorboard;
pub mod tensors;
pub mod torch;
pub mod tracker;
pub mod viewer;
pub mod vitals;
