//! From the elements of a file to the [`Mjcf`]: here its sections and default classes; in the other files what
//! stands inside of them.

mod actuator;
mod body;
mod geom;
mod options;

use super::defaults::{Classes, MAIN};
use super::model::*;
use super::xml::{Element, Given, MjcfError, Place, Read, Source};
use options::{compiler_of, options_of};
use roxmltree::{Document, Node};
use std::collections::HashMap;

/// Sections of a file that change no motion: their insides are passed over.
const LOOKS: [&str; 7] = ["size", "visual", "statistic", "asset", "sensor", "keyframe", "custom"];
/// Attributes that change no motion, of elements that have a body, a colour or neither.
const NAME: [&str; 2] = ["name", "class"];
const SEEN: [&str; 6] = ["name", "class", "material", "rgba", "user", "group"];

impl Mjcf {
    /// Reads the text of a file, which messages call `file`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(file: &str, text: &str) -> Result<Self, MjcfError> {
        let source = Source::new(file, text);
        let document = Document::parse(text).map_err(|e| {
            let at = e.pos();
            let message = e.to_string();
            // The place is said once, in front.
            let message = message.strip_suffix(&format!(" at {at}")).unwrap_or(&message);
            source.wrong(Place { line: at.row, column: at.col }, format!("this is no XML: {message}"))
        })?;
        let root = document.root_element();
        if root.tag_name().name() != "mujoco" {
            let name = root.tag_name().name();
            return Err(source.wrong(source.of(root), format!("the file begins with `{name}`, not with `mujoco`")));
        }
        let mut sections: HashMap<&str, Vec<Node>> = HashMap::new();
        for node in source.inside(root)? {
            sections.entry(node.tag_name().name()).or_default().push(node);
        }
        let mut take = |name: &str| sections.remove(name).unwrap_or_default();
        let looks = LOOKS.map(&mut take);
        drop(looks);
        let (compiler, option, defaults) = (take("compiler"), take("option"), take("default"));
        let (worldbody, contact, equality) = (take("worldbody"), take("contact"), take("equality"));
        let (tendon, actuator) = (take("tendon"), take("actuator"));
        if let Some((_, nodes)) = sections.iter().min_by_key(|(_, nodes)| nodes[0].range().start) {
            let known = ["compiler", "option", "default", "worldbody", "contact", "equality", "tendon", "actuator"];
            let name = nodes[0].tag_name().name();
            if ["include", "extension", "deformable"].contains(&name) {
                let message = format!("`{name}` cannot be read\n  write the whole robot in this file, without it");
                return Err(source.wrong(source.of(nodes[0]), message));
            }
            return Err(source.unknown(nodes[0], &known.into_iter().chain(LOOKS).collect::<Vec<_>>()));
        }
        let classes = Classes::read(&source, &defaults)?;
        let compiler = compiler_of(&source, &compiler)?;
        let option = options_of(&source, &option)?;
        let reader = Reader { source: &source, classes, compiler: &compiler };
        reader.check_defaults()?;
        let mut bodies = Vec::new();
        for (i, node) in worldbody.into_iter().enumerate() {
            reader.element(node, "world", MAIN).finish(&[])?;
            if i == 0 {
                bodies.push(reader.empty_body(node, None));
            }
            reader.inside_body(node, 0, MAIN, 0, &mut bodies)?;
        }
        if bodies.is_empty() {
            return Err(source.wrong(source.of(root), "there is no `worldbody`\n  a robot needs one"));
        }
        let joints = || bodies.iter().flat_map(|b| &b.joints);
        for (i, joint) in joints().enumerate().filter(|(_, j)| j.name.is_some()) {
            if let (Some(name), true) = (&joint.name, joints().take(i).any(|j| j.name == joint.name)) {
                return Err(source.wrong(joint.place, format!("there are two joints `{name}`\n  rename one")));
            }
        }
        let geoms = bodies.iter().flat_map(|b| b.geoms.iter().map(|g| (&g.name, g.place, "geoms")));
        let sites = bodies.iter().flat_map(|b| b.sites.iter().map(|s| (&s.name, s.place, "sites")));
        let shapes: Vec<_> = geoms.chain(sites).filter(|(name, ..)| name.is_some()).collect();
        for (i, (name, place, what)) in shapes.iter().enumerate() {
            if let (Some(known), true) = (name, shapes[..i].iter().any(|(n, _, w)| n == name && w == what)) {
                return Err(source.wrong(*place, format!("there are two {what} `{known}`\n  rename one")));
            }
        }
        let tendons = reader.tendons(&tendon)?;
        let actuators = reader.actuators(&actuator)?;
        let (excludes, pairs) = reader.contact(&contact, &bodies)?;
        let equalities = reader.listed(&equality)?;
        let model = Element::new(&source, root, vec![]);
        let name = model.text("model").map(|n| n.value);
        model.finish(&[])?;
        let file = file.to_owned();
        Ok(Self { file, name, compiler, option, bodies, actuators, tendons, excludes, equalities, pairs })
    }
}

