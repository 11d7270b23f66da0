//! Values before they have a meaning: what a YAML scalar or list holds, and how a key's type reads it.
//!
//! `serde_json::Value` would lose `.inf` and `.nan` (they become null); this type keeps them so that they can be
//! refused by name.

use std::fmt;

/// A YAML value without its position.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// A mapping; only a specification takes one.
    Map(Vec<(String, Value)>),
}

/// A type a key can have.
pub trait Field: Sized {
    /// What the type is called in messages and documents, without article.
    const KIND: &'static str;
    /// The words that are accepted, empty for types that are not a choice.
    const WORDS: &'static [&'static str] = &[];
    /// What each word means, in the same order.
    const MEANINGS: &'static [&'static str] = &[];

    fn read(value: &Value) -> Option<Self>;
    fn write(&self) -> Value;

    /// The numbers inside, for the range check.
    fn numbers(&self) -> Vec<f64> {
        fn collect(value: &Value, out: &mut Vec<f64>) {
            match value {
                Value::Int(i) => out.push(*i as f64),
                Value::Float(x) => out.push(*x),
                Value::List(items) => items.iter().for_each(|v| collect(v, out)),
                _ => {}
            }
        }
        let mut out = Vec::new();
        collect(&self.write(), &mut out);
        out
    }
}

impl Field for bool {
    const KIND: &'static str = "true or false";
    fn read(value: &Value) -> Option<Self> {
        if let Value::Bool(b) = value { Some(*b) } else { None }
    }
    fn write(&self) -> Value {
        Value::Bool(*self)
    }
}

/// Whole numbers also come as `1e6` or `15_000`, which YAML 1.2 reads as a float and as text.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(i) => Some(*i),
        Value::Float(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(*x as i128),
        Value::Text(t) if t.contains('_') && !t.starts_with('_') && !t.ends_with('_') => {
            t.replace('_', "").parse().ok()
        }
        _ => None,
    }
}

impl Field for u64 {
    const KIND: &'static str = "whole number";
    fn read(value: &Value) -> Option<Self> {
        u64::try_from(whole(value)?).ok()
    }
    fn write(&self) -> Value {
        Value::Int(i128::from(*self))
    }
}

impl Field for usize {
    const KIND: &'static str = "whole number";
    fn read(value: &Value) -> Option<Self> {
        usize::try_from(whole(value)?).ok()
    }
    fn write(&self) -> Value {
        Value::Int(*self as i128)
    }
}

impl Field for f64 {
    const KIND: &'static str = "number";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(i) => Some(*i as f64),
            Value::Float(x) if x.is_finite() => Some(*x),
            _ => None,
        }
    }
    fn write(&self) -> Value {
        Value::Float(*self)
    }
}

impl Field for String {
    const KIND: &'static str = "text";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(t) => Some(t.clone()),
            // `run_dir=` on the command line, and a folder called `7`.
            Value::Null => Some(String::new()),
            Value::Int(i) => Some(i.to_string()),
            _ => None,
        }
    }
    fn write(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Field for Vec<usize> {
    const KIND: &'static str = "list of one or more whole numbers";
    fn read(value: &Value) -> Option<Self> {
        let Value::List(items) = value else { return None };
        if items.is_empty() {
            return None;
        }
        items.iter().map(usize::read).collect()
    }
    fn write(&self) -> Value {
        Value::List(self.iter().map(Field::write).collect())
    }
}

impl Field for Vec<String> {
    const KIND: &'static str = "name or list of names";
    fn read(value: &Value) -> Option<Self> {
        let items = match value {
            Value::Text(t) => return Some(vec![t.clone()]),
            Value::Null => return Some(vec![]),
            Value::List(items) => items,
            _ => return None,
        };
        items.iter().map(|v| if let Value::Text(t) = v { Some(t.clone()) } else { None }).collect()
    }
    fn write(&self) -> Value {
        Value::List(self.iter().map(Field::write).collect())
    }
}

impl Field for [f64; 2] {
    const KIND: &'static str = "list of two numbers";
    fn read(value: &Value) -> Option<Self> {
        let Value::List(items) = value else { return None };
        let [a, b] = items.as_slice() else { return None };
        Some([f64::read(a)?, f64::read(b)?])
    }
    fn write(&self) -> Value {
        Value::List(self.iter().map(Field::write).collect())
    }
}

/// A number that may also be null, for "as something else says".
macro_rules! or_null {
    ($($t:ty = $kind:literal),+) => { $(
        impl Field for Option<$t> {
            const KIND: &'static str = $kind;
            fn read(value: &Value) -> Option<Self> {
                if *value == Value::Null { Some(None) } else { <$t>::read(value).map(Some) }
            }
            fn write(&self) -> Value {
                self.as_ref().map_or(Value::Null, Field::write)
            }
        }
    )+ };
}
or_null!(usize = "whole number or null", u64 = "whole number or null", f64 = "number or null");

/// As YAML, which is also how values are quoted in messages.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => f.write_str(&float(*x)),
            Value::Text(t) => f.write_str(&text(t)),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Value::Map(entries) => {
                f.write_str("{")?;
                for (i, (name, value)) in entries.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {value}", text(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// The shortest text that reads back to the same bits, always recognisable as a float.
fn float(x: f64) -> String {
    if x.is_nan() {
        return ".nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { ".inf" } else { "-.inf" }.into();
    }
    let magnitude = x.abs();
    let plain = x == 0.0 || (1e-3..1e7).contains(&magnitude);
    if plain { format!("{x:?}") } else { format!("{x:e}") }
}

/// Plain where YAML reads it back as the same text, in double quotes otherwise.
fn text(t: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let letter = t.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if letter && t.chars().all(safe) && !reserved.contains(&t.to_ascii_lowercase().as_str()) {
        return t.into();
    }
    let mut out = String::from("\"");
    for c in t.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            // Escaped by number: YAML folds or forbids some of them as they stand.
            c if u32::from(c) <= 0xffff => out += &format!("\\u{:04x}", u32::from(c)),
            c => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out + "\""
}
