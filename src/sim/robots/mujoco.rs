//! The eleven systems of MuJoCo's law, by name: files in its XML.

macro_rules! system {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../configs/mujoco/", $name, ".xml")))
    };
}
/// Name and text of each.
pub const SYSTEMS: [(&str, &str); 11] = [
    system!("acrobot"),
    system!("cartpole"),
    system!("cheetah"),
    system!("cup"),
    system!("finger"),
    system!("fish"),
    system!("hopper"),
    system!("pendulum"),
    system!("reacher"),
    system!("reacher_three"),
    system!("walker"),
];

/// The text of a system.
pub fn system(name: &str) -> Option<&'static str> {
    SYSTEMS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}
