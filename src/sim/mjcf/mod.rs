//! Robots in MuJoCo's XML (MJCF): one parser, and what a law of motion makes of what it found.
//!
//! [`Mjcf::read`] gives what a file says, whatever the law: default classes and angles resolved, every number with the
//! place where it was written. [`Mjcf::lower`] makes an [`Articulation`](super::Articulation) of it. Whatever is
//! unknown, and whatever would change the motion and the law cannot represent, is refused with its line; what only
//! looks (materials, cameras, lights, sensors, key frames) is passed over. Not read are what stands inside of equality
//! constraints and pairs, which this law refuses as a whole, and attributes of actuators that no motor has.
//!
//! | file | what |
//! |---|---|
//! | [`model`] | what a file says |
//! | `xml` | elements and attributes with their places; the error |
//! | `parse`, `defaults` | from elements to the model; default classes |
//! | [`frame`] | positions and orientations, in each of the ways that a file may give them |
//! | [`mass`] | masses and inertias of geoms and bodies |
//! | [`touch`] | which geoms may touch |
//! | [`lower`] | the law of this simulator: penalty contact with the ground, springs at limits |
//!
//! The other lowering, to MuJoCo's own law, is [`super::mujoco::compile`].

mod defaults;
pub mod frame;
pub mod lower;
pub mod mass;
pub mod model;
mod parse;
pub mod touch;
mod xml;

pub use lower::{Lowered, Motor};
pub use model::Mjcf;
pub use xml::{Given, MjcfError, Place};
