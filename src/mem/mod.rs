//! Memory: one allocation a number type, made once, at fixed addresses; what lies in a file instead; and how much of it
//! there may be.

pub mod arena;
pub mod budget;
pub mod mapped;

pub use arena::{ALIGN, Arena, OutOfMemory};
pub use budget::{Budget, Limit};
pub use mapped::{MapError, Mapped, in_memory};
