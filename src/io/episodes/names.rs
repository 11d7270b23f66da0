//! The published numbers of tasks: MT30's, and behind them Meta-World's, which together are MT80.

use crate::config::Shipped;
use std::sync::LazyLock;

/// The set of environments that are the first tasks.
const MT30: &str = "mt30";

/// Tasks by their number in the published data.
pub fn published() -> &'static [&'static str] {
    static ALL: LazyLock<Vec<&str>> = LazyLock::new(|| mt30().into_iter().chain(OF_META_WORLD).collect());
    &ALL
}

/// The tasks of MT30, the first of them.
pub fn mt30() -> Vec<&'static str> {
    Shipped::set(MT30).expect("invariant: the set is shipped")
}

/// How Meta-World's names begin.
pub const META_WORLD: &str = "mw-";

/// Entries of an observation and of an action of every task of Meta-World, whose simulator is none of ours.
pub const META_WORLD_SIZES: (usize, usize) = (39, 4);

/// Its tasks in the published order.
const OF_META_WORLD: [&str; 50] = [
    "mw-assembly",
    "mw-basketball",
    "mw-button-press-topdown",
    "mw-button-press-topdown-wall",
    "mw-button-press",
    "mw-button-press-wall",
    "mw-coffee-button",
    "mw-coffee-pull",
    "mw-coffee-push",
    "mw-dial-turn",
    "mw-disassemble",
    "mw-door-open",
    "mw-door-close",
    "mw-drawer-close",
    "mw-drawer-open",
    "mw-faucet-open",
    "mw-faucet-close",
    "mw-hammer",
    "mw-handle-press-side",
    "mw-handle-press",
    "mw-handle-pull-side",
    "mw-handle-pull",
    "mw-lever-pull",
    "mw-peg-insert-side",
    "mw-peg-unplug-side",
    "mw-pick-out-of-hole",
    "mw-pick-place",
    "mw-pick-place-wall",
    "mw-plate-slide",
    "mw-plate-slide-side",
    "mw-plate-slide-back",
    "mw-plate-slide-back-side",
    "mw-push-back",
    "mw-push",
    "mw-push-wall",
    "mw-reach",
    "mw-reach-wall",
    "mw-shelf-place",
    "mw-soccer",
    "mw-stick-push",
    "mw-stick-pull",
    "mw-sweep-into",
    "mw-sweep",
    "mw-window-open",
    "mw-window-close",
    "mw-bin-picking",
    "mw-box-close",
    "mw-door-lock",
    "mw-door-unlock",
    "mw-hand-insert",
];
