//! Where the time of a program goes: every operation timed by itself, on the thread that asks.
//!
//! The program runs step by step without the team, so the times hold kernels only: no barriers, no waiting. Their sum
//! against the time of [`Machine::run`] on one thread is what the executor costs; against several threads it shows how
//! well the work divides.

use super::exec::{Machine, Number, ProgramId, RunError};
use super::program::{Node, Program, Val};
use std::collections::HashMap;
use std::time::Instant;

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

impl<F: Number> Machine<F> {
    /// Runs a program `repetitions` times on this thread and times its steps. Of each step the fastest repetition counts,
    /// so that what else the machine does is left out. The effects are those of as many runs. Allocates; a kernel that
    /// panics unwinds through.
    pub fn profile(&mut self, id: ProgramId, repetitions: usize) -> Profile {
        let bound = &self.bound[id.0];
        let (mut lines, mut known) = (Vec::<Line>::new(), HashMap::new());
        let line_of: Vec<usize> = (bound.steps.iter())
            .map(|step| {
                let (op, shapes) = (bound.program.nodes[step.node].op.name(), shapes(&bound.args[step.node]));
                let line = *known.entry((op, step.phase, shapes.clone())).or_insert_with(|| {
                    lines.push(Line { op, phase: step.phase, shapes, calls: 0, tasks: 0, seconds: 0.0 });
                    lines.len() - 1
                });
                lines[line].calls += 1;
                lines[line].tasks += step.tasks;
                line
            })
            .collect();
        let mut fastest = vec![f64::INFINITY; bound.steps.len()];
        for _ in 0..repetitions.max(1) {
            // One reading of the clock a step: the end of a step is the start of the next.
            let mut start = Instant::now();
            for (step, fastest) in bound.steps.iter().zip(&mut fastest) {
                for task in 0..step.tasks {
                    F::run(&*bound.program.nodes[step.node].op, &bound.args[step.node], step.phase, task);
                }
                let end = Instant::now();
                *fastest = fastest.min((end - start).as_secs_f64());
                start = end;
            }
        }
        for (&line, seconds) in line_of.iter().zip(fastest) {
            lines[line].seconds += seconds;
        }
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Profile { name: bound.program.name, stages: bound.stages.len(), lines }
    }
}

/// Operations of a program that do the same work: one operation on the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
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

impl<F: Number> Machine<F> {
    /// Runs a program once, operation by operation, and where one is the first of its kind again and again: on this thread
    /// for about `seconds`, on a GPU in a graph. So every operation sees operands of an ordinary run; what it leaves behind
    /// is that of many runs.
    pub fn kinds(&mut self, id: ProgramId, seconds: f64) -> Result<Vec<Kind>, RunError> {
        if self.gpu.is_some() {
            return self.kinds_on_gpu(id, seconds);
        }
        let mut kinds = vec![];
        self.visit_kinds(id, &mut |kind, run| {
            let (mut samples, start) = (vec![], Instant::now());
            while samples.len() < 5 || (start.elapsed().as_secs_f64() < seconds && samples.len() < 1000) {
                let from = Instant::now();
                run();
                samples.push(from.elapsed().as_secs_f64());
            }
            kinds.push(Kind { seconds: samples, ..kind.clone() });
        });
        Ok(kinds)
    }

    /// The same on this thread, for whoever times by himself: `visit` sees each kind and what runs it once.
    pub fn visit_kinds(&mut self, id: ProgramId, visit: &mut dyn FnMut(&Kind, &mut dyn FnMut())) {
        let program = self.bound[id.0].program.clone();
        let kinds = kinds_of(&program);
        for i in 0..program.nodes.len() {
            self.run_node(id, i);
            if let Some((_, kind)) = kinds.iter().find(|(first, _)| *first == i) {
                visit(kind, &mut || self.run_node(id, i));
            }
        }
    }

