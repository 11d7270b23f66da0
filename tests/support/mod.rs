//! What tests share.
#![allow(dead_code)] // each test program uses a part

pub mod ant;
pub mod branches;
#[cfg(target_os = "linux")]
pub mod cage;
pub mod driver;
pub mod eval;
pub mod events;
pub mod golden;
pub mod gradcheck;
pub mod lab;
pub mod mjcf;
pub mod ops;
pub mod process;
pub mod random_config;
pub mod recipe;
pub mod replay;
pub mod rows;
pub mod specs;
pub mod standin;
pub mod tiny;
pub mod verdict;

/// Arguments with which a test program runs one of its tests alone, found by a name that no other test's name contains.
pub fn only(test: &str) -> [&str; 3] {
    [test, "--nocapture", "--test-threads=1"]
}
