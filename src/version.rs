//! What this program was built from and with: told by `--version`, run folders, reports and measurements.

/// The commit, with `-dirty` if files differed from it; `unknown` outside of a repository.
pub const COMMIT: &str = env!("PWM_BUILD_COMMIT");
/// The compiler in its own words.
pub const COMPILER: &str = env!("PWM_BUILD_COMPILER");
/// Version, commit and compiler.
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("PWM_BUILD_COMMIT"), ", ", env!("PWM_BUILD_COMPILER"), ")");
