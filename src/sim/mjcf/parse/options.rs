//! Compiler, options and flags: how the file is to be read, and what it says of the simulation.

use super::super::frame::Angles;
use super::super::model::*;
use super::super::xml::{Element, Given, Read, Source};
use roxmltree::Node;

/// A section that may stand several times: a later one wins.
fn merged<'a, 'i>(source: &'a Source<'a>, nodes: &[Node<'a, 'i>]) -> Option<Element<'a, 'i>> {
    let (last, before) = nodes.split_last()?;
    Some(Element::new(source, *last, before.to_vec()))
}

pub(super) fn compiler_of(source: &Source, nodes: &[Node]) -> Read<Compiler> {
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

pub(super) fn options_of(source: &Source, nodes: &[Node]) -> Read<Options> {
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
