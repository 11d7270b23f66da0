//! Elements and attributes of a file with their places, and what is said of one that is wrong.

use crate::config::{SourceLocation, nearest, one_of};
use roxmltree::{Attribute, Node};
use std::cell::RefCell;

/// Where something was written; line and column count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A value and where it was written, on the element or in one of its default classes; no place is MuJoCo's default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given<T> {
    pub value: T,
    pub place: Option<Place>,
}

impl<T> Given<T> {
    /// What holds where nothing is written.
    pub fn default(value: T) -> Self {
        Self { value, place: None }
    }

    /// Whether the file says it.
    pub fn is_given(&self) -> bool {
        self.place.is_some()
    }

    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Given<U> {
        Given { value: f(self.value), place: self.place }
    }
}

/// What is wrong with a file, where, and what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", location(.file, .place))]
pub struct MjcfError {
    pub file: String,
    pub place: Place,
    pub message: String,
}

fn location(file: &str, place: &Place) -> SourceLocation {
    SourceLocation::File { name: file.into(), line: place.line.into(), column: place.column.into() }
}

impl MjcfError {
    /// The place as errors of settings have it.
    pub fn location(&self) -> SourceLocation {
        location(&self.file, &self.place)
    }
}

pub(super) type Read<T> = Result<T, MjcfError>;

/// A file's name, and where its lines begin.
pub(super) struct Source<'a> {
    pub file: &'a str,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    /// The place of a byte of the text.
    pub fn place(&self, at: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= at);
        let before = self.text.get(self.starts[line - 1]..at).unwrap_or_default();
        Place { line: line as u32, column: before.chars().count() as u32 + 1 }
    }

    pub fn of(&self, node: Node) -> Place {
        self.place(node.range().start)
    }

    pub fn wrong(&self, place: Place, message: impl Into<String>) -> MjcfError {
        MjcfError { file: self.file.into(), place, message: message.into() }
    }

    /// What is said of an element that has no meaning inside another.
    pub fn unknown(&self, node: Node, known: &[&str]) -> MjcfError {
        let name = node.tag_name().name();
        let inside = node.parent_element().map_or("the file", |p| p.tag_name().name());
        self.wrong(self.of(node), format!("there is no element `{name}` in `{inside}`\n  {}", known_names(name, known)))
    }

    /// The elements inside one, in order.
    pub fn inside<'n, 'i>(&self, node: Node<'n, 'i>) -> Read<Vec<Node<'n, 'i>>> {
        if let Some(text) = node.children().find(|n| n.is_text() && !n.text().unwrap_or_default().trim().is_empty()) {
            let name = node.tag_name().name();
            let range = text.range();
            let blank = self.text.get(range.clone()).map_or(0, |t| t.len() - t.trim_start().len());
            return Err(self.wrong(
                self.place(range.start + blank),
                format!("text has no meaning in `{name}`\n  make it a comment"),
            ));
        }
        Ok(node.children().filter(Node::is_element).collect())
    }
}

fn known_names(name: &str, known: &[&str]) -> String {
    let near = nearest(name, known.iter().copied());
    let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
    if known.is_empty() { "it has none".into() } else { format!("known: {}{near}", one_of(known)) }
}

/// The largest number of a file: no product of those that belong together leaves double precision.
const LARGEST: f64 = 1e30;

/// An element whose attributes are read one after the other. What it does not say itself its classes say.
pub(super) struct Element<'a, 'i> {
    pub source: &'a Source<'a>,
    pub node: Node<'a, 'i>,
    /// Elements of the default classes, the outermost first.
    pub inherited: Vec<Node<'a, 'i>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a, 'i> Element<'a, 'i> {
    pub fn new(source: &'a Source<'a>, node: Node<'a, 'i>, inherited: Vec<Node<'a, 'i>>) -> Self {
        Self { source, node, inherited, asked: RefCell::default() }
    }

    pub fn place(&self) -> Place {
        self.source.of(self.node)
    }

    pub fn wrong(&self, place: Place, message: impl Into<String>) -> MjcfError {
        self.source.wrong(place, message)
    }

    /// The attribute wherever it is given, the outermost class first.
    fn layers(&self, name: &'static str) -> Vec<Attribute<'a, 'i>> {
        self.asked.borrow_mut().push(name);
        self.inherited.iter().chain([&self.node]).filter_map(|n| n.attribute_node(name)).collect()
    }

    fn place_of(&self, a: Attribute) -> Place {
        self.source.place(a.range().start)
    }

    pub fn text(&self, name: &'static str) -> Option<Given<String>> {
        let last = self.layers(name).pop()?;
        Some(Given { value: last.value().trim().to_owned(), place: Some(self.place_of(last)) })
    }

