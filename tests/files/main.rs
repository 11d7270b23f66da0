//! Files that are written and read: checkpoints, pictures, exports, imports, and bytes that nobody wrote.

mod artifacts;
mod episodes;
mod export;
mod import;
mod parsers;
#[path = "../support/mod.rs"]
mod support;
