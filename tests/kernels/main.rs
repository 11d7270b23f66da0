//! The CUDA back end without a GPU, on the stand-in driver (`tests/standin`).

mod bench;
mod bundle;
mod cases;
mod device;
mod epochs;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
