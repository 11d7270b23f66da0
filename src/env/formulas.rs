//! The formulas of a task as functions of its CUDA kernels: what [`super::feature`], [`super::term`] and the task's clip
//! compute, written down by computing with [`Traced`] numbers.
//!
//! A thread computes what belongs to the coordinates, dofs and entries of the action that it owns, and all compute
//! what belongs to the root. The functions are listed in kernels/sim/env.cu.

use super::dflex::{DflexTask, clip};
use super::feature::{Feature, Source};
use super::term::{reward, reward_adjoint, square, squares_adjoint};
use crate::device::Scalar;
use crate::device::cuda::traced::{Traced, trace};
use crate::sim::JointKind;
use std::fmt::Write;

/// Numbers of a free root as the kernels' `Root` names them.
const ROOT_Q: [&str; 7] = ["p.x", "p.y", "p.z", "r.v.x", "r.v.y", "r.v.z", "r.w"];
const ROOT_QD: [&str; 6] = ["omega.x", "omega.y", "omega.z", "v.x", "v.y", "v.z"];

/// `task.cuh`.
pub(super) fn task_header(task: &DflexTask) -> String {
    let mut text = String::from(
        "// Written by the program: the formulas of src/env/feature.rs, term.rs and dflex.rs as they come out for a task.\n\
         #pragma once\n#include \"sim/step.cuh\"\n",
    );
    Formulas { task, text: &mut text }.write();
    text
}

struct Formulas<'a> {
    task: &'a DflexTask,
    text: &'a mut String,
}

