//! The tape: a program of operations on shaped values, its reverse pass, its memory plan, and the machine that runs it.
//!
//! Everything is static. Tracing a model records [`Program`]s; [`grad`](mod@grad) appends hand-written adjoints;
//! [`plan`] gives every value an offset; a [`Machine`] runs them on a [`Backend`]. Operations are known only through
//! [`Op`].

pub mod backend;
pub mod cuda;
pub mod epoch_io;
pub mod fill;
pub mod grad;
pub mod machine;
mod number;
pub mod op;
mod place;
mod placement;
pub mod plan;
pub mod profile;
pub mod program;
pub mod recompute;

pub use backend::{Backend, BindError, ProgramId, RunError};
pub use epoch_io::{EpochIo, MAX_IN_FLIGHT};
pub use grad::{Adjoint, grad};
pub use machine::Machine;
pub use number::TapeReal;
pub use op::{Op, OpArgs, Operand};
pub use placement::Placement;
pub use plan::Layout;
pub use program::{DType, Program, Region, Val, VarId, Vars};
