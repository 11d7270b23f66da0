//! Rematerialisation: what the reverse pass reads is computed again right before it, instead of being kept. The setting
//! is `recompute`.
//!
//! A forward operation whose outputs the reverse pass reads may be *rematerialised*: a copy of it, with outputs of its
//! own, is inserted before the first later operation that reads them, so the originals live no longer than the forward
//! pass. What a copy reads is kept, or rematerialised itself, earlier; so a single layer, a step of a rollout or
//! anything between can be a segment, and its boundary is whatever is not rematerialised. Operations are functions of
//! their inputs, and one is rematerialised only if nothing overwrites these before; so every choice gives the same
//! bits.
//!
//! Operations are ranked by the numbers they save for an operation of arithmetic rematerialised, the largest first
//! (Chen et al., "Training deep nets with sublinear memory cost", 2016, keeps square-root many; here the budget decides
//! how many).

use super::plan::{ProgramLayout, aligned, plan_program};
use super::program::{DType, Node, Program, Storage, Val};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// An operation that can be rematerialised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub node: usize,
    /// Numbers that need not be kept.
    pub saves: usize,
    /// Arithmetic that is done a second time.
    pub costs: usize,
}

/// What is read and written, by activation or variable.
#[derive(Default)]
struct Access {
    /// Nodes with the range of elements.
    reads: Vec<(usize, usize, usize)>,
    writes: Vec<(usize, usize, usize)>,
}

/// The storage of a value: activations by their base, variables by number.
type StorageKey = (bool, u32);

fn place(p: &Program, v: Val) -> (StorageKey, usize, usize) {
    let info = p.info(v);
    let (place, from) = match info.storage {
        Storage::Activation => ((false, v.0), 0),
        Storage::View { base, offset } => ((false, base.0), offset),
        Storage::Var { var, offset } => ((true, var.0), offset),
    };
    (place, from, from + info.len())
}

fn accesses(p: &Program) -> HashMap<StorageKey, Access> {
    let mut all = HashMap::<StorageKey, Access>::new();
    for (i, node) in p.nodes.iter().enumerate() {
        for &v in &node.inputs {
            let (place, from, to) = place(p, v);
            all.entry(place).or_default().reads.push((i, from, to));
        }
        for &v in &node.outputs {
            let (place, from, to) = place(p, v);
            all.entry(place).or_default().writes.push((i, from, to));
        }
    }
    all
}

/// The first node of the reverse pass that follows node `i`.
fn reverse_after(p: &Program, i: usize) -> Option<usize> {
    p.reverse.iter().copied().find(|&r| r > i)
}

/// Whether the output `v` of node `i` is storage of its own that no other node writes.
fn is_own(p: &Program, all: &HashMap<StorageKey, Access>, i: usize, v: Val) -> bool {
    p.info(v).storage == Storage::Activation && all[&(false, v.0)].writes.iter().all(|w| w.0 == i)
}

/// Every operation that can be rematerialised, in the order in which that pays.
pub fn candidates(p: &Program) -> Vec<Candidate> {
    let all = accesses(p);
    let mut found: Vec<Candidate> = (0..p.nodes.len()).filter_map(|i| candidate(p, &all, i)).collect();
    // saves / costs, compared without division; the order of the program among equals.
    found.sort_by(|a, b| {
        let (x, y) = (a.saves as u128 * b.costs as u128, b.saves as u128 * a.costs as u128);
        y.cmp(&x).then(a.node.cmp(&b.node))
    });
    found
}

