//! The CPU back end: worker team, run-time choice of instructions, vector math.

pub mod simd;
pub mod team;
pub mod vmath;
