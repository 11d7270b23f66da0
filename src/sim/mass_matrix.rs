//! Mass matrix by composite rigid bodies, its sparse factor, and the solve (Featherstone 2008, sections 6.2 and 6.5).
//!
//! Equal to `H = Jᵀ blockdiag(G) J`. The factor is `H + armature = Lᵀ L` from the leaves to the root: unlike `L Lᵀ` it
//! has no fill-in, every row keeps only the columns of its ancestors. No pivoting and no guard: a negative pivot yields
//! NaN.

use super::inertia::{spatial_inertia, spatial_inertia_adjoint};
use super::model::Model;
use super::spatial::{Spatial, SpatialInertia};
use super::work::{Cotangents, Work};
use crate::device::Scalar;

/// H (without armature) into `factor`: lower triangle, ancestors' columns only.
#[inline(always)]
pub fn mass_matrix<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, w: &mut Work<S, B, D>) {
    let composite = composite_inertia(model, w);
    for (link, inertia) in model.links.iter().zip(&composite) {
        for row in link.qd..link.qd + link.kind.velocities() {
            let momentum = inertia.mul(w.axis[row]);
            w.factor[row][row] = w.axis[row].dot(momentum);
            for &column in model.ancestors(row) {
                w.factor[row][column] = w.axis[column].dot(momentum);
            }
        }
    }
}

/// Inertia of each body with all that it carries.
#[inline(always)]
fn composite_inertia<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    w: &Work<S, B, D>,
) -> [SpatialInertia<S>; B] {
    let mut composite = [SpatialInertia::<S>::zero(); B];
    for (sum, (link, b)) in composite.iter_mut().zip(model.links.iter().zip(&w.body)) {
        *sum = spatial_inertia(link, b);
    }
    for i in (0..model.links.len()).rev() {
        if let Some(k) = model.links[i].parent {
            composite[k] = composite[k].add(&composite[i]);
        }
    }
    composite
}

/// Adjoint of [`mass_matrix`]: sends `c.mass` to the axes and the bodies, and clears it.
///
/// `H_rk = S_k · G S_r` with G the composite inertia of r's body: `G S_r` has the cotangent `x = Σ_k H̄_rk S_k`, hence
/// `S̄_k += H̄_rk G S_r`, `S̄_r += G x` and `Ḡ += x S_rᵀ`, which goes to every body that this one carries.
#[inline(always)]
pub fn mass_matrix_adjoint<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
) {
    let composite = composite_inertia(model, w);
    let mut carried = [SpatialInertia::<S>::zero(); B];
    for (i, link) in model.links.iter().enumerate() {
        let mut g = link.parent.map_or(SpatialInertia::zero(), |k| carried[k]);
        for row in link.qd..link.qd + link.kind.velocities() {
            let momentum = composite[i].mul(w.axis[row]);
            let mut x = Spatial::zero();
            for &column in [row].iter().chain(model.ancestors(row)) {
                let h = std::mem::replace(&mut c.mass[row][column], S::zero());
                x = w.axis[column].scale_add(h, x);
                c.axis[column] = momentum.scale_add(h, c.axis[column]);
            }
            c.axis[row] += composite[i].mul(x);
            let s = w.axis[row];
            g.aa.add_outer(x.ang, s.ang);
            g.al.add_outer(x.ang, s.lin);
            g.al.add_outer(s.ang, x.lin);
            g.ll.add_outer(x.lin, s.lin);
        }
        carried[i] = g;
        spatial_inertia_adjoint(link, &w.body[i], &g, &mut c.body[i]);
    }
}

/// `factor` from H to L (`Lᵀ L = H + armature`); reciprocals of its diagonal into `pivot`.
#[inline(always)]
pub fn factorise<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, w: &mut Work<S, B, D>) {
    for (k, &armature) in model.armature.iter().enumerate() {
        w.factor[k][k] += armature;
    }
    eliminate(model, w);
}

/// The same of a matrix that has its armature.
#[inline(always)]
pub fn eliminate<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, w: &mut Work<S, B, D>) {
    for k in (0..model.velocities).rev() {
        let diagonal = w.factor[k][k].sqrt();
        let pivot = S::one() / diagonal;
        w.factor[k][k] = diagonal;
        w.pivot[k] = pivot;
        let ancestors = model.ancestors(k);
        for &i in ancestors {
            w.factor[k][i] *= pivot;
        }
        for (n, &i) in ancestors.iter().enumerate() {
            let minus = -w.factor[k][i];
            for &j in &ancestors[n..] {
                w.factor[i][j] = minus.mul_add(w.factor[k][j], w.factor[i][j]);
            }
        }
    }
}

/// `x <- (Lᵀ L)⁻¹ x`, in place.
#[inline(always)]
pub fn solve<S: Scalar, const D: usize>(model: &Model<S>, factor: &[[S; D]; D], pivot: &[S; D], x: &mut [S; D]) {
    for i in (0..model.velocities).rev() {
        let y = x[i] * pivot[i];
        x[i] = y;
        for &j in model.ancestors(i) {
            x[j] = (-factor[i][j]).mul_add(y, x[j]);
        }
    }
    for i in 0..model.velocities {
        let mut y = x[i];
        for &j in model.ancestors(i) {
            y = (-factor[i][j]).mul_add(x[j], y);
        }
        x[i] = y * pivot[i];
    }
}

/// Adjoint of factor and solve: `x` turns from the cotangent of the solution q̈ into that of τ, `λ = (Lᵀ L)⁻¹ q̈̄`, and
/// `-λ q̈ᵀ` is added to that of H.
#[inline(always)]
pub fn solve_adjoint<S: Scalar, const D: usize>(
    model: &Model<S>,
    factor: &[[S; D]; D],
    pivot: &[S; D],
    qdd: &[S; D],
    x: &mut [S; D],
    mass_bar: &mut [[S; D]; D],
) {
    solve(model, factor, pivot, x);
    for row in 0..model.velocities {
        let (lambda, acceleration) = (-x[row], -qdd[row]);
        mass_bar[row][row] = lambda.mul_add(qdd[row], mass_bar[row][row]);
        for &column in model.ancestors(row) {
            let half = lambda.mul_add(qdd[column], mass_bar[row][column]);
            mass_bar[row][column] = acceleration.mul_add(x[column], half);
        }
    }
}
