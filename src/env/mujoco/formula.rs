//! Formulas of a specification: what is shown, what is rewarded, where an episode starts.
//!
//! A formula is read once into operations on a stack, and computed for any number type. `+ - * /`, parentheses and
//! numbers are written as usual; a value may be several numbers, which operations take one by one.
//!
//! | function | value |
//! |---|---|
//! | `abs(x)`, `sqrt(x)`, `sin(x)`, `cos(x)`, `exp(x)`, `log1p(x)` | that of each number; `log1p(x)` is ln(1 + x) |
//! | `min(x, y)`, `max(x, y)` | of each two numbers |
//! | `sum(v)`, `mean(v)`, `length(v)`, `dot(v, w)` | one number |
//! | `tolerance(x, low=, high=, margin=, fall=, at_margin=, least=)` | [`Tolerance`], by default `gaussian` and 0.1 at the margin |
//! | `v.x`, `v.y`, `v.z` | one of three numbers |

use crate::config::{nearest, one_of};
use crate::device::Scalar;
use crate::env::term::{Fall, Tolerance};

/// An operation on a stack of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Constant(f64),
    /// What is read of a state, by its number.
    Read(usize),
    /// What was drawn for this episode, by its number.
    Drawn(usize),
    /// A number drawn anew: uniform between the two on the stack, or of the standard normal distribution.
    Uniform,
    Normal,
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Neg,
    Abs,
    Sqrt,
    Sin,
    Cos,
    Exp,
    Ln1p,
    Tolerance(Tolerance),
}

/// Numbers on the stack at most.
const DEPTH: usize = 32;
/// Operations of a formula at most.
const LONGEST: usize = 4096;
/// Parentheses inside of each other at most.
const NESTING: usize = 64;

/// One number, as operations in the order in which they are carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula(Vec<Op>);

/// Several numbers.
pub type Value = Vec<Formula>;

/// Random numbers of a start.
pub trait Chance<S> {
    /// Uniform in [0, 1).
    fn uniform(&mut self) -> S;
    fn normal(&mut self) -> S;
}

/// For formulas that draw nothing.
pub struct Nothing;

impl<S> Chance<S> for Nothing {
    fn uniform(&mut self) -> S {
        unreachable!("invariant: a formula draws numbers in starts alone")
    }
    fn normal(&mut self) -> S {
        unreachable!("invariant: a formula draws numbers in starts alone")
    }
}

impl Formula {
    pub fn constant(x: f64) -> Self {
        Self(vec![Op::Constant(x)])
    }

    /// What is read under this number.
    pub fn read(i: usize) -> Self {
        Self(vec![Op::Read(i)])
    }

    /// What was drawn under this number.
    pub fn drawn(i: usize) -> Self {
        Self(vec![Op::Drawn(i)])
    }

    /// Drawn uniformly between two numbers.
    pub fn uniform(low: f64, high: f64) -> Self {
        Self(vec![Op::Constant(low), Op::Constant(high), Op::Uniform])
    }

    fn unary(mut self, op: Op) -> Self {
        self.0.push(op);
        self
    }

    fn binary(mut self, other: &Self, op: Op) -> Self {
        self.0.extend(&other.0);
        self.unary(op)
    }

    /// Whether it draws numbers.
    pub fn is_random(&self) -> bool {
        self.0.iter().any(|op| matches!(op, Op::Uniform | Op::Normal))
    }

    /// Uniform numbers that it draws.
    pub fn uniforms(&self) -> usize {
        let of = |op: &Op| match op {
            Op::Uniform => 1,
            Op::Normal => 2,
            _ => 0,
        };
        self.0.iter().map(of).sum()
    }

    /// Its value, if it is a number that nothing changes.
    pub fn fixed(&self) -> Option<f64> {
        let is_fixed = self.0.iter().all(|op| !matches!(op, Op::Read(_) | Op::Drawn(_) | Op::Uniform | Op::Normal));
        (is_fixed && self.depth() <= DEPTH).then(|| self.value(&[], &[], &mut Nothing))
    }

