//! Geoms and sites.

use super::super::frame::*;
use super::super::model::*;
use super::super::xml::{Element, Given, Read};
use super::{Reader, SEEN, SOLIMP, SOLREF, name_of};
use crate::sim::quat::Transform;
use crate::sim::vec3::Vec3;

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

impl<'a, 'i> Reader<'a, 'i> {
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

    pub(super) fn geom(&self, e: Element, complete: bool) -> Read<Geom> {
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

    pub(super) fn site(&self, e: Element) -> Read<Site> {
        let form = self.form(&e)?;
        // It only marks a place: its size is taken where none is given.
        let size = form.sizes().map(|x| if x > 0.0 { x } else { 0.005 });
        let site = Site { place: e.place(), name: name_of(&e), kind: form.kind.value, size, frame: form.frame };
        e.finish_empty(&SEEN)?;
        Ok(site)
    }
}
