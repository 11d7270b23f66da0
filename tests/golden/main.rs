//! Learning against numbers of the reference implementation (`README.md`).

mod actor;
mod blocks;
mod epoch;
mod flow;
mod multitask;
mod optim;
mod replay;
#[path = "../support/mod.rs"]
mod support;
mod twohot;
mod world_model;
