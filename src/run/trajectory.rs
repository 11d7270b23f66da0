//! Keeps the states of an evaluation, step by step, and makes one episode into a moving and a still picture.

use crate::algo::{StepView, TaskEvaluation};
use crate::config::Config;
use crate::draw::viewer::{ContactForce, Movie, MovieShape, Readout, ViewerError};
use crate::env::{EnvSizes, Task, ground_forces, sizes, task_movie_poses, task_movie_shapes, weight};
use crate::sim::Vec3;
use crate::sim::articulation::JointKind;
use crate::tape::TapeReal;
use std::fmt::Write;

/// Environments whose states are kept; a thousand steps of one are 120 kB.
pub(super) const KEPT: usize = 64;
/// Poses of a still picture, and the metres between two of them.
const POSES: usize = 6;
const GAP: f32 = 1.5;

/// Numbers of a frame: coordinates, velocities, return so far.
pub(super) fn frame(c: &Config) -> usize {
    let s = if c.is_played() { sizes(c) } else { EnvSizes::default() };
    s.nq + s.nqd + 1
}

/// Coordinates, velocities and returns of every step of the first environments of an evaluation.
#[derive(Debug)]
pub struct Trajectory {
    sizes: EnvSizes,
    /// Environments that are kept at most, and those of the evaluation that are.
    most: usize,
    envs: usize,
    q: Vec<f32>,
    qd: Vec<f32>,
    returns: Vec<f32>,
}

/// Shapes, poses and readouts of one episode, as [`Movie`] takes them.
struct Reel {
    shapes: Vec<MovieShape>,
    poses: Vec<f32>,
    readouts: Vec<Readout>,
    contact_forces: Vec<ContactForce>,
    weight: f32,
    fps: f32,
}

impl Reel {
    fn movie<'a>(&'a self, title: &'a str, subtitle: &'a str) -> Movie<'a> {
        let Self { shapes, poses, readouts, contact_forces, weight, fps } = self;
        Movie { title, subtitle, fps: *fps, shapes, poses, readouts, contact_forces, weight: *weight, notes: "" }
    }
}

/// Pictures of one episode.
#[derive(Clone, Debug)]
pub struct Pictures {
    pub html: String,
    pub svg: String,
}

impl Trajectory {
    /// Room for evaluations of so many environments, of these sizes, and steps. Of many the first are kept, to draw
    /// one of them.
    pub fn new(sizes: EnvSizes, envs: usize, steps: usize) -> Self {
        Self::of_all(sizes, envs.min(KEPT), steps)
    }

    /// The same that keeps every environment.
    pub fn of_all(sizes: EnvSizes, envs: usize, steps: usize) -> Self {
        let frames = envs * steps;
        Self {
            sizes,
            most: envs,
            envs: 0,
            q: Vec::with_capacity(frames * sizes.nq),
            qd: Vec::with_capacity(frames * sizes.nqd),
            returns: Vec::with_capacity(frames),
        }
    }

    /// Forgets the last evaluation.
    pub fn clear(&mut self) {
        self.q.clear();
        self.qd.clear();
        self.returns.clear();
    }

    /// One step: for `watch` of an evaluation.
    pub fn frame<F: TapeReal>(&mut self, view: StepView<F>) {
        self.envs = view.returns.len().min(self.most);
        let keep = |to: &mut Vec<f32>, from: &[F], each| to.extend(from[..each].iter().map(|x| x.value() as f32));
        keep(&mut self.q, view.q, self.envs * self.sizes.nq);
        keep(&mut self.qd, view.qd, self.envs * self.sizes.nqd);
        keep(&mut self.returns, view.returns, self.envs);
    }

    /// The episode to show: the one of median return among those that were kept.
    pub fn episode(&self, e: &TaskEvaluation) -> usize {
        let kept = |x: &[f64]| x[..x.len().min(self.envs)].to_vec();
        TaskEvaluation { returns: kept(&e.returns), ..TaskEvaluation::default() }.median_episode()
    }

    fn q(&self, frame: usize, env: usize) -> &[f32] {
        &self.q[(frame * self.envs + env) * self.sizes.nq..][..self.sizes.nq]
    }

    fn qd(&self, frame: usize, env: usize) -> &[f32] {
        &self.qd[(frame * self.envs + env) * self.sizes.nqd..][..self.sizes.nqd]
    }

    /// One episode, ready to be drawn. It ends before the first state that is not finite.
    fn reel(&self, task: &Task, e: &TaskEvaluation, env: usize) -> Reel {
        let frames = self.returns.len() / self.envs.max(1);
        let frames = frames.min(e.lengths.get(env).map_or(0, |l| *l as usize));
        let sane = |f: &usize| self.q(*f, env).iter().all(|x| x.is_finite() && x.abs() < 1e6);
        let frames = (0..frames).take_while(sane).count();

        let (mut shapes, mut poses, mut readouts, mut contact_forces) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for f in 0..frames {
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (q, qd) = (wide(self.q(f, env)), wide(self.qd(f, env)));
            let narrow = |v: [f64; 3]| v.map(|x| x as f32);
            let forces = ground_forces(task, &q, &qd).into_iter();
            let forces = forces.map(|p| ContactForce { frame: f, at: narrow(p.at), force: narrow(p.force) });
            contact_forces.extend(forces.filter(|p| p.force.iter().all(|x| x.is_finite())));
            poses.extend(task_movie_poses(task, &q));
            if f == 0 {
                shapes = task_movie_shapes(task);
            }
        }
        let dt = task.spec.dt;
        // The first shape's: a root need not have a position among the coordinates.
        let along = |f: usize| poses[f * 7 * shapes.len()];
        for f in 0..if shapes.is_empty() { 0 } else { frames } {
            let (a, b) = if f + 1 < frames { (f, f + 1) } else { (f.saturating_sub(1), f) };
            let speed = (along(b) - along(a)) / dt as f32;
            let total_reward = self.returns[f * self.envs + env];
            readouts.push(Readout { time: f as f32 * dt as f32, speed, total_reward });
        }
        Reel { shapes, poses, readouts, contact_forces, weight: weight(task) as f32, fps: (1.0 / dt) as f32 }
    }

