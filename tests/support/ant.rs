//! The Ant for tests of it: its task under given settings, and its sizes.

use pwm::config::Config;
use pwm::device::Real;
use pwm::env::Task;

pub const OBS: usize = 37;
pub const ACT: usize = 8;
pub const NQ: usize = 15;
pub const NQD: usize = 14;
pub const BODIES: usize = 9;
/// Environment step (s), the substeps it is cut into, and the torque of a full action [N m].
pub const DT: f64 = 1.0 / 60.0;
pub const SUBSTEPS: usize = 16;
pub const ACTION_SCALE: f64 = 200.0;
/// Pictures in the folder of a run.
pub const MOVIE: &str = "ant.html";
pub const STILL: &str = "ant.svg";

/// Coordinates of the start pose.
pub const START_Q: [f64; NQ] = {
    const H: f64 = std::f64::consts::FRAC_1_SQRT_2;
    [0.0, 0.75, 0.0, -H, 0.0, 0.0, H, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0]
};

/// The task with these settings.
pub fn task(c: Config) -> Task {
    let task = Task::from_config(&Config { env: "ant".into(), ..c }).unwrap();
    let s = task.sizes;
    assert_eq!([s.obs, s.act, s.nq, s.nqd, task.dflex().model().links.len()], [OBS, ACT, NQ, NQD, BODIES]);
    assert_eq!(
        (task.spec.dt, task.dflex().spec.substeps, &task.dflex().spec.reset.start[..]),
        (DT, SUBSTEPS, &START_Q[..])
    );
    task
}

/// Observation of one row after a reset.
pub fn observe<R: Real>(task: &Task, q: &[R], qd: &[R], obs: &mut [R]) {
    task.dflex().observe_row(&q[..NQ], &qd[..NQD], None, obs);
}
