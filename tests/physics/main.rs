//! The simulator: against physics, against dual numbers, against the reference.

mod adjoint;
mod dynamics;
mod golden;
mod mjcf;
mod mt30;
mod mujoco;
mod robots;
#[path = "../support/mod.rs"]
mod support;
mod task;
mod tree;