fn candidate(p: &Program, all: &HashMap<StorageKey, Access>, i: usize) -> Option<Candidate> {
    let (node, reverse) = (&p.nodes[i], reverse_after(p, i)?);
    if node.outputs.iter().any(|&v| p.base(v).is_none() || p.info(v).dtype != DType::Real) {
        return None;
    }
    let (mut saves, mut last) = (0, 0);
    for &v in node.outputs.iter().filter(|&&v| is_own(p, all, i, v)) {
        let late = all[&(false, v.0)].reads.iter().map(|r| r.0).filter(|&r| r >= reverse).max();
        if let Some(late) = late {
            saves += aligned(p.len_of(v));
            last = last.max(late);
        }
    }
    // Until the copy runs, nothing may overwrite what it reads.
    let kept = node.inputs.iter().all(|&v| {
        let (place, from, to) = place(p, v);
        !all[&place].writes.iter().any(|&(w, f, t)| (i..=last).contains(&w) && f < to && from < t)
    });
    let shapes = |vs: &[Val]| vs.iter().map(|&v| p.shape(v).to_vec()).collect::<Vec<_>>();
    let costs = node.op.operations(&shapes(&node.inputs), &shapes(&node.outputs)).max(1);
    (saves > 0 && kept).then_some(Candidate { node: i, saves, costs })
}

/// The program with these nodes rematerialised.
pub fn rematerialise(p: &Program, nodes: &[usize]) -> Program {
    let all = accesses(p);
    let mut chosen = nodes.to_vec();
    chosen.sort_unstable();
    // Before which node each copy runs: the first that reads it, copies included. Later operations come first here.
    let mut before = HashMap::<usize, usize>::new();
    for &i in chosen.iter().rev() {
        let reverse = reverse_after(p, i).expect("invariant: a candidate has a reverse pass after it");
        let outputs = p.nodes[i].outputs.iter().filter(|&&v| is_own(p, &all, i, v));
        let reads = outputs.flat_map(|v| &all[&(false, v.0)].reads).map(|r| r.0);
        let readers = reads.filter_map(|r| if r >= reverse { Some(r) } else { before.get(&r).copied() });
        before.insert(i, readers.min().expect("invariant: a candidate is read again"));
    }
    let mut copies = vec![Vec::new(); p.nodes.len()];
    for &i in &chosen {
        copies[before[&i]].push(i);
    }

    let mut out = p.without_nodes();
    // Fresh outputs of copies, by the values they stand for, and the first node that is to read them.
    let mut fresh = HashMap::<Val, (Val, usize)>::new();
    for (i, node) in p.nodes.iter().enumerate() {
        if p.reverse.contains(&i) {
            out.reverse.push(out.nodes.len());
        }
        for &c in &copies[i] {
            let original = &p.nodes[c];
            // A copy reads copies where there are any: the originals are to be dead by now.
            let inputs = original.inputs.iter().map(|&v| redirect(&mut out, &fresh, v, usize::MAX)).collect();
            let outputs = original.outputs.iter().map(|&v| {
                let shape = p.shape(v).to_vec();
                let copy = out.real(&shape);
                if is_own(p, &all, c, v) {
                    fresh.insert(v, (copy, reverse_after(p, c).expect("invariant: as above")));
                }
                copy
            });
            let outputs = outputs.collect();
            let workspace = original.workspace.map(|w| out.real(&[p.len_of(w)]));
            out.nodes.push(Node { op: Arc::clone(&original.op), inputs, outputs, workspace });
        }
        let inputs = node.inputs.iter().map(|&v| redirect(&mut out, &fresh, v, i)).collect();
        let (op, outputs, workspace) = (Arc::clone(&node.op), node.outputs.clone(), node.workspace);
        out.nodes.push(Node { op, inputs, outputs, workspace });
    }
    out
}

/// What node `at` reads in place of `v`: the same part of a copy, if there is one for it.
fn redirect(out: &mut Program, fresh: &HashMap<Val, (Val, usize)>, v: Val, at: usize) -> Val {
    let Some(base) = out.base(v) else { return v };
    let Some(&(copy, from)) = fresh.get(&base) else { return v };
    if at < from {
        return v;
    }
    match out.info(v).storage {
        Storage::View { offset, .. } => {
            let shape = out.shape(v).to_vec();
            out.view(copy, offset, &shape)
        }
        _ => copy,
    }
}

/// How much of a program is rematerialised, and what that does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub program: &'static str,
    /// Operations rematerialised, of those that can be: the first ones of [`candidates`].
    pub taken: usize,
    pub of: usize,
    /// Numbers of the activation region.
    pub reals: usize,
    /// Arithmetic rematerialised, as a share of the program's.
    pub extra: f64,
}

