//! Joint forces from leaves to root: what is left for the joints to accelerate.

use super::articulation::JointKind;
use super::model::Model;
use super::work::Work;
use crate::device::Scalar;

/// `τ` of the joint of body `i`, and the body's wrench handed to its parent. Bodies in reverse tree order.
///
/// `τ = -S·F̂ - k_drive (q - target) - d q̇ + u + τ_limit`, where d is drive and limit damping together; the free joint
/// gets `τ = -F̂`. `actuation` holds u per dof and is not read for free joints.
#[inline(always)]
pub fn joint_force<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    q: &[S],
    qd: &[S],
    actuation: &[S],
    w: &mut Work<S, B, D>,
) {
    let link = &model.links[i];
    let total = w.body[i].f + w.body[i].children;
    if let Some(k) = link.parent {
        w.body[k].children += total;
    }
    match link.kind {
        JointKind::Free => (-total).write(&mut w.tau[link.qd..]),
        JointKind::Hinge | JointKind::Slide => {
            let (x, rate) = (q[link.q], qd[link.qd]);
            let bound = S::select(x.lt(link.lower), link.lower, S::select(link.upper.lt(x), link.upper, x));
            let passive =
                link.limit_stiffness * (bound - x) - link.drive_stiffness * (x - link.target) - link.damping * rate;
            w.tau[link.qd] = actuation[link.qd] + passive - w.axis[link.qd].dot(total);
        }
        JointKind::Fixed => {}
    }
}
