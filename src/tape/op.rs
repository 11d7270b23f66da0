//! What an operation is to the tape: kernels for three number types, an adjoint rule, and how its work is divided.

use super::cuda::Operands;
use super::grad::Adjoint;
use crate::device::cuda::Launch;
use crate::device::{Dual, Real};
use std::fmt::Debug;
use std::ops::Range;

/// An operation. Work is divided into *phases*, one after another, each of independent *tasks*; the division depends on
/// shapes only, so results do not depend on the number of threads.
///
/// Contract of kernels: within a phase, no task writes what another task of that phase reads or writes. An operation
/// writes its outputs and workspace only, and reads nothing it has not been given.
pub trait Op: Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// Tasks of each phase, given the shapes of inputs and outputs.
    fn phases(&self, inputs: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize>;

    /// Real numbers of scratch memory needed while the operation runs.
    fn workspace(&self, _inputs: &[Vec<usize>], _outputs: &[Vec<usize>]) -> usize {
        0
    }

    /// The same on a GPU, whichever it is and however it multiplies.
    fn device_workspace(&self, inputs: &[Vec<usize>], outputs: &[Vec<usize>]) -> usize {
        self.workspace(inputs, outputs)
    }

    /// Bytes of a thread's packing workspace that the operation's products touch, whose numbers take `size` bytes:
    /// see [`crate::device::cpu::packing`].
    fn packing(&self, _size: usize) -> usize {
        0
    }

    /// Arithmetic of the operation, roughly: what it costs to repeat it. By default one for each number written.
    fn operations(&self, _inputs: &[Vec<usize>], outputs: &[Vec<usize>]) -> usize {
        outputs.iter().map(|s| s.iter().product::<usize>()).sum()
    }

    /// Appends the operations that turn cotangents of the outputs into cotangents of the inputs.
    fn adjoint(&self, a: &mut Adjoint) {
        let _ = a;
        panic!("invariant: no gradient is asked through `{}`, which has none", self.name());
    }

    /// False for operations whose outputs are constants to the reverse pass.
    fn differentiable(&self) -> bool {
        true
    }

    /// What a GPU launches instead, one after another; none if there are no kernels for this operation.
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        let _ = x;
        None
    }

    fn run_f32(&self, args: &OpArgs<f32>, phase: usize, task: usize);
    fn run_f64(&self, args: &OpArgs<f64>, phase: usize, task: usize);
    fn run_dual(&self, args: &OpArgs<Dual>, phase: usize, task: usize);
}

/// Implements the three `run_*` methods by an inherent `fn run<F: Real>(&self, &OpArgs<F>, phase, task)`, which must be
/// `#[inline(always)]`: it is compiled once for the baseline processor and once with AVX2 and FMA, chosen at run time.
#[macro_export]
macro_rules! kernels {
    () => {
        fn run_f32(&self, args: &$crate::tape::OpArgs<f32>, phase: usize, task: usize) {
            $crate::device::cpu::simd::dispatch(
                #[inline(always)]
                || self.run::<f32>(args, phase, task),
            );
        }
        fn run_f64(&self, args: &$crate::tape::OpArgs<f64>, phase: usize, task: usize) {
            self.run::<f64>(args, phase, task);
        }
        fn run_dual(&self, args: &$crate::tape::OpArgs<$crate::device::Dual>, phase: usize, task: usize) {
            self.run::<$crate::device::Dual>(args, phase, task);
        }
    };
}

/// One operand as the executor bound it.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    /// Address of the first element, as an integer so that programs are `Send`; typed by `is_index`.
    pub address: usize,
    pub len: usize,
    pub shape: Vec<usize>,
    pub is_index: bool,
}

/// The operands of a node, as its kernels see them.
#[derive(Debug)]
pub struct OpArgs<F> {
    pub(crate) inputs: Vec<Operand>,
    pub(crate) outputs: Vec<Operand>,
    pub(crate) workspace: Option<Operand>,
    pub(crate) number: std::marker::PhantomData<F>,
}

