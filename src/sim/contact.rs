//! Penalty contact with the ground plane y = 0, point by point.
//!
//! A point of radius ρ acts at its lowest place x. With depth `d = -x_y > 0` and velocity u there, the force on the
//! body is `ke d` and, while approaching, `-kd d u_y` along y, and friction `-(u_t/|u_t|) min(kf |u_t|, mu ke d)`.

use super::model::{Contact, Model};
use super::number::SimScalar;
use super::spatial::Spatial;
use super::subgradient::Kinks;
use super::vec3::Vec3;
use super::work::{BodyCotangent, BodyWork, Cotangents, Work};

/// Minus the wrench on the body at one contact point, and where it is in contact.
///
/// `ground` is the height of the ground plane over the reference point. `None` if no lane touches.
#[inline(always)]
pub fn point_contact<S: SimScalar>(c: &Contact<S>, b: &BodyWork<S>, ground: S) -> Option<(Spatial<S>, S::Mask)> {
    // Height first: most points are in the air most of the time.
    let height = b.rot.0[1].dot(c.point) + (b.p.y - c.radius - ground);
    let touching = height.lt(S::zero());
    if !S::any(touching) {
        return None;
    }
    let x = Vec3::new(b.rot.0[0].dot(c.point) + b.p.x, height + ground, b.rot.0[2].dot(c.point) + b.p.z);
    let depth = S::select(touching, -height, S::zero());
    let u = b.v.ang.cross_add(x, b.v.lin);

    let normal = depth * c.damping.mul_add(-u.y.min(S::zero()), c.stiffness);
    // u_t = 0 has no direction and no friction; one is a divisor that leaves it so.
    let square = u.x.mul_add(u.x, u.z * u.z);
    let sliding = S::zero().lt(square);
    let speed = S::select(sliding, square, S::one()).sqrt();
    let cap = c.friction_stiffness * depth;
    let ratio = (c.viscosity * speed).min(cap) / speed;
    let friction = S::select(sliding, ratio, S::zero());
    // Force with the reference's sign: minus that on the body.
    let f = Vec3::new(friction * u.x, -normal, friction * u.z);
    Some((Spatial::new(x.cross(f), f), touching))
}

/// Sums the contacts of body `i` into `contact` and adds them to `f`.
#[inline(always)]
pub fn body_contact<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    ground: S,
    w: &mut Work<S, B, D>,
) {
    let b = &mut w.body[i];
    // From zero and always added: skipping points in the air leaves every bit as it would be.
    let mut sum = Spatial::zero();
    for c in &model.contacts[model.links[i].contacts.clone()] {
        if let Some((wrench, _)) = point_contact(c, b, ground) {
            sum += wrench;
        }
    }
    b.contact = sum;
    b.f += sum;
}

/// Adjoint of [`point_contact`]: from the cotangent `f` of minus the wrench, a twist, to those of the body and the
/// ground. Whether a point touches has no derivative; `kinks` says what has one at a tie and at rest.
#[inline(always)]
pub fn point_contact_adjoint<S: SimScalar>(
    c: &Contact<S>,
    kinks: &Kinks<S>,
    b: &BodyWork<S>,
    ground: S,
    bar: &mut BodyCotangent<S>,
    ground_bar: &mut S,
) {
    let zero = S::zero();
    let height = b.rot.0[1].dot(c.point) + (b.p.y - c.radius - ground);
    let touching = height.lt(zero);
    if !S::any(touching) {
        return;
    }
    let x = Vec3::new(b.rot.0[0].dot(c.point) + b.p.x, height + ground, b.rot.0[2].dot(c.point) + b.p.z);
    let depth = S::select(touching, -height, zero);
    let u = b.v.ang.cross_add(x, b.v.lin);
    let push = c.damping.mul_add(-u.y.min(zero), c.stiffness);
    let square = u.x.mul_add(u.x, u.z * u.z);
    let sliding = zero.lt(square);
    let speed = S::select(sliding, square, S::one()).sqrt();
    let cap = c.friction_stiffness * depth;
    let drag = c.viscosity * speed;
    let viscous = drag.lt(cap);
    let friction = S::select(sliding, S::select(viscous, c.viscosity, cap / speed), zero);
    let f = Vec3::new(friction * u.x, -(depth * push), friction * u.z);

    // (x × f, f)
    let f_bar = bar.f.ang.cross_add(x, bar.f.lin);
    let x_bar = f.cross(bar.f.ang);
    // Along the direction of sliding the capped force is constant in the speed; across it turns with the direction.
    let (dx, dz) = (u.x / speed, u.z / speed);
    let along = f_bar.x.mul_add(dx, f_bar.z * dz);
    let share = S::select(drag.le(cap), S::one() - kinks.tie, S::one());
    let capped = S::select(sliding & !viscous & touching, along * share, zero);
    let turn = -(friction * capped);
    let grip = S::select(sliding, friction, S::select(touching, kinks.still * c.viscosity, zero));
    let level = S::select(u.y.le(zero), kinks.tie * c.damping, zero);
    let approach = S::select(u.y.lt(zero), c.damping, level);
    let u_bar =
        Vec3::new(grip.mul_add(f_bar.x, turn * dx), depth * approach * f_bar.y, grip.mul_add(f_bar.z, turn * dz));
    let depth_bar = S::select(touching, c.friction_stiffness.mul_add(capped, -(push * f_bar.y)), zero);

    bar.v.ang += x.cross(u_bar);
    bar.v.lin += u_bar;
    let x_bar = u_bar.cross_add(b.v.ang, x_bar);
    let point = Vec3::new(x_bar.x, x_bar.y - depth_bar, x_bar.z);
    bar.p += point;
    bar.rot.add_outer(point, c.point);
    *ground_bar += depth_bar;
}

/// Adjoint of [`body_contact`] of body `i`.
#[inline(always)]
pub fn body_contact_adjoint<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    ground: S,
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
) {
    for point in &model.contacts[model.links[i].contacts.clone()] {
        point_contact_adjoint(point, &model.kinks, &w.body[i], ground, &mut c.body[i], &mut c.ground);
    }
}
