//! A number that writes down what is computed with it, as C++: a formula that is written over any
//! [`Scalar`] becomes the text of a kernel.

use crate::device::Scalar;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, MulAssign, Neg, Not, Sub, SubAssign};

/// A float as C++ reads it, to the bit; instead of an infinity, which C++ has no constant for, a number near the largest.
pub fn float(x: f64) -> String {
    let x = x as f32;
    assert!(!x.is_nan(), "invariant: a constant is a number");
    if x.is_finite() {
        format!("{x:?}f")
    } else if x > 0.0 {
        "3.0e38f".into()
    } else {
        "-3.0e38f".into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    /// Bits of a float.
    Constant(u32),
    /// Which of the names.
    Named(usize),
    /// What is computed from the nodes before it.
    Of(Operator, [u32; 3]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operator {
    Add,
    Sub,
    Mul,
    MulRounded,
    Div,
    Neg,
    Fma,
    Sqrt,
    Abs,
    Sin,
    Cos,
    Atan2,
    Exp,
    Ln1p,
    Lt,
    Le,
    And,
    Or,
    Not,
    Select,
}

impl Operator {
    fn operands(self) -> usize {
        match self {
            Self::Neg | Self::Sqrt | Self::Abs | Self::Sin | Self::Cos | Self::Exp | Self::Ln1p | Self::Not => 1,
            Self::Fma | Self::Select => 3,
            _ => 2,
        }
    }

    fn is_truth(self) -> bool {
        matches!(self, Self::Lt | Self::Le | Self::And | Self::Or | Self::Not)
    }

    fn text(self, [a, b, c]: [&str; 3]) -> String {
        match self {
            Self::Add => format!("({a} + {b})"),
            Self::Sub => format!("({a} - {b})"),
            Self::Mul => format!("({a} * {b})"),
            Self::MulRounded => format!("__fmul_rn({a}, {b})"),
            Self::Div => format!("({a} / {b})"),
            Self::Neg => format!("(-{a})"),
            Self::Fma => format!("fmaf({a}, {b}, {c})"),
            Self::Sqrt => format!("sqrtf({a})"),
            Self::Abs => format!("fabsf({a})"),
            Self::Sin => format!("sinf({a})"),
            Self::Cos => format!("cosf({a})"),
            Self::Atan2 => format!("atan2f({a}, {b})"),
            Self::Exp => format!("expf({a})"),
            Self::Ln1p => format!("log1pf({a})"),
            Self::Lt => format!("({a} < {b})"),
            Self::Le => format!("({a} <= {b})"),
            Self::And => format!("({a} && {b})"),
            Self::Or => format!("({a} || {b})"),
            Self::Not => format!("(!{a})"),
            Self::Select => format!("({a} ? {b} : {c})"),
        }
    }
}

/// All that was computed on this thread since the trace began; equal nodes are one.
#[derive(Debug, Default)]
struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, u32>,
    names: Vec<String>,
}

thread_local! {
    static GRAPH: RefCell<Graph> = RefCell::default();
}

impl Graph {
    fn push(&mut self, node: Node) -> u32 {
        *self.known.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        })
    }

    fn constant(&self, i: u32) -> Option<f32> {
        match self.nodes[i as usize] {
            Node::Constant(bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    /// A node that computes `op`, or one that has the same value to the bit without computing it.
    fn of(&mut self, op: Operator, args: [u32; 3]) -> u32 {
        use Operator as O;
        let [a, b, c] = args;
        let [x, y, z] = args.map(|i| self.constant(i));
        let is = |v: Option<f32>, w: f32| v.is_some_and(|v| v.to_bits() == w.to_bits());
        let folded = match (op, x, y) {
            (O::Add, Some(x), Some(y)) => Some(x + y),
            (O::Sub, Some(x), Some(y)) => Some(x - y),
            (O::Mul | O::MulRounded, Some(x), Some(y)) => Some(x * y),
            (O::Div, Some(x), Some(y)) => Some(x / y),
            (O::Neg, Some(x), _) => Some(-x),
            _ => None,
        };
        if let Some(v) = folded {
            return self.push(Node::Constant(v.to_bits()));
        }
        match op {
            O::Add if is(y, -0.0) => a,
            O::Add if is(x, -0.0) => b,
            O::Sub if is(y, 0.0) => a,
            O::Mul | O::MulRounded | O::Div if is(y, 1.0) => a,
            O::Mul | O::MulRounded if is(x, 1.0) => b,
            // A compiler may fuse a plain product with what is added to it.
            O::Fma if is(z, -0.0) => self.of(O::MulRounded, [a, b, 0]),
            O::Fma if is(x, 1.0) => self.of(O::Add, [b, c, 0]),
            O::Fma if is(y, 1.0) => self.of(O::Add, [a, c, 0]),
            O::Select if b == c => b,
            O::Neg => match self.nodes[a as usize] {
                Node::Of(O::Neg, [inner, ..]) => inner,
                _ => self.push(Node::Of(op, [a, 0, 0])),
            },
            _ => {
                let mut args = args;
                args[op.operands()..].fill(0);
                self.push(Node::Of(op, args))
            }
        }
    }
}

/// A number of a trace. Numbers of one trace mean nothing in another.
#[derive(Clone, Copy, Debug)]
pub struct Traced(u32);

/// A truth value of a trace.
#[derive(Clone, Copy, Debug)]
pub struct TracedMask(u32);

fn of(op: Operator, args: [u32; 3]) -> u32 {
    GRAPH.with_borrow_mut(|g| g.of(op, args))
}

impl Traced {
    /// What C++ calls `name`: an expression without side effects.
    pub fn named(name: impl Into<String>) -> Self {
        GRAPH.with_borrow_mut(|g| {
            let name = name.into();
            let at = g.names.iter().position(|n| *n == name).unwrap_or_else(|| {
                g.names.push(name);
                g.names.len() - 1
            });
            Self(g.push(Node::Named(at)))
        })
    }

    fn apply(self, op: Operator) -> Self {
        Self(of(op, [self.0, 0, 0]))
    }
}

/// Begins a new trace on this thread and lets `formula` compute in it, whose results have names.
///
/// Returns C++ that declares, from the names that the formula read, what several results share, and the expression of
/// each result.
pub fn trace<K>(formula: impl FnOnce() -> Vec<(K, Traced)>) -> (String, Vec<(K, String)>) {
    GRAPH.take();
    let results = formula();
    let g = GRAPH.take();
    let mut uses = vec![0; g.nodes.len()];
    for (_, r) in &results {
        uses[r.0 as usize] += 1;
    }
    // Operands stand before what is computed from them.
    for i in (0..g.nodes.len()).rev() {
        if let Node::Of(op, args) = g.nodes[i]
            && uses[i] > 0
        {
            for &a in &args[..op.operands()] {
                uses[a as usize] += 1;
            }
        }
    }
    /// Longer expressions get a name of their own.
    const LINE: usize = 60;
    let (mut declared, mut text) = (String::new(), vec![String::new(); g.nodes.len()]);
    for (i, node) in g.nodes.iter().enumerate().filter(|&(i, _)| uses[i] > 0) {
        let (expression, kind) = match *node {
            Node::Constant(bits) => {
                text[i] = float(f32::from_bits(bits).into());
                continue;
            }
            Node::Named(at) => (g.names[at].clone(), "float"),
            Node::Of(op, args) => {
                let args = args.map(|a| text[a as usize].as_str());
                (op.text(args), if op.is_truth() { "bool" } else { "float" })
            }
        };
        let is_plain = matches!(node, Node::Named(_)) && !expression.contains(['(', '[']);
        text[i] = if is_plain || (uses[i] == 1 && expression.len() < LINE) {
            expression
        } else {
            let _ = writeln!(declared, "    {kind} x{i} = {expression};");
            format!("x{i}")
        };
    }
    let results = results.into_iter().map(|(k, r)| (k, text[r.0 as usize].clone())).collect();
    (declared, results)
}

macro_rules! binary {
    ($($trait:ident $method:ident $op:ident;)+) => { $(
        impl $trait for Traced {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(of(Operator::$op, [self.0, other.0, 0]))
            }
        }
    )+ };
}
binary! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
}

impl Neg for Traced {
    type Output = Self;
    fn neg(self) -> Self {
        self.apply(Operator::Neg)
    }
}
impl AddAssign for Traced {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for Traced {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl MulAssign for Traced {
    fn mul_assign(&mut self, other: Self) {
        *self = *self * other;
    }
}

impl BitAnd for TracedMask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(of(Operator::And, [self.0, other.0, 0]))
    }
}
impl BitOr for TracedMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(of(Operator::Or, [self.0, other.0, 0]))
    }
}
impl Not for TracedMask {
    type Output = Self;
    fn not(self) -> Self {
        Self(of(Operator::Not, [self.0, 0, 0]))
    }
}

