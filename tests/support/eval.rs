//! Arguments of `pwm eval` as tests give them.

use pwm::app::eval;
use std::path::Path;

/// One thread, nothing written but the report; `more` changes what a test is about.
pub fn eval_args(path: &Path, more: impl FnOnce(&mut eval::EvalArgs)) -> eval::EvalArgs {
    let mut args = eval::EvalArgs {
        checkpoint: path.into(),
        all: false,
        watch: false,
        csv: None,
        markdown: None,
        episodes: None,
        fresh: false,
        movie: None,
        states: None,
        threads: 1,
    };
    more(&mut args);
    args
}
