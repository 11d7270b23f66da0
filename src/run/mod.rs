//! A run and what it leaves behind: the folder, checkpoints, metrics, plots, the moving picture, signals.
//!
//! Each file here stands alone: it knows files and numbers, no tensor program and no robot.

pub mod atomic;
pub mod checkpoint;
pub mod crc64;
pub mod folder;
pub mod metrics;
pub mod plot;
pub mod progress;
pub mod signals;
pub mod tensorboard;
pub mod viewer;
