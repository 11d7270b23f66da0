//! Tasks on the tests' robots: every feature, every term, every noise.

use pwm::app::selftest::tree::tree;
use pwm::config::Config;
use pwm::config::spec::Spec;
use pwm::env::Task;
use pwm::sim::articulation::{Body, Joint, Material, Shape};
use pwm::sim::size::CLASSES;
use pwm::sim::{Articulation, JointKind, Quat, Size, Transform, Vec3};
use std::sync::Arc;

/// On the robot that is fixed to the world: 24 entries of observation, 4 of action.
pub const FIXED: &str = "\
spec:
  title: A tree on a beam
  robot: fixed tree
  steps_per_second: 60
  substeps: 16
  action: {from: elbow, to: foot, gain: [20, 15, 10, 30]}
  start: [0, 0, 0, 0, 1, 0.1, -0.1, 0.2, 0, 0]
  noise:
    when: stochastic_init
    draws:
      - coordinates: 0.2
      - rotation: {of: shoulder, width: 30}
      - velocities: {from: shoulder, width: 0.5}
  observation:
    - coordinates: {from: cart, to: shoulder}
    - sine: {of: elbow}
    - cosine: {of: elbow}
    - coordinates: {from: hip}
    - velocities: {scale: joint_vel_obs_scaling}
    - action
  reward:
    - clipped_quadratic: {of: coordinates.cart, offset: 0.05, low: -1, high: 0.3, below: -20, above: 2}
    - angle: {of: coordinates.hip, scale: 0.5}
    - squared: {of: velocities.foot, weight: -0.1}
    - wrapped_angle: {sine: sine, cosine: cosine, weight: -0.5}
    - linear: {of: velocities.cart, weight: 0.7, low: -0.2, high: 0.2}
    - action_cost: {weight: action_penalty}
  termination: {of: coordinates.cart, below: -0.3}
";

/// On the robot whose root is free: the features of a root.
pub const FREE: &str = "\
spec:
  title: A flying tree
  robot: free tree
  steps_per_second: 60
  substeps: 8
  action: {from: elbow, to: knee, gain: 12}
  start: [0, 0.4, 0, 0.1, 0.2, 0.3, 0.9273618495495703, 0, 0, 0, 1, 0.1, -0.1, 0.2, 0, 0.5, 0.3, 0.4, 0, 0, 0, 1]
  noise:
    draws: [position: 0.1, rotation: 20, coordinates: 0.1, velocities: 0.4]
  observation:
    - up
    - heading: {target: [5, -2]}
    - height
    - velocities: {from: shoulder, to: foot}
    - rotation
    - angular_velocity
    - linear_velocity
    - action: {when: action_in_obs}
  reward:
    - linear: {of: linear_velocity.x}
    - squared: {of: height, offset: 0.4, weight: -3}
    - linear: {of: up, weight: 0.5}
    - angle: {of: heading, offset: 1, scale: 2}
    - product:
        - tolerance: {of: height, low: 0.5, margin: 0.2}
        - tolerance: {of: up, low: 0.9, margin: 1.5, fall: quadratic, at_margin: 0.2, least: 0.1}
        - tolerance: {of: linear_velocity.z, low: -0.1, high: 0.1, margin: 2, fall: linear, at_margin: 0}
    - tolerance: {of: heading, low: 0.99}
  termination: {of: height, below: 0.1, when: early_termination}
";

/// A robot that fills the largest class of sizes: a free root, balls and hinges, and fixed bodies at the tips.
pub fn largest() -> Articulation {
    let ground = Material { stiffness: 2e3, damping: 1e2, viscosity: 1e1, friction: 0.8 };
    let most = CLASSES[CLASSES.len() - 1];
    // Each joint that turns freely has a coordinate more than velocities.
    let balls = most.coordinates - most.velocities - 1;
    let hinges = most.velocities - 6 - 3 * balls;
    let body = |i: usize| {
        let kind = match i {
            0 => JointKind::Free,
            _ if i <= balls => JointKind::Ball,
            _ if i <= balls + hinges => JointKind::Hinge,
            _ => JointKind::Fixed,
        };
        let p = Vec3::new(0.1, -0.05, 0.1 * ((i % 3) as f64 - 1.0));
        let frame = Transform { p: if i == 0 { Vec3::zero() } else { p }, q: Quat::identity() };
        Body {
            name: format!("body_{i}"),
            parent: i.checked_sub(1).map(|k| k / 2),
            joint: Joint {
                kind,
                frame,
                axis: Vec3::new(0.0, 0.0, 1.0),
                armature: if i == 0 { 0.0 } else { 0.03 },
                ..Joint::free()
            },
            shapes: vec![Shape::sphere([0.0; 3], 0.1, 900.0, ground)],
            inertial: None,
        }
    };
    let robot = Articulation {
        name: "largest".into(),
        bodies: (0..most.bodies).map(body).collect(),
        gravity: [0.0, -9.81, 0.0],
        ground: true,
    };
    assert_eq!(Size::of(&robot, most.substeps), most);
    robot
}

/// A task on that robot.
pub fn on_the_largest(c: &Config) -> Arc<Task> {
    let most = CLASSES[CLASSES.len() - 1];
    let joints = largest().bodies.into_iter().map(|b| match b.joint.kind {
        JointKind::Free => "0, 3, 0, 0, 0, 0, 1",
        JointKind::Ball => ", 0, 0, 0, 1",
        JointKind::Hinge => ", 0",
        _ => "",
    });
    let text = format!(
        "\
spec:
  title: The largest robot
  robot: largest
  steps_per_second: 60
  substeps: {}
  action: {{gain: 5}}
  start: [{}]
  noise: {{draws: [coordinates: 0.1, velocities: 0.3]}}
  observation: [height, rotation, linear_velocity, angular_velocity, coordinates, velocities, up, action]
  reward: [linear: {{of: linear_velocity.x}}, squared: {{of: height, weight: -1}}]
",
        most.substeps,
        joints.collect::<String>()
    );
    task(&text, c)
}

/// The tests' robots by name.
pub fn robot(name: &str) -> Option<Articulation> {
    match name {
        "fixed tree" => Some(tree(false)),
        "free tree" => Some(tree(true)),
        "largest" => Some(largest()),
        _ => None,
    }
}

/// The task of one of these.
pub fn task(text: &str, c: &Config) -> Arc<Task> {
    let spec = Spec::in_file("a test", text).unwrap();
    Arc::new(Task::read(&spec, c, robot).unwrap_or_else(|e| panic!("{e}")))
}
