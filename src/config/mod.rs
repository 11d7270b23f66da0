//! Configuration: one flat, typed `Config`, with every default in one table.
//!
//! ```text
//! built-in defaults  <  configs/env/<env>.yaml  <  configs/alg/<alg>.yaml  <  key=value overrides
//! ```
//!
//! `load` resolves and validates; what it returns can be run. Whatever is wrong is refused with its place, what is
//! allowed and the nearest name, before anything is computed.

mod bytes;
mod choices;
mod derived;
mod docs;
mod error;
mod fork;
mod grid;
mod key;
mod load;
mod multitask;
mod names;
mod rules;
mod schema;
mod shipped;
pub mod spec;
mod tasks;
mod unread;
mod value;
mod yaml;

pub use bytes::Bytes;
pub use choices::{
    ActorKind, Algorithm, Bootstrap, Collapse, Decode, Device, Dynamics, FlowHead, FlowProjection, Inertia, Integrator,
    Latent, LrSchedule, Mode, MujocoVersion, Precision, Recompute, ReferencePoint, ReplayPlace, ReplaySampling,
    RewNorm, RewardHead, Rollout, Subgradient, TaskSampling, TauSampling,
};
pub use docs::{help_text, markdown};
pub use error::{Broken, ConfigError, ConfigErrors, SourceLocation};
pub use fork::{Note, NoteKind};
pub use grid::Grid;
pub use key::{Effect, Key, KeySection, Range, one_of};
pub use load::{load, load_with_notes};
pub use names::{ALIASES, nearest};
pub use schema::{Config, KEYS};
pub use shipped::{SHIPPED, Shipped, ShippedKind};
pub use value::Value;
