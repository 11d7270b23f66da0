//! How a robot lies over the threads of a GPU, and the robot written as constants of the CUDA kernels.
//!
//! kernels/sim/step.cuh says what the two layouts have in common. A free body with equal chains of hinges has a thread
//! for each chain; every other robot is a tree whose environments share out their work among 8 to 32 threads, with
//! state and work in shared memory. A block of trees is one warp, so that the largest robot of [`super::size`] has
//! room, which is asserted here.

use super::articulation::JointKind;
use super::model::{Contact, Link, Model};
use super::size::{CLASSES, Size};
use super::step::{Timing, moving_root, sliding};
use crate::device::cuda::Launch;
use crate::device::cuda::traced::float;
use std::fmt::Write;

/// How an environment lies over the threads of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadLayout {
    /// Body `1 + chain * depth + d` is number d of a chain, with `points` contact points.
    Chains { count: usize, depth: usize, points: usize },
    /// This many threads for each environment.
    Tree { lanes: usize },
}

/// Threads of a block of trees: a warp.
const TREE_THREADS: usize = 32;

// Kernels declare their shared memory, so that a robot that passes as small enough must have room. With fewer lanes
// more environments share a block, but none has more bodies or dofs than lanes, nor more coordinates than both
// together.
const _: () = {
    let (mut lanes, most) = (8, Launch::USUAL_SHARED as usize);
    while lanes < 32 {
        let size = Size { bodies: lanes, coordinates: 2 * lanes, velocities: lanes, substeps: 1 };
        assert!(ThreadLayout::tree_shared(size, lanes) <= most);
        lanes *= 2;
    }
    assert!(ThreadLayout::tree_shared(CLASSES[CLASSES.len() - 1], lanes) <= most);
};

/// Threads of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    pub step: usize,
    pub adjoint: usize,
}

impl ThreadLayout {
    /// The fastest that the robot has.
    pub fn of(model: &Model<f64>) -> Self {
        chains(model).unwrap_or_else(|| Self::tree(model))
    }

    /// That of any tree.
    pub fn tree(model: &Model<f64>) -> Self {
        let widest = model.links.len().max(model.velocities);
        Self::Tree { lanes: widest.next_power_of_two().clamp(8, 32) }
    }

    /// Threads of an environment.
    pub fn lanes(self) -> usize {
        match self {
            Self::Chains { count, .. } => count,
            Self::Tree { lanes } => lanes,
        }
    }

    /// Threads of a block of the step and of its adjoint.
    pub fn threads(self) -> Threads {
        match self {
            Self::Chains { .. } => Threads { step: 64, adjoint: 32 },
            Self::Tree { .. } => Threads { step: TREE_THREADS, adjoint: TREE_THREADS },
        }
    }

    /// Bytes that a block of the adjoint of a tree of this size declares in shared memory: `Tree` and `TreeBar` of
    /// kernels/sim/tree.cuh for each of its environments. The step declares less.
    pub const fn tree_shared(s: Size, lanes: usize) -> usize {
        let (b, q, d) = (s.bodies, s.coordinates, s.velocities);
        let triangle = d * (d + 1) / 2;
        // Coordinates, numbers of a dof with its axis, bodies with what they carry, the mass matrix.
        let tree = q + (3 + 6) * d + (40 + 27) * b + triangle + d;
        let (touch, row) = (18 * lanes, 12 * d);
        let bar = q + (4 + 6) * d + 34 * b + triangle + if touch > row { touch } else { row };
        TREE_THREADS / lanes * (tree + bar) * size_of::<f32>()
    }

    /// A bound of the bytes that a thread of the adjoint keeps off the chip: states and accelerations of all substeps,
    /// as `Kept` of the layout has them, and a kibibyte of arrays that loops over bodies index.
    pub fn adjoint_stack(self, model: &Model<f64>, substeps: usize) -> u32 {
        let kept = match self {
            Self::Chains { depth, .. } => 13 + 2 * depth + depth + 6,
            Self::Tree { lanes } => model.coordinates.div_ceil(lanes) + 2 * model.velocities.div_ceil(lanes),
        };
        (1024 + 4 * substeps * kept) as u32
    }

    /// C++ constants: the layout, the robot, and how a step is cut up.
    pub fn constants(self, model: &Model<f64>, timing: &Timing<f64>) -> String {
        let mut c = Constants::default();
        c.define("TREE", matches!(self, Self::Tree { .. }).into());
        let threads = self.threads();
        c.integer("LANES", self.lanes());
        c.integer("STEP_THREADS", threads.step);
        c.integer("ADJOINT_THREADS", threads.adjoint);
        c.integer("NQ", model.coordinates);
        c.integer("NQD", model.velocities);
        c.integer("FREE_ROOT", (model.links[0].kind == JointKind::Free).into());
        c.integer("SUBSTEPS", timing.substeps);
        c.integer("REBUILD_EVERY", timing.mass_matrix_every);
        c.integer("ABOUT_ROOT", moving_root(model, timing).is_some().into());
        let rail = sliding(model, timing);
        c.integer("SLIDES", rail.is_some().into());
        c.integer("RAIL", rail.unwrap_or(0));
        c.number("H", timing.h);
        c.number("TIE", model.kinks.tie);
        c.number("STILL", model.kinks.still);
        c.vector("GRAVITY", model.gravity.array());
        match self {
            Self::Chains { count, depth, points } => write_chains(&mut c, model, [count, depth, points]),
            Self::Tree { .. } => write_tree(&mut c, model),
        }
        c.text
    }
}

