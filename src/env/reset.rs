//! Start states: a pose, and uniform noise about it for each class of coordinate, in the order that the task lists.
//!
//! A start takes a uniform number in [0, 1) for each number that it moves, in the order of [`Reset::draws`].
//! Environment e reads as many Philox blocks as hold them, from block e times that number on, of the caller's stream
//! and step.

use crate::device::Real;
use crate::device::philox::Philox;
use crate::sim::{Quat, Vec3};
use std::f64::consts::PI;

/// Noise of one class of coordinate; u is uniform in [-1/2, 1/2).
#[derive(Clone, Debug, PartialEq)]
pub enum Draw {
    /// The root's position moves by `width u` along each axis: three numbers.
    Position { width: f64 },
    /// The quaternion at coordinate `at` turns by `degrees u` about a random axis of its own frame: four numbers. The
    /// axis comes from a cube, not uniform on the sphere; the middle of the cube has none, and turns nothing.
    Rotation { at: usize, degrees: f64 },
    /// Each of these coordinates moves by `width u`.
    Coordinates { which: Vec<usize>, width: f64 },
    /// Each of these velocities is `width u`.
    Velocities { which: Vec<usize>, width: f64 },
}

impl Draw {
    /// Uniform numbers that it takes.
    pub fn count(&self) -> usize {
        match self {
            Self::Position { .. } => 3,
            Self::Rotation { .. } => 4,
            Self::Coordinates { which, .. } | Self::Velocities { which, .. } => which.len(),
        }
    }
}

/// Start states of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Reset {
    /// Coordinates of the start pose, which is at rest.
    pub start: Vec<f64>,
    /// None if every episode starts from it.
    pub draws: Vec<Draw>,
}

/// Uniform numbers in [0, 1) one after another.
pub(super) struct Uniforms<'a> {
    random: &'a Philox,
    step: u64,
    block: u32,
    used: usize,
    values: [f64; 4],
}

impl<'a> Uniforms<'a> {
    /// Those that the Philox blocks from `block` on hold.
    pub(super) fn new(random: &'a Philox, step: u64, block: u32) -> Self {
        Self { random, step, block, used: 0, values: [0.0; 4] }
    }

    pub(super) fn next(&mut self) -> f64 {
        if self.used.is_multiple_of(4) {
            self.values = self.random.uniform4(self.step, self.block);
            self.block = self.block.wrapping_add(1);
        }
        let u = self.values[self.used % 4];
        self.used += 1;
        u
    }
}

/// An angle of `degrees` degrees times u.
fn turn_by(u: f64, degrees: f64) -> f64 {
    u * PI / (180.0 / degrees)
}

impl Reset {
    /// Uniform numbers that a start takes.
    pub fn uniforms(&self) -> usize {
        self.draws.iter().map(Draw::count).sum()
    }

    /// Philox blocks (of four uniforms) that an environment takes.
    pub fn blocks(&self) -> u32 {
        self.uniforms().div_ceil(4) as u32
    }

    /// Writes the start state that the Philox blocks from `block` on draw; computed in `f64`, rounded once.
    pub fn write<R: Real>(&self, random: &Philox, step: u64, block: u32, q: &mut [R], qd: &mut [R]) {
        let mut x = [0.0; super::task::MOST_COORDINATES];
        let mut xd = [0.0; super::task::MOST_VELOCITIES];
        let (x, xd) = (&mut x[..self.start.len()], &mut xd[..qd.len()]);
        x.copy_from_slice(&self.start);
        let mut uniforms = Uniforms::new(random, step, block);
        let mut centred = || uniforms.next() - 0.5;
        for draw in &self.draws {
            match draw {
                Draw::Position { width } => x[..3].iter_mut().for_each(|x| *x += width * centred()),
                Draw::Rotation { at, degrees } => {
                    let angle = turn_by(centred(), *degrees);
                    let axis = Vec3::new(centred(), centred(), centred());
                    let norm = axis.norm();
                    let unit = if norm > 0.0 { axis.scale(1.0 / norm) } else { Vec3::zero() };
                    (Quat::read(&x[*at..]) * Quat::about(unit, angle)).write(&mut x[*at..]);
                }
                Draw::Coordinates { which, width } => which.iter().for_each(|&k| x[k] += width * centred()),
                Draw::Velocities { which, width } => which.iter().for_each(|&k| xd[k] = width * centred()),
            }
        }
        for (to, &from) in q.iter_mut().zip(&*x) {
            *to = R::of(from);
        }
        for (to, &from) in qd.iter_mut().zip(&*xd) {
            *to = R::of(from);
        }
    }
}
