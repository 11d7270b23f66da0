//! What an environment shows: features of its state, listed by its task; values and adjoints.

use crate::device::Scalar;
use crate::sim::{Mat3, Quat, Vec3};

/// Entries of the observation that belong together. Those of the root are there only where the root is free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feature {
    /// Height of the root's origin, m.
    Height,
    /// The root's quaternion (x, y, z, w), as it is.
    Rotation,
    /// Velocity of the root's origin, world axes [m/s].
    LinearVelocity,
    /// Angular velocity of the root, world axes [rad/s].
    AngularVelocity,
    /// Coordinates, as they are.
    Coordinates {
        first: usize,
        count: usize,
    },
    /// Velocities times `scale`.
    Velocities {
        first: usize,
        count: usize,
        scale: f64,
    },
    /// Cosine of the angle between the axis of the root that points up at the start and up.
    Up,
    /// Cosine of the angle between the axis of the root that points along x at the start and the way to a place (x, z)
    /// on the ground, at the root's own height.
    Heading {
        target: [f64; 2],
    },
    /// Sine and cosine of a coordinate that is an angle.
    Sine {
        of: usize,
    },
    Cosine {
        of: usize,
    },
    /// The clipped action that led to the state (zeros after a reset), or always zeros.
    Action {
        shown: bool,
    },
}

impl Feature {
    /// Its name in a specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Height => "height",
            Self::Rotation => "rotation",
            Self::LinearVelocity => "linear_velocity",
            Self::AngularVelocity => "angular_velocity",
            Self::Coordinates { .. } => "coordinates",
            Self::Velocities { .. } => "velocities",
            Self::Up => "up",
            Self::Heading { .. } => "heading",
            Self::Sine { .. } => "sine",
            Self::Cosine { .. } => "cosine",
            Self::Action { .. } => "action",
        }
    }

    /// Entries of the observation, of a task with so many actions.
    pub fn width(self, actions: usize) -> usize {
        match self {
            Self::Height | Self::Up | Self::Heading { .. } | Self::Sine { .. } | Self::Cosine { .. } => 1,
            Self::LinearVelocity | Self::AngularVelocity => 3,
            Self::Rotation => 4,
            Self::Coordinates { count, .. } | Self::Velocities { count, .. } => count,
            Self::Action { .. } => actions,
        }
    }

    /// What its entries are computed from.
    pub fn source(self) -> Source {
        match self {
            Self::Height
            | Self::Rotation
            | Self::LinearVelocity
            | Self::AngularVelocity
            | Self::Up
            | Self::Heading { .. } => Source::Root,
            Self::Coordinates { first, count } => Source::Coordinates { first, count },
            Self::Sine { of } | Self::Cosine { of } => Source::Coordinates { first: of, count: 1 },
            Self::Velocities { first, count, .. } => Source::Velocities { first, count },
            Self::Action { .. } => Source::Action,
        }
    }

    /// Whether the derivative of its entries depends on what they are computed from.
    pub fn is_curved(self) -> bool {
        self.source() == Source::Root || matches!(self, Self::Sine { .. } | Self::Cosine { .. })
    }

    /// An entry of a feature that is not the root's, from the number that it is computed from.
    #[inline(always)]
    pub fn entry<S: Scalar>(self, x: S) -> S {
        match self {
            Self::Velocities { scale, .. } => S::of(scale) * x,
            Self::Sine { .. } => x.sin_cos().0,
            Self::Cosine { .. } => x.sin_cos().1,
            Self::Action { shown: false } => S::zero(),
            _ => x,
        }
    }

    /// Adjoint of [`Feature::entry`]: `sum`, the cotangent of `x` so far, with what the entry's cotangent adds.
    #[inline(always)]
    pub fn entry_adjoint<S: Scalar>(self, x: S, bar: S, sum: S) -> S {
        match self {
            Self::Velocities { scale, .. } => S::of(scale).mul_add(bar, sum),
            Self::Sine { .. } => x.sin_cos().1.mul_add(bar, sum),
            Self::Cosine { .. } => (-x.sin_cos().0).mul_add(bar, sum),
            Self::Action { shown: false } => sum,
            _ => sum + bar,
        }
    }
}

/// What a feature is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The root, which must be free.
    Root,
    /// So many coordinates, an entry each.
    Coordinates { first: usize, count: usize },
    /// So many velocities, an entry each.
    Velocities { first: usize, count: usize },
    /// The clipped action.
    Action,
}

