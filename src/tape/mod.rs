//! The tape: a program of operations on shaped values, its reverse pass, its memory plan, and the machine that runs it.
//!
//! Everything is static. Tracing a model records [`Program`]s; [`grad`](mod@grad) appends hand-written adjoints; [`plan`] gives
//! every value an offset; [`Machine`] allocates once and executes. Operations are known only through [`Op`].

pub mod cuda;
pub mod exec;
pub mod fill;
pub mod grad;
pub mod offloaded;
pub mod op;
mod place;
pub mod plan;
pub mod profile;
pub mod program;
pub mod recompute;

pub use exec::Machine;
pub use grad::{Adjoint, grad};
pub use offloaded::Placement;
pub use op::{Op, OpArgs};
pub use plan::Layout;
pub use program::{DType, Program, Region, Val, VarId, Vars};
