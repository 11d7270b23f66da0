//! The robot at its reference configuration, and which dofs move what.

use super::super::collide::place;
use super::super::law::{Meeting, Pair, Round, View};
use super::{JointSeat, LARGEST, LargestWork, Seat};
use crate::sim::articulation::JointKind;
use crate::sim::mass_matrix::solve;
use crate::sim::mjcf::model::JointType;
use crate::sim::model::{Link, Model};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::{Mat3, Vec3};
use std::iter::successors;

/// The robot at its reference configuration.
pub(super) struct AtRest<'a> {
    pub(super) model: &'a Model<f64>,
    /// Its mass matrix is factorised.
    pub(super) w: &'a LargestWork,
}

impl AtRest<'_> {
    /// `J M⁻¹ Jᵀ` of a row.
    pub(super) fn inverse(&self, row: &[f64; LARGEST.velocities]) -> f64 {
        let mut x = *row;
        solve(self.model, &self.w.factor, &self.w.pivot, &mut x);
        x.iter().zip(row).map(|(a, b)| a * b).sum()
    }

    /// Diagonal of M⁻¹; of a free joint the means of translation and of rotation.
    pub(super) fn dof_weights(&self, joints: &[JointSeat]) -> Vec<f64> {
        let of = |dof: usize| {
            let mut row = [0.0; LARGEST.velocities];
            row[dof] = 1.0;
            self.inverse(&row)
        };
        let mut weights: Vec<f64> = (0..self.model.velocities).map(of).collect();
        for joint in joints.iter().filter(|j| j.kind == JointType::Free) {
            for first in [joint.dof, joint.dof + 3] {
                let mean = weights[first..first + 3].iter().sum::<f64>() / 3.0;
                weights[first..first + 3].fill(mean);
            }
        }
        weights
    }

    /// Means over three directions of the inverse inertia of a link at a point of it, against translation and rotation.
    pub(super) fn body_weights(&self, link: usize, path: &[usize], at: Transform<f64>) -> [f64; 2] {
        let b = &self.w.body[link];
        let point = b.rot.mul_vec_add(at.p, b.p);
        let mut sums = [0.0; 2];
        for k in 0..3 {
            let direction = Mat3::<f64>::identity().column(k);
            let mut rows = [[0.0; LARGEST.velocities]; 2];
            for &dof in path {
                let axis = &self.w.axis[dof];
                rows[0][dof] = direction.dot(axis.ang.cross_add(point, axis.lin));
                rows[1][dof] = direction.dot(axis.ang);
            }
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum += self.inverse(row) / 3.0;
            }
        }
        sums
    }
}

/// Dofs that move a link.
pub(super) fn path(model: &Model<f64>, link: usize) -> Vec<usize> {
    let links = successors(Some(link), |&i| model.links[i].parent).map(|i| &model.links[i]);
    let mut dofs: Vec<usize> = links.flat_map(|l| l.qd..l.qd + l.kind.velocities()).collect();
    dofs.sort_unstable();
    dofs
}

/// Dofs that move one link against the other, each with whether it moves the second.
pub(super) fn apart(first: Option<usize>, second: Option<usize>, paths: &[Vec<usize>]) -> Vec<(usize, bool)> {
    let of = |link: Option<usize>| link.map_or(&[][..], |l| &paths[l]);
    let (a, b) = (of(first), of(second));
    let only = |x: &[usize], y: &[usize], moves_second| {
        x.iter().filter(|d| !y.contains(d)).map(|&d| (d, moves_second)).collect::<Vec<_>>()
    };
    let mut all = [only(a, b, false), only(b, a, true)].concat();
    all.sort_unstable();
    all
}

pub(super) fn damping_of(model: &Model<f64>) -> Vec<f64> {
    model.links.iter().flat_map(|l| std::iter::repeat_n(l.damping, l.kind.velocities())).collect()
}

/// Whether a frame is turned about y alone.
fn in_plane(turn: Option<Quat<f64>>) -> bool {
    turn.is_none_or(|q| q.v.x == 0.0 && q.v.z == 0.0)
}

impl AtRest<'_> {
    /// Whether everything stays in planes y = const, and what may touch lies in one: contacts slide along one direction
    /// then.
    pub(super) fn is_planar(&self, pairs: &[Pair<f64>]) -> bool {
        let links = self.model.links.iter().all(|l| {
            let axis = l.rotation.map_or(l.axis, |turn| turn.rotate(l.axis));
            let stays = match l.kind {
                JointKind::Hinge => axis.x == 0.0 && axis.z == 0.0,
                JointKind::Slide => axis.y == 0.0,
                JointKind::Fixed => true,
                JointKind::Free | JointKind::Ball => false,
            };
            stays && in_plane(l.rotation)
        });
        // No motion of the plane changes a y.
        let y = |r: &Round<f64>| place(&r.centre, View { work: self.w, far: Vec3::zero() }).y;
        let level = |r: &Round<f64>| r.half == 0.0 || r.axis.y == 0.0;
        let together = |a: &Round<f64>, b: &Round<f64>| level(a) && level(b) && y(a) == y(b);
        links
            && pairs.iter().all(|p| match &p.meeting {
                Meeting::PlaneSphere { normal, .. } | Meeting::PlaneCapsule { normal, .. } => normal.y == 0.0,
                Meeting::Spheres(a, b) | Meeting::SphereCapsule(a, b) | Meeting::Capsules(a, b) => together(a, b),
            })
    }
}

/// The slides before the body that all others hang on, whose frames are not turned; none where there is more than one
/// such body. The last of them may carry that body, those before it carry none.
pub(super) fn leading(model: &Model<f64>, seats: &[Seat]) -> Vec<usize> {
    let one_tree = model.links.iter().filter(|l| l.parent.is_none()).count() == 1;
    let leads = |&(i, l): &(usize, &Link<f64>)| {
        let carries = |link: Option<usize>| link.is_some() && seats.iter().any(|s| s.link == link);
        one_tree
            && l.parent == i.checked_sub(1)
            && !carries(l.parent)
            && l.kind == JointKind::Slide
            && l.rotation.is_none()
    };
    model.links.iter().enumerate().take_while(leads).map(|(i, _)| i).collect()
}