/// The observation of a task.
#[derive(Clone, Debug)]
pub struct Observation {
    pub features: Vec<Feature>,
    /// Orientation (x, y, z, w) of the root at the start, from which `Up` and `Heading` are seen.
    pub start: [f64; 4],
    /// Actions of the task.
    pub actions: usize,
}

/// The root of a robot as the features read it.
struct Root<S> {
    p: Vec3<S>,
    rotation: Quat<S>,
    omega: Vec3<S>,
    v: Vec3<S>,
}

impl<S: Scalar> Root<S> {
    #[inline(always)]
    fn read(q: &[S], qd: &[S]) -> Self {
        Self { p: Vec3::read(q), rotation: Quat::read(&q[3..]), omega: Vec3::read(qd), v: Vec3::read(&qd[3..]) }
    }

    /// For a robot without a free root.
    #[inline(always)]
    fn none() -> Self {
        Self { p: Vec3::zero(), rotation: Quat::identity(), omega: Vec3::zero(), v: Vec3::zero() }
    }

    /// From the root to a place on the ground, at the root's height.
    #[inline(always)]
    fn way(&self, target: [f64; 2]) -> Vec3<S> {
        Vec3::new(S::of(target[0]) - self.p.x, S::zero(), S::of(target[1]) - self.p.z)
    }

    /// Writes the entries of a feature of the root; `turned` is its rotation from the start as a matrix.
    #[inline(always)]
    fn write(&self, feature: Feature, turned: &Mat3<S>, to: &mut [S]) {
        match feature {
            Feature::Height => to[0] = self.p.y,
            Feature::Rotation => self.rotation.write(to),
            Feature::LinearVelocity => self.omega.cross_add_exact(self.p, self.v).write(to),
            Feature::AngularVelocity => self.omega.write(to),
            Feature::Up => to[0] = turned.0[1].y,
            Feature::Heading { target } => {
                let way = self.way(target);
                to[0] = turned.column(0).dot(way) / way.norm().max(S::of(NEAREST));
            }
            _ => unreachable!("invariant: {} is not a feature of the root", feature.name()),
        }
    }

    /// Adds to `sum` what the cotangents of the entries of a feature of the root give; `turned` is its rotation from
    /// the start.
    #[inline(always)]
    fn sum_up(&self, feature: Feature, turned: Quat<S>, bar: &[S], sum: &mut RootBar<S>) {
        match feature {
            Feature::Height => sum.height += bar[0],
            Feature::Rotation => sum.rotation = Quat::read(bar).scale_add(S::one(), sum.rotation),
            Feature::LinearVelocity => sum.velocity += Vec3::read(bar),
            Feature::AngularVelocity => sum.omega += Vec3::read(bar),
            Feature::Up => sum.up += bar[0],
            Feature::Heading { target } => {
                // x·t / max(|t|, ε), x the first column of the turned matrix.
                let way = self.way(target);
                let (norm, x) = (way.norm(), turned.matrix().column(0));
                let far = S::of(NEAREST).lt(norm);
                let inverse = S::one() / S::select(far, norm, S::of(NEAREST));
                let unit = way.scale(inverse);
                let along = S::select(far, x.dot(unit), S::zero());
                sum.column += unit.scale(bar[0]);
                sum.way += (x - unit.scale(along)).scale(bar[0] * inverse);
            }
            _ => unreachable!("invariant: {} is not a feature of the root", feature.name()),
        }
    }
}

/// Below this distance from its target a heading is that of a target so far away, m.
pub const NEAREST: f64 = 1e-9;

/// Cotangents of what the features read of the root.
struct RootBar<S> {
    height: S,
    rotation: Quat<S>,
    velocity: Vec3<S>,
    omega: Vec3<S>,
    /// Of the turned first column and of the turned second column's y.
    column: Vec3<S>,
    up: S,
    /// Of the way to a target.
    way: Vec3<S>,
}

impl<S: Scalar> RootBar<S> {
    /// Sums begin at minus zero, which changes no number that is added: +0 would turn a -0 into +0.
    #[inline(always)]
    fn none() -> Self {
        let none = -S::zero();
        let v = Vec3::new(none, none, none);
        Self { height: none, rotation: Quat { v, w: none }, velocity: v, omega: v, column: v, up: none, way: v }
    }
}

