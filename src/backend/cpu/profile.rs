//! The time of a program's steps, on the thread that asks.

use super::BoundProgram;
use crate::tape::TapeReal;
use crate::tape::profile::{Line, Profile, shapes};
use std::collections::HashMap;
use std::time::Instant;

impl<F: TapeReal> BoundProgram<F> {
    pub fn profile(&self, repetitions: usize) -> Profile {
        let program = self.source();
        let (mut lines, mut known) = (Vec::<Line>::new(), HashMap::new());
        let line_of: Vec<usize> = (self.steps.iter())
            .map(|step| {
                let (op, shapes) = (program.nodes[step.node].op.name(), shapes(&self.args[step.node]));
                let line = *known.entry((op, step.phase, shapes.clone())).or_insert_with(|| {
                    lines.push(Line { op, phase: step.phase, shapes, calls: 0, tasks: 0, seconds: 0.0 });
                    lines.len() - 1
                });
                lines[line].calls += 1;
                lines[line].tasks += step.tasks;
                line
            })
            .collect();
        let mut fastest = vec![f64::INFINITY; self.steps.len()];
        for _ in 0..repetitions.max(1) {
            // One reading of the clock a step: the end of a step is the start of the next.
            let mut start = Instant::now();
            for (step, fastest) in self.steps.iter().zip(&mut fastest) {
                for task in 0..step.tasks {
                    F::run(&*program.nodes[step.node].op, &self.args[step.node], step.phase, task);
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
        Profile { name: program.name, stages: self.stages.len(), lines }
    }

    /// One operation.
    pub fn run_node(&self, node: usize) {
        let program = self.source();
        // The steps of a node are next to each other.
        let from = self.steps.partition_point(|s| s.node < node);
        for step in self.steps[from..].iter().take_while(|s| s.node == node) {
            for task in 0..step.tasks {
                F::run(&*program.nodes[node].op, &self.args[node], step.phase, task);
            }
        }
    }

    /// Seconds of one operation, again and again for about `seconds`.
    pub fn time_node(&self, node: usize, seconds: f64) -> Vec<f64> {
        let (mut samples, start) = (vec![], Instant::now());
        while samples.len() < 5 || (start.elapsed().as_secs_f64() < seconds && samples.len() < 1000) {
            let from = Instant::now();
            self.run_node(node);
            samples.push(from.elapsed().as_secs_f64());
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use crate::device::cpu::team::Team;
    use crate::tape::fill::Fill;
    use crate::tape::{DType, Machine, Program, Region, Vars};
    use std::sync::Arc;

    #[test]
    fn counts_steps_and_has_the_effect_of_a_run() {
        let mut vars = Vars::default();
        // Three tasks a fill; one under Miri, which takes a second for a few hundred numbers.
        let (width, tasks) = if cfg!(miri) { (10, 2) } else { (10_000, 6) };
        let x = vars.add(Region::RolloutBuffers, "x", DType::Real, &[4, width]);
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
        assert_eq!((line.op, line.calls, line.tasks), ("fill", 2, tasks));
        assert_eq!(line.shapes, format!("4x{width}"));
        assert!(line.seconds > 0.0 && profile.seconds() == line.seconds);
        assert!(machine.real(x).iter().all(|&x| x == 2.0));
    }
}
