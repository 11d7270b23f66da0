//! The acceleration that solves all constraints at once.
//!
//! It is the minimum of `½ (a - a0)ᵀ M (a - a0) + Σ s(J a - a*)`, where a0 is the acceleration without constraints and
//! the slope of each s is minus what its rows push with ([`Kind`]). The problem is strictly convex: it has one solution,
//! whatever the order of rows or the start. Newton's method from a0, with the exact minimum along every step, ends after
//! finitely many where rows only push, since the cost is quadratic piece by piece.

use super::rows::{Kind, Rows, dot};
use crate::sim::number::SimScalar;

/// Steps of Newton's method at most; none of the problems that were met took more than eight.
pub const CAP: usize = 12;

/// Steps along one line at most.
const LINE_CAP: usize = 40;

/// Where a solution stands.
#[derive(Clone, Copy, Debug)]
pub struct Solved<S> {
    /// Steps of Newton's method, of each lane.
    pub steps: S,
    /// 1 in lanes that were cut off, else 0.
    pub capped: S,
}

/// A symmetric matrix: lower triangle.
pub type Lower<S, const D: usize> = [[S; D]; D];

/// What a cone pushes with, and the curvature of its cost.
struct Pushed<S> {
    force: [S; 3],
    curvature: [[S; 3]; 3],
}

/// Forces of a cone with the normal x[0] and tangents behind it, and the second derivatives of its cost.
#[inline(always)]
fn cone<S: SimScalar>(friction: S, hardness: [S; 3], x: [S; 3]) -> Pushed<S> {
    let (zero, one) = (S::zero(), S::one());
    let y = [friction * x[1], friction * x[2]];
    let size = y[0].mul_add(y[0], y[1] * y[1]).sqrt();
    let normal = x[0];
    let square = friction * friction;
    let apart = size.le(normal);
    let stuck = !apart & square.mul_add(normal, size).le(zero);
    let slides = !apart & !stuck;
    // Sliding: ½ w (T - x_n)², w = D_n/(1 + μ²).
    let w = hardness[0] / (one + square);
    let gap = size - normal;
    let safe = S::select(slides, size, one);
    // ∂T/∂x_t = f y/T.
    let g = [-one, friction * y[0] / safe, friction * y[1] / safe];
    let mut force = [zero; 3];
    let mut curvature = [[zero; 3]; 3];
    for i in 0..3 {
        force[i] = S::select(slides, -(w * gap * g[i]), S::select(stuck, -(hardness[i] * x[i]), zero));
        for j in 0..=i {
            let mut bent = g[i] * g[j];
            if i > 0 && j > 0 {
                let own = if i == j { square } else { zero };
                bent += gap / safe * (own - g[i] * g[j]);
            }
            let held = if i == j { hardness[i] } else { zero };
            curvature[i][j] = S::select(slides, w * bent, S::select(stuck, held, zero));
        }
    }
    Pushed { force, curvature }
}

/// `x` of the rows of a cone that begins at `row`; a tangent that is not there is 0.
#[inline(always)]
fn cone_rows<S: SimScalar, const R: usize>(values: &[S; R], row: usize, tangents: usize) -> [S; 3] {
    let mut x = [S::zero(); 3];
    x[..=tangents].copy_from_slice(&values[row..=row + tangents]);
    x
}

/// Force and curvature of a row that stands alone.
#[inline(always)]
fn single<S: SimScalar>(kind: Kind<S>, hardness: S, x: S) -> (S, S) {
    let zero = S::zero();
    match kind {
        Kind::Push => {
            let pushes = x.lt(zero);
            (S::select(pushes, -(hardness * x), zero), S::select(pushes, hardness, zero))
        }
        Kind::Friction(loss) => {
            let free = -(hardness * x);
            let (up, down) = (loss.lt(free), free.lt(-loss));
            let slips = up | down;
            (S::select(up, loss, S::select(down, -loss, free)), S::select(slips, zero, hardness))
        }
        Kind::Cone { .. } | Kind::Tangent => (zero, zero),
    }
}

