//! Where the time of a program goes: every operation timed by itself, on the thread that asks.
//!
//! The program runs step by step without the team, so the times hold kernels only: no barriers, no waiting. Their sum
//! against the time of [`super::Machine::run`] on one thread is what the executor costs; against several threads it
//! shows how well the work divides.

use super::program::{Node, Program, Val};

/// Steps of a program that do the same thing: one phase of one operation on the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub op: &'static str,
    /// Phases of an operation run one after another.
    pub phase: usize,
    /// Different shapes of the operands with more than one axis.
    pub shapes: String,
    /// Such steps in one run of the program.
    pub calls: usize,
    /// Tasks of all of them together: what threads can share.
    pub tasks: usize,
    /// Seconds of all of them in one run.
    pub seconds: f64,
}

/// The times of one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    /// Barriers of one run on several threads.
    pub stages: usize,
    /// The slowest first.
    pub lines: Vec<Line>,
}

impl Profile {
    /// Seconds of one run: the sum over all lines.
    pub fn seconds(&self) -> f64 {
        self.lines.iter().map(|l| l.seconds).sum()
    }

    /// Lines that agree in the operation and, if these are kept, in phase and shapes become one.
    pub fn grouped(&self, keep_phase: bool, keep_shapes: bool) -> Profile {
        let mut lines: Vec<Line> = vec![];
        for l in &self.lines {
            let phase = if keep_phase { l.phase } else { 0 };
            let shapes = if keep_shapes { l.shapes.clone() } else { String::new() };
            match lines.iter_mut().find(|k| k.op == l.op && k.phase == phase && k.shapes == shapes) {
                Some(k) => {
                    k.seconds += l.seconds;
                    k.tasks += l.tasks;
                    k.calls += l.calls;
                }
                None => lines.push(Line { phase, shapes, ..l.clone() }),
            }
        }
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Profile { name: self.name, stages: self.stages, lines }
    }
}

/// Operations of a program that do the same work: one operation on the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct OpKind {
    pub op: &'static str,
    pub shapes: String,
    /// Such operations in one run of the program.
    pub calls: usize,
    /// Bytes of one call's operands, each once: the least it can move.
    pub bytes: usize,
    /// Arithmetic of one call as the planner counts it: [`super::Op::operations`].
    pub operations: usize,
    /// Seconds of a call, several times.
    pub seconds: Vec<f64>,
}

/// The kinds of a program, each with its first node.
pub(super) fn kinds_of(p: &Program) -> Vec<(usize, OpKind)> {
    let mut kinds: Vec<(usize, OpKind)> = vec![];
    for (i, node) in p.nodes.iter().enumerate() {
        let new = kind(p, node);
        match kinds.iter_mut().find(|(_, k)| k.op == new.op && k.shapes == new.shapes && k.bytes == new.bytes) {
            Some((_, known)) => known.calls += 1,
            None => kinds.push((i, new)),
        }
    }
    kinds
}

fn kind(p: &Program, node: &Node) -> OpKind {
    let shapes = |vs: &[Val]| vs.iter().map(|&v| p.shape(v).to_vec()).collect::<Vec<_>>();
    let (inputs, outputs) = (shapes(&node.inputs), shapes(&node.outputs));
    let mut seen: Vec<Val> = node.inputs.iter().chain(&node.outputs).copied().collect();
    seen.sort();
    seen.dedup();
    OpKind {
        op: node.op.name(),
        shapes: text(inputs.iter().chain(&outputs).map(Vec::as_slice)),
        calls: 1,
        bytes: seen.iter().map(|&v| 4 * p.len_of(v)).sum(),
        operations: node.op.operations(&inputs, &outputs),
        seconds: vec![],
    }
}

/// `64x128 128x136`: operands in order, each shape once, vectors left out.
pub(crate) fn shapes<F>(args: &super::OpArgs<F>) -> String {
    text(args.bound_inputs().iter().chain(args.bound_outputs()).map(|s| &s.shape[..]))
}

fn text<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> String {
    let mut seen: Vec<String> = vec![];
    for shape in shapes.filter(|s| s.len() > 1) {
        let text = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen.join(" ")
}