/// A free root and equal chains of hinges on it, if that is what the robot is.
fn chains(model: &Model<f64>) -> Option<ThreadLayout> {
    let (root, rest) = model.links.split_first()?;
    if root.kind != JointKind::Free || rest.is_empty() {
        return None;
    }
    let count = rest.iter().filter(|l| l.parent == Some(0)).count();
    let (depth, points) = (rest.len() / count.max(1), rest[0].contacts.len());
    let fits = |(i, l): (usize, &Link<f64>)| {
        let parent = if i % depth == 0 { 0 } else { i };
        l.kind == JointKind::Hinge && l.parent == Some(parent) && l.contacts.len() == points && l.rotation.is_none()
    };
    let equal = count * depth == rest.len() && count.is_power_of_two() && count <= 32;
    (equal && rest.iter().enumerate().all(fits)).then_some(ThreadLayout::Chains { count, depth, points })
}

/// C++ that declares constants.
#[derive(Debug, Default)]
pub struct Constants {
    pub text: String,
}

impl Constants {
    fn define(&mut self, name: &str, v: usize) {
        let _ = writeln!(self.text, "#define {name} {v}");
    }
    pub fn integer(&mut self, name: &str, v: usize) {
        let _ = writeln!(self.text, "constexpr int {name} = {v};");
    }
    pub fn number(&mut self, name: &str, v: f64) {
        let _ = writeln!(self.text, "constexpr float {name} = {};", float(v));
    }
    /// Three numbers, with the names of the axes behind theirs.
    pub fn vector(&mut self, name: &str, v: [f64; 3]) {
        for (axis, v) in ["X", "Y", "Z"].iter().zip(v) {
            self.number(&format!("{name}_{axis}"), v);
        }
    }
    /// A table in memory. An empty one gets an entry that is never read: C++ has no empty arrays.
    pub fn numbers(&mut self, name: &str, v: &[f64]) {
        let list: Vec<_> = v.iter().chain(&[0.0][v.len().min(1)..]).map(|&x| float(x)).collect();
        let _ = writeln!(self.text, "static __device__ const float {name}[] = {{{}}};", list.join(", "));
    }
    /// A table of integers, as [`Constants::numbers`].
    pub fn integers(&mut self, name: &str, v: impl IntoIterator<Item = i64>) {
        let mut list: Vec<_> = v.into_iter().map(|x| x.to_string()).collect();
        if list.is_empty() {
            list.push("0".into());
        }
        let _ = writeln!(self.text, "static __device__ const int {name}[] = {{{}}};", list.join(", "));
    }
    /// Lists of different lengths behind one another: `NAME_START[i]` to `NAME_START[i + 1]` are the places of list i.
    fn lists(&mut self, name: &str, lists: &[Vec<usize>]) {
        let ends = lists.iter().scan(0, |n, l| {
            *n += l.len() as i64;
            Some(*n)
        });
        self.integers(&format!("{name}_START"), [0].into_iter().chain(ends));
        self.integers(name, lists.iter().flatten().map(|&x| x as i64));
    }
}

fn contact(p: &Contact<f64>) -> Vec<f64> {
    let [x, y, z] = p.point.array();
    vec![x, y, z, p.radius, p.stiffness, p.damping, p.viscosity, p.friction_stiffness]
}

/// Mass, centre of mass, inertia by rows.
fn inertial(l: &Link<f64>) -> Vec<f64> {
    let mut v = vec![l.mass];
    v.extend(l.com.array());
    v.extend(l.inertia.0.iter().flat_map(|r| r.array()));
    v
}

fn write_chains(c: &mut Constants, model: &Model<f64>, [count, depth, points]: [usize; 3]) {
    let root = &model.links[0];
    c.integer("DEPTH", depth);
    c.integer("POINTS", points);
    c.integer("ROOT_POINTS", root.contacts.len());
    c.vector("ROOT_COM", root.com.array());
    c.number("ROOT_MASS", root.mass);
    for (i, row) in root.inertia.0.iter().enumerate() {
        for (j, v) in row.array().into_iter().enumerate() {
            c.number(&format!("ROOT_I{i}{j}"), v);
        }
    }
    // Constants of the bodies of a chain: those of one kind for all chains side by side.
    let body = |chain: usize, d: usize| -> Vec<f64> {
        let l = &model.links[1 + chain * depth + d];
        let mut v = [l.position.array(), l.axis.array()].concat();
        v.extend([l.lower, l.upper, l.limit_stiffness, l.drive_stiffness, l.target, l.damping]);
        v.push(model.armature[l.qd]);
        v.extend(inertial(l));
        v.extend(model.contacts[l.contacts.clone()].iter().flat_map(contact));
        v
    };
    let mut chain = Vec::new();
    for d in 0..depth {
        let bodies: Vec<_> = (0..count).map(|k| body(k, d)).collect();
        chain.extend((0..bodies[0].len()).flat_map(|i| bodies.iter().map(move |b| b[i])));
    }
    c.numbers("CHAIN", &chain);
    let on_root: Vec<f64> = model.contacts[root.contacts.clone()].iter().flat_map(contact).collect();
    c.numbers("ROOT_CONTACTS", &on_root);
}

