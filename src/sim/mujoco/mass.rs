//! The mass matrix, from how each dof moves the centre of mass of each body.
//!
//! [The other law](crate::sim::mass_matrix) adds inertias about one point and asks them about each axis. In single
//! precision a light limb far from that point is lost there, in the difference of two large numbers: the acceleration of
//! a walker's foot had errors of 5e-6 of itself, ten times those of this sum.

use super::solve::Lower;
use crate::sim::model::Model;
use crate::sim::number::SimScalar;
use crate::sim::vec3::Vec3;
use crate::sim::work::Work;

/// `M = Σ m Jᵥᵀ Jᵥ + J_ωᵀ I J_ω` over all bodies, with the armature of each dof: lower triangle, zeros where no body is
/// moved by both. Axes and bodies are in `w` (kg, kg m, kg m²).
#[inline(always)]
pub fn mass_matrix<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    w: &Work<S, B, D>,
    mass: &mut Lower<S, D>,
) {
    for row in 0..model.velocities {
        mass[row][..row].fill(S::zero());
        mass[row][row] = model.armature[row];
    }
    // Of each dof on the way to a body: the velocity of its centre of mass, the angular velocity, and what both carry.
    let zero = Vec3::zero();
    let (mut linear, mut angular) = ([zero; D], [zero; D]);
    for (link, body) in model.links.iter().zip(&w.body) {
        let dofs = link.kind.velocities();
        if dofs == 0 || !S::any(S::zero().lt(link.mass)) {
            continue;
        }
        let inertia = body.rot.mul(&link.inertia).mul(&body.rot.transpose());
        let last = link.qd + dofs - 1;
        let way = || std::iter::once(last).chain(model.ancestors(last).iter().copied());
        for dof in way() {
            let axis = &w.axis[dof];
            linear[dof] = axis.ang.cross_add(body.com, axis.lin);
            angular[dof] = axis.ang;
        }
        for (k, row) in way().enumerate() {
            let (momentum, spin) = (linear[row].scale(link.mass), inertia.mul_vec(angular[row]));
            for column in way().skip(k) {
                let sum = momentum.dot(linear[column]) + spin.dot(angular[column]);
                mass[row][column] += sum;
            }
        }
    }
}
