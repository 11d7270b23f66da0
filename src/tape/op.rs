//! What an operation is to the tape: kernels for three number types, an adjoint rule, and how its work is divided.

use super::cuda::Operands;
use super::grad::Adjoint;
use crate::device::cuda::Launch;
use crate::device::{Dual, Real};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;

/// An operation. Work is divided into *phases*, one after another, each of independent *tasks*; the division depends on
/// shapes only, so results do not depend on the number of threads.
///
/// # Safety
///
/// Tasks of a phase run at the same time on several threads, on operands that [`OpArgs`] gives out of shared memory. An
/// implementation of `run_f32`, `run_f64` and `run_dual` promises for any two tasks of a phase:
///
/// - What a task writes ([`OpArgs::out`], [`OpArgs::scratch`], [`Operand::write`], [`Operand::set`]) no other task of
///   the phase writes or reads. A task that only reads such memory asks for it by [`OpArgs::read_output`],
///   [`OpArgs::read_scratch`] or [`Operand::read`]: a `&mut` says that nobody else looks, even if nothing is written.
/// - Within a task, what was borrowed for writing is not borrowed again while the first borrow is in use.
/// - It asks for what [`Op::phases`] and [`Op::workspace`] said, whatever the numbers in the operands are.
///
/// The launches of `cuda` promise:
///
/// - They read and write the node's operands alone, and within an operand no more than its length: inputs are read;
///   outputs and the workspace, which is as long as [`Op::device_workspace`] said, are read and written. An argument
///   that a launch only writes may still hold anything before, a NaN too.
/// - They run one after another, so that one may read what an earlier one wrote. Blocks of one launch run in any order:
///   what a block writes no other block of the launch reads or writes, so that results do not depend on the order.
/// - Their number, grids and arguments follow from shapes and from the operation alone. They are recorded once and
///   replayed with these arguments, so that what changes from one run to the next must stand in an operand.
///
/// The executor promises in return that no input of a node lies over an output or its workspace, that no two outputs
/// overlap, and that a phase begins when the one before is over.
///
/// ```compile_fail,E0200
/// use pwm::device::Dual;
/// use pwm::tape::{Op, OpArgs};
///
/// #[derive(Debug)]
/// struct Nothing;
///
/// // An implementation without the promise, which is `unsafe`, is refused.
/// impl Op for Nothing {
///     fn name(&self) -> &'static str { "nothing" }
///     fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> { vec![] }
///     fn run_f32(&self, _: &OpArgs<f32>, _: usize, _: usize) {}
///     fn run_f64(&self, _: &OpArgs<f64>, _: usize, _: usize) {}
///     fn run_dual(&self, _: &OpArgs<Dual>, _: usize, _: usize) {}
/// }
/// ```
pub unsafe trait Op: Debug + Send + Sync {
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

    /// Bytes of a thread's stack that a task touches in single precision, beside the few that every task does.
    fn stack(&self) -> usize {
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

    /// What a GPU launches instead, one after another; none if there are no kernels for this operation. What the
    /// launches may touch is part of the trait's contract.
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

/// Where the executor put one operand of a node.
#[derive(Clone, Debug)]
pub(crate) struct BoundOperand {
    /// The first element, typed by `is_index`. On the processor it may be read and written; on a device it is an
    /// address.
    pub start: *mut u8,
    pub len: usize,
    pub shape: Vec<usize>,
    pub is_index: bool,
}

// SAFETY: this is only an address in memory that the executor owns; the executor and the contract of `Op` decide who
// touches it, and when.
unsafe impl Send for BoundOperand {}
// SAFETY: as above.
unsafe impl Sync for BoundOperand {}

impl BoundOperand {
    /// Addresses that it takes if a real number has `real` bytes.
    pub fn span(&self, real: usize) -> Range<usize> {
        let from = self.start.addr();
        from..from + self.len * if self.is_index { size_of::<u32>() } else { real }
    }

    fn view<T>(&self) -> Operand<'_, T> {
        Operand { start: self.start.cast(), len: self.len, lifetime: PhantomData }
    }
}

/// An operand of a node: the one way in which kernels read and write memory that tasks share.
#[derive(Debug)]
pub struct Operand<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a T>,
}

