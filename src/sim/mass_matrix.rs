//! Mass matrix by composite rigid bodies, its sparse factor, and the solve (Featherstone 2008, sections 6.2 and 6.5).
//!
//! Equal to `H = Jᵀ blockdiag(G) J`. The factor is `H + armature = Lᵀ L` from the leaves to the root: unlike `L Lᵀ` it has no
//! fill-in, every row keeps only the columns of its ancestors. No pivoting and no guard: a negative pivot yields NaN.

use super::inertia::spatial_inertia;
use super::model::Model;
use super::spatial::SpatialInertia;
use super::work::Work;
use crate::device::Scalar;

/// H (without armature) into `factor`: lower triangle, ancestors' columns only.
#[inline(always)]
pub fn mass_matrix<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, w: &mut Work<S, B, D>) {
    let mut composite = [SpatialInertia::<S>::zero(); B];
    for (sum, (link, b)) in composite.iter_mut().zip(model.links.iter().zip(&w.body)) {
        *sum = spatial_inertia(link, b);
    }
    for i in (0..B).rev() {
        let link = &model.links[i];
        let inertia = composite[i];
        for row in link.qd..link.qd + link.kind.velocities() {
            let momentum = inertia.mul(w.axis[row]);
            w.factor[row][row] = w.axis[row].dot(momentum);
            for &column in model.ancestors(row) {
                w.factor[row][column] = w.axis[column].dot(momentum);
            }
        }
        if let Some(k) = link.parent {
            composite[k] = composite[k].add(&inertia);
        }
    }
}

/// `factor` from H to L (`Lᵀ L = H + armature`); reciprocals of its diagonal into `pivot`.
#[inline(always)]
pub fn factorise<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, w: &mut Work<S, B, D>) {
    for (k, &armature) in model.armature.iter().enumerate() {
        w.factor[k][k] += armature;
    }
    for k in (0..D).rev() {
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
    for i in (0..D).rev() {
        let y = x[i] * pivot[i];
        x[i] = y;
        for &j in model.ancestors(i) {
            x[j] = (-factor[i][j]).mul_add(y, x[j]);
        }
    }
    for i in 0..D {
        let mut y = x[i];
        for &j in model.ancestors(i) {
            y = (-factor[i][j]).mul_add(x[j], y);
        }
        x[i] = y * pivot[i];
    }
}
