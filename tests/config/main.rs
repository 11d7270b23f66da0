//! Settings, what is planned for them, and the layers of the source.

mod layers;
mod plan;
mod settings;
mod specs;
#[path = "../support/mod.rs"]
mod support;
