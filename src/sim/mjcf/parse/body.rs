//! Bodies, their masses and their joints.

use super::super::defaults::{DEEPEST, MAIN};
use super::super::frame::*;
use super::super::model::*;
use super::super::xml::{Element, Given, Read};
use super::{Reader, SOLIMP, SOLREF, name_of};
use crate::sim::quat::{Quat, Transform};
use roxmltree::Node;

impl<'a, 'i> Reader<'a, 'i> {
    pub(super) fn empty_body(&self, node: Node, parent: Option<usize>) -> Body {
        Body {
            place: self.source.of(node),
            name: None,
            parent,
            frame: Transform::identity(),
            inertial: None,
            joints: vec![],
            geoms: vec![],
            sites: vec![],
            gravcomp: Given::default(0.0),
            mocap: Given::default(false),
        }
    }

    /// What stands inside body number `at`, whose elements have `class` unless they name another.
    pub(super) fn inside_body(
        &self,
        node: Node<'a, 'i>,
        at: usize,
        class: usize,
        depth: usize,
        bodies: &mut Vec<Body>,
    ) -> Read<()> {
        if depth > DEEPEST {
            return Err(self.source.wrong(self.source.of(node), format!("bodies are nested deeper than {DEEPEST}")));
        }
        let inner = self.source.inside(node)?;
        let wrong = |node, message: &str| Err(self.source.wrong(self.source.of(node), message));
        // Joints and geoms first: the numbers of bodies go depth first.
        for &n in &inner {
            match n.tag_name().name() {
                "joint" | "freejoint" | "inertial" if at == 0 => return wrong(n, "the world does not move"),
                "joint" => bodies[at].joints.push(self.joint(self.with_class(n, "joint", class)?, true)?),
                "freejoint" => bodies[at].joints.push(self.free_joint(n)?),
                "inertial" if bodies[at].inertial.is_some() => return wrong(n, "a body has one `inertial`"),
                "inertial" => bodies[at].inertial = Some(self.inertial(n)?),
                "geom" => bodies[at].geoms.push(self.geom(self.with_class(n, "geom", class)?, true)?),
                "site" => bodies[at].sites.push(self.site(self.with_class(n, "site", class)?)?),
                "body" | "camera" | "light" => {}
                name @ ("frame" | "replicate" | "attach" | "composite" | "flexcomp" | "plugin" | "include") => {
                    let message =
                        format!("`{name}` cannot be read\n  write out the bodies and geoms that it stands for");
                    return Err(self.source.wrong(self.source.of(n), message));
                }
                _ => {
                    let known = ["body", "joint", "freejoint", "inertial", "geom", "site", "camera", "light"];
                    return Err(self.source.unknown(n, &known));
                }
            }
        }
        for n in inner.into_iter().filter(|n| n.tag_name().name() == "body") {
            let e = self.element(n, "body", class);
            let mut body = self.empty_body(n, Some(at));
            body.name = name_of(&e);
            body.frame = frame(&e, self.compiler.angles)?;
            body.gravcomp = e.number("gravcomp", 0.0)?;
            body.mocap = e.flag("mocap", false)?;
            let class = self.classes.named(self.source, n, "childclass")?.unwrap_or(class);
            e.finish(&["childclass", "user", "sleep"])?;
            if let (Some(name), Some(_)) = (&body.name, bodies.iter().find(|b| b.name == body.name)) {
                return Err(self.source.wrong(body.place, format!("there are two bodies `{name}`\n  rename one")));
            }
            bodies.push(body);
            let own = bodies.len() - 1;
            self.inside_body(n, own, class, depth + 1, bodies)?;
        }
        Ok(())
    }

