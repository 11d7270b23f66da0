//! From the elements of a file to the [`Mjcf`].

use super::defaults::{Classes, DEEPEST, MAIN};
use super::frame::{Angles, frame, orientation, unit, z_axis_to};
use super::model::*;
use super::xml::{Element, Given, MjcfError, Place, Read, Source};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;
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

/// A section that may stand several times: a later one wins.
fn merged<'a, 'i>(source: &'a Source<'a>, nodes: &[Node<'a, 'i>]) -> Option<Element<'a, 'i>> {
    let (last, before) = nodes.split_last()?;
    Some(Element::new(source, *last, before.to_vec()))
}

fn compiler_of(source: &Source, nodes: &[Node]) -> Read<Compiler> {
    let mut c = Compiler {
        angles: Angles::default(),
        autolimits: true,
        inertia_from_geom: InertiaFromGeom::Auto,
        inertia_groups: [0, 5],
        total_mass: 0.0,
        least_mass: 0.0,
        least_inertia: 0.0,
        balance_inertia: false,
        align_free: Given::default(false),
    };
    for n in 1..=nodes.len() {
        let Some(e) = merged(source, &nodes[..n]) else { break };
        c.angles.unit = e.word("angle", &[("degree", 1f64.to_radians()), ("radian", 1.0)], 1f64.to_radians())?.value;
        if let Some(sequence) = e.text("eulerseq") {
            let letters: Option<[u8; 3]> = sequence.value.bytes().collect::<Vec<_>>().try_into().ok();
            let letters = letters.filter(|s| s.iter().all(|c| (b'x'..=b'z').contains(&c.to_ascii_lowercase())));
            c.angles.sequence = letters.ok_or_else(|| {
                e.wrong(sequence.place.unwrap_or_default(), "`eulerseq` is three letters of xyz and XYZ")
            })?;
        }
        let coordinate = e.word("coordinate", &[("local", true), ("global", false)], true)?;
        if !coordinate.value {
            let message = "global coordinates cannot be read\n  MuJoCo gave them up: save the file with local ones";
            return Err(e.wrong(coordinate.place.unwrap_or_default(), message));
        }
        let from =
            [("auto", InertiaFromGeom::Auto), ("true", InertiaFromGeom::Always), ("false", InertiaFromGeom::Never)];
        c.inertia_from_geom = e.word("inertiafromgeom", &from, InertiaFromGeom::Auto)?.value;
        c.autolimits = e.flag("autolimits", true)?.value;
        c.inertia_groups = e.exactly("inertiagrouprange", [0.0, 5.0])?.value.map(|x| x as i32);
        c.total_mass = e.number("settotalmass", -1.0)?.value;
        c.least_mass = e.amount("boundmass", 0.0)?.value;
        c.least_inertia = e.amount("boundinertia", 0.0)?.value;
        c.balance_inertia = e.flag("balanceinertia", false)?.value;
        c.align_free = e.flag("alignfree", false)?;
        for inner in source.inside(e.node)? {
            if inner.tag_name().name() != "lengthrange" {
                return Err(source.unknown(inner, &["lengthrange"]));
            }
        }
        // Files of assets, and what is kept of parts that do not move.
        e.finish(&[
            "strippath",
            "meshdir",
            "texturedir",
            "assetdir",
            "discardvisual",
            "usethread",
            "fusestatic",
            "saveinertial",
            "fitaabb",
            "convexhull",
            "exactmeshinertia",
        ])?;
    }
    Ok(c)
}

const SWITCH: [(&str, bool); 2] = [("enable", true), ("disable", false)];

