//! Memory: one allocation a number type, made once, at fixed addresses.

pub mod arena;

pub use arena::{Arena, OutOfMemory};