    fn inertial(&self, node: Node<'a, 'i>) -> Read<Inertial> {
        let e = self.element(node, "inertial", MAIN);
        let (turn, mut frame) = (orientation(&e, self.compiler.angles)?, frame(&e, self.compiler.angles)?);
        let missing = |what| e.wrong(e.place(), format!("`inertial` has no `{what}`\n  add it"));
        let (pos, mass) = (e.maybe::<3>("pos")?, e.maybe::<1>("mass")?);
        let (diagonal, full) = (e.maybe::<3>("diaginertia")?, e.maybe::<6>("fullinertia")?);
        e.finish_empty(&[])?;
        pos.ok_or_else(|| missing("pos"))?;
        let mass = mass.ok_or_else(|| missing("mass"))?;
        let inertia = match (diagonal, full) {
            (Some(d), None) => {
                let [x, y, z] = d.value;
                [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]
            }
            (None, Some(f)) => {
                if let Some(place) = turn.place {
                    let message = "`fullinertia` has axes of its own\n  leave the orientation out";
                    return Err(e.wrong(place, message));
                }
                let [xx, yy, zz, xy, xz, yz] = f.value;
                frame.q = Quat::identity();
                [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
            }
            (Some(_), Some(f)) => {
                let message =
                    "the inertia is given twice, by `diaginertia` and by `fullinertia`\n  keep one of the two";
                return Err(e.wrong(f.place.unwrap_or_default(), message));
            }
            (None, None) => return Err(missing("diaginertia")),
        };
        if mass.value[0] < 0.0 {
            return Err(e.wrong(mass.place.unwrap_or_default(), "`mass` is not negative"));
        }
        Ok(Inertial { place: e.place(), mass: mass.value[0], frame, inertia })
    }

    /// Whether a range holds: as `name` says, or as a range that is given.
    pub(super) fn limited(
        &self,
        e: &Element,
        name: &'static str,
        range: &Given<[f64; 2]>,
        complete: bool,
    ) -> Read<bool> {
        let words = [("true", Some(true)), ("false", Some(false)), ("auto", None)];
        let word = e.word(name, &words, None)?;
        let place = word.place.or(range.place).unwrap_or_default();
        match word.value {
            Some(limited) => Ok(limited),
            None if self.compiler.autolimits || !range.is_given() || !complete => Ok(range.is_given()),
            None => Err(e.wrong(place, format!("there is a range, and `autolimits` is off\n  say `{name}`"))),
        }
    }

    /// A range of which the first number is smaller.
    pub(super) fn range(&self, e: &Element, name: &'static str) -> Read<Given<[f64; 2]>> {
        let range = e.exactly(name, [0.0; 2])?;
        match range.place {
            Some(place) if range.value[0] > range.value[1] => {
                Err(e.wrong(place, format!("`{name}` ends before it begins\n  exchange the two numbers")))
            }
            _ => Ok(range),
        }
    }

    /// A range and whether it holds: none if not.
    pub(super) fn held(&self, e: &Element, names: [&'static str; 2], complete: bool) -> Read<Option<Given<[f64; 2]>>> {
        let given = self.range(e, names[1])?;
        Ok(self.limited(e, names[0], &given, complete)?.then_some(given))
    }

    /// `complete` is false for what stands in a default class.
    pub(super) fn joint(&self, e: Element, complete: bool) -> Read<Joint> {
        let joint = self.joint_of(&e, complete)?;
        e.finish_empty(&["name", "class", "group", "user"])?;
        if complete && joint.limited && joint.range.value[0] >= joint.range.value[1] {
            let message = "a joint with a limit needs a `range` of two different numbers";
            return Err(e.wrong(joint.range.place.unwrap_or(e.place()), message));
        }
        Ok(joint)
    }

    fn joint_of(&self, e: &Element, complete: bool) -> Read<Joint> {
        let kinds = [
            ("free", JointType::Free),
            ("ball", JointType::Ball),
            ("slide", JointType::Slide),
            ("hinge", JointType::Hinge),
        ];
        let kind = e.word("type", &kinds, JointType::Hinge)?.value;
        let axis = e.exactly("axis", [0.0, 0.0, 1.0])?;
        let Some(direction) = unit(axis.value) else {
            return Err(e.wrong(axis.place.unwrap_or_default(), "`axis` has no direction\n  its numbers are not all 0"));
        };
        // Coordinates of a slide are lengths, all others are angles.
        let scale = if kind == JointType::Slide { 1.0 } else { self.compiler.angles.unit };
        let range = self.range(e, "range")?;
        let limited = self.limited(e, "limited", &range, complete)?;
        Ok(Joint {
            place: e.place(),
            name: name_of(e),
            kind,
            anchor: e.exactly("pos", [0.0; 3])?.value,
            axis: direction.array(),
            limited,
            range: range.map(|r| r.map(|x| x * scale)),
            reference: e.number("ref", 0.0)?.value * scale,
            springref: e.number("springref", 0.0)?.value * scale,
            stiffness: e.amount("stiffness", 0.0)?,
            damping: e.amount("damping", 0.0)?,
            springdamper: e.exactly("springdamper", [0.0; 2])?,
            armature: e.amount("armature", 0.0)?,
            frictionloss: e.amount("frictionloss", 0.0)?,
            margin: e.number("margin", 0.0)?,
            solref_limit: e.some("solreflimit", SOLREF)?,
            solimp_limit: e.some("solimplimit", SOLIMP)?,
            solref_friction: e.some("solreffriction", SOLREF)?,
            solimp_friction: e.some("solimpfriction", SOLIMP)?,
            actuator_range: self.held(e, ["actuatorfrclimited", "actuatorfrcrange"], complete)?,
            actuator_gravcomp: e.flag("actuatorgravcomp", false)?,
        })
    }

    fn free_joint(&self, node: Node<'a, 'i>) -> Read<Joint> {
        // It takes nothing from the defaults.
        let e = Element::new(self.source, node, vec![]);
        let align = e.word("align", &[("true", Some(true)), ("false", Some(false)), ("auto", None)], None)?;
        if let (Some(true), Some(place)) = (align.value, align.place) {
            return Err(e.wrong(place, "`align` cannot be read\n  move the frame of the body instead"));
        }
        let joint = Joint { kind: JointType::Free, ..self.joint_of(&e, true)? };
        e.finish_empty(&["group"])?;
        Ok(joint)
    }
}
