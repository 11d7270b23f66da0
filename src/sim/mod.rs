//! Articulated rigid bodies with penalty ground contact, written once over [`SimScalar`]: `f64`, `f32`, lanes of `f32`
//! across environments, and dual numbers.
//!
//! World axes are right-handed with y up, the ground is y = 0, units are SI and radians. The stages of one substep are
//! functions of their own, in the order of this list:
//!
//! | stage | file |
//! |---|---|
//! | frames, motion axes, twists, velocity-product accelerations | [`kinematics`] |
//! | spatial inertia, bias wrench | [`inertia`] |
//! | ground contact | [`contact`] |
//! | joint forces, leaves to root | [`joint`] |
//! | mass matrix, factor, solve | [`mass_matrix`] |
//! | semi-implicit Euler | [`integrate`] |
//! | substeps, reference point | [`step`](mod@step) |
//!
//! A robot is a tree of bodies of any shape, on fixed, sliding, hinged, ball and free joints, with one root or several
//! ([`articulation`]); [`robots`] are written as data, [`mjcf`] reads them from MuJoCo's XML, [`weld`] makes one body of what is rigidly connected, and
//! [`size`] says how large they may be.
//!
//! The adjoint of each stage stands beside it; [`adjoint`] runs them in reverse. [`mujoco`] is another law on the same
//! trees.

pub mod adjoint;
pub mod articulation;
pub mod contact;
pub mod cuda;
pub mod inertia;
pub mod integrate;
pub mod joint;
pub mod kinematics;
pub mod mass;
pub mod mass_matrix;
pub mod mjcf;
pub mod model;
pub mod mujoco;
pub mod number;
pub mod quat;
pub mod robots;
pub mod size;
pub mod spatial;
pub mod step;
pub mod subgradient;
pub mod vec3;
pub mod weld;
pub mod work;

pub use adjoint::{step_adjoint, step_keeping};
pub use articulation::{Articulation, JointKind, RobotError};
pub use mass::Inertia;
pub use model::Model;
pub use number::SimScalar;
pub use quat::{Quat, Transform};
pub use size::Size;
pub use spatial::{Spatial, SpatialInertia};
pub use step::{ReferencePoint, Timing, step};
pub use subgradient::Subgradient;
pub use vec3::{Mat3, Vec3};
pub use work::{Cotangents, Work};
