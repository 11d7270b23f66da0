//! Where geoms touch: planes, spheres and capsules.

use super::law::{Meeting, Point, Round, View};
use crate::sim::number::SimScalar;
use crate::sim::vec3::Vec3;

/// Where two geoms are closest.
#[derive(Clone, Copy, Debug)]
pub struct Touch<S: SimScalar> {
    /// Distance of the surfaces (m); negative where they overlap.
    pub distance: S,
    /// Halfway between the surfaces, seen from where the view is from.
    pub point: Vec3<S>,
    /// Unit normal, from the first geom to the second.
    pub normal: Vec3<S>,
    /// What the first tangent is turned towards, where the shapes say so.
    pub wish: Option<Vec3<S>>,
    /// In which lanes this contact exists.
    pub exists: S::Mask,
}

impl<S: SimScalar> Touch<S> {
    /// Where it pushes.
    #[inline(always)]
    pub fn overlaps(&self) -> S::Mask {
        self.exists & self.distance.lt(S::zero())
    }

    /// Two unit tangents, so that the normal and they are a right-handed frame.
    #[inline(always)]
    pub fn tangents(&self) -> [Vec3<S>; 2] {
        let n = self.normal;
        let steep = n.y.abs().lt(S::of(0.5));
        let wish = self.wish.unwrap_or(Vec3::new(
            S::zero(),
            S::select(steep, S::one(), S::zero()),
            S::select(steep, S::zero(), S::one()),
        ));
        let first = unit_or(n.scale_add(-n.dot(wish), wish), S::of(1e-15), Vec3::of([1.0, 0.0, 0.0]));
        [first, n.cross(first)]
    }

    /// The tangent in the plane y = const, for a normal in it.
    #[inline(always)]
    pub fn planar_tangent(&self) -> Vec3<S> {
        Vec3::new(self.normal.z, S::zero(), -self.normal.x)
    }
}

/// `v` divided by its length, or `other` where that is below `least`.
#[inline(always)]
fn unit_or<S: SimScalar>(v: Vec3<S>, least: S, other: Vec3<S>) -> Vec3<S> {
    let length = v.norm();
    let short = length.lt(least);
    let unit = v.scale(S::one() / S::select(short, S::one(), length));
    let pick = |a: S, b: S| S::select(short, a, b);
    Vec3::new(pick(other.x, unit.x), pick(other.y, unit.y), pick(other.z, unit.z))
}

/// A point, seen from where the view is from.
#[inline(always)]
pub fn place<S: SimScalar, const B: usize, const D: usize>(p: &Point<S>, view: View<'_, S, B, D>) -> Vec3<S> {
    match p.link {
        Some(link) => view.work.body[link].rot.mul_vec_add(p.at, view.work.body[link].p),
        None => p.at - view.far,
    }
}

/// Centre and unit axis in the world.
#[inline(always)]
fn pose<S: SimScalar, const B: usize, const D: usize>(r: &Round<S>, view: View<'_, S, B, D>) -> (Vec3<S>, Vec3<S>) {
    let axis = match r.centre.link {
        Some(link) => view.work.body[link].rot.mul_vec(r.axis),
        None => r.axis,
    };
    (place(&r.centre, view), axis)
}

#[inline(always)]
fn everywhere<S: SimScalar>() -> S::Mask {
    S::zero().le(S::zero())
}

#[inline(always)]
fn clamp<S: SimScalar>(x: S, low: S, high: S) -> S {
    S::select(x.lt(low), low, S::select(high.lt(x), high, x))
}

/// Distance below which two centres have no direction: round-off of lengths of order 1.
fn coincident<S: SimScalar>() -> S {
    S::of(if S::EPSILON < 1e-10 { 1e-15 } else { 1e-6 })
}

/// A sphere on a plane.
#[inline(always)]
fn on_plane<S: SimScalar>(normal: Vec3<S>, height: S, centre: Vec3<S>, radius: S, wish: Option<Vec3<S>>) -> Touch<S> {
    let distance = normal.dot(centre) - height - radius;
    let point = normal.scale_add(-(distance.mul_add(S::of(0.5), radius)), centre);
    Touch { distance, point, normal, wish, exists: everywhere::<S>() }
}

/// Two spheres; `across` is the normal where their centres are one point.
#[inline(always)]
fn balls<S: SimScalar>(a: Vec3<S>, ra: S, b: Vec3<S>, rb: S, across: Vec3<S>) -> Touch<S> {
    let between = b - a;
    let length = between.norm();
    let normal = unit_or(between, coincident(), across);
    let distance = length - ra - rb;
    let point = normal.scale_add(distance.mul_add(S::of(0.5), ra), a);
    Touch { distance, point, normal, wish: None, exists: everywhere::<S>() }
}

/// The normal of two geoms whose axes cross.
#[inline(always)]
fn across<S: SimScalar>(a: Vec3<S>, b: Vec3<S>) -> Vec3<S> {
    unit_or(a.cross(b), coincident(), Vec3::of([1.0, 0.0, 0.0]))
}

