//! Limits, dry friction and contacts of a file.

use super::super::law::{DryFriction, JointLimit, Meeting, Pair, Point, Round, Softness};
use super::rest::apart;
use super::{BodySeat, Compiling, Read, ShapeSeat, TINY};
use crate::sim::mjcf::model::{Geom, GeomType, Mjcf};
use crate::sim::mjcf::touch::GeomId;
use crate::sim::mjcf::{Given, Place};
use crate::sim::vec3::Vec3;

/// Limits and dry friction of joints.
type JointRows = (Vec<JointLimit<f64>>, Vec<DryFriction<f64>>);

impl Mjcf {
    pub(super) fn softness(
        &self,
        solref: &Given<[f64; 2]>,
        solimp: &Given<[f64; 5]>,
        place: Place,
    ) -> Read<Softness<f64>> {
        self.softness_of(solref.value, solimp.value, solref.place.or(solimp.place).unwrap_or(place))
    }

    /// From time constant and damping ratio, and the five numbers of an impedance.
    fn softness_of(&self, [time, ratio]: [f64; 2], solimp: [f64; 5], place: Place) -> Read<Softness<f64>> {
        if time <= 0.0 || ratio <= 0.0 {
            let message = "a constraint is given by time constant and damping ratio here\n  both are above 0";
            return Err(self.wrong(place, message));
        }
        let [first, last, width, middle, power] = solimp;
        let bounded = |x: f64| x.clamp(1e-4, 0.9999);
        let (first, last, middle, power) = (bounded(first), bounded(last), bounded(middle), power.max(1.0));
        if power.fract() != 0.0 || power > 16.0 {
            return Err(self.wrong(place, "the power of an impedance is a whole number from 1 to 16 here"));
        }
        let time = time.max(2.0 * self.option.timestep.value);
        let stiffness = 1.0 / (last * last * time * time * ratio * ratio);
        let damping = 2.0 / (last * time);
        let mut s = Softness {
            stiffness,
            damping,
            at_surface: first,
            inside: last,
            width,
            midpoint: middle,
            power: power as u32,
        };
        if first == last || width <= TINY {
            (s.at_surface, s.inside, s.width) = (0.5 * (first + last), 0.5 * (first + last), 1.0);
        }
        Ok(s)
    }
}

