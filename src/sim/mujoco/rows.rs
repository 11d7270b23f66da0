//! Constraints as rows: which acceleration each asks for, and how hard it insists.
//!
//! With the acceleration `a` a row is short of what it asks for by `x = J a - a*`. What it pushes with follows from `x`
//! and the regularisation R ([`super::solve`](mod@super::solve)).

use super::collide::{Touch, collide, place};
use super::law::{Law, Length, Meeting, Point, Softness, View};
use crate::sim::number::SimScalar;
use crate::sim::vec3::Vec3;
use crate::sim::work::Work;

/// What a row pushes with, D = 1/R.
#[derive(Clone, Copy, Debug)]
pub enum Kind<S> {
    /// A limit, or a side of a pyramid: `-D x` for x < 0, else nothing.
    Push,
    /// Dry friction: `-D x`, cut to this size.
    Friction(S),
    /// The normal of a friction cone of this coefficient; so many tangents are the next rows.
    Cone { friction: S, tangents: usize },
    /// A tangent of the cone before it.
    Tangent,
}

/// A contact that some lane has.
#[derive(Clone, Copy, Debug)]
pub struct Contact<S> {
    /// Number of its pair in the law.
    pub pair: usize,
    /// Its first row, and how many of its rows push along the normal together.
    pub row: usize,
    pub pushing: usize,
    /// Seen from where [`View`] is from (m); the normal points from the first geom to the second.
    pub point: Vec3<S>,
    pub normal: Vec3<S>,
}

/// The rows of a step; `D` is room for dofs and `R` for rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<S, const D: usize, const R: usize> {
    pub len: usize,
    pub kind: [Kind<S>; R],
    pub jacobian: [[S; D]; R],
    /// The acceleration that is asked for, a*.
    pub target: [S; R],
    /// D = 1/R; 0 in lanes that have no such row.
    pub hardness: [S; R],
    /// Contacts of this step, of each lane.
    pub contacts: S,
    /// All that some lane has, of which the first `made` hold.
    pub contact: [Contact<S>; R],
    pub made: usize,
}

impl<S: SimScalar, const D: usize, const R: usize> Rows<S, D, R> {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            len: 0,
            kind: [Kind::Push; R],
            jacobian: [[S::zero(); D]; R],
            target: [S::zero(); R],
            hardness: [S::zero(); R],
            contacts: S::zero(),
            contact: [Contact { pair: 0, row: 0, pushing: 0, point: Vec3::zero(), normal: Vec3::zero() }; R],
            made: 0,
        }
    }

    /// `J v` of a row.
    #[inline(always)]
    fn rate(&self, row: usize, qd: &[S]) -> S {
        dot(&self.jacobian[row], qd)
    }

    /// A new row of zeros.
    #[inline(always)]
    fn begin(&mut self, kind: Kind<S>, dofs: usize) -> usize {
        let row = self.len;
        self.kind[row] = kind;
        self.jacobian[row][..dofs].fill(S::zero());
        self.len += 1;
        row
    }
}

impl<S: SimScalar, const D: usize, const R: usize> Default for Rows<S, D, R> {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
pub(super) fn dot<S: SimScalar>(a: &[S], b: &[S]) -> S {
    let mut sum = S::zero();
    for (&x, &y) in a.iter().zip(b) {
        sum = x.mul_add(y, sum);
    }
    sum
}

impl<S: SimScalar> Softness<S> {
    /// The impedance at a violation of `r` (m or rad; its sign does not matter), between 0 and 1.
    #[inline(always)]
    pub fn impedance(&self, r: S) -> S {
        // A width of 0 has one impedance everywhere, which both ends are then.
        let x = r.abs() / self.width;
        let one = S::one();
        let power = |x: S| {
            let mut product = x;
            for _ in 1..self.power {
                product *= x;
            }
            product
        };
        let low = self.midpoint * power(x / self.midpoint);
        let high = one - (one - self.midpoint) * power((one - x) / (one - self.midpoint));
        let y = S::select(one.le(x), one, S::select(x.le(self.midpoint), low, high));
        y.mul_add(self.inside - self.at_surface, self.at_surface)
    }