impl<'a, T: Copy> Operand<'a, T> {
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements `range`, which no task of this phase writes.
    #[inline]
    pub fn read(&self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len, "invariant: a kernel stays inside its operands");
        // SAFETY: inside the operand, which is there as long as the executor runs the node; nobody writes it, by the
        // contract of `Op`.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Elements `range`, which no other task of this phase reads or writes, and this one through nothing else.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract of `Op`")]
    pub fn write(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "invariant: a kernel stays inside its operands");
        // SAFETY: inside the operand, as above; exclusive by the contract of `Op`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Writes element `i`, which no other task of this phase reads or writes: for tasks whose elements are not in a
    /// row.
    #[inline]
    pub fn set(&self, i: usize, value: T) {
        assert!(i < self.len, "invariant: a kernel stays inside its operands");
        // SAFETY: inside the operand; exclusive by the contract of `Op`.
        unsafe { self.start.add(i).write(value) };
    }
}

/// The operands of a node, as its kernels see them. Only the executor makes them, so that only an [`Op`], which made
/// its promise, gets at what lies behind.
#[derive(Debug)]
pub struct OpArgs<F> {
    inputs: Vec<BoundOperand>,
    outputs: Vec<BoundOperand>,
    workspace: Option<BoundOperand>,
    number: PhantomData<F>,
}

/// What the executor and launches see: places, not what lies there.
impl<F> OpArgs<F> {
    pub(crate) fn new(inputs: Vec<BoundOperand>, outputs: Vec<BoundOperand>, workspace: Option<BoundOperand>) -> Self {
        Self { inputs, outputs, workspace, number: PhantomData }
    }

    pub(crate) fn bound_inputs(&self) -> &[BoundOperand] {
        &self.inputs
    }

    pub(crate) fn bound_outputs(&self) -> &[BoundOperand] {
        &self.outputs
    }

    pub(crate) fn bound_workspace(&self) -> Option<&BoundOperand> {
        self.workspace.as_ref()
    }
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

    #[inline]
    pub fn out_len(&self, i: usize) -> usize {
        self.outputs[i].len
    }

    /// Output `i`, of real numbers.
    #[inline]
    pub fn output(&self, i: usize) -> Operand<'_, F> {
        assert!(!self.outputs[i].is_index, "invariant: output {i} holds reals");
        self.outputs[i].view()
    }

    /// Output `i`, of indices.
    #[inline]
    pub fn output_index(&self, i: usize) -> Operand<'_, u32> {
        assert!(self.outputs[i].is_index, "invariant: output {i} holds indices");
        self.outputs[i].view()
    }

    /// The scratch memory.
    #[inline]
    pub fn workspace(&self) -> Operand<'_, F> {
        self.workspace.as_ref().expect("invariant: an op that uses scratch memory asked for it").view()
    }

    /// Input `i`.
    #[inline]
    pub fn input(&self, i: usize) -> &[F] {
        assert!(!self.inputs[i].is_index, "invariant: operand {i} holds reals");
        self.inputs[i].view().read(0..self.inputs[i].len)
    }

    /// Input `i`, an index value.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "an index value by number, not an element: `[]` would mislead")]
    pub fn index(&self, i: usize) -> &[u32] {
        assert!(self.inputs[i].is_index, "invariant: operand {i} holds indices");
        self.inputs[i].view().read(0..self.inputs[i].len)
    }

    /// Elements `range` of output `i`, to be written: see [`Operand::write`].
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract of `Op`")]
    pub fn out(&self, i: usize, range: Range<usize>) -> &mut [F] {
        self.output(i).write(range)
    }

    /// The whole output `i`: for operations with one task a phase.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract of `Op`")]
    pub fn out_all(&self, i: usize) -> &mut [F] {
        self.out(i, 0..self.outputs[i].len)
    }

    /// Elements `range` of output `i`, an index value, to be written.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract of `Op`")]
    pub fn out_index(&self, i: usize, range: Range<usize>) -> &mut [u32] {
        self.output_index(i).write(range)
    }

    /// Elements `range` of output `i` as an earlier phase of this operation, or what ran before it, left them.
    #[inline]
    pub fn read_output(&self, i: usize, range: Range<usize>) -> &[F] {
        self.output(i).read(range)
    }

    /// The same of an index value.
    #[inline]
    pub fn read_output_index(&self, i: usize, range: Range<usize>) -> &[u32] {
        self.output_index(i).read(range)
    }

    /// Elements `range` of the scratch memory, to be written.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract of `Op`")]
    pub fn scratch(&self, range: Range<usize>) -> &mut [F] {
        self.workspace().write(range)
    }

    /// Elements `range` of the scratch memory as an earlier phase left them.
    #[inline]
    pub fn read_scratch(&self, range: Range<usize>) -> &[F] {
        self.workspace().read(range)
    }
}

/// Elements `0..len` in chunks of `size`: the range of chunk `i`.
#[inline(always)]
pub fn chunk(len: usize, size: usize, i: usize) -> Range<usize> {
    let start = (i * size).min(len);
    start..(start + size).min(len)
}
