//! Configuration: one flat, typed `Config`, with every default in one table.

mod choices;
mod key;
mod schema;
mod value;

pub use choices::{
    Bootstrap, Decode, Device, Inertia, LrSchedule, ReferencePoint, ReplaySampling, RewNorm, RewardHead,
};
pub use key::{Key, Range, Section};
pub use schema::{Config, KEYS};
pub use value::Value;
