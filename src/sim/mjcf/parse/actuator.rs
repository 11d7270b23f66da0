//! Tendons, and actuators on joints and tendons.

use super::super::defaults::MAIN;
use super::super::model::*;
use super::super::xml::{Element, Given, Read};
use super::{Reader, SOLIMP, SOLREF, name_of};
use roxmltree::Node;

/// Kinds of actuators that a file may have.
const ACTUATORS: [&str; 10] =
    ["motor", "general", "position", "velocity", "intvelocity", "damper", "cylinder", "muscle", "adhesion", "plugin"];

impl<'a, 'i> Reader<'a, 'i> {
    pub(super) fn tendons(&self, sections: &[Node<'a, 'i>]) -> Read<Vec<Tendon>> {
        let mut all = Vec::new();
        for &section in sections {
            self.element(section, "section", MAIN).finish(&[])?;
            for node in self.source.inside(section)? {
                let e = self.with_class(node, "tendon", MAIN)?;
                let path = match node.tag_name().name() {
                    "fixed" => Path::Fixed(self.fixed(node)?),
                    "spatial" => self.spatial(node)?,
                    _ => return Err(self.source.unknown(node, &["fixed", "spatial"])),
                };
                all.push(self.tendon(e, path, true)?);
            }
        }
        Ok(all)
    }

    fn fixed(&self, node: Node<'a, 'i>) -> Read<Vec<(Given<String>, f64)>> {
        let mut joints = Vec::new();
        for inner in self.source.inside(node)? {
            let e = self.element(inner, "wrap", MAIN);
            if inner.tag_name().name() != "joint" {
                return Err(self.source.unknown(inner, &["joint"]));
            }
            let joint = e.text("joint").ok_or_else(|| e.wrong(e.place(), "say which: `joint` is missing"))?;
            let factor = e.maybe::<1>("coef")?.ok_or_else(|| e.wrong(e.place(), "`coef` is missing"))?;
            e.finish_empty(&[])?;
            joints.push((joint, factor.value[0]));
        }
        Ok(joints)
    }

    fn spatial(&self, node: Node<'a, 'i>) -> Read<Path> {
        let (mut sites, mut wraps) = (Vec::new(), Vec::new());
        for inner in self.source.inside(node)? {
            let e = self.element(inner, "wrap", MAIN);
            match inner.tag_name().name() {
                "site" => {
                    sites.push(e.text("site").ok_or_else(|| e.wrong(e.place(), "say which: `site` is missing"))?);
                    e.finish_empty(&[])?;
                }
                name @ ("geom" | "pulley") => {
                    wraps.push(Given { value: name.to_owned(), place: Some(e.place()) });
                    e.finish_empty(&["geom", "sidesite", "divisor"])?;
                }
                _ => return Err(self.source.unknown(inner, &["site", "geom", "pulley"])),
            }
        }
        Ok(Path::Spatial { sites, wraps })
    }

    pub(super) fn tendon(&self, e: Element, path: Path, complete: bool) -> Read<Tendon> {
        let range = self.range(&e, "range")?;
        let limited = self.limited(&e, "limited", &range, complete)?;
        let springlength = e.some("springlength", [-1.0, f64::NAN])?;
        let springlength = springlength.map(|[a, b]| if b.is_nan() { [a, a] } else { [a, b] });
        let tendon = Tendon {
            place: e.place(),
            name: name_of(&e),
            path,
            limited,
            range,
            stiffness: e.amount("stiffness", 0.0)?,
            damping: e.amount("damping", 0.0)?,
            frictionloss: e.amount("frictionloss", 0.0)?,
            armature: e.amount("armature", 0.0)?,
            springlength,
            margin: e.number("margin", 0.0)?,
            solref_limit: e.some("solreflimit", SOLREF)?,
            solimp_limit: e.some("solimplimit", SOLIMP)?,
            other: ["solreffriction", "solimpfriction", "actuatorfrclimited", "actuatorfrcrange"]
                .into_iter()
                .find_map(|name| Some(e.text(name)?.map(|_| name.to_owned()))),
        };
        e.finish(&["name", "class", "group", "material", "rgba", "user", "width"])?;
        Ok(tendon)
    }

