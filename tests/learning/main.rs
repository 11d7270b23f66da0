//! Operations, programs and learners in one process: adjoints, contracts, what is learned, that it is the same to the
//! bit.

mod adjoints;
mod batch;
mod determinism;
mod fidelity;
mod flow;
mod probes;
mod replay;
mod rollout;
mod shac;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod termination;
mod twohot;
