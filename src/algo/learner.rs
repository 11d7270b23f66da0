//! What a run asks of an algorithm before anything is allocated: what it writes, and the networks of its policy.

use super::{Blueprint, Networks};
use crate::config::Config;
use crate::tape::Vars;

/// An algorithm. It writes programs and says what they are for; [`super::Runner`] runs them.
pub trait Learner: Sync {
    /// Its name in titles.
    fn title(&self) -> &'static str;
    /// Variables and programs of a run, and what the runner must know of them.
    fn build(&self, c: &Config) -> Blueprint;
    /// The networks alone, added to `vars` under the names that checkpoints of a run use: to act, and to export.
    fn networks(&self, c: &Config, vars: &mut Vars) -> Networks;
}
