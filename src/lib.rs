//! `pwm`: train control policies inside learned world models (PWM) and through differentiable robots.
//!
//! The library is layered; a module imports only from the ones below it (a test reads the imports):
//!
//! ```text
//! app      train, eval, plan, report, bench, ...     one file a command
//! analysis report, statistics, choice of runs        what several runs say together
//! sweep    members, capacity, launcher               many runs in one folder
//! run      epoch loop, folder, plan, stopping rules  one run
//! algo     pwm, schedules                            which programs, in which order
//! model    encoder, world, reward, actor, critic     shapes and parameters -> ops
//! env      observation, reward, reset                tasks on robots as data; reset, step, adjoint
//! ops      one folder a family                       shape, adjoint rule, CPU kernel
//! sim      articulation, dynamics, contact           mathematics over a scalar trait
//! backend  the processor, CUDA                       run what the tape recorded
//! tape     program, grad, plan, machine              knows ops and back ends only through traits
//! device   threads, lanes, random numbers
//! draw     plots, the page of a motion, images       knows numbers and shapes only
//! io       checkpoints, metrics, foreign formats     knows files only
//! mem      arena, accounting
//! config   typed schema with every default
//! version  commit and compiler
//! ```

pub mod algo;
pub mod analysis;
pub mod app;
pub mod backend;
pub mod config;
pub mod device;
pub mod draw;
pub mod env;
pub mod io;
pub mod mem;
pub mod model;
pub mod ops;
pub mod run;
pub mod sim;
pub mod sweep;
pub mod tape;
pub mod version;
