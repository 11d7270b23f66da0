//! Configurations, plans and runs.

use pwm::app::Misused;
use pwm::app::plan::{PlanArgs, run as run_plan};
use pwm::app::train::{TrainArgs, run_watched};
use pwm::config::{Bytes, Config, Shipped, ShippedKind, load};
use pwm::run::progress::Ui;
use pwm::run::signals::StopFlag;
use pwm::sweep::is_sweep;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::errors::{Failure, guarded};

/// How often a run looks whether Python was asked to stop.
const LOOK: Duration = Duration::from_millis(100);

/// An amount of memory, as in `128G`.
fn bytes(text: Option<String>) -> anyhow::Result<Option<Bytes>> {
    text.map(|t| t.parse().map_err(|e: String| Misused::new(e).into())).transpose()
}

/// Environments that are shipped.
#[pyfunction]
pub fn env_names() -> Vec<&'static str> {
    let names = Shipped::names(ShippedKind::Env);
    names.into_iter().filter(|name| Shipped::find(ShippedKind::Env, name).is_some_and(|s| !s.is_set())).collect()
}

/// The configuration that settings give, as JSON.
#[pyfunction]
pub fn config(settings: Vec<String>) -> PyResult<String> {
    Ok(guarded(|| Ok(load(&settings)?.to_json().to_string()))?)
}

/// The folder of the run that settings describe.
#[pyfunction]
pub fn run_folder(settings: Vec<String>) -> PyResult<PathBuf> {
    Ok(guarded(|| Ok(load(&settings)?.run_folder()))?)
}

/// The configuration in a run's file, as JSON.
#[pyfunction]
pub fn config_of_run(name: &str, text: &str) -> PyResult<String> {
    Ok(guarded(|| Ok(Config::from_yaml::<&str>(name, text, &[])?.to_json().to_string()))?)
}

/// What a run would hold, as the JSON of `pwm plan --json`.
#[pyfunction]
#[pyo3(signature = (settings, mem = None, device_mem = None, epoch = false))]
pub fn plan(
    py: Python<'_>,
    settings: Vec<String>,
    mem: Option<String>,
    device_mem: Option<String>,
    epoch: bool,
) -> PyResult<String> {
    Ok(py.detach(|| {
        guarded(|| {
            let (mem, device_mem) = (bytes(mem)?, bytes(device_mem)?);
            let args = PlanArgs { overrides: settings, mem, device_mem, epoch, json: true, ..PlanArgs::default() };
            let mut out = vec![];
            // Threads of its own: those of a pool for the whole process do not survive a fork.
            let pool = rayon::ThreadPoolBuilder::new().build()?;
            pool.install(|| run_plan(&args, &mut out))?;
            Ok(String::from_utf8(out)?)
        })
    })?)
}

/// Trains on a thread of its own. This one hands rows of metrics to `on_row` (lines of JSON) and looks for signals; an
/// exception there stops the run, which saves everything first. Returns what the run said.
#[pyfunction]
#[pyo3(signature = (settings, resume = None, mem = None, device_mem = None, ui = None, on_row = None))]
pub fn train(
    py: Python<'_>,
    settings: Vec<String>,
    resume: Option<PathBuf>,
    mem: Option<String>,
    device_mem: Option<String>,
    ui: Option<String>,
    on_row: Option<Py<PyAny>>,
) -> PyResult<String> {
    let args = guarded(|| {
        let ui = match ui.as_deref() {
            None => Ui::None,
            Some("plain") => Ui::Plain,
            Some("bar") => Ui::Bar,
            Some("full") => Ui::Full,
            Some(other) => return Err(Misused::new(format!("no ui is called {other}")).into()),
        };
        let (mem, device_mem) = (bytes(mem)?, bytes(device_mem)?);
        if let Some(folder) = resume.as_deref().filter(|f| is_sweep(f)) {
            let what = format!("{}: holds a sweep, which pwm-train --resume goes on with", folder.display());
            return Err(Misused::new(what).into());
        }
        Ok(TrainArgs { overrides: settings, resume, mem, device_mem, ui: Some(ui), ..TrainArgs::default() })
    })?;
    let stop = StopFlag::detached();
    let (rows, mut incoming) = channel::<String>();
    let asked = stop.clone();
    let work = move || {
        let mut out = vec![];
        let watch: pwm::run::session::Watch = Box::new(move |row: &[u8]| {
            let _ = rows.send(String::from_utf8_lossy(row).into_owned());
        });
        let ended = guarded(|| run_watched(&args, &mut out, &asked, Some(watch)));
        ended.map(|()| String::from_utf8_lossy(&out).into_owned())
    };
    let thread = std::thread::Builder::new().name("pwm-train".into()).spawn(work)?;
    let mut raised = None;
    loop {
        let waiting = &mut incoming;
        let row = py.detach(move || waiting.recv_timeout(LOOK));
        let heard = match row {
            // What comes while the run saves is in its folder.
            Ok(row) if raised.is_none() => on_row.as_ref().map_or(Ok(()), |f| f.call1(py, (row,)).map(drop)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(e) = heard.and_then(|()| py.check_signals()) {
            stop.interrupt();
            raised.get_or_insert(e);
        }
    }
    let ended = py.detach(|| thread.join()).unwrap_or_else(|_| Err(Failure::Broken("the run's thread broke".into())));
    match (raised, ended) {
        (Some(e), Ok(_)) => Err(e),
        (Some(e), Err(failure)) => {
            e.set_cause(py, Some(failure.into()));
            Err(e)
        }
        (None, ended) => Ok(ended?),
    }
}