/// Where the two geoms of a pair touch or nearly do; calls `found` for each contact that some lane has.
#[inline(always)]
pub fn collide<S: SimScalar, const B: usize, const D: usize>(
    meeting: &Meeting<S>,
    view: View<'_, S, B, D>,
    mut found: impl FnMut(Touch<S>),
) {
    match meeting {
        Meeting::PlaneSphere { normal, height, ball } => {
            let height = *height - normal.dot(view.far);
            found(on_plane(*normal, height, place(&ball.centre, view), ball.radius, None));
        }
        Meeting::PlaneCapsule { normal, height, capsule } => {
            let height = *height - normal.dot(view.far);
            let (centre, axis) = pose(capsule, view);
            for end in [capsule.half, -capsule.half] {
                found(on_plane(*normal, height, axis.scale_add(end, centre), capsule.radius, Some(axis)));
            }
        }
        Meeting::Spheres(a, b) => {
            let ((ca, za), (cb, zb)) = (pose(a, view), pose(b, view));
            found(balls(ca, a.radius, cb, b.radius, across(za, zb)));
        }
        Meeting::SphereCapsule(a, b) => {
            let ((ca, za), (cb, zb)) = (pose(a, view), pose(b, view));
            let along = clamp(zb.dot(ca - cb), -b.half, b.half);
            found(balls(ca, a.radius, zb.scale_add(along, cb), b.radius, across(za, zb)));
        }
        Meeting::Capsules(a, b) => capsules(a, b, view, found),
    }
}

/// Capsules at the nearest points of their segments; parallel ones at up to two of their ends.
#[inline(always)]
fn capsules<S: SimScalar, const B: usize, const D: usize>(
    one: &Round<S>,
    other: &Round<S>,
    view: View<'_, S, B, D>,
    mut found: impl FnMut(Touch<S>),
) {
    let ((c1, z1), (c2, z2)) = (pose(one, view), pose(other, view));
    let (a, b, e) = (z1.scale(one.half), z2.scale(other.half), c2 - c1);
    let (aa, bb, ab, ae, be) = (one.half * one.half, other.half * other.half, a.dot(b), a.dot(e), b.dot(e));
    let reach = one.half + other.half + one.radius + other.radius;
    // Far apart most of the time.
    if !S::any(e.dot(e).le(reach * reach)) {
        return;
    }
    let (one_, minus) = (S::one(), -S::one());
    let clip = |x: S| clamp(x, minus, one_);
    let normal = across(z1, z2);
    let touch = |p: S, r: S| balls(a.scale_add(p, c1), one.radius, b.scale_add(r, c2), other.radius, normal);
    let det = aa * bb - ab * ab;
    let least = S::of(if S::EPSILON < 1e-10 { 1e-15 } else { 0.0 }).max(S::of(4.0 * S::EPSILON) * aa * bb);
    let parallel = det.abs().lt(least);
    let safe = S::select(parallel, S::one(), det);
    let mut p = (bb * ae - ab * be) / safe;
    let mut r = (ab * ae - aa * be) / safe;
    let outside = one_.lt(p.abs());
    p = S::select(outside, clip(p), p);
    r = S::select(outside, (p * ab - be) / bb, r);
    let outside = one_.lt(r.abs());
    r = S::select(outside, clip(r), r);
    p = S::select(outside, clip((r * ab + ae) / aa), p);
    let single = touch(p, r);
    if !S::any(parallel) {
        found(single);
        return;
    }
    // The first two ends that touch, those of the first capsule first.
    let ends = [
        (one_, clip((ab - be) / bb)),
        (minus, clip((-ab - be) / bb)),
        (clip((ab + ae) / aa), one_),
        (clip((-ab + ae) / aa), minus),
    ];
    let mut chosen = [single; 2];
    let none = S::one().lt(S::zero());
    let (mut has_one, mut has_two) = (!parallel, !parallel);
    chosen[0].exists = !parallel;
    chosen[1].exists = none;
    for (p, r) in ends {
        let t = touch(p, r);
        let touches = parallel & t.distance.le(S::zero());
        let first = touches & !has_one;
        let second = touches & has_one & !has_two;
        for (at, here) in [(0, first), (1, second)] {
            let old = chosen[at];
            let pick = |a: Vec3<S>, b: Vec3<S>| {
                Vec3::new(S::select(here, a.x, b.x), S::select(here, a.y, b.y), S::select(here, a.z, b.z))
            };
            chosen[at] = Touch {
                distance: S::select(here, t.distance, old.distance),
                point: pick(t.point, old.point),
                normal: pick(t.normal, old.normal),
                wish: None,
                exists: old.exists | here,
            };
        }
        has_one = has_one | first;
        has_two = has_two | second;
    }
    for touch in chosen {
        found(touch);
    }
}
