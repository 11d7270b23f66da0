//! The back end: programs on the device, their variables on both sides.

use super::epoch_graph::PinnedRing;
use super::mirror::Mirror;
use super::programs::{CudaPrograms, DeviceMemory, POISON};
use super::{Options, device_launches};
use crate::backend::bind::Bases;
use crate::backend::host::HostMemory;
use crate::backend::offloaded::Offloaded;
use crate::device::cuda::CudaError;
use crate::device::cuda::driver::Context;
use crate::tape::backend::{Backend, BindError, Planned, ProgramId, RunError};
use crate::tape::plan::ByType;
use crate::tape::profile::Profile;
use crate::tape::{EpochIo, Placement, VarId};
use std::sync::{Arc, Mutex};

const NO_EPOCHS: &str = "invariant: the machine was made for epochs";

/// Programs and their memory on a GPU.
pub struct Gpu {
    planned: Arc<Planned>,
    // Graphs are dropped before the memory that they use: the ring, and what lies outside the arena.
    programs: CudaPrograms,
    /// Of a machine that was made for epochs.
    ring: Option<PinnedRing>,
    /// The host's copies of variables.
    host: HostMemory<f32>,
    mirror: Mirror,
    /// A read that failed: the next call that can fail reports it.
    failed: Mutex<Option<CudaError>>,
}

impl Gpu {
    /// Allocates, compiles and records.
    pub fn new(
        context: &Arc<Context>,
        options: Options,
        planned: Arc<Planned>,
        io: Option<&EpochIo>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        let Planned { vars, programs, layout } = &*planned;
        let memory = Arc::new(DeviceMemory::new(context, layout)?);
        let offloaded = Offloaded::pinned(placement, context, layout.offloaded)?;
        // Pages of the mirror are there once they are used.
        let host = HostMemory::reserve(planned.clone(), layout.persistent, offloaded)?;
        let (reals, indices) = memory.addresses();
        let bases = Bases::on_device(reals, indices, host.offloaded.device_address());
        let launches = device_launches(vars, layout, programs, bases, &options.matmul)?;
        let mut programs = CudaPrograms::new(memory.clone(), launches, options)?;
        let place = |var: VarId| {
            let info = vars.info(var);
            assert!(!vars.is_offloaded(var), "invariant: {} lies in the arena", info.name);
            (memory.address(memory.word(info.dtype, layout.vars[var.0 as usize])), info.len())
        };
        let ring = io.map(|io| programs.prepare_epochs(io, place)).transpose()?;
        let mirror = Mirror::new(vars.iter().count());
        Ok(Self { planned, programs, ring, host, mirror, failed: Mutex::new(None) })
    }

    pub fn programs(&self) -> &CudaPrograms {
        &self.programs
    }

    fn ring(&self) -> &PinnedRing {
        self.ring.as_ref().expect(NO_EPOCHS)
    }

    /// Remembers what went wrong in a call that returns no error.
    fn fail(&self, result: Result<(), CudaError>) {
        if let Err(e) = result {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }

    fn failure(&self) -> Result<(), CudaError> {
        self.failed.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }

    /// First word of a variable on the device.
    fn word(&self, var: VarId) -> usize {
        let dtype = self.planned.vars.info(var).dtype;
        self.programs.memory().word(dtype, self.planned.layout.vars[var.0 as usize])
    }

    /// Brings the host's copy of a variable up to date.
    fn fetch(&self, var: VarId) {
        self.mirror.refresh(var, || {
            let memory = self.programs.memory();
            if self.planned.vars.is_offloaded(var) {
                // The host reads it in place, after the kernels that write it.
                return self.fail(memory.context.synchronise());
            }
            let (start, bytes) = self.host.place(var);
            // SAFETY: the variable lies inside the mirror, four bytes a number. Nothing borrows it: only calls with
            // `&mut self` make a copy stale, so that no borrow from before is alive, and threads that ask for it now
            // wait in `refresh` until the copy is made.
            let to = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
            self.fail(memory.buffer.read(self.word(var), to));
        });
    }

    /// Sends what the host wrote, before something is put on the stream that reads it.
    fn send(&mut self) -> Result<(), CudaError> {
        self.failure()?;
        let vars = &self.planned.vars;
        for (var, _) in vars.iter().filter(|(v, _)| self.mirror.is_written(*v) && !vars.is_offloaded(*v)) {
            let (start, bytes) = self.host.place(var);
            // SAFETY: the variable lies inside the mirror; the host writes it through `&mut self` alone.
            let from = unsafe { std::slice::from_raw_parts(start, bytes) };
            self.programs.memory().buffer.write(self.word(var), from)?;
        }
        self.mirror.sent();
        Ok(())
    }
}

impl Backend<f32> for Gpu {
    fn run(&mut self, program: ProgramId) -> Result<(), RunError> {
        self.send()?;
        self.programs.run(program.0)?;
        self.mirror.age();
        Ok(())
    }

