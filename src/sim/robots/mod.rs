//! Robots as data, by name.

mod ant;

pub use ant::ant;

use super::articulation::Articulation;

/// Every robot: its name and what builds it.
pub const ROBOTS: &[(&str, fn() -> Articulation)] = &[("ant", ant)];

/// The robot called `name`.
pub fn by_name(name: &str) -> Option<Articulation> {
    ROBOTS.iter().find(|(n, _)| *n == name).map(|(_, build)| build())
}
