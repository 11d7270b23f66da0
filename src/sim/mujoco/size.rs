//! How large a robot under this law may be: classes of sizes that a step is compiled for, as those of
//! [the other law](crate::sim::size).

use super::law::Law;
use crate::device::Scalar;

/// What a robot of one class may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub links: usize,
    pub coordinates: usize,
    pub velocities: usize,
    pub rows: usize,
}

/// The classes, smallest first; [`for_mujoco_size`](crate::for_mujoco_size) has an arm for each.
pub const CLASSES: [Size; 4] = [
    Size { links: 3, coordinates: 3, velocities: 3, rows: 4 },
    Size { links: 4, coordinates: 4, velocities: 4, rows: 64 },
    Size { links: 9, coordinates: 9, velocities: 9, rows: 208 },
    Size { links: 24, coordinates: 28, velocities: 24, rows: 256 },
];

/// Coordinates of the largest robot.
pub const MOST_COORDINATES: usize = CLASSES[CLASSES.len() - 1].coordinates;

impl Size {
    /// The size of a robot.
    pub fn of<S: Scalar>(law: &Law<S>) -> Self {
        let m = &law.model;
        Self { links: m.links.len(), coordinates: m.coordinates, velocities: m.velocities, rows: law.most_rows() }
    }

    /// The number of the smallest class with room.
    ///
    /// # Errors
    /// Of what the robot has too much for the largest, and how much has room.
    pub fn class(self) -> Result<usize, String> {
        let of = |s: Self| [s.links, s.coordinates, s.velocities, s.rows];
        let fits = |class: &Self| of(self).iter().zip(of(*class)).all(|(has, room)| *has <= room);
        CLASSES.iter().position(fits).ok_or_else(|| {
            let names = ["links", "coordinates", "velocities", "rows of limits and contacts"];
            let pairs = names.into_iter().zip(of(self).into_iter().zip(of(CLASSES[CLASSES.len() - 1])));
            let (what, (has, room)) =
                pairs.into_iter().find(|(_, (has, room))| has > room).expect("invariant: something is larger");
            format!("it has {has} {what}, room is for {room}")
        })
    }
}

/// Evaluates an expression with the numbers of a class as constants: `for_mujoco_size!(class, <B, D, R> => f::<B, D,
/// R>(x))`. `class` is what [`Size::class`] gave; the constants are links, velocities and rows.
#[macro_export]
macro_rules! for_mujoco_size {
    ($class:expr, <$b:ident, $d:ident, $r:ident> => $body:expr) => {
        match $class {
            0 => $crate::for_mujoco_size!(0, $b, $d, $r, $body),
            1 => $crate::for_mujoco_size!(1, $b, $d, $r, $body),
            2 => $crate::for_mujoco_size!(2, $b, $d, $r, $body),
            _ => $crate::for_mujoco_size!(3, $b, $d, $r, $body),
        }
    };
    ($class:literal, $b:ident, $d:ident, $r:ident, $body:expr) => {{
        const _: () = assert!($crate::sim::mujoco::size::CLASSES.len() == 4);
        const SIZE: $crate::sim::mujoco::size::Size = $crate::sim::mujoco::size::CLASSES[$class];
        const $b: usize = SIZE.links;
        const $d: usize = SIZE.velocities;
        const $r: usize = SIZE.rows;
        $body
    }};
}
