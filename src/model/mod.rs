//! Networks: which parameters they have, how these start, and the operations they are made of.

pub mod actor;
pub mod critic;
pub mod flow;
pub mod mlp;
pub mod params;
pub mod tasks;
pub mod world;

pub use actor::Actor;
pub use critic::Critics;
pub use mlp::Mlp;
pub use params::ParamGroup;
pub use tasks::TaskRows;
pub use world::WorldModel;
