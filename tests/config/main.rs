//! Settings, what is planned for them, and the layers of the source.

mod layers;
mod plan;
mod settings;
#[path = "../support/mod.rs"]
mod support;
