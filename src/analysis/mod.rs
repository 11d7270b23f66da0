//! What several runs say together: which runs a pattern means, reports, intervals and tests.

pub mod report;
pub mod select;
pub mod stats;
