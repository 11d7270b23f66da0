//! Programs: operations in the order they run, on values whose shapes are known when the program is written.
//!
//! A value lives in one of three places: in the *activation* region, shared by all programs and planned by lifetime; in
//! a *variable*, which outlives programs (parameters, optimiser state, replay, environments); or as a *view* of part of
//! another value. Values are assigned once, except variables and the cotangents that adjoints accumulate into.

use super::op::Op;
use std::collections::HashMap;
use std::sync::Arc;

/// A value of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub(crate) u32);

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// The machine's number type: `f32` in training, `f64` or dual numbers in the oracle.
    Real,
    /// `u32`: counters, cursors, row numbers.
    Index,
}

/// What a variable is for; `pwm plan` adds up bytes by region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    Parameters,
    Gradients,
    Optimiser,
    /// Finished episodes: may lie outside the arena.
    Replay,
    /// Unfinished episodes, and the directory of the finished ones.
    Episodes,
    Environment,
    Statistics,
    /// Buffers that carry data from one program of an epoch to the next.
    RolloutBuffers,
    /// Counters, learning rates, metrics.
    Control,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarId(pub(crate) u32);

#[derive(Clone, Debug)]
pub struct VarInfo {
    pub name: String,
    pub region: Region,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl VarInfo {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The variables that the programs of one run share.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    list: Vec<VarInfo>,
    /// What lies outside the arena.
    offloaded: Option<Region>,
}

impl Vars {
    /// A new variable of zeros. Names are unique: checkpoints use them.
    pub fn add(&mut self, region: Region, name: impl Into<String>, dtype: DType, shape: &[usize]) -> VarId {
        let name = name.into();
        assert!(self.find(&name).is_none(), "invariant: variable names are unique, {name} is not");
        self.list.push(VarInfo { name, region, dtype, shape: shape.to_vec() });
        VarId(self.list.len() as u32 - 1)
    }

    pub fn info(&self, var: VarId) -> &VarInfo {
        &self.list[var.0 as usize]
    }

    /// Takes the variables of a region, all of them real numbers, out of the arena: see [`super::Placement`].
    pub fn offload(&mut self, region: Region) {
        assert!(
            self.list.iter().all(|v| v.region != region || v.dtype == DType::Real),
            "invariant: what lies offloaded are real numbers"
        );
        self.offloaded = Some(region);
    }

    /// Real numbers of all variables outside the arena, each from a multiple of the alignment on.
    pub fn offloaded_len(&self) -> usize {
        self.iter().filter(|(id, _)| self.is_offloaded(*id)).map(|(_, info)| super::plan::aligned(info.len())).sum()
    }

    pub fn is_offloaded(&self, var: VarId) -> bool {
        self.offloaded == Some(self.info(var).region)
    }

    pub fn find(&self, name: &str) -> Option<VarId> {
        self.list.iter().position(|v| v.name == name).map(|i| VarId(i as u32))
    }

    pub fn iter(&self) -> impl Iterator<Item = (VarId, &VarInfo)> {
        self.list.iter().enumerate().map(|(i, v)| (VarId(i as u32), v))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    Activation,
    /// `offset` elements into `base`, which is no view itself.
    View {
        base: Val,
        offset: usize,
    },
    Var {
        var: VarId,
        offset: usize,
    },
}

#[derive(Clone, Debug)]
pub struct ValueInfo {
    pub shape: Vec<usize>,
    pub dtype: DType,
    pub storage: Storage,
    /// No cotangent flows through this value.
    pub detached: bool,
}

impl ValueInfo {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One operation of a program.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Arc<dyn Op>,
    pub inputs: Vec<Val>,
    /// Values written, or accumulated into, by this node.
    pub outputs: Vec<Val>,
    /// Scratch numbers that live during this node only.
    pub workspace: Option<Val>,
}

/// A straight line of operations.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub name: &'static str,
    pub nodes: Vec<Node>,
    /// Where each reverse pass begins: its first node.
    pub reverse: Vec<usize>,
    values: Vec<ValueInfo>,
    vars: HashMap<(VarId, usize, Vec<usize>), Val>,
}

impl Program {
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// The same values, read and written by no operation.
    pub(super) fn without_nodes(&self) -> Self {
        Self { name: self.name, nodes: vec![], reverse: vec![], values: self.values.clone(), vars: self.vars.clone() }
    }

    fn value(&mut self, shape: &[usize], dtype: DType, storage: Storage, detached: bool) -> Val {
        self.values.push(ValueInfo { shape: shape.to_vec(), dtype, storage, detached });
        Val(self.values.len() as u32 - 1)
    }

    /// A new activation of real numbers, to be written by an operation.
    pub fn real(&mut self, shape: &[usize]) -> Val {
        self.value(shape, DType::Real, Storage::Activation, false)
    }

