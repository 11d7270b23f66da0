//! How episodes of a task start under MuJoCo's law: what is drawn, and what the law makes of it before the first step.

use super::formula::{Chance, Formula, Nothing};
use super::reading::{MOST_READINGS, Sight, look};
use super::{MOST_COORDINATES, MOST_DRAWN, MOST_SENSORS, MOST_VELOCITIES, MujocoTask};
use crate::device::Real;
use crate::device::philox::{Philox, Stream};
use crate::env::reset::Uniforms;
use crate::env::task::MOST_ENTRIES;
use crate::sim::mujoco::collide::collide;
use crate::sim::mujoco::law::{Integrator, View};
use crate::sim::mujoco::rows::Contact;
use crate::sim::mujoco::size::CLASSES;
use crate::sim::mujoco::step::{advance_under, forward};
use crate::sim::mujoco::{Law, Scratch, step};
use crate::sim::vec3::Vec3;
use std::f64::consts::TAU;

/// Draws of one start at most: with a chance of one in a hundred for each, one start of 10^43 would not be as it is
/// asked for.
const MOST_ATTEMPTS: u64 = 10_000;

const LARGEST: crate::sim::mujoco::size::Size = CLASSES[CLASSES.len() - 1];
pub(super) type Room = Scratch<f64, { LARGEST.links }, { LARGEST.velocities }, { LARGEST.rows }>;

/// How an episode starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Coordinates that nothing draws (m, rad, quaternions (x, y, z, w)).
    pub pose: Vec<f64>,
    /// Numbers that are drawn once, in order; each may read those before it.
    pub drawn: Vec<Formula>,
    /// Coordinates and velocities that are set, in order.
    pub coordinates: Vec<(usize, Formula)>,
    pub velocities: Vec<(usize, Formula)>,
    /// First coordinates of quaternions that are drawn uniformly over all rotations.
    pub turned: Vec<usize>,
    pub goal: Vec<Formula>,
    /// Whether all of them but `drawn` are drawn again while geoms touch.
    pub untouched: bool,
    /// They are drawn again until this is at least ½; it may read the state.
    pub accepted: Option<Formula>,
    /// Physics steps without control before the first step. By Euler's method the first of them takes the acceleration of
    /// `pose` at rest, as MuJoCo does that is given a pose and is not told to look at it.
    pub settle: usize,
}

impl Start {
    /// Philox blocks (of four uniforms) of an attempt.
    pub fn blocks(&self) -> u32 {
        let set = self.coordinates.iter().chain(&self.velocities).map(|(_, f)| f);
        let all = self.drawn.iter().chain(set).chain(&self.goal).map(Formula::uniforms).sum::<usize>();
        // A quaternion is four normal numbers, each of two uniform ones.
        (all + 8 * self.turned.len()).div_ceil(4) as u32
    }
}

/// Numbers drawn one after another.
struct Draws<'a>(Uniforms<'a>);

impl Chance<f64> for Draws<'_> {
    fn uniform(&mut self) -> f64 {
        self.0.next()
    }
    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.0.next(), self.0.next());
        (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
    }
}

/// Whether any two geoms overlap in the state that `view` shows.
fn touches<const B: usize, const D: usize>(law: &Law<f64>, view: View<'_, f64, B, D>) -> bool {
    let mut any = false;
    for pair in &law.pairs {
        collide(&pair.meeting, view, |touch| any |= touch.overlaps());
    }
    any
}

