//! What an operation sees of its operands on a GPU.

use super::op::OpArgs;
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::device::cuda::matmul::Matmul;

/// The operands of a node: shapes and device addresses, and how matrix products are made.
#[derive(Debug)]
pub struct Operands<'a> {
    pub(crate) args: &'a OpArgs<f32>,
    pub(crate) matmul: &'a Matmul,
}

impl Operands<'_> {
    pub fn matmul(&self) -> &Matmul {
        self.matmul
    }
    pub fn inputs_len(&self) -> usize {
        self.args.inputs.len()
    }
    pub fn outputs_len(&self) -> usize {
        self.args.outputs.len()
    }
    pub fn shape(&self, i: usize) -> &[usize] {
        &self.args.inputs[i].shape
    }
    pub fn out_shape(&self, i: usize) -> &[usize] {
        &self.args.outputs[i].shape
    }
    pub fn len(&self, i: usize) -> usize {
        self.args.inputs[i].len
    }
    pub fn out_len(&self, i: usize) -> usize {
        self.args.outputs[i].len
    }
    pub fn input(&self, i: usize) -> In {
        assert!(!self.args.inputs[i].is_index, "invariant: operand {i} holds reals");
        In(self.args.inputs[i].start.addr() as u64)
    }
    pub fn index(&self, i: usize) -> IndexIn {
        assert!(self.args.inputs[i].is_index, "invariant: operand {i} holds indices");
        IndexIn(self.args.inputs[i].start.addr() as u64)
    }
    pub fn out(&self, i: usize) -> Out {
        assert!(!self.args.outputs[i].is_index, "invariant: output {i} holds reals");
        Out(self.args.outputs[i].start.addr() as u64)
    }
    pub fn out_index(&self, i: usize) -> IndexOut {
        assert!(self.args.outputs[i].is_index, "invariant: output {i} holds indices");
        IndexOut(self.args.outputs[i].start.addr() as u64)
    }
    /// Scratch memory.
    pub fn scratch(&self) -> Out {
        Out(self.args.workspace.as_ref().expect("invariant: an op that uses scratch memory asked for it").start.addr()
            as u64)
    }
}

/// Blocks of `threads` for `n` elements.
pub fn cover(n: usize, threads: usize) -> [usize; 3] {
    [n.div_ceil(threads), 1, 1]
}
