//! The reverse pass: walks a program backwards and appends the adjoint of every operation that a gradient flows
//! through.

use super::fill::Fill;
use super::op::Op;
use super::program::{DType, Program, Storage, Val};
use std::collections::{HashMap, HashSet};

/// Where a cotangent goes: written by its first contribution, accumulated into by all further ones.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    pub val: Val,
    pub accumulate: bool,
}

/// What an operation's adjoint rule sees: its own operands, cotangents of its outputs, sinks for its inputs.
pub struct Adjoint<'a> {
    pub program: &'a mut Program,
    inputs: Vec<Val>,
    outputs: Vec<Val>,
    state: &'a mut State,
}

#[derive(Default)]
struct State {
    /// Values that depend on what gradients are asked for. Holds bases of activations, and variables' values.
    active: HashSet<Val>,
    /// Cotangent of a base or of a variable's value.
    cotangent: HashMap<Val, Val>,
    /// Cotangents that hold a value already.
    written: HashSet<Val>,
}

impl Adjoint<'_> {
    pub fn input(&self, i: usize) -> Val {
        self.inputs[i]
    }

    pub fn inputs_len(&self) -> usize {
        self.inputs.len()
    }

    pub fn output(&self, i: usize) -> Val {
        self.outputs[i]
    }

    pub fn outputs_len(&self) -> usize {
        self.outputs.len()
    }

    /// Cotangent of output `i`, if any gradient reached it.
    pub fn cotangent(&mut self, i: usize) -> Option<Val> {
        let v = self.outputs[i];
        let base = self.program.base(v)?;
        let whole = *self.state.cotangent.get(&base)?;
        if !self.state.written.contains(&base) {
            return None;
        }
        Some(part(self.program, v, whole))
    }

    /// Where the cotangent of input `i` goes, or none if it is not wanted.
    pub fn sink(&mut self, i: usize) -> Option<Sink> {
        let v = self.inputs[i];
        let info = self.program.info(v);
        if info.detached || info.dtype == DType::Index {
            return None;
        }
        let key = self.program.base(v).unwrap_or(v);
        if !self.state.active.contains(&key) {
            return None;
        }
        let whole = match self.state.cotangent.get(&key) {
            Some(&c) => c,
            None => {
                // A variable that is not differentiated has no entry and is not active; this is an activation.
                let shape = self.program.shape(key).to_vec();
                let c = self.program.real(&shape);
                self.state.cotangent.insert(key, c);
                c
            }
        };
        let covers = self.program.len_of(v) == self.program.len_of(key);
        let first = self.state.written.insert(key);
        if first && !covers {
            self.program.push(Fill { value: 0.0 }, &[], &[whole]);
        }
        let val = part(self.program, v, whole);
        Some(Sink { val, accumulate: !(first && covers) })
    }

    /// Appends an adjoint operation.
    pub fn push(&mut self, op: impl Op + 'static, inputs: &[Val], outputs: &[Val]) {
        self.program.push(op, inputs, outputs);
    }
}

/// The part of cotangent `whole` that belongs to `v`, which lies in the base that `whole` mirrors.
fn part(p: &mut Program, v: Val, whole: Val) -> Val {
    match p.info(v).storage {
        Storage::View { offset, .. } => {
            let shape = p.shape(v).to_vec();
            p.view(whole, offset, &shape)
        }
        _ => whole,
    }
}

/// Appends to `program` the operations that compute, for each `(value, gradient)` of `wrt`, the gradient of
/// `sum_k seed_k * root_k` over `roots`, scalar values of the program. `gradient` is a value of the same length,
/// usually a variable; it is written, not accumulated into. A value that no root depends on gets zeros.
pub fn grad(program: &mut Program, roots: &[(Val, f64)], wrt: &[(Val, Val)]) {
    let mut state = State::default();
    for &(v, g) in wrt {
        let key = program.base(v).unwrap_or(v);
        assert_eq!(program.len_of(v), program.len_of(g), "invariant: a gradient has its value's length");
        state.active.insert(key);
        state.cotangent.insert(key, g);
    }
    program.reverse.push(program.nodes.len());
    // Nodes that a gradient can flow through. A buffer may hold rows written by nodes that are not among them.
    let mut path = vec![false; program.nodes.len()];
    for (node, on_path) in program.nodes.iter().zip(&mut path) {
        if !node.op.differentiable() {
            continue;
        }
        *on_path = node.inputs.iter().any(|&v| {
            let info = program.info(v);
            !info.detached && info.dtype == DType::Real && state.active.contains(&program.base(v).unwrap_or(v))
        });
        if *on_path {
            for &o in &node.outputs {
                if let Some(base) = program.base(o)
                    && program.info(o).dtype == DType::Real
                {
                    state.active.insert(base);
                }
            }
        }
    }
    for &(root, seed) in roots {
        assert_eq!(program.len_of(root), 1, "invariant: a root is a scalar");
        let base = program.base(root).expect("invariant: a root is an activation");
        if !state.active.contains(&base) {
            continue;
        }
        let c = *state.cotangent.entry(base).or_insert_with(|| program.real(&[1]));
        program.push(Fill { value: seed }, &[], &[c]);
        state.written.insert(base);
    }
    let forward = path.len();
    for i in (0..forward).rev() {
        let reached = path[i]
            && program.nodes[i]
                .outputs
                .iter()
                .any(|&o| program.base(o).is_some_and(|b| state.written.contains(&b) && state.active.contains(&b)));
        if !reached {
            continue;
        }
        let (inputs, outputs) = (program.nodes[i].inputs.clone(), program.nodes[i].outputs.clone());
        let op = program.nodes[i].op.clone();
        op.adjoint(&mut Adjoint { program, inputs, outputs, state: &mut state });
    }
    for &(v, g) in wrt {
        let key = program.base(v).unwrap_or(v);
        if !state.written.contains(&key) {
            program.push(Fill { value: 0.0 }, &[], &[g]);
        }
    }
}
