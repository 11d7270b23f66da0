//! Operations: one folder a family. A folder holds everything about its operations: what they compute, their shapes,
//! their adjoints, their kernels.

pub mod control;
pub mod embedding;
pub mod flow;
pub mod linear;
pub mod loss;
pub mod optim;
pub mod policy;
pub mod probe;
pub mod random;
pub mod replay;
pub mod returns;
pub mod stats;
pub mod sum;
pub mod twohot;
pub mod windows;
