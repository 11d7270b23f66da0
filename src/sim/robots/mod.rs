//! Robots as data, by name.

mod ant;

pub use ant::ant;

use super::articulation::Articulation;

/// Builds a robot from its shapes.
pub type Builder = fn() -> Articulation;

/// Every robot: its name and what builds it.
pub const ROBOTS: &[(&str, Builder)] = &[("ant", ant)];

/// The robot called `name`.
pub fn by_name(name: &str) -> Option<Articulation> {
    ROBOTS.iter().find(|(n, _)| *n == name).map(|(_, build)| build())
}