fn options_of(source: &Source, nodes: &[Node]) -> Read<Options> {
    let none: [Node; 0] = [];
    let mut flags = flags_of(source, &none)?;
    let mut o = Options {
        timestep: Given::default(0.002),
        gravity: Given::default([0.0, 0.0, -9.81]),
        wind: Given::default([0.0; 3]),
        density: Given::default(0.0),
        viscosity: Given::default(0.0),
        integrator: Given::default(Integrator::Euler),
        cone: Given::default(Cone::Pyramidal),
        impratio: Given::default(1.0),
        contact_override: None,
        flags: flags.clone(),
    };
    let mut switches = Vec::new();
    for n in 1..=nodes.len() {
        let Some(e) = merged(source, &nodes[..n]) else { break };
        o.timestep = e.number("timestep", 0.002)?;
        if let (true, Some(place)) = (o.timestep.value <= 0.0, o.timestep.place) {
            return Err(e.wrong(place, "`timestep` is more than 0"));
        }
        o.gravity = e.exactly("gravity", [0.0, 0.0, -9.81])?;
        o.wind = e.exactly("wind", [0.0; 3])?;
        o.density = e.amount("density", 0.0)?;
        o.viscosity = e.amount("viscosity", 0.0)?;
        o.impratio = e.amount("impratio", 1.0)?;
        let integrators = [
            ("Euler", Integrator::Euler),
            ("RK4", Integrator::RungeKutta4),
            ("implicit", Integrator::Implicit),
            ("implicitfast", Integrator::ImplicitFast),
        ];
        o.integrator = e.word("integrator", &integrators, Integrator::Euler)?;
        o.cone = e.word("cone", &[("pyramidal", Cone::Pyramidal), ("elliptic", Cone::Elliptic)], Cone::Pyramidal)?;
        let overriding = ["o_margin", "o_solref", "o_solimp", "o_friction"].map(|name| (name, e.text(name)));
        let given = overriding.into_iter().find_map(|(name, text)| Some(text?.map(|_| name.to_owned())));
        o.contact_override = given;
        if let Some(groups) = e.text("actuatorgroupdisable") {
            let message = "`actuatorgroupdisable` cannot be read\n  leave those actuators out";
            return Err(e.wrong(groups.place.unwrap_or_default(), message));
        }
        for inner in source.inside(e.node)? {
            match inner.tag_name().name() {
                "flag" => switches.push(inner),
                _ => return Err(source.unknown(inner, &["flag"])),
            }
        }
        // Of MuJoCo's solvers, and of what is not computed here.
        e.finish(&[
            "solver",
            "iterations",
            "tolerance",
            "ls_iterations",
            "ls_tolerance",
            "noslip_iterations",
            "noslip_tolerance",
            "ccd_iterations",
            "ccd_tolerance",
            "mpr_iterations",
            "mpr_tolerance",
            "sdf_iterations",
            "sdf_initpoints",
            "sleep_tolerance",
            "jacobian",
            "apirate",
            "magnetic",
            "collision",
        ])?;
        flags = flags_of(source, &switches)?;
    }
    o.flags = flags;
    Ok(o)
}

fn flags_of(source: &Source, nodes: &[Node]) -> Read<Flags> {
    let on = Given::default(true);
    let mut f = Flags {
        constraint: on,
        equality: on,
        frictionloss: on,
        limit: on,
        contact: on,
        spring: on,
        damper: on,
        gravity: on,
        clampctrl: on,
        filterparent: on,
        actuation: on,
        eulerdamp: on,
        contact_override: Given::default(false),
        multiccd: Given::default(false),
    };
    for n in 1..=nodes.len() {
        let Some(e) = merged(source, &nodes[..n]) else { break };
        let switch = |name, default| e.word(name, &SWITCH, default);
        f.constraint = switch("constraint", true)?;
        f.equality = switch("equality", true)?;
        f.frictionloss = switch("frictionloss", true)?;
        f.limit = switch("limit", true)?;
        f.contact = switch("contact", true)?;
        let passive = switch("passive", true)?;
        let part = |given: Given<bool>| if passive.value { given } else { passive };
        f.spring = part(switch("spring", true)?);
        f.damper = part(switch("damper", true)?);
        f.gravity = switch("gravity", true)?;
        f.clampctrl = switch("clampctrl", true)?;
        f.filterparent = switch("filterparent", true)?;
        f.actuation = switch("actuation", true)?;
        f.eulerdamp = switch("eulerdamp", true)?;
        f.contact_override = switch("override", false)?;
        f.multiccd = switch("multiccd", false)?;
        e.finish_empty(&[
            "warmstart",
            "refsafe",
            "sensor",
            "midphase",
            "nativeccd",
            "autoreset",
            "island",
            "energy",
            "fwdinv",
            "invdiscrete",
            "sensornoise",
            "sleep",
        ])?;
    }
    Ok(f)
}

