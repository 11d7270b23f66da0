//! Files: whole or not there, damage told by section. This layer knows bytes, names and numbers, no tensor program and
//! no robot.

pub mod atomic;
pub mod checkpoint;
pub mod crc64;
pub mod episodes;
pub mod metrics;
pub mod source;
pub mod tensorboard;
pub mod tensors;
pub mod torch;
