//! What this program was built from and with: told by `--version`, run folders, reports and measurements.
//!
//! The library does not know its commit: it would have to be compiled anew for each. The two programs know it by
//! [`commit!`](crate::commit), and tell it when they start.

use std::sync::OnceLock;

/// The compiler in its own words.
pub const COMPILER: &str = env!("PWM_BUILD_COMPILER");

static COMMIT: OnceLock<&str> = OnceLock::new();

/// The commit that the program that calls this macro is built from, with `-dirty` if files differ from it: what the
/// variable `PWM_COMMIT` said when it was built, else what cargo noted in a package, else what git says; `unknown`
/// without any of them.
#[macro_export]
macro_rules! commit {
    () => {
        match (option_env!("PWM_COMMIT"), option_env!("PWM_PACKAGED_COMMIT")) {
            (Some(commit), _) | (None, Some(commit)) => commit,
            (None, None) => git_version::git_version!(
                args = ["--always", "--exclude=*", "--abbrev=12", "--dirty=-dirty"],
                fallback = "unknown"
            ),
        }
    };
}

/// Says what [`commit()`] is, before anybody asks; what was said first holds.
pub fn set_commit(commit: &'static str) {
    COMMIT.get_or_init(|| commit);
}

/// The commit that the program was built from; `unknown` if it did not say.
pub fn commit() -> &'static str {
    COMMIT.get().copied().unwrap_or("unknown")
}

/// Version, commit and compiler.
pub fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{} (commit {}, {COMPILER})", env!("CARGO_PKG_VERSION"), commit()))
}