    /// `a* = -B (J v) - K d r`.
    #[inline(always)]
    fn target(&self, rate: S, impedance: S, r: S) -> S {
        -(self.damping * rate) - self.stiffness * impedance * r
    }
}

/// R of a row of this weight and impedance.
#[inline(always)]
fn regularisation<S: SimScalar>(impedance: S, weight: S) -> S {
    ((S::one() - impedance) / impedance * weight).max(S::of(1e-15))
}

/// How each dof moves the second of two points away from the first along `direction`, as a row.
#[inline(always)]
fn apart<S: SimScalar, const B: usize, const D: usize>(
    w: &Work<S, B, D>,
    dofs: &[(usize, bool)],
    ends: [Vec3<S>; 2],
    direction: Vec3<S>,
    row: &mut [S; D],
) {
    for &(dof, moves_second) in dofs {
        let axis = &w.axis[dof];
        let rate = |at: Vec3<S>| direction.dot(axis.ang.cross_add(at, axis.lin));
        row[dof] = if moves_second { rate(ends[1]) } else { -rate(ends[0]) };
    }
}

/// The length of a tendon, and how each dof changes it.
#[inline(always)]
pub fn tendon_length<S: SimScalar, const B: usize, const D: usize>(
    length: &Length<S>,
    q: &[S],
    view: View<'_, S, B, D>,
    row: &mut [S; D],
) -> S {
    match length {
        Length::Fixed(terms) => {
            let mut sum = S::zero();
            for &(q_at, dof, factor) in terms {
                row[dof] = factor;
                sum = factor.mul_add(q[q_at], sum);
            }
            sum
        }
        Length::Distance(ends, dofs) => {
            let [a, b] = ends.each_ref().map(
                #[inline(always)]
                |p: &Point<S>| place(p, view),
            );
            let between = b - a;
            let length = between.norm();
            let short = length.lt(S::of(1e-15));
            let direction = between.scale(S::one() / S::select(short, S::one(), length));
            let direction = Vec3::new(S::select(short, S::one(), direction.x), direction.y, direction.z);
            apart(view.work, dofs, [a, b], direction, row);
            length
        }
    }
}

/// Writes the rows of the state (q, qd), whose bodies and axes are in `view`.
#[inline(always)]
pub fn make_rows<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &[S],
    qd: &[S],
    view: View<'_, S, B, D>,
    rows: &mut Rows<S, D, R>,
) {
    let n = law.model.velocities;
    let qd = &qd[..n];
    rows.len = 0;
    rows.contacts = S::zero();
    rows.made = 0;
    for f in &law.frictions {
        let row = rows.begin(Kind::Friction(f.loss), n);
        rows.jacobian[row][f.dof] = S::one();
        // It asks for no acceleration but that which stops: its impedance is that of the surface.
        rows.target[row] = -(f.softness.damping * qd[f.dof]);
        rows.hardness[row] = S::one() / regularisation(f.softness.at_surface, f.weight);
    }
    for l in &law.limits {
        let x = q[l.q];
        let (below, above) = (x - l.range[0], l.range[1] - x);
        let (is_below, is_above) = (below.lt(S::zero()), above.lt(S::zero()));
        // A coordinate is beyond one end at most.
        let beyond = is_below | is_above;
        if !S::any(beyond) {
            continue;
        }
        let row = rows.begin(Kind::Push, n);
        let (r, sign) = (S::select(is_below, below, above), S::select(is_below, S::one(), -S::one()));
        rows.jacobian[row][l.dof] = sign;
        limit_row(&l.softness, l.weight, r, sign * qd[l.dof], beyond, row, rows);
    }
    for t in &law.tendons {
        let Some((range, softness)) = &t.limit else { continue };
        let row = rows.begin(Kind::Push, n);
        let mut along = rows.jacobian[row];
        let x = tendon_length(&t.length, q, view, &mut along);
        let (below, above) = (x - range[0], range[1] - x);
        let (is_below, is_above) = (below.lt(S::zero()), above.lt(S::zero()));
        let beyond = is_below | is_above;
        if !S::any(beyond) {
            rows.len -= 1;
            continue;
        }
        let (r, sign) = (S::select(is_below, below, above), S::select(is_below, S::one(), -S::one()));
        for (to, x) in rows.jacobian[row][..n].iter_mut().zip(along) {
            *to = x * sign;
        }
        let rate = rows.rate(row, qd);
        limit_row(softness, t.weight, r, rate, beyond, row, rows);
    }
    for (i, pair) in law.pairs.iter().enumerate() {
        collide(&pair.meeting, view, |touch| {
            if S::any(touch.overlaps()) {
                let row = rows.len;
                contact_rows(law, pair, &touch, qd, view.work, rows);
                let pushing = if law.elliptic { 1 } else { rows.len - row };
                rows.contact[rows.made] = Contact { pair: i, row, pushing, point: touch.point, normal: touch.normal };
                rows.made += 1;
            }
        });
    }
}

