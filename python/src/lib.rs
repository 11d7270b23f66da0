//! The native half of the Python package `pwm_rl`: what crosses between Python and the library, nothing else.
//!
//! What computes runs under [`errors::guarded`], where an error becomes an exception of `pwm_rl.errors` and so does a
//! broken invariant, and without Python's lock.

mod batch;
mod errors;
mod frame;
mod policy;
mod pool;
mod runs;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    pwm::version::set_commit(pwm::commit!());
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("MOST_ENVS", batch::MOST_ENVS)?;
    m.add("MOST_THREADS", batch::MOST_THREADS)?;
    m.add_class::<batch::Batch32>()?;
    m.add_class::<batch::Batch64>()?;
    m.add_class::<policy::Policy>()?;
    m.add_function(wrap_pyfunction!(runs::env_names, m)?)?;
    m.add_function(wrap_pyfunction!(runs::config, m)?)?;
    m.add_function(wrap_pyfunction!(runs::config_of_run, m)?)?;
    m.add_function(wrap_pyfunction!(runs::run_folder, m)?)?;
    m.add_function(wrap_pyfunction!(runs::plan, m)?)?;
    m.add_function(wrap_pyfunction!(runs::train, m)?)?;
    m.add_function(wrap_pyfunction!(errors::broken_invariant, m)?)?;
    Ok(())
}
