//! What a task shows, and the names of the entries.

use super::reader::{Fields, Read, Reader};
use super::robot::Joints;
use crate::config::Value;
use crate::config::spec::{Data, SpecNode};
use crate::env::feature::{Feature, Observation, Source};
use crate::sim::JointKind;
use std::cell::RefCell;

const FEATURES: [&str; 11] = [
    "height",
    "rotation",
    "linear_velocity",
    "angular_velocity",
    "coordinates",
    "velocities",
    "up",
    "heading",
    "sine",
    "cosine",
    "action",
];

impl<'a> Reader<'a> {
    pub(super) fn features(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<Feature>> {
        let mut features = Vec::new();
        for item in self.list(node)? {
            let (name, inside) = self.item(item)?;
            let feature = self.feature(item, name, inside, joints)?;
            if feature.source() == Source::Root && !joints.has_free_root() {
                return Err(self.wrong(item, format!("`{name}` is one of a free root, which the robot has not")));
            }
            features.push(feature);
        }
        Ok(features)
    }

    pub(super) fn feature(
        self,
        item: &'a SpecNode,
        name: &str,
        inside: Option<&'a SpecNode>,
        joints: &Joints,
    ) -> Read<Feature> {
        let plain = |feature| match inside {
            None => Ok(feature),
            Some(node) => Err(self.wrong(node, format!("nothing belongs to `{name}`"))),
        };
        // A bare word is one with nothing inside.
        let fields = || match inside {
            Some(node) => self.fields(node),
            None => Ok(Fields { reader: self, node: item, entries: &[], asked: RefCell::default() }),
        };
        let feature = match name {
            "height" => return plain(Feature::Height),
            "rotation" => return plain(Feature::Rotation),
            "linear_velocity" => return plain(Feature::LinearVelocity),
            "angular_velocity" => return plain(Feature::AngularVelocity),
            "up" => return plain(Feature::Up),
            "coordinates" => {
                let f = fields()?;
                let b = self.bodies(&f, joints)?;
                f.finish()?;
                self.not_of_root(item, &b, joints)?;
                self.moving(item, &b, joints)?;
                let (first, end) = (joints.q[b.start], joints.q[b.end]);
                Feature::Coordinates { first, count: end - first }
            }
            "velocities" => {
                let f = fields()?;
                let (b, scale) = (self.bodies(&f, joints)?, f.number("scale", 1.0)?);
                f.finish()?;
                self.not_of_root(item, &b, joints)?;
                self.moving(item, &b, joints)?;
                let (first, end) = (joints.qd[b.start], joints.qd[b.end]);
                Feature::Velocities { first, count: end - first, scale }
            }
            "heading" => {
                let f = fields()?;
                let at = f.need("target")?;
                let [x, z] = self.list(at)? else { return Err(self.wrong(at, "a target is [x, z] on the ground")) };
                f.finish()?;
                Feature::Heading { target: [self.number(x)?, self.number(z)?] }
            }
            "sine" | "cosine" => {
                let f = fields()?;
                let at = f.need("of")?;
                let b = self.bodies(&f, joints)?;
                f.finish()?;
                if joints.robot.bodies[b.start].joint.kind != JointKind::Hinge {
                    return Err(self.wrong(at, "only a hinge has an angle"));
                }
                let of = joints.q[b.start];
                if name == "sine" { Feature::Sine { of } } else { Feature::Cosine { of } }
            }
            "action" => {
                let f = fields()?;
                let shown = f.flag("when", true)?;
                f.finish()?;
                Feature::Action { shown }
            }
            _ => return Err(self.unknown(item, "feature", name, &FEATURES)),
        };
        Ok(feature)
    }

    pub(super) fn not_of_root(self, item: &SpecNode, bodies: &std::ops::Range<usize>, joints: &Joints) -> Read<()> {
        let free = joints.robot.bodies[bodies.clone()].iter().find(|b| b.joint.kind == JointKind::Free);
        let Some(body) = free else { return Ok(()) };
        let shown = "height, rotation, linear_velocity, angular_velocity, up and heading";
        Err(self.wrong(item, format!("the joint of `{}` is free\n  it is shown by {shown}", body.name)))
    }

    /// Refuses bodies whose joints are all fixed: they have no coordinate.
    pub(super) fn moving(self, item: &SpecNode, bodies: &std::ops::Range<usize>, joints: &Joints) -> Read<()> {
        if joints.qd[bodies.start] < joints.qd[bodies.end] {
            return Ok(());
        }
        let name = &joints.robot.bodies[bodies.start].name;
        Err(self.wrong(item, format!("the joint of `{name}` is fixed\n  name a body whose joint moves")))
    }
}

/// The entries of an observation by name.
pub(super) struct Entries<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) observation: &'a Observation,
    pub(super) joints: &'a Joints,
}

