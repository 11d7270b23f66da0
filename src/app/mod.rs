//! (being written)
pub mod bench;
pub mod config;