/// Parts of a program's candidates that are looked at.
const PARTS: usize = 16;

/// A program that rematerialises some of its candidates.
#[derive(Clone, Debug)]
pub struct Rematerialised<'a> {
    pub program: Cow<'a, Program>,
    pub layout: ProgramLayout,
    pub level: Level,
}

/// A program with what can be rematerialised in it.
#[derive(Debug)]
pub struct Rematerialisable {
    program: Program,
    layout: ProgramLayout,
    ranked: Vec<Candidate>,
    /// Arithmetic of the program.
    whole: usize,
    /// What was asked: numbers of the activation region, by how many are rematerialised.
    known: RefCell<BTreeMap<usize, usize>>,
}

impl Rematerialisable {
    pub fn new(program: Program) -> Self {
        let shapes = |vs: &[Val]| vs.iter().map(|&v| program.shape(v).to_vec()).collect::<Vec<_>>();
        let operations = |n: &Node| n.op.operations(&shapes(&n.inputs), &shapes(&n.outputs));
        let whole = program.nodes.iter().map(operations).sum();
        let (ranked, layout) = (candidates(&program), plan_program(&program));
        let known = RefCell::new(BTreeMap::from([(0, layout.activations.real)]));
        Self { program, layout, ranked, whole, known }
    }

    /// Operations that can be rematerialised.
    pub fn most(&self) -> usize {
        self.ranked.len()
    }

    /// The program as it is, and where its values lie.
    pub fn plain(&self) -> (&Program, &ProgramLayout) {
        (&self.program, &self.layout)
    }

    /// The first `taken` candidates rematerialised.
    pub fn rematerialising(&self, taken: usize) -> Rematerialised<'_> {
        let taken = taken.min(self.most());
        let (program, layout) = match taken {
            0 => (Cow::Borrowed(&self.program), self.layout.clone()),
            _ => {
                let program = rematerialise_first(&self.program, &self.ranked, taken);
                let layout = plan_program(&program);
                (Cow::Owned(program), layout)
            }
        };
        let again: usize = self.ranked[..taken].iter().map(|c| c.costs).sum();
        let (reals, extra) = (layout.activations.real, again as f64 / self.whole.max(1) as f64);
        self.known.borrow_mut().insert(taken, reals);
        let level = Level { program: program.name, taken, of: self.most(), reals, extra };
        Rematerialised { program, layout, level }
    }

    fn reals(&self, taken: usize) -> usize {
        let known = self.known.borrow().get(&taken).copied();
        known.unwrap_or_else(|| self.rematerialising(taken).level.reals)
    }

    /// From nothing rematerialised to all that can be, in [`PARTS`] steps.
    fn parts(&self) -> impl Iterator<Item = usize> + '_ {
        (0..=PARTS).map(|i| self.most() * i / PARTS)
    }

    /// The fewest numbers that the activations can be brought to. Memory does not fall with every operation that is
    /// rematerialised: what a copy reads lives as long as the copy needs it, and copies that need each other are there
    /// at once.
    pub fn floor(&self) -> usize {
        self.parts().map(|taken| self.reals(taken)).min().unwrap_or(0)
    }

    /// How few candidates must be rematerialised for the activations to keep within `reals` numbers; none if that
    /// cannot be.
    pub fn least(&self, reals: usize) -> Option<usize> {
        let fits = |taken| self.reals(taken) <= reals;
        let mut low = 0;
        for part in self.parts() {
            if !fits(part) {
                low = part;
                continue;
            }
            let mut high = part;
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                *(if fits(middle) { &mut high } else { &mut low }) = middle;
            }
            return Some(high);
        }
        None
    }
}

/// A program that rematerialises the first `taken` of its candidates.
pub fn rematerialising(p: Program, taken: usize) -> Program {
    if taken == 0 {
        return p;
    }
    rematerialise_first(&p, &candidates(&p), taken)
}

fn rematerialise_first(p: &Program, ranked: &[Candidate], taken: usize) -> Program {
    let nodes: Vec<usize> = ranked.iter().take(taken).map(|c| c.node).collect();
    rematerialise(p, &nodes)
}
