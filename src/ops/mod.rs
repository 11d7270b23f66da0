//! Operations: one folder a family. A folder holds everything about its operations: what they compute, their shapes,
//! their adjoints, their kernels.

pub mod linear;
pub mod replay;
pub mod twohot;
