//! The programs of a run under handles: pushing a program gives its handle, so that no code counts programs.

use crate::tape::{Machine, Program, ProgramId, TapeReal};

/// One program of [`Programs`], and of every machine that was made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(usize);

impl Handle {
    /// The program in a machine that was made of the same programs.
    pub fn on<F: TapeReal>(self, machine: &Machine<F>) -> ProgramId {
        machine.program(self.0)
    }
}

/// Programs in the order they were pushed.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    list: Vec<Program>,
}

impl Programs {
    /// Appends the program that `write` writes.
    pub fn push(&mut self, name: &'static str, write: impl FnOnce(&mut Program)) -> Handle {
        let mut program = Program::new(name);
        write(&mut program);
        self.add(program)
    }

    /// Appends a program that is written.
    pub fn add(&mut self, program: Program) -> Handle {
        self.list.push(program);
        Handle(self.list.len() - 1)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The programs, as a machine takes them.
    pub fn into_vec(self) -> Vec<Program> {
        self.list
    }
}

/// Programs that run one after another, each as often as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence(Vec<(Handle, usize)>);

impl Sequence {
    /// The steps in order; no program stands in two of them.
    pub fn new(steps: impl Into<Vec<(Handle, usize)>>) -> Self {
        Self(steps.into())
    }

    /// How often a program runs; 0 if it is not part of the sequence.
    pub fn runs(&self, program: Handle) -> usize {
        self.place(program).map_or(0, |i| self.0[i].1)
    }

    /// Which step runs a program.
    pub fn place(&self, program: Handle) -> Option<usize> {
        self.0.iter().position(|(p, _)| *p == program)
    }

    /// The steps as a machine runs them.
    pub fn on<F: TapeReal>(&self, machine: &Machine<F>) -> Vec<(ProgramId, usize)> {
        self.0.iter().map(|&(p, runs)| (p.on(machine), runs)).collect()
    }

    /// The steps by the place of their programs among all: what a graph of an epoch is recorded from.
    pub fn numbered(&self) -> Vec<(usize, usize)> {
        self.0.iter().map(|&(p, runs)| (p.0, runs)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_asked_by_handle() {
        let mut programs = Programs::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| programs.push(name, |_| ()));
        let s = Sequence::new([(c, 1), (a, 7)]);
        assert_eq!((s.runs(a), s.runs(b), s.runs(c)), (7, 0, 1));
        assert_eq!((s.place(a), s.place(b), s.place(c)), (Some(1), None, Some(0)));
        let all = programs.into_vec();
        let names: Vec<_> = s.numbered().into_iter().map(|(i, runs)| (all[i].name, runs)).collect();
        assert_eq!(names, [("c", 1), ("a", 7)]);
    }
}
