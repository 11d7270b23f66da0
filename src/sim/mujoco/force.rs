//! What drives and resists beside joints: tendons, actuators, the medium.

use super::law::{Actuator, Drag, Law, Pulled, View};
use super::rows::tendon_length;
use crate::sim::number::SimScalar;
use crate::sim::spatial::Spatial;
use crate::sim::vec3::Vec3;
use crate::sim::work::Work;

/// The force of an actuator on what it pulls, whose length is `length`.
#[inline(always)]
fn pull<S: SimScalar>(a: &Actuator<S>, control: S, length: S) -> S {
    let control = match a.range {
        Some([low, high]) => S::select(control.lt(low), low, S::select(high.lt(control), high, control)),
        None => control,
    };
    (a.gear * a.bias[1]).mul_add(length, a.gain.mul_add(control, a.bias[0])) * a.gear
}

/// Generalised forces of tendons and actuators (`control` has one number for each), added to `forces`.
#[inline(always)]
pub fn add_forces<S: SimScalar, const B: usize, const D: usize>(
    law: &Law<S>,
    q: &[S],
    control: &[S],
    view: View<'_, S, B, D>,
    forces: &mut [S; D],
) {
    for (a, &control) in law.actuators.iter().zip(control) {
        if let Pulled::Joint { q: at, dof } = a.pulled {
            forces[dof] += pull(a, control, q[at]);
        }
    }
    for (i, t) in law.tendons.iter().enumerate() {
        let mut row = [S::zero(); D];
        let length = tendon_length(&t.length, q, view, &mut row);
        let mut force = -(t.stiffness * (length - t.rest));
        for (a, &control) in law.actuators.iter().zip(control) {
            if matches!(a.pulled, Pulled::Tendon(pulled) if pulled == i) {
                force += pull(a, control, length);
            }
        }
        for (to, x) in forces.iter_mut().zip(row) {
            *to = x.mul_add(force, *to);
        }
    }
}

/// The wrench of the medium on a body, about the point that all is seen from: that on the box with its inertia, whose sides resist
/// with the square of their velocity.
#[inline(always)]
pub fn drag<S: SimScalar, const B: usize, const D: usize>(d: &Drag<S>, w: &Work<S, B, D>) -> Spatial<S> {
    let b = &w.body[d.link];
    let com = b.rot.mul_vec_add(d.com, b.p);
    let axes = b.rot.mul(&d.axes);
    let velocity = axes.transpose_mul_vec(b.v.ang.cross_add(com, b.v.lin));
    let rate = axes.transpose_mul_vec(b.v.ang);
    let square = |x: S| x.abs() * x;
    let resist = |k: Vec3<S>, x: Vec3<S>| Vec3::new(-(k.x * square(x.x)), -(k.y * square(x.y)), -(k.z * square(x.z)));
    let force = axes.mul_vec(resist(d.force, velocity));
    let torque = axes.mul_vec(resist(d.torque, rate));
    Spatial::new(com.cross_add(force, torque), force)
}