struct Reader<'a, 'i> {
    source: &'a Source<'a>,
    classes: Classes<'a, 'i>,
    compiler: &'a Compiler,
}

impl<'a, 'i> Reader<'a, 'i> {
    /// An element with what `class` says of its kind.
    fn element(&self, node: Node<'a, 'i>, kind: &str, class: usize) -> Element<'a, 'i> {
        Element::new(self.source, node, self.classes.of(class, kind))
    }

    /// The same with the class that it names itself, if it names one.
    fn with_class(&self, node: Node<'a, 'i>, kind: &str, class: usize) -> Read<Element<'a, 'i>> {
        let own = self.classes.named(self.source, node, "class")?;
        Ok(self.element(node, kind, own.unwrap_or(class)))
    }

    /// Reads what stands in the classes for its own sake: a mistake there is one even if no element has the class.
    fn check_defaults(&self) -> Read<()> {
        for node in ["joint", "geom", "site", "tendon", "actuator"].iter().flat_map(|kind| self.classes.every(kind)) {
            if let Some(a) = node.attributes().find(|a| NAME.contains(&a.name())) {
                let message = format!("`{}` has no meaning in a default class", a.name());
                return Err(self.source.wrong(self.source.place(a.range().start), message));
            }
        }
        let alone = |node| Element::new(self.source, node, vec![]);
        for node in self.classes.every("joint") {
            self.joint(alone(node), false)?;
        }
        for node in self.classes.every("geom") {
            self.geom(alone(node), false)?;
        }
        for node in self.classes.every("site") {
            self.site(alone(node))?;
        }
        for node in self.classes.every("tendon") {
            self.tendon(alone(node), Path::Fixed(vec![]), false)?;
        }
        for node in self.classes.every("actuator") {
            self.actuator(alone(node), false)?;
        }
        Ok(())
    }

    /// Bodies that do not touch, and explicit pairs.
    fn contact(&self, sections: &[Node<'a, 'i>], bodies: &[Body]) -> Read<(Vec<Exclude>, Vec<Given<String>>)> {
        let (mut excludes, mut pairs) = (Vec::new(), Vec::new());
        for &section in sections {
            self.element(section, "section", MAIN).finish(&[])?;
            for node in self.source.inside(section)? {
                match node.tag_name().name() {
                    "exclude" => {
                        let e = self.element(node, "exclude", MAIN);
                        let body = |name| {
                            let text =
                                e.text(name).ok_or_else(|| e.wrong(e.place(), format!("`{name}` is missing")))?;
                            // The world has a name of its own.
                            let at = bodies.iter().position(|b| b.name.as_ref() == Some(&text.value));
                            at.or((text.value == "world").then_some(0)).ok_or_else(|| {
                                let message = format!("there is no body `{}`", text.value);
                                e.wrong(text.place.unwrap_or_default(), message)
                            })
                        };
                        excludes.push(Exclude { bodies: [body("body1")?, body("body2")?] });
                        e.finish_empty(&NAME)?;
                    }
                    "pair" => pairs.push(self.named(node)),
                    _ => return Err(self.source.unknown(node, &["exclude", "pair"])),
                }
            }
        }
        Ok((excludes, pairs))
    }

    /// An element by its name.
    fn named(&self, node: Node) -> Given<String> {
        Given { value: node.tag_name().name().to_owned(), place: Some(self.source.of(node)) }
    }

    /// Every element of these sections by its name.
    fn listed(&self, sections: &[Node<'a, 'i>]) -> Read<Vec<Given<String>>> {
        let mut all = Vec::new();
        for &section in sections {
            all.extend(self.source.inside(section)?.into_iter().map(|n| self.named(n)));
        }
        Ok(all)
    }
}

/// MuJoCo's constants of soft constraints: time constant (s) and damping ratio; the impedance.
const SOLREF: [f64; 2] = [0.02, 1.0];
const SOLIMP: [f64; 5] = [0.9, 0.95, 0.001, 0.5, 2.0];

fn name_of(e: &Element) -> Option<String> {
    e.text("name").map(|n| n.value).filter(|n| !n.is_empty())
}