impl Compiling<'_> {
    pub(super) fn joint_rows(&self, weights: &[f64]) -> Read<JointRows> {
        let (file, f) = (self.file, &self.file.option.flags);
        let (mut limits, mut frictions) = (vec![], vec![]);
        for (joint, seat) in file.bodies.iter().flat_map(|b| &b.joints).zip(&self.joints) {
            let weight = weights[seat.dof];
            if let Some(range) = seat.range {
                let softness = file.softness(&joint.solref_limit, &joint.solimp_limit, joint.place)?;
                limits.push(JointLimit { q: seat.q, dof: seat.dof, range, softness, weight });
            }
            if joint.frictionloss.value > 0.0 && f.frictionloss.value && f.constraint.value {
                let softness = file.softness(&joint.solref_friction, &joint.solimp_friction, joint.place)?;
                frictions.push(DryFriction { dof: seat.dof, loss: joint.frictionloss.value, softness, weight });
            }
        }
        Ok((limits, frictions))
    }

    pub(super) fn pairs(&self, bodies: &[BodySeat], seats: &[ShapeSeat], paths: &[Vec<usize>]) -> Read<Vec<Pair<f64>>> {
        let file = self.file;
        let all: Vec<GeomId> = file.geoms().collect();
        let mut pairs = vec![];
        for (n, &a) in all.iter().enumerate() {
            for (m, &b) in all.iter().enumerate().skip(n + 1) {
                if !file.may_touch(a, b) {
                    continue;
                }
                // The first is the one of the simpler kind.
                let order = |g: &Geom| GeomType::ALL.iter().position(|(_, kind, _)| *kind == g.kind.value);
                let swapped = order(file.geom(b)) < order(file.geom(a));
                let (first, second) = if swapped { (m, n) } else { (n, m) };
                let (ga, gb) = (file.geom(all[first]), file.geom(all[second]));
                let meeting = self.meeting(ga, gb, &seats[first], &seats[second])?;
                let friction = self.contact(ga, gb)?;
                let mean2 = |x: [f64; 2], y: [f64; 2]| [0, 1].map(|i| 0.5 * (x[i] + y[i]));
                let solref = mean2(ga.solref.value, gb.solref.value);
                let solimp = [0, 1, 2, 3, 4].map(|i| 0.5 * (ga.solimp.value[i] + gb.solimp.value[i]));
                let given = [ga, gb].map(|g| g.solref.place.or(g.solimp.place));
                let place = given[0].or(given[1]).unwrap_or(gb.place);
                let softness = file.softness_of(solref, solimp, place)?;
                let links = [first, second].map(|g| seats[g].seat.link);
                let weight = [first, second].iter().map(|&g| bodies[seats[g].body].inverse_weight[0]).sum();
                let dofs = apart(links[0], links[1], paths);
                pairs.push(Pair { meeting, geoms: [first, second], dofs, friction, softness, weight });
            }
        }
        Ok(pairs)
    }

    /// The coefficient of friction of two geoms.
    fn contact(&self, a: &Geom, b: &Geom) -> Read<f64> {
        let file = self.file;
        for g in [a, b] {
            let message = "a contact slides in this law, and does nothing else\n  make `condim` 3";
            file.refuse(&g.condim, g.condim.value == 3, g.place, message)?;
            let message = "contacts have no priorities here\n  leave `priority` out";
            file.refuse(&g.priority, g.priority.value == 0, g.place, message)?;
            for (name, x) in [("margin", &g.margin), ("gap", &g.gap)] {
                let message = format!("`{name}`: contact begins at the surface here\n  leave it out");
                file.refuse(x, x.value == 0.0, g.place, &message)?;
            }
        }
        let message = "two geoms that touch are mixed in equal parts here\n  leave `solmix` out";
        file.refuse(&b.solmix, a.solmix.value == b.solmix.value, b.place, message)?;
        Ok(a.friction.value[0].max(b.friction.value[0]).max(1e-5))
    }

    fn meeting(&self, a: &Geom, b: &Geom, at: &ShapeSeat, bt: &ShapeSeat) -> Read<Meeting<f64>> {
        let up = Vec3::new(0.0, 0.0, 1.0);
        let round = |g: &Geom, s: &ShapeSeat| {
            let half = if g.kind.value == GeomType::Capsule { g.size[1] } else { 0.0 };
            let centre = Point { link: s.seat.link, at: s.seat.frame.p };
            Round { centre, axis: s.seat.frame.q.rotate(up), half, radius: g.size[0] }
        };
        let kinds = [a.kind.value, b.kind.value];
        Ok(match kinds {
            [GeomType::Plane, other @ (GeomType::Sphere | GeomType::Capsule)] if at.seat.link.is_none() => {
                let normal = at.seat.frame.q.rotate(up);
                let height = normal.dot(at.seat.frame.p);
                let shape = round(b, bt);
                match other {
                    GeomType::Sphere => Meeting::PlaneSphere { normal, height, ball: shape },
                    _ => Meeting::PlaneCapsule { normal, height, capsule: shape },
                }
            }
            [GeomType::Sphere, GeomType::Sphere] => Meeting::Spheres(round(a, at), round(b, bt)),
            [GeomType::Sphere, GeomType::Capsule] => Meeting::SphereCapsule(round(a, at), round(b, bt)),
            [GeomType::Capsule, GeomType::Capsule] => Meeting::Capsules(round(a, at), round(b, bt)),
            [one, other] => {
                let message = format!(
                    "this {} may touch the {} of line {}: planes of the world, spheres and capsules touch here\n  take one \
                     of those, or keep the two apart by `contype` and `conaffinity`",
                    other.name(),
                    one.name(),
                    a.place.line
                );
                return Err(self.file.wrong(b.place, message));
            }
        })
    }
}
