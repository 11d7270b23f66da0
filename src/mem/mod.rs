//! Memory: one allocation a number type, made once, at fixed addresses; and how much of it there may be.

pub mod arena;
pub mod budget;

pub use arena::{Arena, OutOfMemory};
pub use budget::{Budget, Limit};