    /// Every state of every episode before its steps, as CSV: episode, step, time (s), return so far, coordinates and
    /// velocities by the names of their bodies (m, rad and theirs a second; y is up, under MuJoCo's law z). Of a free body these are position
    /// and orientation (x, y, z, w), angular velocity and the velocity of its origin, all in world axes.
    pub fn states(&self, task: &Task, e: &TaskEvaluation) -> String {
        let mut text = String::from("episode,step,time,return");
        let columns = |kind: JointKind, rate: bool| -> &[&str] {
            match (kind, rate) {
                (JointKind::Free, false) => &[".x", ".y", ".z", ".qx", ".qy", ".qz", ".qw"],
                (JointKind::Free, true) => &[".wx", ".wy", ".wz", ".vx", ".vy", ".vz"],
                (JointKind::Ball, false) => &[".qx", ".qy", ".qz", ".qw"],
                (JointKind::Ball, true) => &[".wx", ".wy", ".wz"],
                (JointKind::Hinge | JointKind::Slide, _) => &[""],
                (JointKind::Fixed, _) => &[],
            }
        };
        for (of, rate) in [("q", false), ("qd", true)] {
            for body in &task.spec.robot.bodies {
                for c in columns(body.joint.kind, rate) {
                    let _ = write!(text, ",{of}.{}{c}", body.name);
                }
            }
            // Numbers of a goal lie behind the coordinates.
            let own = task.spec.robot.offsets().0;
            for k in own[own.len() - 1]..if rate { 0 } else { self.sizes.nq } {
                let _ = write!(text, ",goal.{}", k - own[own.len() - 1]);
            }
        }
        text.push('\n');
        let (q, qd) = task.spec.robot.offsets();
        let bodies = task.spec.robot.bodies.iter().zip(q.into_iter().zip(qd));
        let free: Vec<_> = bodies.filter(|(b, _)| b.joint.kind == JointKind::Free).map(|(_, at)| at).collect();
        let frames = self.returns.len() / self.envs.max(1);
        for env in 0..self.envs {
            for f in 0..frames.min(e.lengths[env] as usize) {
                let (time, total) = (f as f64 * task.spec.dt, self.returns[f * self.envs + env]);
                let _ = write!(text, "{env},{f},{time},{total}");
                let (q, mut qd) = (self.q(f, env), self.qd(f, env).to_vec());
                for &(at, rate) in &free {
                    // The simulator's is that of the point at the world's origin.
                    let (p, twist) = (Vec3::read(&q[at..]), &mut qd[rate..]);
                    let v = Vec3::read(&twist[3..]) + Vec3::read(twist).cross(p);
                    v.write(&mut twist[3..]);
                }
                for x in q.iter().chain(&qd) {
                    let _ = write!(text, ",{x}");
                }
                text.push('\n');
            }
        }
        text
    }

    /// The episode as an animated GIF.
    pub fn gif(&self, task: &Task, e: &TaskEvaluation, env: usize) -> Result<Vec<u8>, ViewerError> {
        self.reel(task, e, env).movie("", "").gif()
    }

    /// Draws one episode.
    pub fn pictures(
        &self,
        task: &Task,
        e: &TaskEvaluation,
        env: usize,
        title: &str,
        subtitle: &str,
    ) -> Result<Pictures, ViewerError> {
        let reel = self.reel(task, e, env);
        let movie = reel.movie(title, subtitle);
        Ok(Pictures { html: movie.html()?, svg: movie.still_svg(&movie.strides(POSES, GAP))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_becomes_pictures() {
        let task = Task::from_config(&Config::default()).unwrap();
        let s = task.sizes;
        let mut trajectory = Trajectory::new(s, 3, 20);
        for i in 0..20 {
            let mut q = task.dflex().spec.reset.start.repeat(3);
            q[s.nq] = 0.5 * f64::from(i);
            let qd = vec![0.0; 3 * s.nqd];
            trajectory.frame(StepView { q: &q, qd: &qd, returns: &[0.0, f64::from(i), 1e9] });
        }
        let (returns, lengths) = (vec![0.0, 20.0, 30.0], vec![20.0, 15.0, 20.0]);
        let e = TaskEvaluation { returns, lengths, ..TaskEvaluation::default() };
        assert_eq!(trajectory.episode(&e), 1);
        let p = trajectory.pictures(&task, &e, 1, "A walker", "a test, made up").unwrap();
        assert!(p.html.contains("\"frames\":15") && p.svg.contains("30.0 m/s"));
        assert_eq!(trajectory.pictures(&task, &TaskEvaluation::default(), 0, "", "").unwrap_err(), ViewerError::Empty);
        let states = trajectory.states(&task, &e);
        let lines: Vec<Vec<&str>> = states.lines().map(|l| l.split(',').collect()).collect();
        assert_eq!(lines[0][..6], ["episode", "step", "time", "return", "q.torso.x", "q.torso.y"]);
        assert!(lines.iter().all(|l| l.len() == 4 + s.nq + s.nqd) && lines.len() == 1 + 20 + 15 + 20);
        // The second episode's last step.
        assert_eq!((lines[35][..2].join(" "), lines[35][3], lines[35][4]), ("1 14".into(), "14", "7"));
    }
}