impl Formulas<'_> {
    fn write(mut self) {
        let task = self.task;
        self.scalar("clip(float a)", || {
            let mut clipped = [Traced::zero()];
            clip(&[Traced::named("a")], &mut clipped);
            clipped[0]
        });
        self.scalar("clip_adjoint(float a, float bar)", || {
            let mut bar = [Traced::named("bar")];
            task.clip_adjoint(&[Traced::named("a")], &mut bar);
            bar[0]
        });
        self.scalar("add_square(float a, float sum)", || square(Traced::named("a"), Traced::named("sum")));
        self.coordinates();
        self.root();
        self.reward();
    }

    /// A function whose value is one number.
    fn scalar(&mut self, signature: &str, formula: impl FnOnce() -> Traced) {
        let (declared, results) = trace(|| vec![((), formula())]);
        let _ = writeln!(self.text, "DEVICE float {signature} {{\n{declared}    return {};\n}}", results[0].1);
    }

    /// What is shown of coordinates, dofs and the action, entry by entry, and the adjoints.
    fn coordinates(&mut self) {
        let task = self.task;
        let observation = &task.spec.observation;
        let features: Vec<(usize, Feature)> = (observation.features.iter())
            .scan(0, |at, &f| {
                let begin = *at;
                *at += f.width(observation.actions);
                Some((begin, f))
            })
            .collect();
        // Threads own what is not a free root's.
        let (q, qd) = if task.f64.links[0].kind == JointKind::Free { (7, 6) } else { (0, 0) };
        for (what, all) in
            [("coordinate", q..task.sizes.nq), ("dof", qd..task.sizes.nqd), ("action", 0..task.sizes.act)]
        {
            // Features of these, and where their list lies.
            let of: Vec<_> = (features.iter())
                .filter_map(|&(at, f)| match (what, f.source()) {
                    ("coordinate", Source::Coordinates { first, count }) => Some((at, f, first..first + count)),
                    ("dof", Source::Velocities { first, count }) => Some((at, f, first..first + count)),
                    ("action", Source::Action) => Some((at, f, all.clone())),
                    _ => None,
                })
                .collect();
            let condition = |which: &std::ops::Range<usize>| match which {
                r if *r == all => String::new(),
                r if r.len() == 1 => format!("if (k == {}) ", r.start),
                r => format!("if (k >= {} && k < {}) ", r.start, r.end),
            };
            let place = |at: usize, which: &std::ops::Range<usize>| match at as i64 - which.start as i64 {
                0 => "k".into(),
                shift if shift > 0 => format!("k + {shift}"),
                shift => format!("k - {}", -shift),
            };
            let _ = writeln!(self.text, "template <class Put>\nDEVICE void observe_{what}(int k, float x, Put put) {{");
            for (at, f, which) in &of {
                let (declared, results) = trace(|| vec![((), f.entry(Traced::named("x")))]);
                assert!(declared.is_empty(), "invariant: an entry is one expression");
                let _ = writeln!(self.text, "    {}put({}, {});", condition(which), place(*at, which), results[0].1);
            }
            self.text.push_str("}\n");
            // Those whose derivative is known before the state is.
            for (curved, name, value) in [(false, "", ""), (true, "_curved", ", float x")] {
                let _ = writeln!(
                    self.text,
                    "template <class Bar>\nDEVICE float observe_{what}{name}_adjoint(int k{value}, Bar bar, float sum) {{"
                );
                for (at, f, which) in of.iter().filter(|(_, f, _)| f.is_curved() == curved) {
                    let (declared, results) = trace(|| {
                        let bar = Traced::named(format!("bar({})", place(*at, which)));
                        vec![((), f.entry_adjoint(Traced::named("x"), bar, Traced::named("sum")))]
                    });
                    let sum = &results[0].1;
                    if sum != "sum" {
                        let _ = writeln!(self.text, "    {}{{\n{declared}    sum = {sum};\n    }}", condition(which));
                    }
                }
                self.text.push_str("    return sum;\n}\n");
            }
        }
    }

    /// What is shown of the root, and the adjoint.
    fn root(&mut self) {
        let task = self.task;
        let (observation, sizes) = (&task.spec.observation, task.sizes);
        let of_root: Vec<bool> = (observation.features.iter())
            .flat_map(|f| std::iter::repeat_n(f.source() == Source::Root, f.width(observation.actions)))
            .collect();
        // Only the root's are read.
        let numbers = |n: usize, root: &[&str], of: &str| -> Vec<Traced> {
            (0..n)
                .map(|i| Traced::named(root.get(i).map_or_else(|| "nothing".into(), |x| format!("{of}.{x}"))))
                .collect()
        };
        let any = of_root.contains(&true);
        let (declared, results) = trace(|| {
            if !any {
                return vec![];
            }
            let mut obs = vec![Traced::zero(); sizes.obs];
            let (q, qd) = (numbers(sizes.nq, &ROOT_Q, "s"), numbers(sizes.nqd, &ROOT_QD, "s"));
            observation.write(&q, &qd, &numbers(sizes.act, &[], ""), &mut obs);
            obs.into_iter().enumerate().filter(|&(i, _)| of_root[i]).collect()
        });
        let _ = writeln!(
            self.text,
            "template <class Put>\nDEVICE void observe_root(const Root& s, Put put) {{\n{declared}"
        );
        for (i, x) in results {
            let _ = writeln!(self.text, "    put({i}, {x});");
        }
        let (declared, results) = trace(|| {
            if !any {
                return vec![];
            }
            let (q, qd) = (numbers(sizes.nq, &ROOT_Q, "s"), numbers(sizes.nqd, &ROOT_QD, "s"));
            let (mut q_bar, mut qd_bar) = (numbers(sizes.nq, &ROOT_Q, "t"), numbers(sizes.nqd, &ROOT_QD, "t"));
            let action = numbers(sizes.act, &[], "");
            let bar: Vec<_> = (0..sizes.obs).map(|i| Traced::named(format!("bar({i})"))).collect();
            observation.adjoint(&q, &qd, &action, &bar, &mut q_bar, &mut qd_bar, &mut action.clone());
            ROOT_Q.into_iter().zip(q_bar).chain(ROOT_QD.into_iter().zip(qd_bar)).collect()
        });
        let _ = writeln!(
            self.text,
            "}}\ntemplate <class Bar>\nDEVICE void observe_root_adjoint(const Root& s, Bar bar, Root& t) {{\n{declared}"
        );
        // Nothing is overwritten before all is computed.
        for (i, (_, x)) in results.iter().enumerate() {
            let _ = writeln!(self.text, "    float next{i} = {x};");
        }
        for (i, (name, _)) in results.iter().enumerate() {
            let _ = writeln!(self.text, "    t.{name} = next{i};");
        }
        self.text.push_str("}\n");
    }

    /// The reward, and the adjoint for each entry of the observation and of the action.
    fn reward(&mut self) {
        let task = self.task;
        let terms = &task.spec.terms;
        let obs = |k: usize| Traced::named(format!("obs[{k}]"));
        self.scalar("reward_of(const float* obs, float squares)", || reward(terms, obs, Traced::named("squares")));
        let adjoint = || {
            let mut obs_bar = vec![Traced::zero(); task.sizes.obs];
            let squares = reward_adjoint(terms, obs, Traced::named("bar"), task.at_end(), &mut obs_bar);
            (obs_bar, squares)
        };
        let mut entries: Vec<usize> = terms.iter().flat_map(|t| t.entries()).collect();
        entries.sort_unstable();
        entries.dedup();
        self.text.push_str("DEVICE float reward_adjoint(int k, float bar, const float* obs) {\n");
        for k in entries {
            let (declared, results) = trace(|| vec![((), adjoint().0[k])]);
            let _ = writeln!(self.text, "    if (k == {k}) {{\n{declared}    return {};\n    }}", results[0].1);
        }
        self.text.push_str("    return 0.0f;\n}\n");
        self.scalar("reward_action_adjoint(float a, float bar, float sum)", || {
            let mut sum = [Traced::named("sum")];
            squares_adjoint(&[Traced::named("a")], adjoint().1, &mut sum);
            sum[0]
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Shipped, ShippedKind};
    use crate::env::Task;

    /// Functions that the kernels call.
    const FUNCTIONS: [&str; 17] = [
        "clip",
        "clip_adjoint",
        "add_square",
        "observe_coordinate",
        "observe_coordinate_adjoint",
        "observe_coordinate_curved_adjoint",
        "observe_dof",
        "observe_dof_adjoint",
        "observe_dof_curved_adjoint",
        "observe_action",
        "observe_action_adjoint",
        "observe_action_curved_adjoint",
        "observe_root",
        "observe_root_adjoint",
        "reward_of",
        "reward_adjoint",
        "reward_action_adjoint",
    ];

    #[test]
    fn every_task_has_every_function_once_and_reads_nothing_else() {
        for name in Shipped::names(ShippedKind::Env) {
            let c = crate::config::load(&[format!("env={name}")]).unwrap();
            let task = Task::from_config(&c).unwrap();
            if !task.is_differentiable() {
                continue;
            }
            let task = task.dflex();
            let text = task_header(task);
            for f in FUNCTIONS {
                assert_eq!(text.matches(&format!(" {f}(")).count(), 1, "{name}: {f}\n{text}");
            }
            assert!(!text.contains("nothing"), "{name} reads a number that no thread owns\n{text}");
            // What the kernels are told of derivatives is what the formulas read.
            let function =
                |f: &str| text.split(&format!(" {f}(")).nth(1).unwrap().split("\n}").next().unwrap().to_owned();
            let body = |f: &str| function(f).split_once(") {").unwrap().1.to_owned();
            assert!(task.reward_is_curved() || !body("reward_adjoint").contains("obs["), "{name}\n{text}");
            for f in ["observe_coordinate_adjoint", "observe_dof_adjoint", "observe_action_adjoint"] {
                let words = body(f);
                let mut words = words.split(|c: char| !c.is_alphanumeric() && c != '_');
                assert!(words.all(|w| w != "x"), "{name}: {f} reads what it is not given\n{text}");
            }
            assert_eq!(text.matches(['{']).count(), text.matches(['}']).count(), "{name}\n{text}");
        }
    }
}
