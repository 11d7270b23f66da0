//! Errors of the library as exceptions of `pwm_rl.errors`; no panic crosses.

use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why something did not end well.
pub enum Failure {
    Error(anyhow::Error),
    /// What a panic said.
    Broken(String),
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        // The exit status of the same error on the command line tells its class.
        let (status, text) = match failure {
            Failure::Error(e) => (pwm::app::status(&e), format!("{e:#}")),
            Failure::Broken(text) => (u8::MAX, text),
        };
        Python::attach(|py| {
            let class = py.import("pwm_rl.errors").and_then(|m| m.getattr("of_status")?.call1((status,)));
            match class.and_then(|class| class.call1((text,))) {
                Ok(exception) => PyErr::from_value(exception),
                Err(e) => e,
            }
        })
    }
}

/// Runs what a call from Python asks for.
pub fn guarded<T>(work: impl FnOnce() -> anyhow::Result<T>) -> Result<T, Failure> {
    let ended = catch_unwind(AssertUnwindSafe(work)).map(|ended| ended.map_err(Failure::Error));
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(Failure::Broken(text.unwrap_or_else(|| "a broken invariant".into())))
    })
}

/// Panics, for the test that no panic crosses.
#[pyfunction]
pub fn broken_invariant() -> PyResult<()> {
    Ok(guarded(|| panic!("invariant: this one is broken on purpose"))?)
}
