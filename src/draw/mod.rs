//! Pictures of numbers and of bodies: curves, the page that shows a motion, moving and still images. Nothing here knows
//! what the numbers came from.

pub mod curve;
pub mod gif;
pub mod plot;
pub mod viewer;