/// Kinds of actuators that a file may have.
const ACTUATORS: [&str; 10] =
    ["motor", "general", "position", "velocity", "intvelocity", "damper", "cylinder", "muscle", "adhesion", "plugin"];

/// The shape of a geom or a site, as far as it is given.
struct Form {
    kind: Given<GeomType>,
    size: Given<[f64; 3]>,
    frame: Transform<f64>,
    ends: Option<Given<[[f64; 3]; 2]>>,
}

impl Form {
    /// How many numbers its size has.
    fn numbers(&self) -> usize {
        GeomType::ALL.iter().find(|(_, kind, _)| *kind == self.kind.value).map_or(0, |(.., n)| *n)
    }

    /// Its size, 0 for numbers that its kind does not have.
    fn sizes(&self) -> [f64; 3] {
        let mut sizes = self.size.value;
        sizes[self.numbers()..].fill(0.0);
        sizes
    }

    /// Refuses a shape without size, and ends of one that has none.
    fn check(&self, e: &Element) -> Read<()> {
        let name = self.kind.value.name();
        let with_ends = matches!(name, "capsule" | "cylinder" | "box" | "ellipsoid");
        if let (Some(ends), false) = (&self.ends, with_ends) {
            let message = format!("a {name} has no two ends\n  leave `fromto` out");
            return Err(e.wrong(ends.place.unwrap_or_default(), message));
        }
        // A plane's size is how much of it is drawn.
        let n = self.numbers();
        if self.kind.value != GeomType::Plane && self.sizes()[..n].iter().any(|x| *x <= 0.0) {
            let n = if self.ends.is_some() { 1 } else { n };
            let numbers = if n == 1 { "a number" } else { &format!("{n} numbers") };
            let message = format!("the size of a {name} is {numbers} above 0");
            return Err(e.wrong(self.size.place.unwrap_or(e.place()), message));
        }
        Ok(())
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

    fn empty_body(&self, node: Node, parent: Option<usize>) -> Body {
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
    fn inside_body(
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
    fn limited(&self, e: &Element, name: &'static str, range: &Given<[f64; 2]>, complete: bool) -> Read<bool> {
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
    fn range(&self, e: &Element, name: &'static str) -> Read<Given<[f64; 2]>> {
        let range = e.exactly(name, [0.0; 2])?;
        match range.place {
            Some(place) if range.value[0] > range.value[1] => {
                Err(e.wrong(place, format!("`{name}` ends before it begins\n  exchange the two numbers")))
            }
            _ => Ok(range),
        }
    }

    /// A range and whether it holds: none if not.
    fn held(&self, e: &Element, names: [&'static str; 2], complete: bool) -> Read<Option<Given<[f64; 2]>>> {
        let given = self.range(e, names[1])?;
        Ok(self.limited(e, names[0], &given, complete)?.then_some(given))
    }

    /// `complete` is false for what stands in a default class.
    fn joint(&self, e: Element, complete: bool) -> Read<Joint> {
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

    /// What a geom and a site have in common.
    fn form(&self, e: &Element) -> Read<Form> {
        let words: Vec<(&str, GeomType)> = GeomType::ALL.map(|(name, kind, _)| (name, kind)).to_vec();
        let (kind, size) = (e.word("type", &words, GeomType::Sphere)?, e.some("size", [0.0; 3])?);
        let mut form = Form { kind, size, frame: frame(e, self.compiler.angles)?, ends: None };
        if let Some(fromto) = e.maybe::<6>("fromto")? {
            let [a, b] = [0, 3].map(|at| [fromto.value[at], fromto.value[at + 1], fromto.value[at + 2]]);
            let (from, to) = (Vec3::<f64>::of(a), Vec3::of(b));
            let along = from - to;
            let Some(direction) = unit(along.array()) else {
                let message = "the two ends are one point\n  `fromto` is two points apart";
                return Err(e.wrong(fromto.place.unwrap_or_default(), message));
            };
            form.frame = Transform { p: (from + to).scale(0.5), q: z_axis_to(direction) };
            let half = 0.5 * along.norm();
            let [across, ..] = size.value;
            form.size.value = match kind.value {
                GeomType::Box | GeomType::Ellipsoid => [across, across, half],
                _ => [across, half, 0.0],
            };
            form.ends = Some(fromto.map(|_| [a, b]));
        }
        Ok(form)
    }

    fn geom(&self, e: Element, complete: bool) -> Read<Geom> {
        let asset = match (e.text("mesh"), e.text("hfield")) {
            (None, field) => field,
            (mesh, _) => mesh,
        };
        let mut form = self.form(&e)?;
        if let Some(a) = &asset
            && !form.kind.is_given()
        {
            // A geom with a mesh is one, unless it is fitted to it.
            form.kind = Given { value: GeomType::Mesh, place: a.place };
        }
        let mass = e.maybe::<1>("mass")?.map(|m| m.map(|[m]| m));
        if let Some(Given { value, place: Some(place) }) = mass
            && value < 0.0
        {
            return Err(e.wrong(place, "`mass` is not negative"));
        }
        let geom = Geom {
            place: e.place(),
            name: name_of(&e),
            kind: form.kind,
            size: form.sizes(),
            frame: form.frame,
            ends: form.ends.map(|e| e.value),
            mass,
            density: e.amount("density", 1000.0)?,
            shell: e.flag("shellinertia", false)?,
            group: e.integer("group", 0)?.value,
            contype: e.integer("contype", 1)?,
            conaffinity: e.integer("conaffinity", 1)?,
            condim: e.word("condim", &[("1", 1), ("3", 3), ("4", 4), ("6", 6)], 3)?,
            priority: e.integer("priority", 0)?,
            friction: e.some("friction", [1.0, 0.005, 0.0001])?,
            solmix: e.number("solmix", 1.0)?,
            solref: e.some("solref", SOLREF)?,
            solimp: e.some("solimp", SOLIMP)?,
            margin: e.number("margin", 0.0)?,
            gap: e.number("gap", 0.0)?,
            fluid: e.word("fluidshape", &[("none", false), ("ellipsoid", true)], false)?,
            asset,
        };
        e.finish_empty(&["name", "class", "material", "rgba", "user", "fluidcoef", "fitscale"])?;
        if complete && geom.asset.is_none() {
            form.check(&e)?;
        }
        Ok(geom)
    }

    fn site(&self, e: Element) -> Read<Site> {
        let form = self.form(&e)?;
        // It only marks a place: its size is taken where none is given.
        let size = form.sizes().map(|x| if x > 0.0 { x } else { 0.005 });
        let site = Site { place: e.place(), name: name_of(&e), kind: form.kind.value, size, frame: form.frame };
        e.finish_empty(&SEEN)?;
        Ok(site)
    }

    fn tendons(&self, sections: &[Node<'a, 'i>]) -> Read<Vec<Tendon>> {
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

    fn tendon(&self, e: Element, path: Path, complete: bool) -> Read<Tendon> {
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

    fn actuators(&self, sections: &[Node<'a, 'i>]) -> Read<Vec<Actuator>> {
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

    fn actuator(&self, e: Element, complete: bool) -> Read<Actuator> {
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
