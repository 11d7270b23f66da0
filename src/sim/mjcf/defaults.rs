//! Default classes: a tree in which each inherits what the class around it says.

use super::xml::{Element, Read, Source};
use roxmltree::Node;

/// Elements that have defaults; of an actuator all kinds share one table, of a tendon both.
const KINDS: [(&str, &str); 17] = [
    ("joint", "joint"),
    ("geom", "geom"),
    ("site", "site"),
    ("general", "actuator"),
    ("motor", "actuator"),
    ("position", "actuator"),
    ("velocity", "actuator"),
    ("intvelocity", "actuator"),
    ("damper", "actuator"),
    ("cylinder", "actuator"),
    ("muscle", "actuator"),
    ("adhesion", "actuator"),
    ("tendon", "tendon"),
    ("pair", "pair"),
    ("equality", "equality"),
    ("camera", "look"),
    ("light", "look"),
];
/// Those of what only looks, or is refused where it is used.
const LOOKS: [&str; 2] = ["mesh", "material"];

/// How deep elements may be nested; recursion is bounded by it.
pub(super) const DEEPEST: usize = 128;

struct Class<'a, 'i> {
    name: String,
    parent: Option<usize>,
    /// The kind of each element, and the element.
    elements: Vec<(&'static str, Node<'a, 'i>)>,
}

/// All classes; the first is the outermost, which holds where nothing else does.
pub(super) struct Classes<'a, 'i> {
    classes: Vec<Class<'a, 'i>>,
}

/// The number of the outermost class.
pub(super) const MAIN: usize = 0;

impl<'a, 'i> Classes<'a, 'i> {
    /// Those of the sections `default` of a file.
    pub fn read(source: &Source, sections: &[Node<'a, 'i>]) -> Read<Self> {
        let main = Class { name: "main".into(), parent: None, elements: vec![] };
        let mut all = Self { classes: vec![main] };
        for &section in sections {
            if let Some(class) = section.attribute("class") {
                all.classes[MAIN].name = class.into();
            }
            all.add(source, section, MAIN, 0)?;
        }
        Ok(all)
    }

    fn add(&mut self, source: &Source, node: Node<'a, 'i>, class: usize, depth: usize) -> Read<()> {
        Element::new(source, node, vec![]).finish(&["class"])?;
        if depth > DEEPEST {
            return Err(source.wrong(source.of(node), format!("classes are nested deeper than {DEEPEST}")));
        }
        for inner in source.inside(node)? {
            let name = inner.tag_name().name();
            if let Some((_, kind)) = KINDS.iter().find(|(n, _)| *n == name) {
                self.classes[class].elements.push((kind, inner));
            } else if name == "default" {
                let named = inner.attribute("class").map(str::trim).filter(|n| !n.is_empty());
                let Some(named) = named else {
                    return Err(
                        source.wrong(source.of(inner), "a class inside another needs a name\n  add class=\"...\"")
                    );
                };
                if self.classes.iter().any(|c| c.name == named) {
                    return Err(
                        source.wrong(source.of(inner), format!("there are two classes `{named}`\n  rename one"))
                    );
                }
                self.classes.push(Class { name: named.into(), parent: Some(class), elements: vec![] });
                self.add(source, inner, self.classes.len() - 1, depth + 1)?;
            } else if !LOOKS.contains(&name) {
                let known: Vec<&str> = KINDS.iter().map(|(n, _)| *n).chain(LOOKS).chain(["default"]).collect();
                return Err(source.unknown(inner, &known));
            }
        }
        Ok(())
    }

    /// The class that an attribute of `node` names, if it has that attribute.
    pub fn named(&self, source: &Source, node: Node, attribute: &str) -> Read<Option<usize>> {
        let Some(a) = node.attribute_node(attribute) else { return Ok(None) };
        let name = a.value().trim();
        let found = self.classes.iter().position(|c| c.name == name);
        found.map(Some).ok_or_else(|| {
            let near = crate::config::nearest(name, self.classes.iter().map(|c| c.name.as_str()));
            let near = near.map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
            source.wrong(source.place(a.range().start), format!("there is no default class `{name}`{near}"))
        })
    }

    /// What `class` and those around it say of elements of a kind, the outermost first.
    pub fn of(&self, class: usize, kind: &str) -> Vec<Node<'a, 'i>> {
        let path: Vec<usize> = std::iter::successors(Some(class), |&c| self.classes[c].parent).collect();
        let elements = path.iter().rev().flat_map(|&c| &self.classes[c].elements);
        elements.filter(|(k, _)| *k == kind).map(|(_, node)| *node).collect()
    }

    /// Every element of a kind in the classes, to be read for its own sake.
    pub fn every(&self, kind: &str) -> impl Iterator<Item = Node<'a, 'i>> {
        self.classes.iter().flat_map(|c| &c.elements).filter(move |(k, _)| *k == kind).map(|(_, node)| *node)
    }
}