    /// From `least` to `most` finite numbers.
    fn numbers(&self, a: Attribute, least: usize, most: usize) -> Read<Vec<f64>> {
        let wrong = |what: String| Err(self.wrong(self.place_of(a), what));
        let (name, mut numbers) = (a.name(), Vec::new());
        for word in a.value().split_ascii_whitespace() {
            match word.parse::<f64>() {
                Ok(x) if x.abs() <= LARGEST => numbers.push(x),
                Ok(x) if x.is_finite() => return wrong(format!("`{name}`: {word} is too large to compute with")),
                _ => return wrong(format!("`{name}`: {word:?} is no number")),
            }
            if numbers.len() > most {
                return wrong(format!("`{name}` has more than {most} numbers"));
            }
        }
        if numbers.len() < least {
            let n = numbers.len();
            return wrong(format!("`{name}` has {n} numbers\n  give {}", range_of(least, most)));
        }
        Ok(numbers)
    }

    /// Numbers of which fewer may be given: those take the place of the first ones of the class or of the default.
    pub fn some<const N: usize>(&self, name: &'static str, default: [f64; N]) -> Read<Given<[f64; N]>> {
        let mut all = Given::default(default);
        for a in self.layers(name) {
            let given = self.numbers(a, 1, N)?;
            all.value[..given.len()].copy_from_slice(&given);
            all.place = Some(self.place_of(a));
        }
        Ok(all)
    }

    /// So many numbers, if they are given.
    pub fn maybe<const N: usize>(&self, name: &'static str) -> Read<Option<Given<[f64; N]>>> {
        let mut all = None;
        for a in self.layers(name) {
            let mut value = [0.0; N];
            value.copy_from_slice(&self.numbers(a, N, N)?);
            all = Some(Given { value, place: Some(self.place_of(a)) });
        }
        Ok(all)
    }

    pub fn exactly<const N: usize>(&self, name: &'static str, default: [f64; N]) -> Read<Given<[f64; N]>> {
        Ok(self.maybe(name)?.unwrap_or(Given::default(default)))
    }

    pub fn number(&self, name: &'static str, default: f64) -> Read<Given<f64>> {
        Ok(self.exactly(name, [default])?.map(|[x]| x))
    }

    /// A number that is not negative.
    pub fn amount(&self, name: &'static str, default: f64) -> Read<Given<f64>> {
        let x = self.number(name, default)?;
        match x.place {
            Some(place) if x.value < 0.0 => Err(self.wrong(place, format!("`{name}` is not negative"))),
            _ => Ok(x),
        }
    }

    pub fn integer(&self, name: &'static str, default: i32) -> Read<Given<i32>> {
        let x = self.number(name, f64::from(default))?;
        let whole = x.value.fract() == 0.0 && x.value.abs() <= f64::from(i32::MAX);
        match x.place {
            Some(place) if !whole => Err(self.wrong(place, format!("`{name}` is a whole number"))),
            _ => Ok(x.map(|x| x as i32)),
        }
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, name: &'static str, words: &[(&str, T)], default: T) -> Read<Given<T>> {
        let Some(text) = self.text(name) else { return Ok(Given::default(default)) };
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, value)) => Ok(Given { value: *value, place: text.place }),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let message = format!("`{name}` cannot be {:?}\n  {}", text.value, known_names(&text.value, &known));
                Err(self.wrong(text.place.unwrap_or_default(), message))
            }
        }
    }

    pub fn flag(&self, name: &'static str, default: bool) -> Read<Given<bool>> {
        self.word(name, &[("true", true), ("false", false)], default)
    }

    /// Refuses attributes that were not asked for and are not among those that change no motion.
    pub fn finish(&self, looks: &[&'static str]) -> Read<()> {
        let asked = self.asked.borrow();
        for a in self.node.attributes() {
            let name = a.name();
            if a.namespace().is_some() || !(asked.contains(&name) || looks.contains(&name)) {
                let known: Vec<&str> = asked.iter().chain(looks).copied().collect();
                let element = self.node.tag_name().name();
                let message = format!("`{element}` has no attribute `{name}`\n  {}", known_names(name, &known));
                return Err(self.source.wrong(self.source.place(a.range().start), message));
            }
        }
        Ok(())
    }
}

impl Element<'_, '_> {
    /// The same of an element that has nothing inside.
    pub fn finish_empty(&self, looks: &[&'static str]) -> Read<()> {
        self.finish(looks)?;
        match self.source.inside(self.node)?.first() {
            Some(&inner) => Err(self.source.unknown(inner, &[])),
            None => Ok(()),
        }
    }
}

fn range_of(least: usize, most: usize) -> String {
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}
