//! Algorithms: which programs there are, and in which order an epoch runs them.

pub mod pwm;
pub mod schedule;
pub mod target;

pub use target::target;
