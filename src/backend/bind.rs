//! Programs get addresses: of each node, where its operands lie.

use crate::tape::op::{BoundOperand, OpArgs};
use crate::tape::plan::Layout;
use crate::tape::program::{DType, Node, Program, Storage, Val, Vars};

/// Where the blocks begin that operands lie in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bases {
    pub reals: *mut u8,
    pub indices: *mut u8,
    pub offloaded: *mut u8,
}

impl Bases {
    /// Addresses that only a device understands.
    pub const fn on_device(reals: usize, indices: usize, offloaded: usize) -> Self {
        Self {
            reals: std::ptr::without_provenance_mut(reals),
            indices: std::ptr::without_provenance_mut(indices),
            offloaded: std::ptr::without_provenance_mut(offloaded),
        }
    }
}

/// The operands of every node of a program.
pub(super) fn operands<F>(
    vars: &Vars,
    layout: &Layout,
    which: usize,
    program: &Program,
    bases: Bases,
) -> Vec<OpArgs<F>> {
    let offsets = &layout.programs[which].offsets;
    let slot = |v: Val| {
        let info = program.info(v);
        let is_index = info.dtype == DType::Index;
        let owned = |b: Val| {
            let start = if is_index { layout.persistent.index } else { layout.persistent.real };
            start + offsets[b.0 as usize].expect("invariant: a value that a node touches has an offset")
        };
        let arena = if is_index { bases.indices } else { bases.reals };
        let (block, at) = match info.storage {
            Storage::Activation => (arena, owned(v)),
            Storage::View { base, offset } => (arena, owned(base) + offset),
            Storage::Var { var, offset } => {
                debug_assert_eq!(vars.info(var).dtype, info.dtype);
                (if vars.is_offloaded(var) { bases.offloaded } else { arena }, layout.vars[var.0 as usize] + offset)
            }
        };
        let start = block.wrapping_add(at * if is_index { size_of::<u32>() } else { size_of::<F>() });
        BoundOperand { start, len: info.len(), shape: info.shape.clone(), is_index }
    };
    let slots = |vs: &[Val]| vs.iter().map(|&v| slot(v)).collect::<Vec<_>>();
    let args = |(i, node): (usize, &Node)| {
        let args = OpArgs::new(slots(&node.inputs), slots(&node.outputs), node.workspace.map(slot));
        assert_disjoint(program.name, i, node.op.name(), &args);
        args
    };
    program.nodes.iter().enumerate().map(args).collect()
}

/// What a node writes lies over nothing else that it reads or writes: kernels hold all of it at once. See [`Op`].
fn assert_disjoint<F>(program: &str, node: usize, op: &str, args: &OpArgs<F>) {
    let (inputs, outputs, workspace) = (args.bound_inputs(), args.bound_outputs(), args.bound_workspace());
    let whole = |i: usize| match i.checked_sub(inputs.len()) {
        None => (&inputs[i], "input", i),
        Some(i) if i < outputs.len() => (&outputs[i], "output", i),
        Some(_) => (workspace.expect("invariant: counted below"), "workspace", 0),
    };
    let all = inputs.len() + outputs.len() + usize::from(workspace.is_some());
    for w in inputs.len()..all {
        let (written, kind, at) = whole(w);
        let written = written.span(size_of::<F>());
        for o in 0..w {
            let (other, other_kind, other_at) = whole(o);
            let other = other.span(size_of::<F>());
            assert!(
                written.end <= other.start || other.end <= written.start || written.is_empty() || other.is_empty(),
                "invariant: node {node} of program `{program}`, `{op}`: {kind} {at} lies over {other_kind} {other_at}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::assert_disjoint;
    use crate::device::Dual;
    use crate::device::cpu::team::Team;
    use crate::tape::op::BoundOperand;
    use crate::tape::{DType, Machine, Op, OpArgs, Program, Region, Val, Vars};
    use std::sync::Arc;

    /// Reads and writes nothing, whatever its operands are.
    #[derive(Debug)]
    struct Idle;

    // SAFETY: it touches no memory.
    unsafe impl Op for Idle {
        fn name(&self) -> &'static str {
            "idle"
        }
        fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
            vec![1]
        }
        fn workspace(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
            3
        }
        fn run_f32(&self, _: &OpArgs<f32>, _: usize, _: usize) {}
        fn run_f64(&self, _: &OpArgs<f64>, _: usize, _: usize) {}
        fn run_dual(&self, _: &OpArgs<Dual>, _: usize, _: usize) {}
    }

    /// Binds one node whose operands are parts of a variable: inputs and outputs by first element and length.
    fn bind(inputs: &[(usize, usize)], outputs: &[(usize, usize)]) {
        let mut vars = Vars::default();
        let var = vars.add(Region::RolloutBuffers, "x", DType::Real, &[100]);
        let mut p = Program::new("test");
        let mut part = |&(from, len): &(usize, usize)| p.var_at(&vars, var, from, &[len]);
        let (i, o): (Vec<Val>, Vec<Val>) =
            (inputs.iter().map(&mut part).collect(), outputs.iter().map(&mut part).collect());
        p.push(Idle, &[], &[]);
        p.push(Idle, &i, &o);
        Machine::<f32>::new(vars, vec![p], Arc::new(Team::new(1).unwrap())).unwrap();
    }

    #[test]
    fn operands_that_lie_apart_are_bound() {
        bind(&[(0, 10), (5, 10)], &[(20, 10), (30, 10), (25, 0)]);
    }

    #[test]
    #[should_panic(expected = "node 1 of program `test`, `idle`: output 1 lies over input 0")]
    fn an_input_that_is_written_is_refused() {
        bind(&[(0, 10)], &[(50, 10), (9, 10)]);
    }

    #[test]
    #[should_panic(expected = "node 1 of program `test`, `idle`: output 1 lies over output 0")]
    fn outputs_that_overlap_are_refused() {
        bind(&[], &[(50, 10), (45, 6)]);
    }

    #[test]
    #[should_panic(expected = "node 4 of program `test`, `idle`: workspace 0 lies over input 1")]
    fn scratch_memory_over_an_operand_is_refused() {
        let part = |at: usize, len| BoundOperand {
            start: std::ptr::without_provenance_mut(4096 + 4 * at),
            len,
            shape: vec![len],
            is_index: false,
        };
        let args = OpArgs::<f32>::new(vec![part(0, 8), part(8, 8)], vec![part(16, 8)], Some(part(15, 1)));
        assert_disjoint("test", 4, "idle", &args);
    }
}