impl Scalar for Traced {
    type Mask = TracedMask;
    const LANES: usize = 1;

    fn of(x: f64) -> Self {
        Self(GRAPH.with_borrow_mut(|g| g.push(Node::Constant((x as f32).to_bits()))))
    }
    fn sqrt(self) -> Self {
        self.apply(Operator::Sqrt)
    }
    fn abs(self) -> Self {
        self.apply(Operator::Abs)
    }
    fn sin_cos(self) -> (Self, Self) {
        (self.apply(Operator::Sin), self.apply(Operator::Cos))
    }
    fn atan2(self, x: Self) -> Self {
        Self(of(Operator::Atan2, [self.0, x.0, 0]))
    }
    fn exp(self) -> Self {
        self.apply(Operator::Exp)
    }
    fn ln_1p(self) -> Self {
        self.apply(Operator::Ln1p)
    }
    fn mul_add(self, a: Self, b: Self) -> Self {
        Self(of(Operator::Fma, [self.0, a.0, b.0]))
    }
    fn mul_rounded(self, a: Self) -> Self {
        Self(of(Operator::MulRounded, [self.0, a.0, 0]))
    }
    fn lt(self, other: Self) -> TracedMask {
        TracedMask(of(Operator::Lt, [self.0, other.0, 0]))
    }
    fn le(self, other: Self) -> TracedMask {
        TracedMask(of(Operator::Le, [self.0, other.0, 0]))
    }
    fn select(mask: TracedMask, a: Self, b: Self) -> Self {
        Self(of(Operator::Select, [mask.0, a.0, b.0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_written_as_it_computes() {
        let (declared, results) = trace(|| {
            let (x, y) = (Traced::named("x"), Traced::named("row[3]"));
            let square = y * y;
            let (far, near) = (x.lt(y) & y.le(Traced::of(2.0)), (x - y).sqrt());
            vec![
                ("sum", square + x),
                ("fused", x.mul_add(square, y)),
                ("chosen", Traced::select(far, near, -x)),
                ("exact", x.mul_rounded(y)),
            ]
        });
        assert_eq!(declared, "    float x1 = row[3];\n    float x2 = (x1 * x1);\n");
        let text: Vec<_> = results.iter().map(|(name, text)| format!("{name} {text}")).collect();
        assert_eq!(
            text,
            [
                "sum (x2 + x)",
                "fused fmaf(x, x2, x1)",
                "chosen (((x < x1) && (x1 <= 2.0f)) ? sqrtf((x - x1)) : (-x))",
                "exact __fmul_rn(x, x1)"
            ]
        );
    }

    #[test]
    fn only_what_changes_no_bit_is_left_out() {
        let (declared, results) = trace(|| {
            let (x, zero, one) = (Traced::named("x"), Traced::zero(), Traced::one());
            let kept = [x + zero, x * zero, zero - x, one / x, x.mul_add(zero, x)];
            let folded = [x + -zero, -zero + x, x - zero, x * one, one * x, x / one, -(-x), one.mul_add(x, -zero)];
            kept.into_iter().chain(folded).map(|r| ((), r)).collect()
        });
        assert_eq!(declared, "");
        let text: Vec<_> = results.iter().map(|r| r.1.as_str()).collect();
        assert_eq!(text[..5], ["(x + 0.0f)", "(x * 0.0f)", "(0.0f - x)", "(1.0f / x)", "fmaf(x, 0.0f, x)"]);
        assert!(text[5..].iter().all(|&t| t == "x"), "{text:?}");
        // Constants are rounded as the kernel would round them.
        let (_, results) = trace(|| vec![((), Traced::of(0.1) + Traced::of(0.2))]);
        assert_eq!(results[0].1, format!("{:?}f", 0.1f32 + 0.2f32));
    }
}