    /// Numbers on the stack at most.
    fn depth(&self) -> usize {
        let (mut now, mut most) = (0usize, 0);
        for op in &self.0 {
            match op {
                Op::Constant(_) | Op::Read(_) | Op::Drawn(_) | Op::Normal => now += 1,
                Op::Uniform | Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Min | Op::Max => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    /// Its value for what is read of a state and what was drawn for its episode.
    #[inline(always)]
    pub fn value<S: Scalar>(&self, read: &[S], drawn: &[S], chance: &mut impl Chance<S>) -> S {
        let mut stack = [S::zero(); DEPTH];
        // Numbers on it; the last lies at `top - 1`.
        let mut top = 0;
        for &op in &self.0 {
            let pushed = match op {
                Op::Constant(x) => Some(S::of(x)),
                Op::Read(i) => Some(read[i]),
                Op::Drawn(i) => Some(drawn[i]),
                Op::Normal => Some(chance.normal()),
                _ => None,
            };
            if let Some(x) = pushed {
                stack[top] = x;
                top += 1;
                continue;
            }
            let b = stack[top - 1];
            let unary = match op {
                Op::Neg => Some(-b),
                Op::Abs => Some(b.abs()),
                Op::Sqrt => Some(b.sqrt()),
                Op::Sin => Some(b.sin_cos().0),
                Op::Cos => Some(b.sin_cos().1),
                Op::Exp => Some(b.exp()),
                Op::Ln1p => Some(b.ln_1p()),
                Op::Tolerance(t) => Some(t.value(b)),
                _ => None,
            };
            if let Some(x) = unary {
                stack[top - 1] = x;
                continue;
            }
            top -= 1;
            let a = stack[top - 1];
            stack[top - 1] = match op {
                Op::Add => a + b,
                Op::Sub => a - b,
                Op::Mul => a * b,
                Op::Div => a / b,
                Op::Min => a.min(b),
                Op::Max => a.max(b),
                _ => a + (b - a) * chance.uniform(),
            };
        }
        stack[0]
    }
}

/// What words and functions mean that not every formula knows.
pub trait Names {
    /// The value of a word.
    fn word(&mut self, name: &str) -> Option<Value>;
    /// Whether the arguments of a function are names.
    fn takes_names(&self, function: &str) -> bool;
    /// The value of such a function.
    ///
    /// # Errors
    /// What is wrong with a name.
    fn call(&mut self, function: &str, names: &[&str]) -> Result<Value, String>;
    /// Whether numbers may be drawn.
    fn may_draw(&self) -> bool;
    /// Why a word or function that it has is not known here.
    fn why_not(&self, name: &str) -> Option<&'static str>;
    /// All words and functions of its own.
    fn known(&self) -> Vec<String>;
}

const UNARY: [(&str, Op); 6] =
    [("abs", Op::Abs), ("sqrt", Op::Sqrt), ("sin", Op::Sin), ("cos", Op::Cos), ("exp", Op::Exp), ("log1p", Op::Ln1p)];
const OTHER: [&str; 10] = ["min", "max", "sum", "mean", "length", "dot", "tolerance", "uniform", "normal", "pi"];

/// Whether a word is one of every formula.
pub fn is_reserved(name: &str) -> bool {
    UNARY.iter().any(|(n, _)| *n == name) || OTHER.contains(&name)
}

/// Reads a formula.
///
/// # Errors
/// What is wrong, and where in the text.
pub fn parse(text: &str, names: &mut impl Names) -> Result<Value, String> {
    let mut p = Parser { text, at: 0, nesting: 0, names };
    let value = p.sum()?;
    if !p.rest().is_empty() {
        return Err(p.wrong("an operation or the end"));
    }
    if value.iter().any(|f| f.depth() > DEPTH) {
        return Err(format!("`{text}` holds more than {DEPTH} numbers at once\n  divide it by a name under `let`"));
    }
    if value.iter().any(|f| f.0.len() > LONGEST) {
        return Err(format!("`{text}` is more than {LONGEST} operations, with all that its names stand for"));
    }
    Ok(value)
}

struct Parser<'a, N> {
    text: &'a str,
    at: usize,
    nesting: usize,
    names: &'a mut N,
}

/// An argument of a function: its name, if it has one, and what it is.
enum Argument {
    Value(Option<String>, Value),
    Fall(Fall),
}

impl<'a, N: Names> Parser<'a, N> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn wrong(&mut self, expected: &str) -> String {
        let rest = self.rest();
        let found = if rest.is_empty() { "the end".into() } else { format!("`{rest}`") };
        format!("in `{}`: {expected} is expected, not {found}", self.text)
    }

    fn eat(&mut self, c: char) -> bool {
        let is_next = self.rest().starts_with(c);
        if is_next {
            self.at += c.len_utf8();
        }
        is_next
    }

    fn need(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(self.wrong(&format!("`{c}`"))) }
    }

