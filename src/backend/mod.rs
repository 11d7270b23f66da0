//! Back ends: what runs the programs of a [`Machine`], each behind [`Backend`].
//!
//! | file | idea |
//! |---|---|
//! | `bind` | programs and their values get addresses; what a node writes overlaps nothing else |
//! | `host` | the host's memory of variables |
//! | [`cpu`] | programs as stages that a team of threads walks |
//! | [`cuda`](mod@cuda) | programs as graphs of launches, variables mirrored on the host |
//!
//! A back end knows the tape, and operations only through [`Op`](crate::tape::Op). Threads, vector math, the compiler
//! and the driver lie in [`crate::device`], below the tape, because the kernels of operations use them too.

mod bind;
pub mod cpu;
pub mod cuda;
mod host;
mod offloaded;

use crate::device::cpu::team::Team;
use crate::device::cuda::CudaError;
use crate::device::cuda::driver::Context;
use crate::mem::OutOfMemory;
use crate::tape::backend::{Backend, BindError, Planned};
use crate::tape::{EpochIo, Machine, Placement, Program, TapeReal, Vars};
use cpu::Processor;
use cuda::{CudaPrograms, Gpu};
use offloaded::Offloaded;
use std::any::Any;
use std::sync::Arc;

/// Where programs run.
#[derive(Clone, Debug)]
pub enum Target {
    Cpu,
    Cuda(Arc<Context>, cuda::Options),
}

/// Plans programs, allocates everything that they will ever need on `target`, and binds them: with what
/// [`Vars::offload`] took out of the arena at `placement`, and ready for the epochs of `io`, if there will be any. The
/// team serves the processor. Variables hold zeros.
pub fn build<F: TapeReal>(
    target: &Target,
    vars: Vars,
    programs: Vec<Program>,
    io: Option<&EpochIo>,
    team: Arc<Team>,
    placement: &Placement,
) -> Result<Machine<F>, BindError> {
    let (planned, backend): (_, Box<dyn Backend<F>>) = match target {
        Target::Cpu => {
            let offloaded = Offloaded::mapped(placement, vars.offloaded_len())?;
            let planned = Arc::new(Planned::new(vars, programs));
            (planned.clone(), Box::new(Processor::resident(planned, io, team, offloaded)?))
        }
        Target::Cuda(context, options) => {
            let programs = programs.into_iter().map(Program::for_device).collect();
            let planned = Arc::new(Planned::new(vars, programs));
            let gpu: Box<dyn Backend<f32>> = Box::new(Gpu::new(context, *options, planned.clone(), io, placement)?);
            let gpu: Box<dyn Any> = Box::new(gpu);
            (planned, *gpu.downcast().map_err(|_| CudaError::NumberType)?)
        }
    };
    Ok(Machine::bound(planned, backend))
}

impl<F: TapeReal> Machine<F> {
    /// A machine on the processor: see [`build`].
    pub fn new(vars: Vars, programs: Vec<Program>, team: Arc<Team>) -> Result<Self, OutOfMemory> {
        let planned = Arc::new(Planned::new(vars, programs));
        let backend = Processor::resident(planned.clone(), None, team, Offloaded::None)?;
        Ok(Self::bound(planned, Box::new(backend)))
    }

    /// As [`Machine::new`], with what [`Vars::offload`] took out of the arena at `placement`; pages become resident
    /// only when they are touched: to see what would be bound.
    pub fn reserve_at(
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        let offloaded = Offloaded::mapped(placement, vars.offloaded_len())?;
        let planned = Arc::new(Planned::new(vars, programs));
        let backend = Processor::reserve(planned.clone(), None, team, offloaded)?;
        Ok(Self::bound(planned, Box::new(backend)))
    }

    /// A machine on `target` whose programs are run one by one: see [`build`].
    pub fn on(
        target: &Target,
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        build(target, vars, programs, None, team, placement)
    }

    /// A machine on `target` whose programs run in epochs: see [`build`].
    pub fn with_epochs(
        target: &Target,
        vars: Vars,
        programs: Vec<Program>,
        io: &EpochIo,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        build(target, vars, programs, Some(io), team, placement)
    }

    /// The programs on a GPU, if they run on one.
    pub fn gpu(&self) -> Option<&CudaPrograms> {
        self.backend().downcast_ref::<Gpu>().map(Gpu::programs)
    }
}
