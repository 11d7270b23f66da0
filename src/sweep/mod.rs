//! A sweep: many runs in one folder, as many side by side as fit.
//!
//! | file | idea |
//! |---|---|
//! | `folder.rs` | `sweep.json`: which runs there are, and what became of those that failed |
//! | `members.rs` | the runs that a command asks for, beside those that are there |
//! | `capacity.rs` | which runs fit beside each other |
//! | `launch.rs` | starts a run on this machine and hears how it ended |
//! | `slurm.rs` | the same runs as a job array of SLURM, and its queue |
//! | `single.rs` | one run as a task of such an array |
//! | `runner.rs` | from the first run to the last |
//! | `status.rs` | how far a run is, from its folder alone |
//! | `table.rs` | the same of all runs as text and JSON |
//!
//! A member is a process and a run folder like any other: what resumes a run resumes a member.

mod capacity;
mod folder;
mod launch;
mod members;
mod runner;
mod single;
pub mod slurm;
mod status;
mod table;

pub use capacity::{Capacity, Resources};
pub use folder::{
    Failure, MemberInfo, REPORT, SweepEnd, SweepEnded, SweepError, SweepFolder, SweepInfo, is_alive, is_sweep, read,
    write_failure,
};
pub use launch::{Exit, Job, LOG, Launched, Launcher, Local};
pub use members::{Draft, label, reconcile, unlike};
pub use runner::{Event, Member, Outcome, SweepRunner};
pub use single::run_member;
pub use status::{MemberStatus, State, is_over};
pub use table::{Line, counts, goes_on, json, lines, queue, summary, table};