/// Forces of all rows for their shortfalls `x`.
#[inline(always)]
pub fn forces<S: SimScalar, const D: usize, const R: usize>(rows: &Rows<S, D, R>, x: &[S; R], force: &mut [S; R]) {
    for row in 0..rows.len {
        match rows.kind[row] {
            Kind::Cone { friction, tangents } => {
                let pushed = cone(friction, cone_rows(&rows.hardness, row, tangents), cone_rows(x, row, tangents));
                force[row..=row + tangents].copy_from_slice(&pushed.force[..=tangents]);
            }
            Kind::Tangent => {}
            kind => force[row] = single(kind, rows.hardness[row], x[row]).0,
        }
    }
}

/// Slope and curvature of the rows' cost along a step that changes their shortfalls by `y`.
#[inline(always)]
fn along<S: SimScalar, const D: usize, const R: usize>(rows: &Rows<S, D, R>, x: &[S; R], y: &[S; R], t: S) -> (S, S) {
    let (mut slope, mut bend) = (S::zero(), S::zero());
    for row in 0..rows.len {
        match rows.kind[row] {
            Kind::Cone { friction, tangents } => {
                let (x, y) = (cone_rows(x, row, tangents), cone_rows(y, row, tangents));
                let at = [0, 1, 2].map(
                    #[inline(always)]
                    |i: usize| t.mul_add(y[i], x[i]),
                );
                let pushed = cone(friction, cone_rows(&rows.hardness, row, tangents), at);
                for i in 0..=tangents {
                    slope -= pushed.force[i] * y[i];
                    bend = (pushed.curvature[i][i] * y[i]).mul_add(y[i], bend);
                    for j in 0..i {
                        bend += (pushed.curvature[i][j] + pushed.curvature[i][j]) * y[i] * y[j];
                    }
                }
            }
            Kind::Tangent => {}
            kind => {
                let (force, curvature) = single(kind, rows.hardness[row], t.mul_add(y[row], x[row]));
                slope -= force * y[row];
                bend = (curvature * y[row]).mul_add(y[row], bend);
            }
        }
    }
    (slope, bend)
}

/// Adds the curvature of all rows at the shortfalls `x` to `h`.
#[inline(always)]
fn add_curvature<S: SimScalar, const D: usize, const R: usize>(
    n: usize,
    rows: &Rows<S, D, R>,
    x: &[S; R],
    h: &mut Lower<S, D>,
) {
    let mut add = |a: &[S; D], b: &[S; D], c: S| {
        for i in 0..n {
            let scaled = a[i] * c;
            for j in 0..=i {
                h[i][j] = scaled.mul_add(b[j], h[i][j]);
            }
        }
    };
    for row in 0..rows.len {
        match rows.kind[row] {
            Kind::Cone { friction, tangents } => {
                let pushed = cone(friction, cone_rows(&rows.hardness, row, tangents), cone_rows(x, row, tangents));
                for i in 0..=tangents {
                    add(&rows.jacobian[row + i], &rows.jacobian[row + i], pushed.curvature[i][i]);
                    for j in 0..i {
                        add(&rows.jacobian[row + i], &rows.jacobian[row + j], pushed.curvature[i][j]);
                        add(&rows.jacobian[row + j], &rows.jacobian[row + i], pushed.curvature[i][j]);
                    }
                }
            }
            Kind::Tangent => {}
            kind => {
                let (_, curvature) = single(kind, rows.hardness[row], x[row]);
                if S::any(S::zero().lt(curvature)) {
                    add(&rows.jacobian[row], &rows.jacobian[row], curvature);
                }
            }
        }
    }
}

/// `h` to its factor L, `L Lᵀ = h`, with the reciprocals of its diagonal there.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a matrix by row and column, as on paper")]
fn factorise<S: SimScalar, const D: usize>(n: usize, h: &mut Lower<S, D>) {
    for j in 0..n {
        let mut pivot = h[j][j];
        for k in 0..j {
            pivot = (-h[j][k]).mul_add(h[j][k], pivot);
        }
        let inverse = S::one() / pivot.sqrt();
        h[j][j] = inverse;
        for i in j + 1..n {
            let mut x = h[i][j];
            for k in 0..j {
                x = (-h[i][k]).mul_add(h[j][k], x);
            }
            h[i][j] = x * inverse;
        }
    }
}

