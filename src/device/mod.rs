//! What programs run on: number types, counter-based random numbers, and the CPU back end (threads, products, vector
//! math).

pub mod cpu;
pub mod cuda;
pub mod dual;
pub mod numerics;
pub mod philox;
pub mod scalar;

pub use dual::Dual;
pub use scalar::{Real, Scalar};
