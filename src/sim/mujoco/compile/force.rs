//! Tendons, actuators and the medium of a file.

use super::super::law::{Actuator, Drag, Length, Point, Pulled, Tendon, View};
use super::super::rows::tendon_length;
use super::rest::{AtRest, apart};
use super::{BodySeat, Compiling, JointSeat, LARGEST, Read, ShapeSeat, TINY};
use crate::sim::kinematics::body_kinematics;
use crate::sim::mjcf::mass::principal;
use crate::sim::mjcf::model::{Actuation, JointType, Path, Transmission};
use crate::sim::mjcf::{Given, Place};
use crate::sim::vec3::Vec3;

impl Compiling<'_> {
    /// The hinge or slide that a name means.
    fn single(&self, name: &Given<String>, place: Place) -> Read<&JointSeat> {
        let at = name.place.unwrap_or(place);
        let Some(seat) = self.joints.iter().find(|j| j.name.as_ref() == Some(&name.value)) else {
            let names = self.joints.iter().filter_map(|j| j.name.as_deref());
            let near = crate::config::nearest(&name.value, names)
                .map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
            return Err(self.file.wrong(at, format!("there is no joint `{}`{near}", name.value)));
        };
        if !matches!(seat.kind, JointType::Hinge | JointType::Slide) {
            return Err(self.file.wrong(at, "only hinges and slides have one coordinate\n  take a hinge or a slide"));
        }
        Ok(seat)
    }

    pub(super) fn tendons(
        &self,
        sites: &[ShapeSeat],
        paths: &[Vec<usize>],
        at_rest: &AtRest,
    ) -> Read<Vec<Tendon<f64>>> {
        let file = self.file;
        let mut all = vec![];
        for t in &file.tendons {
            for (name, given) in [
                ("damping", &t.damping),
                ("frictionloss", &t.frictionloss),
                ("armature", &t.armature),
                ("margin", &t.margin),
            ] {
                let message = format!("a tendon has no {name} here\n  leave it out");
                file.refuse(given, given.value == 0.0, t.place, &message)?;
            }
            if let Some(other) = &t.other {
                let message = format!("a tendon has no `{}` here\n  leave it out", other.value);
                return Err(file.wrong(other.place.unwrap_or(t.place), message));
            }
            let length = match &t.path {
                Path::Fixed(terms) => Length::Fixed(
                    (terms.iter())
                        .map(|(name, factor)| self.single(name, t.place).map(|s| (s.q, s.dof, *factor)))
                        .collect::<Read<_>>()?,
                ),
                Path::Spatial { sites: names, wraps } => {
                    if let Some(wrap) = wraps.first() {
                        let message =
                            format!("a tendon passes no `{}` here: it is a line between two sites", wrap.value);
                        return Err(file.wrong(wrap.place.unwrap_or(t.place), message));
                    }
                    let [a, b] = &names[..] else {
                        return Err(file.wrong(t.place, "a tendon is a line between two sites here\n  name two"));
                    };
                    let end = |name: &Given<String>| {
                        let found = sites.iter().find(|s| s.name.as_ref() == Some(&name.value));
                        let place = name.place.unwrap_or(t.place);
                        let s = found.ok_or_else(|| file.wrong(place, format!("there is no site `{}`", name.value)))?;
                        Ok(Point { link: s.seat.link, at: s.seat.frame.p })
                    };
                    let ends = [end(a)?, end(b)?];
                    let dofs = apart(ends[0].link, ends[1].link, paths);
                    Length::Distance(ends, dofs)
                }
            };
            let mut row = [0.0; LARGEST.velocities];
            tendon_length(&length, &self.start, View { work: at_rest.w, far: Vec3::zero() }, &mut row);
            let rest = match t.springlength.value {
                [a, b] if a < 0.0 && b <= a => self.at_spring(&length, at_rest),
                [a, b] if a == b => a,
                _ => {
                    let message =
                        "the spring of a tendon has one length at rest here\n  give `springlength` one number";
                    return Err(file.wrong(t.springlength.place.unwrap_or(t.place), message));
                }
            };
            let lower = t.limited && t.range.value[0] > 0.0;
            if lower && self.limits_hold() {
                let place = t.range.place.unwrap_or(t.place);
                return Err(file.wrong(place, "a tendon is not kept from getting short here\n  begin its range with 0"));
            }
            let limit = match t.limited && self.limits_hold() {
                true => Some((t.range.value, file.softness(&t.solref_limit, &t.solimp_limit, t.place)?)),
                false => None,
            };
            let weight = at_rest.inverse(&row);
            all.push(Tendon { length, stiffness: t.stiffness.value, rest, limit, weight });
        }
        Ok(all)
    }

    /// The length of a tendon where all springs of joints rest.
    fn at_spring(&self, length: &Length<f64>, at_rest: &AtRest) -> f64 {
        let mut q = self.start.clone();
        for (joint, seat) in self.file.bodies.iter().flat_map(|b| &b.joints).zip(&self.joints) {
            if matches!(joint.kind, JointType::Hinge | JointType::Slide) {
                q[seat.q] = joint.springref;
            }
        }
        let mut w = *at_rest.w;
        let rest = vec![0.0; at_rest.model.velocities];
        (0..at_rest.model.links.len()).for_each(|i| body_kinematics(at_rest.model, i, &q, &rest, &mut w));
        tendon_length(length, &q, View { work: &w, far: Vec3::zero() }, &mut [0.0; LARGEST.velocities])
    }

    pub(super) fn actuators(&self) -> Read<Vec<Actuator<f64>>> {
        let file = self.file;
        if !file.option.flags.actuation.value {
            return Ok(vec![]);
        }
        let mut all = vec![];
        for a in &file.actuators {
            let (gain, bias) = match &a.actuation {
                Actuation::Affine { gain, bias: [constant, length, 0.0] } => (*gain, [*constant, *length]),
                Actuation::Affine { .. } => {
                    let message =
                        format!("`{}`: forces do not depend on velocity here\n  give the joint `damping`", a.element);
                    return Err(file.wrong(a.place, message));
                }
                Actuation::Other(what) => {
                    let message = format!("an actuator with {} cannot be represented\n  take a `motor`", what.value);
                    return Err(file.wrong(what.place.unwrap_or(a.place), message));
                }
            };
            let pulled = match &a.transmission {
                Transmission::Joint(joint) | Transmission::JointInParent(joint) => {
                    let seat = self.single(joint, a.place)?;
                    Pulled::Joint { q: seat.q, dof: seat.dof }
                }
                Transmission::Tendon(name) => {
                    let at = file.tendons.iter().position(|t| t.name.as_ref() == Some(&name.value));
                    let place = name.place.unwrap_or(a.place);
                    Pulled::Tendon(at.ok_or_else(|| file.wrong(place, format!("there is no tendon `{}`", name.value)))?)
                }
                Transmission::Other(at) => {
                    let message =
                        format!("nothing is driven through a `{}` here\n  name a joint or a tendon", at.value);
                    return Err(file.wrong(at.place.unwrap_or(a.place), message));
                }
                Transmission::None => return Err(file.wrong(a.place, "this actuator acts on nothing")),
            };
            if let Some(range) = &a.force_range {
                let message = "forces of actuators are not cut here\n  leave the force range out";
                return Err(file.wrong(range.place.unwrap_or(a.place), message));
            }
            let rest = a.gear.value[1..].iter().all(|x| *x == 0.0);
            file.refuse(&a.gear, rest, a.place, "what is pulled has one length\n  give `gear` one number")?;
            let range = a.control_range.as_ref().map(|r| r.value).filter(|_| file.option.flags.clampctrl.value);
            all.push(Actuator { pulled, gear: a.gear.value[0], gain, bias, range });
        }
        Ok(all)
    }

    /// What the medium does to each body with mass.
    pub(super) fn drags(&self, bodies: &[BodySeat]) -> Vec<Drag<f64>> {
        let density = self.file.option.density.value;
        if density == 0.0 {
            return vec![];
        }
        let heavy = bodies.iter().filter(|b| b.mass.mass > 0.0);
        heavy
            .filter_map(|b| {
                let link = b.seat.link?;
                let (moments, axes) = principal(b.mass.inertia);
                let sum: f64 = moments.iter().sum();
                let side = |i: usize| ((6.0 * (sum - 2.0 * moments[i])).max(TINY) / b.mass.mass).sqrt();
                let s = [side(0), side(1), side(2)];
                let across = |i: usize| [s[(i + 1) % 3], s[(i + 2) % 3]];
                let force = [0, 1, 2].map(|i| 0.5 * density * across(i)[0] * across(i)[1]);
                let torque = [0, 1, 2].map(|i| {
                    let [j, k] = across(i).map(|x| x.powi(4));
                    density * s[i] * (j + k) / 64.0
                });
                let turn = b.seat.frame.q.matrix();
                let com = b.seat.frame.q.rotate(b.mass.com) + b.seat.frame.p;
                Some(Drag { link, com, axes: turn.mul(&axes), force: Vec3::of(force), torque: Vec3::of(torque) })
            })
            .collect()
    }
}
