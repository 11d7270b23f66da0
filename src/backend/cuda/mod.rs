//! A GPU: programs as graphs of launches on one block of device memory, each recorded once and then replayed.
//!
//! The plan is the processor's: the same [`Layout`], the same offsets. Variables have a mirror on the host that is
//! filled when it is read and sent when it was written, so whoever owns a [`crate::tape::Machine`] need not know where
//! it runs.
//!
//! | file | idea |
//! |---|---|
//! | [`programs`] | device memory, programs compiled and recorded |
//! | `mirror` | variables on both sides: which one has the newest numbers |
//! | [`epoch_graph`] | whole epochs as graphs, and what host and device tell each other about them |

pub mod epoch_graph;
mod gpu;
mod mirror;
pub mod programs;

use super::bind::{Bases, operands};
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::{CudaError, Launch};
use crate::tape::cuda::Operands;
use crate::tape::op::{BoundOperand, OpArgs};
use crate::tape::program::Node;
use crate::tape::{Layout, Program, Vars};
use std::collections::HashMap;

pub(super) use gpu::Gpu;
pub use programs::CudaPrograms;

/// How a machine uses a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Launch every kernel each time instead of replaying graphs: the same bits, slower.
    pub eager: bool,
    pub matmul: Matmul,
}

/// The launches of each node of a program whose values lie at the addresses of `args`.
fn launches(program: &Program, args: &[OpArgs<f32>], matmul: &Matmul) -> Result<Vec<Vec<Launch>>, CudaError> {
    program.nodes.iter().zip(args).map(|(node, args)| node_launches(program, node, args, matmul)).collect()
}

/// Those of one of its nodes.
fn node_launches(
    program: &Program,
    node: &Node,
    args: &OpArgs<f32>,
    matmul: &Matmul,
) -> Result<Vec<Launch>, CudaError> {
    // Kernels count numbers with 32 bits.
    let bound = || args.bound_inputs().iter().chain(args.bound_outputs()).chain(args.bound_workspace());
    if let Some(numbers) = bound().map(|o| o.len).find(|&len| u32::try_from(len).is_err()) {
        return Err(CudaError::Numbers { op: node.op.name(), program: program.name, numbers });
    }
    match node.op.cuda(&Operands { args, matmul }) {
        Some(l) => Ok(l.into_iter().filter(|l| l.blocks() > 0).collect()),
        None => Err(CudaError::NoKernel { op: node.op.name(), program: program.name }),
    }
}

/// What a GPU launches for each program, if its memory begins at `bases`.
fn device_launches(
    vars: &Vars,
    layout: &Layout,
    programs: &[Program],
    bases: Bases,
    matmul: &Matmul,
) -> Result<Vec<Vec<Vec<Launch>>>, CudaError> {
    let of = |(i, p)| launches(p, &operands::<f32>(vars, layout, i, p, bases), matmul);
    programs.iter().enumerate().map(of).collect()
}

/// Made-up addresses: of launches that are compiled or counted, and never run.
const NOWHERE: Bases = Bases::on_device(1 << 20, 1 << 40, 1 << 50);

/// The launches of programs at made-up addresses. Needs no driver.
pub fn describe_launches(
    vars: &Vars,
    programs: &[Program],
    matmul: &Matmul,
) -> Result<Vec<Vec<Vec<Launch>>>, CudaError> {
    let programs: Vec<_> = programs.iter().cloned().map(Program::for_device).collect();
    device_launches(vars, &Layout::new(vars, &programs), &programs, NOWHERE, matmul)
}

/// The launches of programs, each kind of node once.
pub struct NodeKinds {
    /// Those of a node of each kind.
    pub launches: Vec<Vec<Launch>>,
    /// The kind of each node of each program.
    pub of: Vec<Vec<usize>>,
}

/// What each node of programs launches: for plans. Nodes of the same operation and shapes launch the same, so that of a
/// rollout's many steps one is described.
pub fn node_kinds(
    vars: &Vars,
    layout: &Layout,
    programs: &[&Program],
    matmul: &Matmul,
) -> Result<NodeKinds, CudaError> {
    let (mut known, mut launches) = (HashMap::<String, usize>::new(), Vec::new());
    let mut of = Vec::with_capacity(programs.len());
    for (i, p) in programs.iter().enumerate() {
        let args = operands::<f32>(vars, layout, i, p, NOWHERE);
        let mut kinds = Vec::with_capacity(args.len());
        for (node, args) in p.nodes.iter().zip(&args) {
            let shapes = |s: &[BoundOperand]| s.iter().map(|s| s.shape.clone()).collect::<Vec<_>>();
            let key = format!("{:?} {:?} {:?}", node.op, shapes(args.bound_inputs()), shapes(args.bound_outputs()));
            let kind = match known.get(&key) {
                Some(&kind) => kind,
                None => {
                    launches.push(node_launches(p, node, args, matmul)?);
                    known.insert(key, launches.len() - 1);
                    launches.len() - 1
                }
            };
            kinds.push(kind);
        }
        of.push(kinds);
    }
    Ok(NodeKinds { launches, of })
}
