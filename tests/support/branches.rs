//! Which branches an environment step of the Ant takes: single precision is judged where it takes the same.

use pwm::env::ant::{BODIES, NQD};
use pwm::sim::integrate::integrate;
use pwm::sim::step::accelerations;
use pwm::sim::{Model, Number, Work};

/// Which contact, friction and limit branches the 16 substeps of one step take.
pub fn branches<S: Number<Mask = bool>>(model: &Model<S>, q: &[f64], qd: &[f64], action: &[f64]) -> Vec<[bool; 3]> {
    let (mut q, mut qd) =
        (q.iter().map(|&x| S::of(x)).collect::<Vec<_>>(), qd.iter().map(|&x| S::of(x)).collect::<Vec<_>>());
    let mut actuation = [S::zero(); NQD];
    for (u, a) in actuation[6..].iter_mut().zip(action) {
        *u = S::of(200.0 * a.clamp(-1.0, 1.0));
    }
    let mut w = Work::<S, BODIES, NQD>::new(model);
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
            if link.parent.is_some() {
                taken.push([q[link.q].lt(link.lower), link.upper.lt(q[link.q]), false]);
            }
        }
        integrate(model, S::of(1.0 / 960.0), &w.qdd, &mut q, &mut qd);
    }
    taken
}
