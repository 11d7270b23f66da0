//! Parts of a specification as numbers, texts and lists, or an error with their place.

use crate::config::spec::{Data, Spec, SpecNode};
use crate::config::{Config, ConfigError, Value, nearest, one_of};
use std::cell::RefCell;

/// An error is boxed: it is large, and rare.
pub(super) type Read<T> = Result<T, Box<ConfigError>>;

/// A specification and the settings it refers to.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) spec: &'a Spec,
    pub(super) config: &'a Config,
}

/// The entries of a mapping, of which all must be asked for.
pub(super) struct Fields<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) node: &'a SpecNode,
    pub(super) entries: &'a [(String, SpecNode)],
    pub(super) asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &'static str) -> Option<&'a SpecNode> {
        self.asked.borrow_mut().push(name);
        self.get_quietly(name)
    }

    /// The same without asking for it.
    pub(super) fn get_quietly(&self, name: &str) -> Option<&'a SpecNode> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, node)| node)
    }

    pub(super) fn need(&self, name: &'static str) -> Read<&'a SpecNode> {
        self.get(name).ok_or_else(|| self.reader.wrong(self.node, format!("`{name}` is missing\n  add `{name}: ...`")))
    }

    pub(super) fn number(&self, name: &'static str, default: f64) -> Read<f64> {
        self.get(name).map_or(Ok(default), |node| self.reader.number(node))
    }

    pub(super) fn flag(&self, name: &'static str, default: bool) -> Read<bool> {
        self.get(name).map_or(Ok(default), |node| self.reader.flag(node))
    }

    /// Refuses entries that were not asked for.
    pub(super) fn finish(self) -> Read<()> {
        let asked = self.asked.into_inner();
        for (i, (name, node)) in self.entries.iter().enumerate() {
            if !asked.contains(&name.as_str()) {
                return Err(self.reader.unknown(node, "entry", name, &asked));
            }
            if self.entries[..i].iter().any(|(n, _)| n == name) {
                return Err(self.reader.wrong(node, format!("`{name}` stands here twice\n  keep one of the two")));
            }
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    pub(super) fn wrong(self, node: &SpecNode, message: impl Into<String>) -> Box<ConfigError> {
        Box::new(ConfigError::Syntax { place: self.spec.place(node), message: message.into() })
    }

    pub(super) fn unknown(self, node: &SpecNode, what: &str, name: &str, known: &[&str]) -> Box<ConfigError> {
        let near = nearest(name, known.iter().copied());
        let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
        self.wrong(node, format!("there is no {what} `{name}` here\n  known: {}{near}", one_of(known)))
    }

    pub(super) fn fields(self, node: &'a SpecNode) -> Read<Fields<'a>> {
        match &node.data {
            Data::Map(entries) => Ok(Fields { reader: self, node, entries, asked: RefCell::default() }),
            _ => Err(self.wrong(node, "this is a mapping\n  write lines `name: value`, or {name: value, ...}")),
        }
    }

    pub(super) fn list(self, node: &'a SpecNode) -> Read<&'a [SpecNode]> {
        match &node.data {
            Data::List(items) => Ok(items),
            _ => Err(self.wrong(node, "this is a list\n  write lines `- item`, or [item, ...]")),
        }
    }

    pub(super) fn text(self, node: &'a SpecNode) -> Read<&'a str> {
        match &node.data {
            Data::Scalar(Value::Text(t)) => Ok(t),
            _ => Err(self.wrong(node, format!("this is a name, not {}", node.value()))),
        }
    }

    /// A scalar, or the setting that it names.
    pub(super) fn scalar(self, node: &SpecNode) -> Read<Value> {
        match &node.data {
            Data::Scalar(Value::Text(name)) => self.config.get(name).ok_or_else(|| {
                let near = nearest(name, crate::config::KEYS.iter().map(|key| key.name));
                let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
                self.wrong(node, format!("there is no setting `{name}`\n  give a value or the name of a setting{near}"))
            }),
            Data::Scalar(value) => Ok(value.clone()),
            _ => Err(self.wrong(node, "this is one value\n  give a value or the name of a setting")),
        }
    }

    pub(super) fn number(self, node: &SpecNode) -> Read<f64> {
        match self.scalar(node)? {
            Value::Int(i) => Ok(i as f64),
            Value::Float(x) if x.is_finite() => Ok(x),
            _ => Err(self.wrong(node, format!("{} is no number\n  give one, or a setting that is one", node.value()))),
        }
    }

    pub(super) fn count(self, node: &SpecNode, most: usize) -> Read<usize> {
        match self.scalar(node)? {
            Value::Int(i) if (1..=most as i128).contains(&i) => Ok(i as usize),
            _ => {
                Err(self
                    .wrong(node, format!("{} is not allowed\n  give a whole number from 1 to {most}", node.value())))
            }
        }
    }

    pub(super) fn flag(self, node: &SpecNode) -> Read<bool> {
        match self.scalar(node)? {
            Value::Bool(b) => Ok(b),
            _ => Err(self.wrong(node, format!("{} is neither true nor false, nor a setting that is", node.value()))),
        }
    }

    /// An item of a list: a word, or one with what follows it.
    pub(super) fn item(self, node: &'a SpecNode) -> Read<(&'a str, Option<&'a SpecNode>)> {
        match &node.data {
            Data::Scalar(Value::Text(t)) => Ok((t, None)),
            Data::Map(entries) if entries.len() == 1 => Ok((&entries[0].0, Some(&entries[0].1))),
            _ => Err(self.wrong(node, "an item is a name, or one name with what belongs to it: `- name: ...`")),
        }
    }
}