#[inline(always)]
fn limit_row<S: SimScalar, const D: usize, const R: usize>(
    softness: &Softness<S>,
    weight: S,
    r: S,
    rate: S,
    beyond: S::Mask,
    row: usize,
    rows: &mut Rows<S, D, R>,
) {
    let d = softness.impedance(r);
    rows.target[row] = softness.target(rate, d, r);
    rows.hardness[row] = S::select(beyond, S::one() / regularisation(d, weight), S::zero());
}

/// The rows of one contact: a pyramid of four sides, or a cone. What moves in a plane slides in it alone; the two sides
/// across are one row of half the regularisation then. Capsules of such a robot whose axes cross have the normal of the
/// plane: nothing moves along it, and both tangents lie in the plane.
#[inline(always)]
fn contact_rows<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    pair: &super::law::Pair<S>,
    touch: &Touch<S>,
    qd: &[S],
    w: &Work<S, B, D>,
    rows: &mut Rows<S, D, R>,
) {
    let n = law.model.velocities;
    let overlaps = touch.overlaps();
    let zero = S::zero();
    rows.contacts += S::select(overlaps, S::one(), zero);
    // What other lanes have here: somewhere harmless.
    let r = S::select(overlaps, touch.distance, zero);
    let d = pair.softness.impedance(r);
    let along = |direction: Vec3<S>| {
        let mut row = [zero; D];
        apart(w, &pair.dofs, [touch.point; 2], direction, &mut row);
        row
    };
    let normal = along(touch.normal);
    let harder = |regularisation: S| S::select(overlaps, S::one() / regularisation, zero);
    let may_cross = matches!(pair.meeting, Meeting::Capsules(..));
    if law.elliptic {
        let across = regularisation(d, pair.weight);
        let in_plane = law.planar && !may_cross;
        let tangents = if in_plane { 1 } else { 2 };
        let row = rows.begin(Kind::Cone { friction: pair.friction, tangents }, n);
        rows.jacobian[row] = normal;
        rows.target[row] = pair.softness.target(rows.rate(row, qd), d, r);
        rows.hardness[row] = harder(across);
        let directions = if in_plane { [touch.planar_tangent(); 2] } else { touch.tangents() };
        for direction in directions.into_iter().take(tangents) {
            let row = rows.begin(Kind::Tangent, n);
            rows.jacobian[row] = along(direction);
            rows.target[row] = -(pair.softness.damping * rows.rate(row, qd));
            rows.hardness[row] = harder(across);
        }
        return;
    }
    let square = pair.friction * pair.friction;
    let two = S::of(2.0);
    // For all sides, after what they would weigh along the normal.
    let side = two * square * (S::one() - d) / d * (pair.weight * (S::one() + square));
    let side = side.max(S::of(1e-15));
    let mut push = |row_values: [S; D], hardness: S| {
        let row = rows.begin(Kind::Push, n);
        rows.jacobian[row] = row_values;
        rows.target[row] = pair.softness.target(rows.rate(row, qd), d, r);
        rows.hardness[row] = hardness;
    };
    let (hard, twice) = (harder(side), harder(side / two));
    let mixed = |tangent: &[S; D], factor: S| {
        let mut row = normal;
        for (x, &t) in row.iter_mut().zip(tangent) {
            *x = t.mul_add(factor, *x);
        }
        row
    };
    if law.planar && may_cross {
        let crosses = S::of(0.5).lt(touch.normal.y.abs());
        let (flat, [first, second]) = (touch.planar_tangent(), touch.tangents());
        let pick = |a: S, b: S| S::select(crosses, a, b);
        let first = Vec3::new(pick(first.x, flat.x), pick(first.y, flat.y), pick(first.z, flat.z));
        let tangent = along(first);
        push(mixed(&tangent, pair.friction), hard);
        push(mixed(&tangent, -pair.friction), hard);
        if S::any(crosses & overlaps) {
            let tangent = along(second);
            let mut third = mixed(&tangent, pair.friction);
            third.iter_mut().zip(&normal).for_each(|(x, &n)| *x = pick(*x, n));
            push(third, pick(hard, twice));
            push(mixed(&tangent, -pair.friction), pick(hard, zero));
        } else {
            push(normal, twice);
        }
    } else if law.planar {
        let tangent = along(touch.planar_tangent());
        push(mixed(&tangent, pair.friction), hard);
        push(mixed(&tangent, -pair.friction), hard);
        push(normal, twice);
    } else {
        for tangent in touch.tangents().map(along) {
            push(mixed(&tangent, pair.friction), hard);
            push(mixed(&tangent, -pair.friction), hard);
        }
    }
}
