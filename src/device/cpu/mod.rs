//! The CPU back end: worker team, run-time choice of instructions, vector math, lanes of environments.

pub mod lanes;
pub mod packing;
pub mod simd;
pub mod team;
pub mod vmath;