    fn wait(&self) -> Result<(), RunError> {
        self.programs.memory().context.synchronise()?;
        Ok(self.failure()?)
    }

    fn submit(&mut self, steps: &[(ProgramId, usize)]) -> Result<(), RunError> {
        self.send()?;
        self.programs.submit(self.ring.as_mut().expect(NO_EPOCHS), steps)?;
        self.mirror.age();
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.ring().in_flight()
    }

    fn must_sync(&self) -> bool {
        self.ring().is_full()
    }

    fn sync(&mut self) -> Result<usize, RunError> {
        if self.in_flight() == 0 {
            return Ok(0);
        }
        self.wait()?;
        let ring = self.ring.as_mut().expect(NO_EPOCHS);
        let synced = ring.sync()?;
        for var in ring.outputs() {
            if self.mirror.is_written(var) {
                continue;
            }
            let from = bytemuck::cast_slice(ring.output(0, var));
            let (start, bytes) = self.host.place(var);
            // SAFETY: the variable lies inside the mirror, and `&mut self` makes the borrow exclusive.
            unsafe { std::slice::from_raw_parts_mut(start, bytes) }.copy_from_slice(from);
            self.mirror.is_fresh(var);
        }
        Ok(synced)
    }

    fn input(&mut self, var: VarId) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.ring.as_mut().expect(NO_EPOCHS).input(var))
    }

    fn output(&self, back: usize, var: VarId) -> &[f32] {
        bytemuck::cast_slice(self.ring().output(back, var))
    }

    fn output_index(&self, back: usize, var: VarId) -> &[u32] {
        self.ring().output(back, var)
    }

    fn non_finite(&self) -> bool {
        self.ring().non_finite
    }

    fn seconds(&self) -> &[f64] {
        self.ring().seconds()
    }

    fn read(&self, var: VarId) -> &[f32] {
        self.fetch(var);
        self.host.read(var)
    }

    fn read_index(&self, var: VarId) -> &[u32] {
        self.fetch(var);
        self.host.read_index(var)
    }

    fn write(&mut self, var: VarId) -> &mut [f32] {
        self.fetch(var);
        self.mirror.write(var);
        self.host.write(var)
    }

    fn write_index(&mut self, var: VarId) -> &mut [u32] {
        self.fetch(var);
        self.mirror.write(var);
        self.host.write_index(var)
    }

    fn poison(&mut self) {
        let layout = &self.planned.layout;
        let memory = self.programs.memory();
        self.fail(memory.buffer.fill(layout.persistent.real, layout.activations.real, POISON));
    }

    fn bytes(&self) -> usize {
        self.programs.memory().bytes()
    }

    fn offloaded_bytes(&self) -> usize {
        self.host.offloaded.bytes()
    }

    fn extent(&self) -> ByType {
        ByType::default()
    }

    fn run_node(&mut self, program: ProgramId, node: usize) -> Result<(), RunError> {
        self.send()?;
        self.programs.run_node(program.0, node)?;
        self.mirror.age();
        Ok(())
    }

    fn time_node(&mut self, program: ProgramId, node: usize, seconds: f64) -> Result<Vec<f64>, RunError> {
        self.send()?;
        let samples = self.programs.time_node(program.0, node, seconds)?;
        self.mirror.age();
        Ok(samples)
    }

    fn profile(&mut self, program: ProgramId, _: usize) -> Profile {
        Profile { name: self.planned.programs[program.0].name, stages: 0, lines: vec![] }
    }
}
