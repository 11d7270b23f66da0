//! MuJoCo's law on the same trees of bodies: soft constraints with one exact solution, limits, dry friction and contact
//! between bodies. Forward only.
//!
//! World axes are right-handed with z up, SI units and radians. A step, in the order of this list:
//!
//! | stage | file |
//! |---|---|
//! | frames, bias, joint forces | those of [the other law](super), on a [`Model`](super::Model) |
//! | mass matrix | [`mass`] |
//! | drag of the medium, tendons, actuators | [`force`] |
//! | which geoms touch, and where | [`collide`] |
//! | constraints as rows | [`rows`] |
//! | the acceleration that solves them | [`solve`](mod@solve) |
//! | Euler with implicit damping, Runge-Kutta | [`step`](mod@step) |
//! | what sites feel of contacts | [`touch`] |
//!
//! A [`Law`] is compiled from MuJoCo's XML ([`compile`]). A free joint is three slides and a ball here, so that its
//! velocities are along the world's axes; MuJoCo's own are the same but for those of rotation, which it has in the
//! body's axes.
//!
//! The law is that of Todorov, "Convex and analytically-invertible dynamics with contacts and constraints" (ICRA 2014),
//! with the constants of version 2.3.1.

pub mod collide;
pub mod compile;
pub mod force;
pub mod law;
pub mod mass;
pub mod rows;
pub mod size;
pub mod solve;
pub mod step;
pub mod touch;

pub use compile::System;
pub use law::Law;
pub use step::{Scratch, step};
