//! Which branches an environment step takes: single precision is judged where it takes the same as double precision.
#![allow(dead_code)] // each test binary uses a part

use pwm::sim::integrate::integrate;
use pwm::sim::step::accelerations;
use pwm::sim::{JointKind, Model, SimScalar, Work};

/// Which contact, friction and limit branches the 16 substeps of one step of the Ant take under an action.
pub fn branches<S: SimScalar<Mask = bool>>(model: &Model<S>, q: &[f64], qd: &[f64], action: &[f64]) -> Vec<[bool; 3]> {
    let torque = |a: &f64| 200.0 * a.clamp(-1.0, 1.0);
    let actuation: Vec<f64> = [0.0; 6].into_iter().chain(action.iter().map(torque)).collect();
    branches_under(model, q, qd, &actuation)
}

/// The same of any robot of at most 16 bodies and 24 dofs under forces of its joints.
pub fn branches_under<S: SimScalar<Mask = bool>>(
    model: &Model<S>,
    q: &[f64],
    qd: &[f64],
    actuation: &[f64],
) -> Vec<[bool; 3]> {
    let cast = |x: &[f64]| x.iter().map(|&x| S::of(x)).collect::<Vec<S>>();
    let (mut q, mut qd, actuation) = (cast(q), cast(qd), cast(actuation));
    let mut w = Work::<S, 16, 24>::new(model);
    let mut taken = Vec::new();
    for substep in 0..16 {
        accelerations(model, &q, &qd, &actuation, S::zero(), substep == 0, &mut w);
        for (link, b) in model.links.iter().zip(&w.body) {
            for c in &model.contacts[link.contacts.clone()] {
                let mut x = b.rot.mul_vec_add(c.point, b.p);
                x.y -= c.radius;
                let u = b.v.ang.cross_add(x, b.v.lin);
                let touching = x.y.lt(S::zero());
                let speed = u.x.mul_add(u.x, u.z * u.z).sqrt();
                let viscous = (c.viscosity * speed).lt(-(c.friction_stiffness * x.y));
                taken.push([touching, touching && u.y.lt(S::zero()), touching && viscous]);
            }
            if let JointKind::Hinge | JointKind::Slide = link.kind {
                taken.push([q[link.q].lt(link.lower), link.upper.lt(q[link.q]), false]);
            }
        }
        integrate(model, S::of(1.0 / 960.0), &w.qdd, &mut q, &mut qd);
    }
    taken
}