impl MujocoTask {
    /// Start of an episode: see [`crate::env::Task::begin`]. Computed in `f64`, rounded once.
    ///
    /// Not inlined: its scratch memory is on the stack of those alone who call it.
    #[inline(never)]
    pub(in crate::env) fn begin<R: Real>(
        &self,
        random: &Philox,
        at: u64,
        block: u32,
        q: &mut [R],
        qd: &mut [R],
        obs: &mut [R],
    ) {
        let (mut x, mut xd) = ([0.0; MOST_COORDINATES], [0.0; MOST_VELOCITIES]);
        let (x, xd) = (&mut x[..q.len()], &mut xd[..qd.len()]);
        let mut room = Room::new(&self.spec.system.law);
        self.draw(random, at, block, x, xd, &mut room);
        self.settle_in(x, xd, &mut room);
        let mut shown = [0.0; MOST_ENTRIES];
        let shown = &mut shown[..self.sizes.obs];
        // Actuators do not act yet, not even those that hold a place.
        self.look_in(x, xd, [&[], &[0.0; MOST_VELOCITIES]], shown, &mut room);
        let put = |to: &mut [R], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, &x)| *to = R::of(x));
        put(q, x);
        put(qd, xd);
        put(obs, shown);
    }

    /// Whether starts are found that are as they are asked for: the first few are.
    pub fn has_starts(&self) -> bool {
        let (mut x, mut xd) = (vec![0.0; self.sizes.nq], vec![0.0; self.sizes.nqd]);
        let (random, mut room) = (Philox::new(0, Stream::Test), Room::new(&self.spec.system.law));
        (0..32).all(|at| self.draw(&random, at, 0, &mut x, &mut xd, &mut room))
    }

    /// Draws a state until it is as it is asked for; the last one if none is.
    ///
    /// The attempts of one start differ in the upper half of the step that their random numbers are drawn at.
    fn draw(&self, random: &Philox, at: u64, block: u32, x: &mut [f64], xd: &mut [f64], room: &mut Room) -> bool {
        let (start, law) = (&self.spec.start, &self.spec.system.law);
        let robot = law.model.coordinates;
        let mut drawn = [0.0; MOST_DRAWN];
        for attempt in 0..MOST_ATTEMPTS {
            let mut draws = Draws(Uniforms::new(random, at | attempt << 32, block));
            for (i, f) in start.drawn.iter().enumerate() {
                let value = f.value(&[], &drawn, &mut draws);
                drawn[i] = if attempt == 0 { value } else { drawn[i] };
            }
            x[..robot].copy_from_slice(&start.pose);
            xd.fill(0.0);
            for (k, f) in &start.coordinates {
                x[*k] = f.value(&[], &drawn, &mut draws);
            }
            for &k in &start.turned {
                let turn = [0; 4].map(|_| draws.normal());
                let norm = turn.iter().map(|x| x * x).sum::<f64>().sqrt();
                x[k..k + 4].iter_mut().zip(turn).for_each(|(x, t)| *x = t / norm);
            }
            for (k, f) in &start.velocities {
                xd[*k] = f.value(&[], &drawn, &mut draws);
            }
            for (k, f) in start.goal.iter().enumerate() {
                x[robot + k] = f.value(&[], &drawn, &mut draws);
            }
            if !start.untouched && start.accepted.is_none() {
                return true;
            }
            look(law, x, xd, &mut room.work);
            let mut read = [0.0; MOST_READINGS];
            let (action, touch) = (&[0.0; MOST_VELOCITIES], &[0.0; MOST_SENSORS]);
            let sight = Sight { law, q: x, qd: xd, action, touch, work: &room.work };
            sight.read(&self.spec.readings, &mut read);
            let accepted = start.accepted.as_ref().is_none_or(|f| f.value(&read, &drawn, &mut Nothing) >= 0.5);
            if accepted && !(start.untouched && touches(law, View { work: &room.work, far: law.far(x) })) {
                return true;
            }
        }
        false
    }

    /// What the law makes of a state that was drawn, before the first step: see [`Start::settle`]. `q` and `qd` are those
    /// of [`MujocoTask::look`], changed in place.
    pub fn settle(&self, q: &mut [f64], qd: &mut [f64]) {
        self.settle_in(q, qd, &mut Room::new(&self.spec.system.law));
    }

    fn settle_in(&self, q: &mut [f64], qd: &mut [f64], room: &mut Room) {
        let (start, law) = (&self.spec.start, &self.spec.system.law);
        if start.settle == 0 {
            return;
        }
        let q = &mut q[..law.model.coordinates];
        let still = [0.0; MOST_VELOCITIES];
        let control = &still[..law.actuators.len()];
        let mut left = start.settle;
        if law.integrator != Integrator::RungeKutta4 {
            forward(law, &start.pose, &still[..law.model.velocities], control, room);
            advance_under(law, q, qd, room);
            left -= 1;
        }
        for _ in 0..left {
            step(law, q, qd, control, room);
        }
    }

    /// The observation of a state, written to `obs`, and its reward: that of one control step with `action` which led to
    /// it. What touches is felt as it is in that very state. `q` has `nq` numbers (m, rad, quaternions (x, y, z, w), then
    /// the goal), `qd` has `nqd` (m/s, rad/s, of balls about the world's axes), `action` has `act` and `obs` has `obs` of
    /// [`EnvSizes`](crate::env::EnvSizes).
    pub fn look(&self, q: &[f64], qd: &[f64], action: &[f64], obs: &mut [f64]) -> f64 {
        self.look_in(q, qd, [action, action], obs, &mut Room::new(&self.spec.system.law))
    }

    /// `control` is what acts, none if it is empty, and `action` what formulas read.
    fn look_in(&self, x: &[f64], xd: &[f64], [control, action]: [&[f64]; 2], obs: &mut [f64], room: &mut Room) -> f64 {
        let law = &self.spec.system.law;
        let mut touch = [0.0; MOST_SENSORS];
        if !self.f64.sensors.is_empty() {
            forward(law, &x[..law.model.coordinates], xd, control, room);
            self.f64.feel(room, &mut touch);
        }
        look(law, x, xd, &mut room.work);
        let mut read = [0.0; MOST_READINGS];
        Sight { law, q: x, qd: xd, action, touch: &touch, work: &room.work }.read(&self.spec.readings, &mut read);
        for (into, f) in obs.iter_mut().zip(&self.spec.observation) {
            *into = f.value(&read, &[], &mut Nothing);
        }
        self.spec.reward.value(&read, &[], &mut Nothing)
    }

    /// Points in contact in the state (q, qd) without control, with the normal force on the second geom of each and the
    /// number of the pair (m and N, world axes with z up).
    pub(in crate::env) fn normal_forces(&self, q: &[f64], qd: &[f64]) -> Vec<(Vec3<f64>, Vec3<f64>, usize)> {
        let law = &self.spec.system.law;
        let mut room = Room::new(law);
        let control = [0.0; MOST_VELOCITIES];
        forward(law, &q[..law.model.coordinates], qd, &control[..law.actuators.len()], &mut room);
        let of = |c: &Contact<f64>| {
            let force: f64 = room.row_force[c.row..][..c.pushing].iter().sum();
            (c.point + room.far, c.normal.scale(force), c.pair)
        };
        room.rows.contact[..room.rows.made].iter().map(of).collect()
    }
}
