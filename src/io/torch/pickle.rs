//! A reader of Python pickles that runs nothing: what a pickle would call is kept as a name with its arguments.
//!
//! A pickle is a program for a stack machine. Its objects are nodes of one list here, its references are places in that
//! list, so that shared and even circular objects cost nothing and nothing is deep. Every opcode makes at most one
//! node, and no size in the file is believed before the bytes are there: memory stays within a small multiple of the
//! file's.

use std::collections::BTreeMap;

/// The place of a node.
pub type Id = usize;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub enum PickleNode {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Bytes, whole numbers beyond 64 bits, sets: of no use to us.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In order; of equal keys the later counts.
    Dict(Vec<(Id, Id)>),
    /// `module name`, not looked up.
    Class(String),
    /// What calling `class` with `args` would have made, and the state it would have been given.
    Object {
        class: Id,
        args: Id,
        state: Option<Id>,
    },
    /// A reference to something outside of the pickle.
    Persistent(Id),
}

/// All objects of a pickle.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<PickleNode>,
    /// The object that was pickled.
    pub root: Id,
}

impl Pickle {
    /// An object.
    pub fn node(&self, id: Id) -> &PickleNode {
        &self.nodes[id]
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none, which no pickle is.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// The objects of a pickle of protocol 2 or later.
pub fn read(bytes: &[u8]) -> Result<Pickle, String> {
    let mut m = StackMachine { rest: bytes, nodes: vec![], stack: vec![], marks: vec![], memo: BTreeMap::new() };
    loop {
        if let Some(root) = m.step().map_err(|e| format!("{e}, at byte {}", bytes.len() - m.rest.len()))? {
            return Ok(Pickle { nodes: m.nodes, root });
        }
    }
}

struct StackMachine<'a> {
    rest: &'a [u8],
    nodes: Vec<PickleNode>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

impl<'a> StackMachine<'a> {
    /// One opcode; the root after the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let op = self.number(1)? as u8;
        match op {
            0x80 => {
                self.number(1)?;
            }
            0x95 => {
                self.number(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' | 0x90 => {
                self.marked()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(PickleNode::None),
            0x88 => self.push(PickleNode::Bool(true)),
            0x89 => self.push(PickleNode::Bool(false)),
            b'K' => self.whole(1)?,
            b'M' => self.whole(2)?,
            b'J' => {
                let n = self.number(4)? as u32 as i32;
                self.push(PickleNode::Int(n.into()));
            }
            0x8A => self.long(1)?,
            0x8B => self.long(4)?,
            b'G' => {
                let bits = u64::from_be_bytes(self.take(8)?.try_into().map_err(|_| "cut short")?);
                self.push(PickleNode::Float(f64::from_bits(bits)));
            }
            b'X' => self.text(4)?,
            0x8C => self.text(1)?,
            0x8D => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'B' => self.bytes(4)?,
            b'C' => self.bytes(1)?,
            0x8E => self.bytes(8)?,
            b')' => self.push(PickleNode::Tuple(vec![])),
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(op - 0x84)).ok_or(EMPTY)?;
                self.floor(from)?;
                let items = self.stack.split_off(from);
                self.push(PickleNode::Tuple(items));
            }
            b't' => {
                let items = self.marked()?;
                self.push(PickleNode::Tuple(items));
            }
            b']' => self.push(PickleNode::List(vec![])),
            b'l' => {
                let items = self.marked()?;
                self.push(PickleNode::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(items)?;
            }
            b'}' => self.push(PickleNode::Dict(vec![])),
            b'd' => {
                let pairs = pairs(&self.marked()?)?;
                self.push(PickleNode::Dict(pairs));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = pairs(&self.marked()?)?;
                self.set(pairs)?;
            }
            0x8F => self.push(PickleNode::Other),
            0x91 => {
                self.marked()?;
                self.push(PickleNode::Other);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (PickleNode::Text(module), PickleNode::Text(name)) = (&self.nodes[module], &self.nodes[name])
                else {
                    return Err("a class without a name".into());
                };
                let (module, name) = (module.clone(), name.clone());
                self.class(&module, &name)?;
            }
            b'R' | 0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.make(class, args);
            }
            0x92 => {
                let (_, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.make(class, args);
            }
            b'b' => {
                let (given, top) = (self.pop()?, self.top()?);
                if let PickleNode::Object { state, .. } = &mut self.nodes[top] {
                    *state = Some(given);
                }
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let (key, top) = (self.memo.len() as u64, self.top()?);
                self.memo.insert(key, top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'Q' => {
                let what = self.pop()?;
                self.push(PickleNode::Persistent(what));
            }
            _ => return Err(format!("opcode 0x{op:02x} is none that torch.save writes")),
        }
        Ok(None)
    }

    fn push(&mut self, node: PickleNode) {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.floor(self.stack.len().saturating_sub(1))?;
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| EMPTY.into())
    }

    /// Refuses to go below the last mark.
    fn floor(&self, height: usize) -> Result<(), String> {
        if self.marks.last().is_some_and(|m| height < *m) { Err(EMPTY.into()) } else { Ok(()) }
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|m| *m <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let len = usize::try_from(len).ok().filter(|n| *n <= self.rest.len()).ok_or("cut short")?;
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|b| *b == b'\n').ok_or("cut short")?;
        let line = self.take(end as u64 + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "a name is no text".into())
    }

    fn number(&mut self, size: u64) -> Result<u64, String> {
        Ok(self.take(size)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn whole(&mut self, size: u64) -> Result<(), String> {
        let n = self.number(size)?;
        self.push(PickleNode::Int(n as i64));
        Ok(())
    }

    /// A number in two's complement, of as many bytes as a number of `size` bytes says.
    fn long(&mut self, size: u64) -> Result<(), String> {
        let len = self.number(size)?;
        let bytes = self.take(len)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let start = if negative { -1i64 } else { 0 };
        let value = bytes.iter().rev().fold(start, |n, b| n << 8 | i64::from(*b));
        self.push(if bytes.len() <= 8 { PickleNode::Int(value) } else { PickleNode::Other });
        Ok(())
    }

    fn text(&mut self, size: u64) -> Result<(), String> {
        let len = self.number(size)?;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.push(PickleNode::Text(text));
        Ok(())
    }

    fn bytes(&mut self, size: u64) -> Result<(), String> {
        let len = self.number(size)?;
        self.take(len)?;
        self.push(PickleNode::Other);
        Ok(())
    }

    /// Names are short, so that a class that appears again and again stays small.
    fn class(&mut self, module: &str, name: &str) -> Result<(), String> {
        if module.len() + name.len() > NAME {
            return Err("a class with an endless name".into());
        }
        self.push(PickleNode::Class(format!("{module} {name}")));
        Ok(())
    }

    /// What a class would make. Ordered dictionaries are made, and those of TensorDict; the rest is only named.
    fn make(&mut self, class: Id, args: Id) {
        let dictionaries = ["collections OrderedDict", "tensordict.utils _StringOnlyDict"];
        let ordered = matches!(&self.nodes[class], PickleNode::Class(c) if dictionaries.contains(&c.as_str()));
        let bare = matches!(&self.nodes[args], PickleNode::Tuple(t) if t.is_empty());
        self.push(if ordered && bare {
            PickleNode::Dict(vec![])
        } else {
            PickleNode::Object { class, args, state: None }
        });
    }

    /// Items for the list on top; what an opaque object would do with them is unknown.
    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.nodes[top] {
            PickleNode::List(list) => list.extend(items),
            PickleNode::Object { .. } | PickleNode::Other => {}
            _ => return Err("items for something that is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.nodes[top] {
            PickleNode::Dict(dict) => dict.extend(pairs),
            PickleNode::Object { .. } | PickleNode::Other => {}
            _ => return Err("keys for something that is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, size: u64) -> Result<(), String> {
        let (key, top) = (self.number(size)?, self.top()?);
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, size: u64) -> Result<(), String> {
        let key = self.number(size)?;
        let id = *self.memo.get(&key).ok_or("a reference to nothing")?;
        self.stack.push(id);
        Ok(())
    }
}

const EMPTY: &str = "something is taken from an empty stack";
/// Longest name of a class.
const NAME: usize = 256;

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|&[k, v]| (k, v)).collect()) } else { Err("a key without a value".into()) }
}
