//! The CPU back end: worker team, matrix products, vector math.

pub mod lanes;
