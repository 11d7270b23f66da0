//! How large a robot may be: classes of sizes that the dynamics are compiled for.
//!
//! The arrays of a substep ([`super::Work`], [`super::Cotangents`]) live on the stack and have the size of a class;
//! loops go over the bodies and dofs that the robot has. The first class is the exact size of one of the shipped robots
//! ([`EXACT`]), which pays for no number that it does not use. Two things bound the largest class, and fail to compile
//! beyond: the stack of a worker, which holds the adjoint eight lanes wide (`env::rows`), and the memory on the chip of
//! a GPU ([`super::cuda`]).

use super::adjoint::kept_per_substep;
use super::articulation::{Articulation, RobotError};
use super::robots::EXACT;

/// What a robot of one class may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub bodies: usize,
    pub coordinates: usize,
    pub velocities: usize,
    /// Substeps of an environment step that a gradient flows through.
    pub substeps: usize,
}

impl Size {
    /// The size of a robot that takes `substeps` substeps an environment step.
    pub fn of(robot: &Articulation, substeps: usize) -> Self {
        let (q, qd) = robot.offsets();
        Self { bodies: robot.bodies.len(), coordinates: q[q.len() - 1], velocities: qd[qd.len() - 1], substeps }
    }

    /// Whether a robot of this size has room in `class`.
    const fn fits(self, class: Self) -> bool {
        self.bodies <= class.bodies
            && self.coordinates <= class.coordinates
            && self.velocities <= class.velocities
            && self.substeps <= class.substeps
    }

    /// The number of the smallest class with room.
    ///
    /// # Errors
    /// If the robot is larger than the largest class, in what, and by how much.
    pub fn class(self) -> Result<usize, RobotError> {
        CLASSES.iter().position(|&c| self.fits(c)).ok_or_else(|| {
            let of = |s: Self| [s.bodies, s.coordinates, s.velocities, s.substeps];
            let names = ["bodies", "coordinates", "velocities", "substeps"];
            let pairs = names.into_iter().zip(of(self).into_iter().zip(of(CLASSES[CLASSES.len() - 1])));
            let (what, (has, room)) =
                pairs.into_iter().find(|(_, (has, room))| has > room).expect("some number is larger");
            RobotError::TooLarge { what, has, room }
        })
    }

    /// Numbers that [`super::step_keeping`] keeps of a robot of this size.
    pub const fn kept(self) -> usize {
        self.substeps * kept_per_substep(self.coordinates, self.velocities)
    }
}

/// The classes, smallest first; [`for_size`](crate::for_size) has an arm for each.
pub const CLASSES: [Size; 3] = [
    EXACT,
    Size { bodies: 24, coordinates: 32, velocities: 28, substeps: 64 },
    Size { bodies: 80, coordinates: 56, velocities: 48, substeps: 64 },
];

/// Evaluates an expression with the numbers of a class as constants: `for_size!(class, <B, Q, D, KEPT> => f::<B, Q, D,
/// KEPT>(x))`. `class` is what [`Size::class`] gave; the constants are bodies, coordinates, velocities and [`Size::kept
/// ].
#[macro_export]
macro_rules! for_size {
    ($class:expr, <$b:ident, $q:ident, $d:ident, $kept:ident> => $body:expr) => {
        match $class {
            0 => $crate::for_size!(0, $b, $q, $d, $kept, $body),
            1 => $crate::for_size!(1, $b, $q, $d, $kept, $body),
            _ => $crate::for_size!(2, $b, $q, $d, $kept, $body),
        }
    };
    ($class:literal, $b:ident, $q:ident, $d:ident, $kept:ident, $body:expr) => {{
        const _: () = assert!($crate::sim::size::CLASSES.len() == 3);
        const SIZE: $crate::sim::size::Size = $crate::sim::size::CLASSES[$class];
        const $b: usize = SIZE.bodies;
        const $q: usize = SIZE.coordinates;
        const $d: usize = SIZE.velocities;
        #[allow(dead_code, reason = "only adjoints keep numbers")]
        const $kept: usize = SIZE.kept();
        $body
    }};
}