    fn sum(&mut self) -> Result<Value, String> {
        self.nesting += 1;
        if self.nesting > NESTING {
            return Err(format!("`{}` nests deeper than {NESTING}", self.text));
        }
        let mut value = self.product()?;
        loop {
            let op = if self.eat('+') {
                Op::Add
            } else if self.eat('-') {
                Op::Sub
            } else {
                break;
            };
            let other = self.product()?;
            value = self.each(value, &other, op)?;
        }
        self.nesting -= 1;
        Ok(value)
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.factor()?;
        loop {
            let op = if self.eat('*') {
                Op::Mul
            } else if self.eat('/') {
                Op::Div
            } else {
                return Ok(value);
            };
            let other = self.factor()?;
            value = self.each(value, &other, op)?;
        }
    }

    fn factor(&mut self) -> Result<Value, String> {
        let mut signs = 0;
        while self.eat('-') {
            signs += 1;
        }
        let mut value = self.primary()?;
        while self.eat('.') {
            let part = self.identifier();
            let at = ["x", "y", "z"].iter().position(|p| *p == part);
            let at = at.filter(|_| value.len() == 3);
            let Some(at) = at else {
                return Err(format!("in `{}`: there is no `.{part}` of {} numbers", self.text, value.len()));
            };
            value = vec![value.swap_remove(at)];
        }
        Ok(if signs % 2 == 1 { value.into_iter().map(|f| f.unary(Op::Neg)).collect() } else { value })
    }

    fn identifier(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn primary(&mut self) -> Result<Value, String> {
        if self.eat('(') {
            let value = self.sum()?;
            self.need(')')?;
            return Ok(value);
        }
        let rest = self.rest();
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number(rest);
        }
        let name = self.identifier();
        if name.is_empty() {
            return Err(self.wrong("a number, a name or `(`"));
        }
        if self.eat('(') { self.call(name) } else { self.word(name) }
    }

    fn number(&mut self, rest: &str) -> Result<Value, String> {
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let mut end = digits(rest);
        if rest[end..].starts_with('.') {
            end += 1 + digits(&rest[end + 1..]);
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let digits = digits(&exponent[sign..]);
            if digits > 0 {
                end += 1 + sign + digits;
            }
        }
        self.at += end;
        let x: f64 = rest[..end].parse().map_err(|_| format!("`{}` is no number", &rest[..end]))?;
        if x.is_finite() { Ok(vec![Formula::constant(x)]) } else { Err(format!("`{}` is too large", &rest[..end])) }
    }