/// `x <- h⁻¹ x` by the factor.
#[inline(always)]
fn substitute<S: SimScalar, const D: usize>(n: usize, factor: &Lower<S, D>, x: &mut [S; D]) {
    for i in 0..n {
        let mut y = x[i];
        for k in 0..i {
            y = (-factor[i][k]).mul_add(x[k], y);
        }
        x[i] = y * factor[i][i];
    }
    for i in (0..n).rev() {
        let mut y = x[i];
        for k in i + 1..n {
            y = (-factor[k][i]).mul_add(x[k], y);
        }
        x[i] = y * factor[i][i];
    }
}

/// `M x` by the lower triangle.
#[inline(always)]
fn product<S: SimScalar, const D: usize>(n: usize, m: &Lower<S, D>, x: &[S; D], to: &mut [S; D]) {
    for i in 0..n {
        to[i] = m[i][i] * x[i];
        for j in 0..i {
            to[i] = m[i][j].mul_add(x[j], to[i]);
            to[j] = m[i][j].mul_add(x[i], to[j]);
        }
    }
}

/// Whether the cost of a row is the same quadratic at both shortfalls; never where a cone slides, as it is none there.
#[inline(always)]
fn same_piece<S: SimScalar, const D: usize, const R: usize>(
    rows: &Rows<S, D, R>,
    row: usize,
    x: &[S; R],
    next: &[S; R],
) -> S::Mask {
    let zero = S::zero();
    let absent = rows.hardness[row].le(zero);
    let both = |a: S::Mask, b: S::Mask| (a & b) | (!a & !b);
    match rows.kind[row] {
        Kind::Push => absent | both(x[row].lt(zero), next[row].lt(zero)),
        Kind::Friction(loss) => {
            let held = |x: S| (rows.hardness[row] * x).abs().le(loss);
            absent | (held(x[row]) & held(next[row]))
        }
        Kind::Cone { friction, tangents } => {
            let zone = |x: &[S; R]| {
                let x = cone_rows(x, row, tangents);
                let y = [friction * x[1], friction * x[2]];
                let size = y[0].mul_add(y[0], y[1] * y[1]).sqrt();
                (size.le(x[0]), (friction * friction).mul_add(x[0], size).le(zero))
            };
            let (before, after) = (zone(x), zone(next));
            absent | (before.0 & after.0) | (before.1 & after.1)
        }
        Kind::Tangent => zero.le(zero),
    }
}

