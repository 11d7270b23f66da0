//! What runs the programs of a machine, and why it may not.

use super::number::TapeReal;
use super::plan::{ByType, Layout};
use super::profile::Profile;
use super::program::{Program, VarId, Vars};
use crate::device::cpu::team::JobPanicked;
use crate::device::cuda::CudaError;
use crate::mem::{MapError, OutOfMemory};
use std::any::Any;

/// Which program of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub(crate) usize);

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Kernel(#[from] JobPanicked),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Why a machine was not made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    #[error(transparent)]
    File(#[from] MapError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Variables, programs, and where everything lies: what a machine and its back end both know.
#[derive(Debug)]
pub struct Planned {
    pub vars: Vars,
    pub programs: Vec<Program>,
    pub layout: Layout,
}

impl Planned {
    pub fn new(vars: Vars, programs: Vec<Program>) -> Self {
        let layout = Layout::new(&vars, &programs);
        Self { vars, programs, layout }
    }
}

/// Where the programs of a [`super::Machine`] run: it holds their memory, and the host sees their variables through it.
/// The caller has checked that a variable holds numbers of the type that it asks for.
pub trait Backend<F: TapeReal>: Any + Send + Sync {
    /// Runs a program once. It may only be begun when this returns; reading a variable waits for it.
    fn run(&mut self, program: ProgramId) -> Result<(), RunError>;

    /// Waits for everything that was begun, and says whether it went well.
    fn wait(&self) -> Result<(), RunError>;

    /// Begins an epoch: programs one after another, each as often as it says.
    fn submit(&mut self, steps: &[(ProgramId, usize)]) -> Result<(), RunError>;

    /// Epochs submitted since the last [`Backend::sync`].
    fn in_flight(&self) -> usize;

    /// Whether the next epoch must wait for those before it.
    fn must_sync(&self) -> bool;

    /// Waits for all epochs in flight: how many they were.
    fn sync(&mut self) -> Result<usize, RunError>;

    /// What a variable of [`super::EpochIo::inputs`] will be when the next epoch begins.
    fn input(&mut self, var: VarId) -> &mut [F];

    /// What a variable of [`super::EpochIo::outputs`] was after the epoch `back` epochs before the last synced one.
    fn output(&self, back: usize, var: VarId) -> &[F];

    /// The same of indices.
    fn output_index(&self, back: usize, var: VarId) -> &[u32];

    /// Whether a variable of [`super::EpochIo::finite_checked`] may hold a number that is not finite.
    fn non_finite(&self) -> bool;

    /// Seconds of each step of the last synced epoch.
    fn seconds(&self) -> &[f64];

    /// The numbers of a variable.
    fn read(&self, var: VarId) -> &[F];
    fn read_index(&self, var: VarId) -> &[u32];
    fn write(&mut self, var: VarId) -> &mut [F];
    fn write_index(&mut self, var: VarId) -> &mut [u32];

    /// Fills the activation region with poison.
    fn poison(&mut self);

    /// Bytes of the arena, and of what lies outside it.
    fn bytes(&self) -> usize;
    fn offloaded_bytes(&self) -> usize;

    /// One past the last element of each type that an operand in the arena lies on.
    fn extent(&self) -> ByType;

    /// Runs one operation of a program.
    fn run_node(&mut self, program: ProgramId, node: usize) -> Result<(), RunError>;

    /// Seconds that one operation of a program takes, sampled for about `seconds`.
    fn time_node(&mut self, program: ProgramId, node: usize, seconds: f64) -> Result<Vec<f64>, RunError>;

    /// Runs a program `repetitions` times and times its steps where the host runs them: see
    /// [`super::Machine::profile`].
    fn profile(&mut self, program: ProgramId, repetitions: usize) -> Profile;
}
