//! The specification of an environment inside its file: data of any shape, each part with its place. What it means is
//! known higher up, where the robots are.

use super::error::{ConfigError, ConfigErrors, SourceLocation};
use super::value::{Field, Value};
use super::yaml::read_section;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One part of a specification and where it was written; line 0 where it is not known. Parts are equal if they say the
/// same.
#[derive(Clone, Debug)]
pub struct SpecNode {
    pub line: u64,
    pub column: u64,
    pub data: Data,
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Scalar(Value),
    List(Vec<SpecNode>),
    /// Names are nodes of their own, for their places.
    Map(Vec<(String, SpecNode)>),
}

impl PartialEq for SpecNode {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl SpecNode {
    /// The same without places.
    pub fn value(&self) -> Value {
        match &self.data {
            Data::Scalar(v) => v.clone(),
            Data::List(items) => Value::List(items.iter().map(SpecNode::value).collect()),
            Data::Map(entries) => Value::Map(entries.iter().map(|(k, v)| (k.clone(), v.value())).collect()),
        }
    }

    /// The same, all of it at one place.
    fn place_at(&mut self, line: u64, column: u64) {
        (self.line, self.column) = (line, column);
        match &mut self.data {
            Data::Scalar(_) => {}
            Data::List(items) => items.iter_mut().for_each(|n| n.place_at(line, column)),
            Data::Map(entries) => entries.iter_mut().for_each(|(_, n)| n.place_at(line, column)),
        }
    }

    fn of(value: &Value) -> Self {
        let data = match value {
            Value::List(items) => Data::List(items.iter().map(SpecNode::of).collect()),
            Value::Map(entries) => Data::Map(entries.iter().map(|(k, v)| (k.clone(), SpecNode::of(v))).collect()),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self { line: 0, column: 0, data }
    }
}

/// The specification of an environment, and the name of the file that it stands in.
#[derive(Clone, Debug)]
pub struct Spec {
    pub file: String,
    pub root: SpecNode,
}

/// Wherever it was read from: specifications are equal if they say the same.
impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

/// The entry that names the robot.
const ROBOT: &str = "robot";

/// Whether a robot's name is that of a file.
pub fn is_robot_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"))
}

/// The part of an environment's file that holds it.
pub(super) const SPEC: &str = "spec";

impl Spec {
    /// The specification in the text of an environment's file, if it holds one.
    pub fn in_file(file: &str, text: &str) -> Option<Self> {
        Some(Self { file: file.into(), root: read_section(text, SPEC)? })
    }

    /// That of an environment that starts from another: what it does not say itself is the other's. Only the robot's
    /// known returns go with the reward that they are of, and a title and a published name are nobody else's. What
    /// comes from the other is placed where `named` names it.
    pub(super) fn based(base: Spec, own: Option<Spec>, named: &SourceLocation) -> Self {
        let (line, column) = match named {
            SourceLocation::File { line, column, .. } => (*line, *column),
            _ => (0, 0),
        };
        let file = own.as_ref().map_or(base.file.clone(), |s| s.file.clone());
        let mut root = own.map_or(SpecNode { line, column, data: Data::Map(vec![]) }, |s| s.root);
        // What is no mapping is refused where the specification is read.
        if let (Data::Map(all), Data::Map(from)) = (&mut root.data, base.root.data) {
            let has = |all: &[(String, SpecNode)], name: &str| all.iter().any(|(n, _)| n == name);
            let rewarded = has(all, "reward");
            for (name, mut node) in from {
                let own = ["title", "published"].contains(&name.as_str()) || name == "returns" && rewarded;
                if !own && !has(all, &name) {
                    node.place_at(line, column);
                    all.push((name, node));
                }
            }
        }
        Self { file, root }
    }

    /// The same with the robot's own file taken along, if `robot` names one that ends in `.xml`; its path is relative
    /// to the folder of this file. What a run keeps is then complete.
    pub(super) fn with_robot_file(mut self) -> Result<Self, ConfigErrors> {
        let folder = self.folder();
        let place = |node: &SpecNode| self.place(node);
        let Data::Map(entries) = &self.root.data else { return Ok(self) };
        let Some(at) = entries.iter().position(|(name, _)| name == ROBOT) else { return Ok(self) };
        let node = &entries[at].1;
        let Data::Scalar(Value::Text(name)) = &node.data else { return Ok(self) };
        if !is_robot_file(name) {
            return Ok(self);
        }
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            let message = format!(
                "cannot read {}: {e}\n  the path of a robot's file is relative to the folder of this one",
                path.display()
            );
            ConfigError::Syntax { place: place(node), message }
        })?;
        let scalar = |text: String| SpecNode { data: Data::Scalar(Value::Text(text)), ..node.clone() };
        let file = vec![("file".to_owned(), scalar(name.clone())), ("xml".to_owned(), scalar(text))];
        let data = Data::Map(file);
        if let Data::Map(entries) = &mut self.root.data {
            entries[at].1.data = data;
        }
        Ok(self)
    }

    /// Whether the robot is one from a file of its own, which this holds.
    pub(super) fn has_robot_file(&self) -> bool {
        let Data::Map(entries) = &self.root.data else { return false };
        entries.iter().any(|(name, node)| name == ROBOT && matches!(node.data, Data::Map(_)))
    }

    /// Whether it names MuJoCo's law.
    pub fn is_under_mujoco(&self) -> bool {
        let Data::Map(entries) = &self.root.data else { return false };
        entries.iter().any(|(name, node)| name == "physics" && node.data == Data::Scalar(Value::Text("mujoco".into())))
    }

    /// The folder that paths in it are relative to.
    pub fn folder(&self) -> PathBuf {
        Path::new(&self.file).parent().unwrap_or(Path::new("")).into()
    }

    /// Where `node` was written.
    pub fn place(&self, node: &SpecNode) -> SourceLocation {
        SourceLocation::File { name: self.file.clone(), line: node.line, column: node.column }
    }
}

/// The specification that a run takes: its own, or none if it takes the shipped one that `env` names.
pub type OwnSpec = Option<Arc<Spec>>;

impl Field for OwnSpec {
    const KIND: &'static str = "specification in an environment's file, or null";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            // Read back from a run's configuration, which keeps no places.
            Value::Map(_) => Some(Some(Arc::new(Spec {
                file: "the specification of the environment".into(),
                root: SpecNode::of(value),
            }))),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, |s| s.root.value())
    }

    /// What its numbers may be is not known here.
    fn numbers(&self) -> Vec<f64> {
        vec![]
    }
}