    fn kinds_on_gpu(&mut self, id: ProgramId, seconds: f64) -> Result<Vec<Kind>, RunError> {
        let (program, host) = (self.bound[id.0].program.clone(), self.host());
        let gpu = self.gpu.as_mut().expect("invariant: the caller looked");
        gpu.send(&self.vars, &self.layout, host)?;
        let mut kinds = kinds_of(&program);
        for i in 0..program.nodes.len() {
            gpu.programs.run_node(id.0, i)?;
            if let Some((_, kind)) = kinds.iter_mut().find(|(first, _)| *first == i) {
                kind.seconds = gpu.programs.time_node(id.0, i, seconds)?;
            }
        }
        gpu.age();
        gpu.wait()?;
        Ok(kinds.into_iter().map(|(_, k)| k).collect())
    }

    /// One operation on this thread.
    fn run_node(&self, id: ProgramId, node: usize) {
        let bound = &self.bound[id.0];
        // The steps of a node are next to each other.
        let from = bound.steps.partition_point(|s| s.node < node);
        for step in bound.steps[from..].iter().take_while(|s| s.node == node) {
            for task in 0..step.tasks {
                F::run(&*bound.program.nodes[node].op, &bound.args[node], step.phase, task);
            }
        }
    }
}

/// The kinds of a program, each with its first node.
fn kinds_of(p: &Program) -> Vec<(usize, Kind)> {
    let mut kinds: Vec<(usize, Kind)> = vec![];
    for (i, node) in p.nodes.iter().enumerate() {
        let new = kind(p, node);
        match kinds.iter_mut().find(|(_, k)| k.op == new.op && k.shapes == new.shapes && k.bytes == new.bytes) {
            Some((_, known)) => known.calls += 1,
            None => kinds.push((i, new)),
        }
    }
    kinds
}

fn kind(p: &Program, node: &Node) -> Kind {
    let shapes = |vs: &[Val]| vs.iter().map(|&v| p.shape(v).to_vec()).collect::<Vec<_>>();
    let (inputs, outputs) = (shapes(&node.inputs), shapes(&node.outputs));
    let mut seen: Vec<Val> = node.inputs.iter().chain(&node.outputs).copied().collect();
    seen.sort();
    seen.dedup();
    Kind {
        op: node.op.name(),
        shapes: text(inputs.iter().chain(&outputs).map(Vec::as_slice)),
        calls: 1,
        bytes: seen.iter().map(|&v| 4 * p.len_of(v)).sum(),
        operations: node.op.operations(&inputs, &outputs),
        seconds: vec![],
    }
}

/// `64x128 128x136`: operands in order, each shape once, vectors left out.
fn shapes<F>(args: &super::OpArgs<F>) -> String {
    text(args.inputs.iter().chain(&args.outputs).map(|s| &s.shape[..]))
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

#[cfg(test)]
mod tests {
    use super::super::fill::Fill;
    use super::super::{DType, Program, Region, Vars};
    use super::*;
    use crate::device::cpu::team::Team;
    use std::sync::Arc;

    #[test]
    fn counts_steps_and_has_the_effect_of_a_run() {
        let mut vars = Vars::default();
        let x = vars.add(Region::Exchange, "x", DType::Real, &[4, 10_000]);
        let mut p = Program::new("two fills");
        let v = p.var(&vars, x);
        for value in [1.0, 2.0] {
            p.push(Fill { value }, &[], &[v]);
        }
        let team = Arc::new(Team::new(1).unwrap());
        let mut machine = Machine::<f32>::new(vars, vec![p], team).unwrap();
        let profile = machine.profile(machine.program(0), 3);
        assert_eq!((profile.name, profile.stages, profile.lines.len()), ("two fills", 2, 1));
        let line = &profile.lines[0];
        assert_eq!((line.op, line.calls, line.tasks, line.shapes.as_str()), ("fill", 2, 6, "4x10000"));
        assert!(line.seconds > 0.0 && profile.seconds() == line.seconds);
        assert!(machine.real(x).iter().all(|&x| x == 2.0));
    }
}
