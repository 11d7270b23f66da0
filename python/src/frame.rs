//! A robot in a state, as a picture.

use numpy::ndarray::Array3;
use pwm::draw::viewer::{Movie, Readout};
use pwm::env::{Task, task_movie_poses, task_movie_shapes};

/// `[height, width, 3]`: the robot with coordinates `q`, beside lines on the ground that stand where it began with
/// `begun`.
pub fn picture(task: &Task, begun: &[f64], q: &[f64]) -> anyhow::Result<Array3<u8>> {
    let shapes = task_movie_shapes(task);
    let poses = [task_movie_poses(task, begun), task_movie_poses(task, q)].concat();
    let movie = Movie {
        title: "",
        subtitle: "",
        fps: (1.0 / task.spec.dt) as f32,
        shapes: &shapes,
        poses: &poses,
        readouts: &[Readout::default(); 2],
        contact_forces: &[],
        weight: 0.0,
        notes: "",
    };
    let (pixels, width, height) = movie.rgb(1)?;
    Ok(Array3::from_shape_vec((height, width, 3), pixels)?)
}
