//! Penalty contact with the ground plane y = 0, point by point.
//!
//! A point of radius ρ acts at its lowest place x. With depth `d = -x_y > 0` and velocity u there, the force on the body
//! is `ke d` and, while approaching, `-kd d u_y` along y, and friction `-(u_t/|u_t|) min(kf |u_t|, mu ke d)`.

use super::model::{Contact, Model};
use super::number::Number;
use super::spatial::Spatial;
use super::vec3::Vec3;
use super::work::{BodyWork, Work};

/// Minus the wrench on the body at one contact point, and where it is in contact.
///
/// `ground` is the height of the ground plane over the reference point. `None` if no lane touches.
#[inline(always)]
pub fn point_contact<S: Number>(c: &Contact<S>, b: &BodyWork<S>, ground: S) -> Option<(Spatial<S>, S::Mask)> {
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
pub fn body_contact<S: Number, const B: usize, const D: usize>(
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