impl<F: Real> OpArgs<F> {
    #[inline]
    pub fn inputs_len(&self) -> usize {
        self.inputs.len()
    }

    #[inline]
    pub fn outputs_len(&self) -> usize {
        self.outputs.len()
    }

    /// Shape of input `i`.
    #[inline]
    pub fn shape(&self, i: usize) -> &[usize] {
        &self.inputs[i].shape
    }

    #[inline]
    pub fn out_shape(&self, i: usize) -> &[usize] {
        &self.outputs[i].shape
    }

    /// Input `i`.
    #[inline]
    pub fn input(&self, i: usize) -> &[F] {
        let s = &self.inputs[i];
        debug_assert!(!s.is_index, "invariant: operand {i} holds reals");
        // SAFETY: the executor bound len numbers at this address and orders nodes that write them.
        unsafe { std::slice::from_raw_parts(s.address as *const F, s.len) }
    }

    /// Input `i`, an index value.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an index value by number, not an element: `[]` would mislead")]
    pub fn index(&self, i: usize) -> &[u32] {
        let s = &self.inputs[i];
        debug_assert!(s.is_index, "invariant: operand {i} holds indices");
        // SAFETY: as for `input`.
        unsafe { std::slice::from_raw_parts(s.address as *const u32, s.len) }
    }

    /// Elements `range` of output `i`. By the contract of [`Op`] no other task touches them.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn out(&self, i: usize, range: Range<usize>) -> &mut [F] {
        let s = &self.outputs[i];
        debug_assert!(!s.is_index, "invariant: output {i} holds reals");
        assert!(range.start <= range.end && range.end <= s.len, "invariant: a kernel stays inside output {i}");
        // SAFETY: inside the bound slot; exclusive by the contract of `Op`.
        unsafe { std::slice::from_raw_parts_mut((s.address as *mut F).add(range.start), range.len()) }
    }

    /// The whole output `i`: for operations with one task a phase.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn out_all(&self, i: usize) -> &mut [F] {
        self.out(i, 0..self.outputs[i].len)
    }

    /// Elements `range` of output `i`, which an earlier phase of this operation wrote.
    #[inline]
    pub fn read_output(&self, i: usize, range: Range<usize>) -> &[F] {
        self.out(i, range)
    }

    /// Elements `range` of output `i`, an index value.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn out_index(&self, i: usize, range: Range<usize>) -> &mut [u32] {
        let s = &self.outputs[i];
        debug_assert!(s.is_index, "invariant: output {i} holds indices");
        assert!(range.start <= range.end && range.end <= s.len, "invariant: a kernel stays inside output {i}");
        // SAFETY: as for `out`.
        unsafe { std::slice::from_raw_parts_mut((s.address as *mut u32).add(range.start), range.len()) }
    }

    #[inline]
    pub fn out_len(&self, i: usize) -> usize {
        self.outputs[i].len
    }

    /// Pointer to output `i`, for strided matrix products into part of it.
    #[inline]
    pub fn out_ptr(&self, i: usize) -> *mut F {
        self.outputs[i].address as *mut F
    }

    /// Elements `range` of the scratch memory.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn scratch(&self, range: Range<usize>) -> &mut [F] {
        let s = self.workspace.as_ref().expect("invariant: an op that uses scratch memory asked for it");
        assert!(range.start <= range.end && range.end <= s.len, "invariant: a kernel stays inside its scratch memory");
        // SAFETY: as for `out`.
        unsafe { std::slice::from_raw_parts_mut((s.address as *mut F).add(range.start), range.len()) }
    }
}

/// Elements `0..len` in chunks of `size`: the range of chunk `i`.
#[inline(always)]
pub fn chunk(len: usize, size: usize, i: usize) -> Range<usize> {
    let start = (i * size).min(len);
    start..(start + size).min(len)
}