    /// A new activation of indices.
    pub fn index(&mut self, shape: &[usize]) -> Val {
        self.value(shape, DType::Index, Storage::Activation, false)
    }

    /// A whole variable. The same variable read twice is the same value.
    pub fn var(&mut self, vars: &Vars, var: VarId) -> Val {
        let shape = vars.info(var).shape.clone();
        self.var_at(vars, var, 0, &shape)
    }

    /// Part of a variable: `shape` elements from `offset` on.
    pub fn var_at(&mut self, vars: &Vars, var: VarId, offset: usize, shape: &[usize]) -> Val {
        let info = vars.info(var);
        let len: usize = shape.iter().product();
        assert!(offset + len <= info.len(), "invariant: a view lies inside its variable ({})", info.name);
        if let Some(&v) = self.vars.get(&(var, offset, shape.to_vec())) {
            return v;
        }
        let v = self.value(shape, info.dtype, Storage::Var { var, offset }, false);
        self.vars.insert((var, offset, shape.to_vec()), v);
        v
    }

    /// `shape` elements of `of` from element `offset` on; no copy.
    pub fn view(&mut self, of: Val, offset: usize, shape: &[usize]) -> Val {
        let info = self.info(of).clone();
        let len: usize = shape.iter().product();
        assert!(offset + len <= info.len(), "invariant: a view lies inside its base");
        let storage = match info.storage {
            Storage::Activation => Storage::View { base: of, offset },
            Storage::View { base, offset: o } => Storage::View { base, offset: o + offset },
            Storage::Var { var, offset: o } => Storage::Var { var, offset: o + offset },
        };
        self.value(shape, info.dtype, storage, info.detached)
    }

    /// Row `i` of the leading axis.
    pub fn at(&mut self, of: Val, i: usize) -> Val {
        let shape = self.shape(of)[1..].to_vec();
        let len: usize = shape.iter().product();
        self.view(of, i * len, &shape)
    }

    /// Rows `from..to` of the leading axis.
    pub fn rows(&mut self, of: Val, from: usize, to: usize) -> Val {
        let mut shape = self.shape(of).to_vec();
        let len: usize = shape[1..].iter().product();
        shape[0] = to - from;
        self.view(of, from * len, &shape)
    }

    /// The same numbers under another shape.
    pub fn reshape(&mut self, of: Val, shape: &[usize]) -> Val {
        assert_eq!(
            self.info(of).len(),
            shape.iter().product::<usize>(),
            "invariant: a reshape keeps the element count"
        );
        self.view(of, 0, shape)
    }

    /// The same numbers, through which no cotangent flows.
    pub fn detach(&mut self, of: Val) -> Val {
        let shape = self.shape(of).to_vec();
        let v = self.view(of, 0, &shape);
        self.values[v.0 as usize].detached = true;
        v
    }

    pub fn info(&self, v: Val) -> &ValueInfo {
        &self.values[v.0 as usize]
    }

    pub fn shape(&self, v: Val) -> &[usize] {
        &self.info(v).shape
    }

    pub fn len_of(&self, v: Val) -> usize {
        self.info(v).len()
    }

    pub fn values(&self) -> impl Iterator<Item = (Val, &ValueInfo)> {
        self.values.iter().enumerate().map(|(i, v)| (Val(i as u32), v))
    }

    /// The activation that holds `v`, or none for variables.
    pub fn base(&self, v: Val) -> Option<Val> {
        match self.info(v).storage {
            Storage::Activation => Some(v),
            Storage::View { base, .. } => Some(base),
            Storage::Var { .. } => None,
        }
    }

    /// Appends an operation. `outputs` were made by [`Program::real`], [`Program::view`] or [`Program::var`].
    pub fn push(&mut self, op: impl Op + 'static, inputs: &[Val], outputs: &[Val]) {
        let shapes = |p: &Self, vs: &[Val]| vs.iter().map(|&v| p.shape(v).to_vec()).collect::<Vec<_>>();
        let (i, o) = (shapes(self, inputs), shapes(self, outputs));
        let size = op.workspace(&i, &o);
        // One of no numbers has a place all the same, for a device that needs some.
        let workspace = (size.max(op.device_workspace(&i, &o)) > 0).then(|| self.real(&[size]));
        self.nodes.push(Node { op: Arc::new(op), inputs: inputs.to_vec(), outputs: outputs.to_vec(), workspace });
    }

    /// The same program with the scratch memory that its operations need on a GPU.
    #[must_use]
    pub fn for_device(mut self) -> Self {
        for node in &self.nodes {
            let shapes = |vs: &[Val]| vs.iter().map(|&v| self.values[v.0 as usize].shape.clone()).collect::<Vec<_>>();
            if let Some(w) = node.workspace {
                let size = node.op.device_workspace(&shapes(&node.inputs), &shapes(&node.outputs));
                self.values[w.0 as usize].shape = vec![size];
            }
        }
        self
    }
}