/// The numbers 0, 1, ... by how deep they lie: `depth` gives the depth of each.
fn by_level(depth: &[usize]) -> Vec<Vec<usize>> {
    let levels = depth.iter().max().map_or(0, |d| d + 1);
    (0..levels).map(|level| (0..depth.len()).filter(|&i| depth[i] == level).collect()).collect()
}

fn write_tree(c: &mut Constants, model: &Model<f64>) {
    let (links, n) = (&model.links, model.velocities);
    let kind = |k: JointKind| match k {
        JointKind::Free => 0,
        JointKind::Ball => 1,
        JointKind::Hinge => 2,
        JointKind::Slide => 3,
        JointKind::Fixed => 4,
    };
    c.integer("BODIES", links.len());
    c.integer("POINTS", model.contacts.len());
    c.integers("PARENT", links.iter().map(|l| l.parent.map_or(-1, |p| p as i64)));
    c.integers("KIND", links.iter().map(|l| kind(l.kind)));
    c.integers("TURNED", links.iter().map(|l| l.rotation.is_some().into()));
    c.integers("Q_AT", links.iter().map(|l| l.q as i64));
    c.integers("QD_AT", links.iter().map(|l| l.qd as i64).chain([n as i64]));
    let numbers: Vec<f64> = links.iter().flat_map(body).collect();
    c.numbers("BODY_NUMBERS", &numbers);
    let mut depth: Vec<usize> = Vec::new();
    for l in links {
        depth.push(l.parent.map_or(0, |p| depth[p] + 1));
    }
    let levels = by_level(&depth);
    c.integer("LEVELS", levels.len());
    c.lists("LEVEL_BODY", &levels);
    // As the processor adds them: the last child first.
    let children = |i: usize| (0..links.len()).rev().filter(|&k| links[k].parent == Some(i)).collect::<Vec<_>>();
    c.lists("CHILD", &(0..links.len()).map(children).collect::<Vec<_>>());

    // The points are in the order of their bodies.
    let ends = links.iter().scan(0, |n, l| {
        *n += l.contacts.len() as i64;
        Some(*n)
    });
    c.integers("POINT_START", [0].into_iter().chain(ends));
    let bodies = links.iter().enumerate().flat_map(|(i, l)| l.contacts.clone().map(move |_| i as i64));
    c.integers("POINT_BODY", bodies);
    let points: Vec<f64> = model.contacts.iter().flat_map(contact).collect();
    c.numbers("POINT_NUMBERS", &points);

    let owner = |dof: usize| links.iter().position(|l| (l.qd..l.qd + l.kind.velocities()).contains(&dof));
    c.integers("DOF_BODY", (0..n).map(|k| owner(k).expect("invariant: a dof belongs to a joint") as i64));
    c.numbers("ARMATURE", &model.armature);
    let ancestors: Vec<Vec<usize>> = (0..n).map(|k| model.ancestors(k).to_vec()).collect();
    let descendants = |i: usize| (0..n).rev().filter(|&k| ancestors[k].contains(&i)).collect::<Vec<_>>();
    c.lists("ANCESTOR", &ancestors);
    c.lists("DESCENDANT", &(0..n).map(descendants).collect::<Vec<_>>());
    let levels = by_level(&ancestors.iter().map(Vec::len).collect::<Vec<_>>());
    c.integer("DOF_LEVELS", levels.len());
    c.lists("LEVEL_DOF", &levels);
    // Entries of the mass matrix, level by level.
    let row = |r: usize| ancestors[r].iter().copied().chain([r]).map(move |k| (r, k));
    let entries: Vec<Vec<_>> = levels.iter().map(|rows| rows.iter().flat_map(|&r| row(r)).collect()).collect();
    c.integer("ENTRIES", entries.iter().map(Vec::len).sum());
    c.lists("ENTRY_ROW", &entries.iter().map(|level| level.iter().map(|e| e.0).collect()).collect::<Vec<_>>());
    c.integers("ENTRY_COLUMN", entries.iter().flatten().map(|e| e.1 as i64));
}

/// Numbers of a body, in the order of `Constant` in kernels/sim/tree.cuh.
fn body(l: &Link<f64>) -> Vec<f64> {
    let mut v = l.position.array().to_vec();
    let turn = l.rotation.unwrap_or_else(super::Quat::identity);
    v.extend(turn.v.array());
    v.push(turn.w);
    v.extend(l.axis.array());
    v.extend([l.lower, l.upper, l.limit_stiffness, l.drive_stiffness, l.target, l.damping]);
    v.extend(inertial(l));
    v
}
