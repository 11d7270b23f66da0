//! What can be read of a state under MuJoCo's law: one number each, for observations, rewards and starts.

use crate::device::Scalar;
use crate::sim::kinematics::body_kinematics;
use crate::sim::mujoco::Law;
use crate::sim::number::SimScalar;
use crate::sim::vec3::Vec3;
use crate::sim::work::Work;

/// Numbers that a task may read of a state at most.
pub const MOST_READINGS: usize = 128;

/// Axes of the world: x, y, z.
pub type Axis = usize;

/// One number of a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// A coordinate (m or rad), or behind those a number of the episode's goal.
    Coordinate(usize),
    /// A velocity (m/s or rad/s).
    Velocity(usize),
    /// The rate about an axis of the body that a ball joint turns (rad/s).
    BodyRate { link: usize, axis: Axis },
    /// A component of a direction that is fixed in a link.
    Direction { link: usize, direction: [f64; 3], along: Axis },
    /// A component of the place of a point that is fixed in a link (m).
    Place { link: usize, point: [f64; 3], along: Axis },
    /// A component of the velocity of the centre of all mass (m/s).
    MassVelocity(Axis),
    /// An entry of the action, between -1 and 1.
    Action(usize),
    /// What a touch sensor felt in the last physics step (N).
    Touch(usize),
}

/// A component of a vector.
#[inline(always)]
fn component<S: Scalar>(v: Vec3<S>, axis: Axis) -> S {
    v.array()[axis]
}

/// Frames and twists of all links in the state (q, qd), seen from where [`Law::far`] is.
#[inline(always)]
pub fn look<S: SimScalar, const B: usize, const D: usize>(law: &Law<S>, q: &[S], qd: &[S], w: &mut Work<S, B, D>) {
    let near = law.near(q);
    for i in 0..law.model.links.len() {
        body_kinematics(&law.model, i, &near, qd, w);
    }
}

/// A state to read, whose links are in `work`.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a, S, const B: usize, const D: usize> {
    pub law: &'a Law<S>,
    /// Coordinates, and the numbers of the goal behind them.
    pub q: &'a [S],
    pub qd: &'a [S],
    pub action: &'a [S],
    pub touch: &'a [S],
    pub work: &'a Work<S, B, D>,
}

impl<S: SimScalar, const B: usize, const D: usize> Sight<'_, S, B, D> {
    /// Reads all of `readings`, in their order.
    #[inline(always)]
    pub fn read(&self, readings: &[Reading], into: &mut [S]) {
        let (mut drift, far) = (None, self.law.far(self.q));
        for (into, reading) in into.iter_mut().zip(readings) {
            *into = match *reading {
                Reading::Coordinate(i) => self.q[i],
                Reading::Velocity(i) => self.qd[i],
                Reading::BodyRate { link, axis } => {
                    let body = &self.work.body[link];
                    component(body.rot.transpose_mul_vec(body.v.ang), axis)
                }
                Reading::Direction { link, direction, along } => {
                    component(self.work.body[link].rot.mul_vec(Vec3::of(direction)), along)
                }
                Reading::Place { link, point, along } => {
                    let body = &self.work.body[link];
                    component(body.rot.mul_vec_add(Vec3::of(point), body.p) + far, along)
                }
                Reading::MassVelocity(along) => {
                    if drift.is_none() {
                        drift = Some(self.mass_velocity());
                    }
                    component(drift.unwrap_or(Vec3::zero()), along)
                }
                Reading::Action(i) => self.action[i],
                Reading::Touch(i) => self.touch[i],
            };
        }
    }

    /// Velocity of the centre of all mass (m/s).
    #[inline(always)]
    fn mass_velocity(&self) -> Vec3<S> {
        let (mut momentum, mut mass) = (Vec3::zero(), S::zero());
        for (link, body) in self.law.model.links.iter().zip(&self.work.body) {
            let com = body.rot.mul_vec_add(link.com, body.p);
            momentum = body.v.ang.cross_add(com, body.v.lin).scale_add(link.mass, momentum);
            mass += link.mass;
        }
        momentum.scale(S::one() / mass)
    }
}