    pub(super) fn actuators(&self, sections: &[Node<'a, 'i>]) -> Read<Vec<Actuator>> {
        let mut all = Vec::new();
        for &section in sections {
            self.element(section, "section", MAIN).finish(&[])?;
            for node in self.source.inside(section)? {
                if !ACTUATORS.contains(&node.tag_name().name()) {
                    return Err(self.source.unknown(node, &ACTUATORS));
                }
                all.push(self.actuator(self.with_class(node, "actuator", MAIN)?, true)?);
            }
        }
        Ok(all)
    }

    pub(super) fn actuator(&self, e: Element, complete: bool) -> Read<Actuator> {
        let element = e.node.tag_name().name();
        let ways = ["joint", "jointinparent", "tendon", "site", "body", "slidersite", "cranksite", "refsite"];
        let given: Vec<(&str, Given<String>)> = ways.iter().filter_map(|w| Some((*w, e.text(w)?))).collect();
        let other = |way: &str, g: &Given<String>| Transmission::Other(Given { value: way.into(), place: g.place });
        let transmission = match &given[..] {
            [] => Transmission::None,
            [("joint", name)] => Transmission::Joint(name.clone()),
            [("jointinparent", name)] => Transmission::JointInParent(name.clone()),
            [("tendon", name)] => Transmission::Tendon(name.clone()),
            [(way, g), ..] => other(way, g),
        };
        let actuation = self.actuation(&e, element)?;
        let actuator = Actuator {
            place: e.place(),
            element: element.to_owned(),
            name: name_of(&e),
            transmission,
            actuation,
            gear: e.some("gear", [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])?,
            control_range: self.held(&e, ["ctrllimited", "ctrlrange"], complete)?,
            force_range: self.held(&e, ["forcelimited", "forcerange"], complete)?,
        };
        // What is said of another kind is not looked at: what it is alone is refused or known.
        if !matches!(element, "motor" | "general" | "position" | "velocity") {
            return Ok(actuator);
        }
        // Lengths serve muscles alone, the crank its site, the range of an activation one that has it.
        e.finish_empty(&[
            "name",
            "class",
            "group",
            "user",
            "lengthrange",
            "cranklength",
            "actearly",
            "actlimited",
            "actrange",
        ])?;
        if complete && actuator.transmission == Transmission::None {
            return Err(e.wrong(e.place(), "this actuator acts on nothing\n  name its joint: joint=\"...\""));
        }
        Ok(actuator)
    }

    /// How an actuator makes force of its control. All kinds share their defaults; each is asked for what it has.
    fn actuation(&self, e: &Element, element: &str) -> Read<Actuation> {
        let given = |names: &[&'static str]| names.iter().find_map(|n| Some(e.text(n)?.map(|_| format!("`{n}`"))));
        let other = match element {
            "motor" => None,
            "general" => {
                let plain = |name, words: &[&str]| {
                    let text = e.text(name).filter(|t| !words.contains(&t.value.as_str()));
                    text.map(|t| t.map(|word| format!("`{name}` {word}")))
                };
                let kinds = [
                    plain("dyntype", &["none"]),
                    plain("gaintype", &["fixed"]),
                    plain("biastype", &["none", "affine"]),
                    given(&["dynprm", "actdim"]),
                ];
                kinds.into_iter().flatten().next()
            }
            "position" => given(&["timeconst", "dampratio", "inheritrange"]),
            "velocity" => None,
            _ => Some(Given { value: format!("`{element}`"), place: Some(e.place()) }),
        };
        let plain = match element {
            "general" => {
                let affine = e.text("biastype").is_some_and(|t| t.value == "affine");
                let (gain, bias) = (e.some("gainprm", [1.0; 10])?.value, e.some("biasprm", [0.0; 10])?.value);
                let bias = if affine { [bias[0], bias[1], bias[2]] } else { [0.0; 3] };
                Actuation::Affine { gain: gain[0], bias }
            }
            "position" => {
                let (kp, kv) = (e.amount("kp", 1.0)?.value, e.amount("kv", 0.0)?.value);
                Actuation::Affine { gain: kp, bias: [0.0, -kp, -kv] }
            }
            "velocity" => {
                let kv = e.amount("kv", 1.0)?.value;
                Actuation::Affine { gain: kv, bias: [0.0, 0.0, -kv] }
            }
            _ => Actuation::Affine { gain: 1.0, bias: [0.0; 3] },
        };
        Ok(other.map_or(plain, Actuation::Other))
    }
}