impl<'a> Entries<'a> {
    /// The entry that a node names: its number, a feature of one number, or `feature.part`, where a part is x, y, z or
    /// w, a number from 0 on, or the body of a joint.
    pub(super) fn entry(&self, node: &'a SpecNode) -> Read<usize> {
        let width = self.observation.width();
        if let Data::Scalar(Value::Int(i)) = node.data {
            return match usize::try_from(i) {
                Ok(i) if i < width => Ok(i),
                _ => Err(self
                    .reader
                    .wrong(node, format!("the observation has no entry {i}\n  they are 0 to {}", width - 1))),
            };
        }
        let text = self.reader.text(node)?;
        let (name, part) = text.split_once('.').map_or((text, None), |(n, p)| (n, Some(p)));
        let mut at = 0;
        for &feature in &self.observation.features {
            let width = feature.width(self.observation.actions);
            if feature.name() == name {
                let found = match part {
                    None if width == 1 => Some(0),
                    None => None,
                    Some(part) => self.part(feature, part).filter(|i| *i < width),
                };
                if let Some(i) = found {
                    return Ok(at + i);
                }
            }
            at += width;
        }
        let known: Vec<&str> = self.observation.features.iter().map(|f| f.name()).collect();
        if known.contains(&name) {
            let body = self.joints.robot.bodies.iter().find(|b| part == Some(b.name.as_str()));
            let kind = match body.map(|b| b.joint.kind) {
                Some(JointKind::Fixed) => Some("is fixed and has no coordinate"),
                Some(JointKind::Ball | JointKind::Free) => Some("has several coordinates"),
                _ => None,
            };
            let why = match (body, kind) {
                (Some(b), Some(kind)) => format!(": the joint of `{}` {kind}", b.name),
                _ => String::new(),
            };
            let text =
                format!("`{text}` is no single entry{why}\n  say which, as in `{name}.x`, `{name}.0` or `{name}.BODY`");
            return Err(self.reader.wrong(node, text));
        }
        Err(self.reader.unknown(node, "feature", name, &known))
    }

    pub(super) fn part(&self, feature: Feature, part: &str) -> Option<usize> {
        if let Some(i) = ["x", "y", "z", "w"].iter().position(|p| *p == part) {
            return Some(i);
        }
        if let Ok(i) = part.parse() {
            return Some(i);
        }
        let bodies = &self.joints.robot.bodies;
        let body = bodies.iter().position(|b| b.name == part)?;
        // A body's name stands for one number: that of a joint that has one.
        if !matches!(bodies[body].joint.kind, JointKind::Hinge | JointKind::Slide) {
            return None;
        }
        match feature {
            Feature::Coordinates { first, .. } => self.joints.q[body].checked_sub(first),
            Feature::Velocities { first, .. } => self.joints.qd[body].checked_sub(first),
            Feature::Sine { of } | Feature::Cosine { of } => (self.joints.q[body] == of).then_some(0),
            _ => None,
        }
    }
}
