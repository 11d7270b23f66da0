//! The memory plan: where every variable and every activation lies, before anything is allocated.
//!
//! Variables get fixed offsets. Activations of all programs share one region, because programs run one after another;
//! inside a program, two activations may share bytes if the life of one (first to last node that touches it) ends
//! before that of the other begins. Offsets come from greedy placement by size, the largest first, each at the lowest
//! free offset (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).

use super::place::Taken;
use super::program::{DType, Program, Region, Storage, Val, Vars};
use crate::mem::arena::ALIGN;
use std::collections::BTreeMap;

/// Elements are the unit of all offsets. Every value starts at a multiple of this many elements of its type.
const STEP: usize = ALIGN / 4;

/// Bytes of its workspace that each thread's products touch, if a number takes `size`.
pub fn packing<'a>(programs: impl IntoIterator<Item = &'a Program>, size: usize) -> usize {
    programs.into_iter().flat_map(|p| &p.nodes).map(|n| n.op.packing(size)).max().unwrap_or(0)
}

/// Bytes of its stack that each thread's tasks touch in single precision, beside the few that every task does.
pub fn stack<'a>(programs: impl IntoIterator<Item = &'a Program>) -> usize {
    programs.into_iter().flat_map(|p| &p.nodes).map(|n| n.op.stack()).max().unwrap_or(0)
}

/// Elements that a value of so many takes.
pub fn aligned(elements: usize) -> usize {
    elements.div_ceil(STEP) * STEP
}

/// A number for each of the two types a value can be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByType {
    pub real: usize,
    pub index: usize,
}

impl ByType {
    pub(crate) fn of(&mut self, dtype: DType) -> &mut usize {
        match dtype {
            DType::Real => &mut self.real,
            DType::Index => &mut self.index,
        }
    }

    /// Bytes if a real number takes `real_bytes`.
    pub fn bytes(&self, real_bytes: usize) -> usize {
        self.real * real_bytes + self.index * size_of::<u32>()
    }
}

/// Offsets, in elements, of everything a run holds: the arena is this and nothing else.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Offset of each variable in the arena of its type.
    pub vars: Vec<usize>,
    /// Elements of all variables together: the activation region begins here.
    pub persistent: ByType,
    /// Elements of the activation region: the largest program's need.
    pub activations: ByType,
    /// Real numbers outside the arena; offsets of their variables count from the beginning of that block.
    pub offloaded: usize,
    /// Elements by region, of those in the arena.
    pub regions: BTreeMap<Region, ByType>,
    /// For each program its need, and the offset of each value that owns storage, relative to the activation region.
    pub programs: Vec<ProgramLayout>,
}

#[derive(Clone, Debug)]
pub struct ProgramLayout {
    pub name: &'static str,
    pub activations: ByType,
    /// Elements if nothing shared bytes.
    pub unshared: ByType,
    pub offsets: Vec<Option<usize>>,
    /// Heap bytes that the program and its binding take beside the arena: an upper bound.
    pub tables: usize,
}

/// Heap bytes of a node (with its operation, context and step), of one of its operands, and of a value, each with the
/// allocator's overhead and the slack of grown vectors. A test compares with what is allocated.
const NODE_BYTES: usize = 640;
const OPERAND_BYTES: usize = 120;
const VALUE_BYTES: usize = 160;

fn tables(p: &Program) -> usize {
    let operands: usize = p.nodes.iter().map(|n| n.inputs.len() + n.outputs.len()).sum();
    p.nodes.len() * NODE_BYTES + operands * OPERAND_BYTES + p.values().count() * VALUE_BYTES
}

impl Layout {
    /// Plans variables and programs together. Touches no device and allocates nothing but this table.
    pub fn new(vars: &Vars, programs: &[Program]) -> Self {
        Self::of(vars, programs.iter().map(plan_program).collect())
    }

    /// The same of programs that are planned already.
    pub fn of(vars: &Vars, programs: Vec<ProgramLayout>) -> Self {
        let (mut persistent, mut regions) = (ByType::default(), BTreeMap::<Region, ByType>::new());
        let mut offsets = Vec::new();
        let mut offloaded = 0;
        for (id, info) in vars.iter() {
            if vars.is_offloaded(id) {
                offsets.push(offloaded);
                offloaded += aligned(info.len());
                continue;
            }
            let end = persistent.of(info.dtype);
            offsets.push(*end);
            *end += aligned(info.len());
            *regions.entry(info.region).or_default().of(info.dtype) += aligned(info.len());
        }
        let mut activations = ByType::default();
        for p in &programs {
            activations.real = activations.real.max(p.activations.real);
            activations.index = activations.index.max(p.activations.index);
        }
        Self { vars: offsets, persistent, activations, offloaded, regions, programs }
    }

    /// Elements of the whole arena.
    pub fn total(&self) -> ByType {
        ByType {
            real: self.persistent.real + self.activations.real,
            index: self.persistent.index + self.activations.index,
        }
    }
}

/// First and last node that touches each activation, indexed by value.
pub(crate) fn lifetimes(p: &Program) -> Vec<Option<(usize, usize)>> {
    let mut life = vec![None; p.values().count()];
    for (i, node) in p.nodes.iter().enumerate() {
        for &v in node.inputs.iter().chain(&node.outputs).chain(&node.workspace) {
            if let Some(base) = p.base(v) {
                let l = life[base.0 as usize].get_or_insert((i, i));
                l.1 = i;
            }
        }
    }
    life
}

/// Where the values of one program lie.
pub(super) fn plan_program(p: &Program) -> ProgramLayout {
    let life = lifetimes(p);
    let mut offsets = vec![None; life.len()];
    let (mut need, mut unshared) = (ByType::default(), ByType::default());
    for dtype in [DType::Real, DType::Index] {
        let mut todo: Vec<(usize, Val, (usize, usize))> = p
            .values()
            .filter(|(_, info)| info.storage == Storage::Activation && info.dtype == dtype)
            .filter_map(|(v, info)| Some((aligned(info.len()), v, life[v.0 as usize]?)))
            .collect();
        todo.sort_by_key(|&(len, v, _)| (std::cmp::Reverse(len), v));
        let mut taken = Taken::new(p.nodes.len());
        for (len, v, life) in todo {
            let at = taken.place(len, life);
            offsets[v.0 as usize] = Some(at);
            let top = need.of(dtype);
            *top = (*top).max(at + len);
            *unshared.of(dtype) += len;
        }
    }
    ProgramLayout { name: p.name, activations: need, unshared, offsets, tables: tables(p) }
}
