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
        self.args.inputs_len()
    }
    pub fn outputs_len(&self) -> usize {
        self.args.outputs_len()
    }
    pub fn shape(&self, i: usize) -> &[usize] {
        self.args.shape(i)
    }
    pub fn out_shape(&self, i: usize) -> &[usize] {
        self.args.out_shape(i)
    }
    pub fn len(&self, i: usize) -> usize {
        self.args.bound_inputs()[i].len
    }
    pub fn out_len(&self, i: usize) -> usize {
        self.args.out_len(i)
    }
    pub fn input(&self, i: usize) -> In {
        assert!(!self.args.bound_inputs()[i].is_index, "invariant: operand {i} holds reals");
        In(self.args.bound_inputs()[i].start.addr() as u64)
    }
    pub fn index(&self, i: usize) -> IndexIn {
        assert!(self.args.bound_inputs()[i].is_index, "invariant: operand {i} holds indices");
        IndexIn(self.args.bound_inputs()[i].start.addr() as u64)
    }
    pub fn out(&self, i: usize) -> Out {
        assert!(!self.args.bound_outputs()[i].is_index, "invariant: output {i} holds reals");
        Out(self.args.bound_outputs()[i].start.addr() as u64)
    }
    pub fn out_index(&self, i: usize) -> IndexOut {
        assert!(self.args.bound_outputs()[i].is_index, "invariant: output {i} holds indices");
        IndexOut(self.args.bound_outputs()[i].start.addr() as u64)
    }
    /// Scratch memory.
    pub fn scratch(&self) -> Out {
        let workspace = self.args.bound_workspace();
        Out(workspace.expect("invariant: an op that uses scratch memory asked for it").start.addr() as u64)
    }
}

/// Blocks of `threads` for `n` elements.
pub fn cover(n: usize, threads: usize) -> [usize; 3] {
    [n.div_ceil(threads), 1, 1]
}