    fn word(&mut self, name: &str) -> Result<Value, String> {
        if name == "pi" {
            return Ok(vec![Formula::constant(std::f64::consts::PI)]);
        }
        self.names.word(name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> String {
        if let Some(why) = self.names.why_not(name) {
            return format!("in `{}`: `{name}`: {why}", self.text);
        }
        let own = self.names.known();
        let known: Vec<&str> =
            UNARY.iter().map(|(n, _)| *n).chain(OTHER).chain(own.iter().map(String::as_str)).collect();
        let near = nearest(name, known.iter().copied()).map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
        format!("in `{}`: there is no `{name}`\n  known: {}{near}", self.text, one_of(&known))
    }

    /// An operation on numbers one by one; a single one goes with each of the others.
    fn each(&self, a: Value, b: &[Formula], op: Op) -> Result<Value, String> {
        let many = |a: &[Formula], b: &[Formula]| a.len() == 1 && b.len() > 1 && a[0].is_random();
        if many(&a, b) || many(b, &a) {
            return Err(self.drawn_anew());
        }
        match (a.len(), b.len()) {
            (n, m) if n == m => Ok(a.into_iter().zip(b).map(|(a, b)| a.binary(b, op)).collect()),
            (_, 1) => Ok(a.into_iter().map(|a| a.binary(&b[0], op)).collect()),
            (1, _) => Ok(b.iter().map(|b| a[0].clone().binary(b, op)).collect()),
            (n, m) => Err(format!("in `{}`: {n} numbers and {m} do not go together", self.text)),
        }
    }

    /// A number that is drawn is drawn anew wherever it is written.
    fn drawn_anew(&self) -> String {
        format!("in `{}`: this would draw a number several times\n  name it under `drawn`", self.text)
    }

    fn call(&mut self, function: &str) -> Result<Value, String> {
        if self.names.takes_names(function) {
            let rest = self.rest();
            let Some(end) = rest.find(')') else { return Err(self.wrong("names and `)`")) };
            self.at += end + 1;
            let names: Vec<&str> = rest[..end].split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
            return self.names.call(function, &names).map_err(|e| format!("in `{}`: {e}", self.text));
        }
        let unary = UNARY.iter().find(|(n, _)| *n == function).map(|(_, op)| *op);
        if unary.is_none() && (!OTHER.contains(&function) || function == "pi") {
            return Err(self.unknown(function));
        }
        let arguments = self.arguments()?;
        let what = |n: usize| format!("in `{}`: `{function}` takes {n} values", self.text);
        if function == "tolerance" {
            return self.tolerance(arguments);
        }
        let mut values = vec![];
        for a in arguments {
            match a {
                Argument::Value(None, v) => values.push(v),
                _ => return Err(format!("in `{}`: the values of `{function}` have no names", self.text)),
            }
        }
        if let Some(op) = unary {
            let [v] = <[Value; 1]>::try_from(values).map_err(|_| what(1))?;
            return Ok(v.into_iter().map(|f| f.unary(op)).collect());
        }
        let total = |v: Value| v.into_iter().reduce(|a, b| a.binary(&b, Op::Add));
        let empty = || format!("in `{}`: `{function}` of nothing", self.text);
        match function {
            "normal" | "uniform" if !self.names.may_draw() => {
                Err(format!("in `{}`: numbers are drawn where an episode starts, nowhere else", self.text))
            }
            "normal" => match values.len() {
                0 => Ok(vec![Formula(vec![Op::Normal])]),
                _ => Err(what(0)),
            },
            "min" | "max" | "uniform" | "dot" => {
                let [a, b] = <[Value; 2]>::try_from(values).map_err(|_| what(2))?;
                let op = match function {
                    "min" => Op::Min,
                    "max" => Op::Max,
                    "dot" => Op::Mul,
                    _ => Op::Uniform,
                };
                let each = self.each(a, &b, op)?;
                if function == "dot" { Ok(vec![total(each).ok_or_else(empty)?]) } else { Ok(each) }
            }
            _ => {
                let [v] = <[Value; 1]>::try_from(values).map_err(|_| what(1))?;
                let n = v.len();
                if function == "length" && v.iter().any(Formula::is_random) {
                    return Err(self.drawn_anew());
                }
                let v = if function == "length" { self.each(v.clone(), &v, Op::Mul)? } else { v };
                let sum = total(v).ok_or_else(empty)?;
                Ok(vec![match function {
                    "length" => sum.unary(Op::Sqrt),
                    "mean" => sum.binary(&Formula::constant(n as f64), Op::Div),
                    _ => sum,
                }])
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, String> {
        let mut all = vec![];
        if self.eat(')') {
            return Ok(all);
        }
        loop {
            let begin = self.at;
            let name = self.identifier();
            let named = !name.is_empty() && self.eat('=');
            if named && name == "fall" {
                let word = self.identifier();
                let names = Fall::ALL.map(|(n, _)| n);
                let found = Fall::ALL.into_iter().find(|(n, _)| *n == word);
                let (_, fall) = found.ok_or_else(|| {
                    format!("in `{}`: there is no fall `{word}`\n  known: {}", self.text, one_of(&names))
                })?;
                all.push(Argument::Fall(fall));
            } else {
                if !named {
                    self.at = begin;
                }
                let value = self.sum()?;
                all.push(Argument::Value(named.then(|| name.to_owned()), value));
            }
            if self.eat(')') {
                return Ok(all);
            }
            self.need(',')?;
        }
    }

    fn tolerance(&mut self, arguments: Vec<Argument>) -> Result<Value, String> {
        let mut t = Tolerance {
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            margin: 0.0,
            at_margin: 0.1,
            fall: Fall::Gaussian,
            least: 0.0,
        };
        let mut of = None;
        for a in arguments {
            match a {
                Argument::Fall(fall) => t.fall = fall,
                Argument::Value(None, v) if of.is_none() => of = Some(v),
                Argument::Value(name, v) => {
                    let Some(name) = name else {
                        return Err(format!("in `{}`: bounds have names, as in `low=1, high=2`", self.text));
                    };
                    let fixed = match &v[..] {
                        [one] => one.fixed(),
                        _ => None,
                    };
                    let x = fixed.ok_or_else(|| format!("in `{}`: `{name}` is one fixed number", self.text))?;
                    *match &*name {
                        "low" => &mut t.low,
                        "high" => &mut t.high,
                        "margin" => &mut t.margin,
                        "at_margin" => &mut t.at_margin,
                        "least" => &mut t.least,
                        _ => {
                            let known = "low, high, margin, at_margin, least, fall";
                            return Err(format!("in `{}`: a tolerance has {known}, not `{name}`", self.text));
                        }
                    } = x;
                }
            }
        }
        let of = of.ok_or_else(|| format!("in `{}`: `tolerance` of nothing", self.text))?;
        let t = t.checked().map_err(|e| format!("in `{}`: {e}", self.text))?;
        Ok(of.into_iter().map(|f| f.unary(Op::Tolerance(t))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Own;

    impl Names for Own {
        fn word(&mut self, name: &str) -> Option<Value> {
            match name {
                "a" => Some(vec![Formula::read(0)]),
                "v" => Some((0..3).map(Formula::read).collect()),
                _ => None,
            }
        }
        fn takes_names(&self, function: &str) -> bool {
            function == "of"
        }
        fn call(&mut self, _: &str, names: &[&str]) -> Result<Value, String> {
            names.iter().map(|n| n.parse().map(Formula::read).map_err(|_| format!("no `{n}`"))).collect()
        }
        fn may_draw(&self) -> bool {
            false
        }
        fn why_not(&self, _: &str) -> Option<&'static str> {
            None
        }
        fn known(&self) -> Vec<String> {
            vec!["a".into(), "v".into()]
        }
    }

    fn value(text: &str) -> Vec<f64> {
        let read = [2.0, 3.0, 6.0];
        parse(text, &mut Own).unwrap().iter().map(|f| f.value(&read, &[], &mut Nothing)).collect()
    }

    #[test]
    fn formulas_mean_what_they_say() {
        for (text, expected) in [
            ("1 + 2*3 - 4/2", vec![5.0]),
            ("-(a - 5) * --a", vec![6.0]),
            ("1e1 + .5e0 + 2.5E-1", vec![]),
            ("v", vec![2.0, 3.0, 6.0]),
            ("v.y", vec![3.0]),
            ("2*v + 1", vec![5.0, 7.0, 13.0]),
            ("length(v)", vec![7.0]),
            ("dot(v, of(2, 1, 0))", vec![12.0 + 9.0 + 12.0]),
            ("mean(v) - sum(v)/3", vec![0.0]),
            ("max(a, 5) + min(a, 5)", vec![7.0]),
            ("tolerance(a, low=3, margin=1, fall=linear, at_margin=0.5)", vec![0.5]),
            ("tolerance(a, low=3, margin=1)", vec![0.1]),
            ("tolerance(a, high=-pi + 6)", vec![1.0]),
            ("log1p(0*a) + exp(a - 2) + sqrt(2*a) + abs(-a) + sin(0) + cos(0)", vec![6.0]),
        ] {
            if expected.is_empty() {
                assert!(parse(text, &mut Own).is_err(), "{text}");
                continue;
            }
            let got = value(text);
            assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{text}: {got:?}");
            assert_eq!(got.len(), expected.len());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let deep = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        let long = format!("{}1{}", "1+(".repeat(50), ")".repeat(50));
        for (text, words) in [
            ("", "a number, a name or `(` is expected, not the end"),
            ("1 +", "not the end"),
            ("1 2", "an operation or the end is expected, not `2`"),
            ("(1", "`)` is expected"),
            ("b", "there is no `b`"),
            ("lenght(v)", "did you mean `length`?"),
            ("v.w", "no `.w` of 3 numbers"),
            ("v + of(0, 1)", "3 numbers and 2 do not go together"),
            ("of(x)", "no `x`"),
            ("sin(1, 2)", "takes 1 values"),
            ("uniform(0, 1)", "where an episode starts"),
            ("tolerance(1, low=2, high=1)", "exchange them"),
            ("tolerance(1, low=a)", "one fixed number"),
            ("tolerance(1, 2)", "bounds have names"),
            ("tolerance(1, low=0/0)", "no number"),
            (&format!("tolerance(1, low={}1{})", "1+(".repeat(40), ")".repeat(40)), "one fixed number"),
            ("tolerance(1, fall=steep)", "known: "),
            ("tolerance(1, wide=2)", "not `wide`"),
            ("1e999", "too large"),
            (&deep, "nests deeper"),
            (&long, "more than 32 numbers"),
        ] {
            let said = parse(text, &mut Own).map_or_else(|e| e, |_| "nothing".into());
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