impl Observation {
    /// Entries of the observation.
    pub fn width(&self) -> usize {
        self.features.iter().map(|f| f.width(self.actions)).sum()
    }

    /// Whether some feature is seen from the start orientation.
    pub fn projects(&self) -> bool {
        self.features.iter().any(|f| matches!(f, Feature::Up | Feature::Heading { .. }))
    }

    /// Whether some feature is one of the root.
    pub fn of_root(&self) -> bool {
        self.features.iter().any(|f| f.source() == Source::Root)
    }

    #[inline(always)]
    fn start<S: Scalar>(&self) -> Quat<S> {
        Quat::of(self.start)
    }

    /// Writes the observation of the state (q, qd) that the clipped `action` led to.
    #[inline(always)]
    pub fn write<S: Scalar>(&self, q: &[S], qd: &[S], action: &[S], obs: &mut [S]) {
        let root = if self.of_root() { Root::read(q, qd) } else { Root::none() };
        let turned = if self.projects() { (root.rotation * self.start::<S>().conj()).matrix() } else { Mat3::zero() };
        let mut at = 0;
        for &feature in &self.features {
            let width = feature.width(self.actions);
            let to = &mut obs[at..at + width];
            at += width;
            let from = match feature.source() {
                Source::Root => {
                    root.write(feature, &turned, to);
                    continue;
                }
                Source::Coordinates { first, count } => &q[first..first + count],
                Source::Velocities { first, count } => &qd[first..first + count],
                Source::Action => action,
            };
            for (to, &x) in to.iter_mut().zip(from) {
                *to = feature.entry(x);
            }
        }
    }

    /// Adjoint of [`Observation::write`]: adds to the cotangents of state and clipped action.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a state and its cotangent, number by number")]
    pub fn adjoint<S: Scalar>(
        &self,
        q: &[S],
        qd: &[S],
        action: &[S],
        bar: &[S],
        q_bar: &mut [S],
        qd_bar: &mut [S],
        action_bar: &mut [S],
    ) {
        let root = if self.of_root() { Root::read(q, qd) } else { Root::none() };
        let turned = root.rotation * self.start::<S>().conj();
        let mut sum = RootBar::none();
        let mut at = 0;
        for &feature in &self.features {
            let width = feature.width(self.actions);
            let bar = &bar[at..at + width];
            at += width;
            let (from, sum) = match feature.source() {
                Source::Root => {
                    root.sum_up(feature, turned, bar, &mut sum);
                    continue;
                }
                Source::Coordinates { first, count } => (&q[first..first + count], &mut q_bar[first..]),
                Source::Velocities { first, count } => (&qd[first..first + count], &mut qd_bar[first..]),
                Source::Action => (action, &mut *action_bar),
            };
            for ((sum, &x), &bar) in sum.iter_mut().zip(from).zip(bar) {
                *sum = feature.entry_adjoint(x, bar, *sum);
            }
        }
        if self.of_root() {
            self.root_adjoint(&root, turned, &sum, q_bar, qd_bar);
        }
    }

    #[inline(always)]
    fn root_adjoint<S: Scalar>(
        &self,
        root: &Root<S>,
        turned: Quat<S>,
        bar: &RootBar<S>,
        q_bar: &mut [S],
        qd_bar: &mut [S],
    ) {
        // v + ω × p
        (Vec3::read(&qd_bar[3..]) + bar.velocity).write(&mut qd_bar[3..]);
        (Vec3::read(&*qd_bar) + bar.omega + root.p.cross(bar.velocity)).write(qd_bar);
        let mut p_bar = bar.velocity.cross(root.omega);
        p_bar.y += bar.height;
        if self.projects() {
            p_bar.x -= bar.way.x;
            p_bar.z -= bar.way.z;
            let (z, c) = (S::zero(), bar.column);
            let matrix = Mat3([Vec3::new(c.x, z, z), Vec3::new(c.y, bar.up, z), Vec3::new(c.z, z, z)]);
            let rotation = turned.matrix_adjoint(&matrix) * self.start();
            let rotation = rotation.scale_add(S::one(), bar.rotation);
            Quat::read(&q_bar[3..]).scale_add(S::one(), rotation).write(&mut q_bar[3..]);
        } else {
            Quat::read(&q_bar[3..]).scale_add(S::one(), bar.rotation).write(&mut q_bar[3..]);
        }
        (Vec3::read(&*q_bar) + p_bar).write(q_bar);
    }
}
