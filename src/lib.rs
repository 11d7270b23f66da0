//! `pwm`: train control policies inside learned world models (PWM) and on a differentiable Ant.
//!
//! The library is layered; a module imports only from the ones below it (a test reads the imports):
//!
//! ```text
//! app      train, eval, fidelity, bench, config      one file a command
//! run      epoch loop, checkpoints, metrics, plots
//! algo     pwm, schedules                            which programs, in which order
//! model    encoder, world, reward, actor, critic     shapes and parameters -> ops
//! env      observation, reward, reset                a task on a robot, one op
//! ops      one folder a family                       shape, adjoint rule, CPU kernel
//! sim      articulation, dynamics, contact           mathematics over a scalar trait
//! tape     program, grad, plan, executor             knows ops only through a trait
//! device   threads, lanes, random numbers
//! mem      arena, accounting
//! config   typed schema with every default
//! version  commit and compiler
//! ```

pub mod algo;
pub mod app;
pub mod config;
pub mod device;
pub mod env;
pub mod mem;
pub mod model;
pub mod ops;
pub mod run;
pub mod sim;
pub mod tape;
pub mod version;
