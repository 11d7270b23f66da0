//! Constants of formulas that both back ends compute: for the processor in Rust, for the kernels as the header
//! `common/numerics.cuh`, which is written from them.

use std::fmt::Write;

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: f64 = $value;)*

        /// All of them, by their names.
        const ALL: &[(&str, f64)] = &[$((stringify!($name), $name)),*];
    };
}

constants! {
    /// Added to the variance by every LayerNorm.
    NORM_EPSILON = 1e-5;
    /// Added to a running variance before the square root.
    STATS_EPSILON = 1e-5;
    /// Values that were normalised by running statistics are clamped to plus or minus this.
    NORMALISED_BOUND = 5.0;
    /// Added to the norm of a gradient, as the reference's clipping does.
    CLIP_EPSILON = 1e-6;
    /// Added to the root of Adam's second moment.
    ADAM_EPSILON = 1e-8;
}

/// The header's name, by which kernels include it.
pub const HEADER: &str = "common/numerics.cuh";

/// The header's text.
pub fn header() -> String {
    let mut text = "// Written by the program: src/device/numerics.rs.\n#pragma once\n".to_owned();
    for (name, value) in ALL {
        let _ = writeln!(text, "constexpr float {name} = {value:e}f;");
    }
    text
}