/// Solves for the acceleration `a` of `n` dofs (at first a0) and the `force` of each row; what each row is short of, and
/// how a step changes that, is kept in the two arrays of scratch memory.
///
/// A whole step that leaves every row in the piece of its cost that the step was computed for has reached the minimum.
/// Beside that it ends at steps that are round-off of the largest acceleration, which are taken too.
#[inline(always)]
pub fn solve<S: SimScalar, const D: usize, const R: usize>(
    n: usize,
    m: &Lower<S, D>,
    rows: &Rows<S, D, R>,
    a: &mut [S; D],
    force: &mut [S; R],
    [x, y]: &mut [[S; R]; 2],
) -> Solved<S> {
    let (zero, one) = (S::zero(), S::one());
    let made = || rows.jacobian.iter().zip(&rows.target).take(rows.len);
    for (x, (j, &target)) in x.iter_mut().zip(made()) {
        *x = dot(&j[..n], &a[..n]) - target;
    }
    // M (a - a0), which every step adds to.
    let mut pull = [zero; D];
    let mut solved = Solved { steps: zero, capped: zero };
    let mut open = zero.le(zero);
    for taken in 0..CAP {
        forces(rows, x, force);
        let mut descent = [zero; D];
        for (to, &p) in descent[..n].iter_mut().zip(&pull) {
            *to = -p;
        }
        for (&f, (j, _)) in force.iter().zip(made()) {
            if S::any(zero.lt(f.abs())) {
                for (to, &j) in descent[..n].iter_mut().zip(j) {
                    *to = j.mul_add(f, *to);
                }
            }
        }
        let (mut largest, mut longest, mut steepest) = (zero, zero, zero);
        for &d in &descent[..n] {
            steepest = d.abs().max(steepest);
        }
        // Nothing pushes: a0 is it.
        open = open & zero.lt(steepest);
        if !S::any(open) {
            break;
        }
        let mut h = *m;
        add_curvature(n, rows, x, &mut h);
        factorise(n, &mut h);
        let mut step = descent;
        substitute(n, &h, &mut step);
        for i in 0..n {
            largest = a[i].abs().max(largest);
            longest = step[i].abs().max(longest);
            step[i] = S::select(open, step[i], zero);
        }
        let tolerance = S::of(if taken == 0 { 0.0 } else { 256.0 * S::EPSILON });
        let small = longest.le(tolerance * largest);
        solved.steps += S::select(open & !small, one, zero);
        let mut moved = [zero; D];
        product(n, m, &step, &mut moved);
        for (y, (j, _)) in y.iter_mut().zip(made()) {
            *y = dot(&j[..n], &step[..n]);
        }
        let first = S::select(small, zero, -dot(&descent[..n], &step[..n]));
        let t = line(rows, x, y, dot(&step[..n], &pull[..n]), dot(&step[..n], &moved[..n]), first);
        for i in 0..n {
            a[i] = t.mul_add(step[i], a[i]);
            pull[i] = t.mul_add(moved[i], pull[i]);
        }
        let mut reached = (t - one).abs().le(S::of(64.0 * S::EPSILON));
        for row in 0..rows.len {
            y[row] = t.mul_add(y[row], x[row]);
        }
        for row in 0..rows.len {
            reached = reached & same_piece(rows, row, x, y);
        }
        x[..rows.len].copy_from_slice(&y[..rows.len]);
        open = open & !small & !reached;
        if !S::any(open) {
            break;
        }
    }
    forces(rows, x, force);
    solved.capped = S::select(open, one, zero);
    solved
}

/// The minimum along a step, where the slope begins with `first` below 0: `linear + t quadratic` is that of the
/// quadratic part.
///
/// The slope grows along the step. Newton's method finds the root of it, held between the points of both signs that it
/// has met; where the slope is linear piece by piece it lands on the root from within its piece.
#[inline(always)]
fn line<S: SimScalar, const D: usize, const R: usize>(
    rows: &Rows<S, D, R>,
    x: &[S; R],
    y: &[S; R],
    linear: S,
    quadratic: S,
    first: S,
) -> S {
    let (zero, half) = (S::zero(), S::of(0.5));
    let mut t = S::one();
    let (mut low, mut high) = (zero, S::of(f64::INFINITY));
    let mut open = first.lt(zero);
    for _ in 0..LINE_CAP {
        let (slope, bend) = along(rows, x, y, t);
        let slope = slope + t.mul_add(quadratic, linear);
        let rises = zero.lt(slope);
        high = S::select(open & rises, t, high);
        low = S::select(open & !rises, t, low);
        let bend = bend + quadratic;
        let safe = S::select(zero.lt(bend), bend, S::one());
        let mut next = t - slope / safe;
        let outside = next.le(low) | high.le(next);
        next = S::select(outside, half * (low + high), next);
        // An upper end that is not known yet: the slope falls there, so that the step goes beyond the lower end.
        let near = (next - t).abs().le(S::of(2.0 * S::EPSILON) * t.abs());
        let flat = slope.abs().le(S::of(S::EPSILON) * first.abs());
        next = S::select(open & !flat, next, t);
        open = open & !flat & !near;
        t = next;
        if !S::any(open) {
            break;
        }
    }
    t
}
