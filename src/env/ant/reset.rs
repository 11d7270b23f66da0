//! Start states of the Ant.
//!
//! A stochastic start takes 29 uniforms in [0, 1), in this order: position 3, angle 1, axis 3, hinges 8, velocities 14.
//! Environment e reads Philox blocks 8e to 8e + 7 of the caller's stream and step.

use super::{Ant, NQ, NQD, START_Q};
use crate::device::Real;
use crate::device::philox::Philox;
use crate::sim::{Quat, Vec3};
use std::f64::consts::PI;

/// Philox blocks (of four uniforms) an environment takes.
pub const BLOCKS: u32 = 8;

/// Writes the start state of environment `env`; computed in `f64`, rounded once.
pub fn reset_row<R: Real>(ant: &Ant, random: &Philox, step: u64, env: u32, q: &mut [R], qd: &mut [R]) {
    let (mut x, mut xd) = (START_Q, [0.0; NQD]);
    if ant.settings.stochastic_init {
        let mut u = [0.0; 4 * BLOCKS as usize];
        for (k, block) in u.chunks_exact_mut(4).enumerate() {
            block.copy_from_slice(&random.uniform4(step, env.wrapping_mul(BLOCKS).wrapping_add(k as u32)));
        }
        let centred = u.map(|u| u - 0.5);
        let (position, rest) = centred.split_at(3);
        let (angle, rest) = rest.split_at(1);
        let (axis, rest) = rest.split_at(3);
        let (hinges, velocities) = rest.split_at(8);
        for k in 0..3 {
            x[k] += 0.2 * position[k];
        }
        // A direction from a cube, not uniform on the sphere. The middle of the cube has none: no turn then.
        let axis = Vec3::read(axis);
        let norm = axis.norm();
        let unit = if norm > 0.0 { axis.scale(1.0 / norm) } else { Vec3::zero() };
        let turn = Quat::about(unit, angle[0] * PI / 12.0);
        (Quat::read(&x[3..]) * turn).write(&mut x[3..]);
        for k in 0..8 {
            x[7 + k] += 0.4 * hinges[k];
        }
        for k in 0..NQD {
            xd[k] = 0.5 * velocities[k];
        }
    }
    for (to, from) in q[..NQ].iter_mut().zip(x) {
        *to = R::of(from);
    }
    for (to, from) in qd[..NQD].iter_mut().zip(xd) {
        *to = R::of(from);
    }
}
