//! Masses and inertias of geoms and bodies, as MuJoCo has them.

use super::model::{Body, Geom, GeomType, InertiaFromGeom, Mjcf};
use super::xml::MjcfError;
use crate::sim::mass::MassProperties;
use crate::sim::vec3::{Mat3, Vec3};
use std::f64::consts::PI;

/// Volume (m³) of a solid of this shape, and its principal moments for a mass of 1 (m²), in its own frame. None of a
/// shape that an asset gives, or that has no volume.
fn solid(kind: GeomType, [a, b, c]: [f64; 3]) -> Option<(f64, [f64; 3])> {
    Some(match kind {
        GeomType::Sphere => (4.0 / 3.0 * PI * a.powi(3), [0.4 * a * a; 3]),
        GeomType::Capsule => {
            let (r, h) = (a, 2.0 * b);
            let ends = 4.0 * r / (4.0 * r + 3.0 * h);
            let middle = 1.0 - ends;
            let across = middle * (3.0 * r * r + h * h) / 12.0 + ends * (0.4 * r * r + 0.25 * h * h + 0.375 * h * r);
            let along = 0.5 * middle * r * r + 0.4 * ends * r * r;
            (PI * r * r * h + 4.0 / 3.0 * PI * r.powi(3), [across, across, along])
        }
        GeomType::Cylinder => {
            let across = (3.0 * a * a + 4.0 * b * b) / 12.0;
            (2.0 * PI * a * a * b, [across, across, 0.5 * a * a])
        }
        GeomType::Ellipsoid => {
            let m = [b * b + c * c, a * a + c * c, a * a + b * b].map(|x| x / 5.0);
            (4.0 / 3.0 * PI * a * b * c, m)
        }
        GeomType::Box => {
            let m = [b * b + c * c, a * a + c * c, a * a + b * b].map(|x| x / 3.0);
            (8.0 * a * b * c, m)
        }
        GeomType::Plane | GeomType::HeightField | GeomType::Mesh | GeomType::SignedDistance => return None,
    })
}

impl Geom {
    /// Volume (m³); none of a shape that an asset gives, or that has no volume.
    pub fn volume(&self) -> Option<f64> {
        solid(self.kind.value, self.size).map(|(volume, _)| volume)
    }

    /// Its mass (kg): as given, or by density. None where that takes a volume that is not known.
    pub fn own_mass(&self) -> Option<f64> {
        match &self.mass {
            Some(mass) => Some(mass.value),
            None if self.density.value == 0.0 => Some(0.0),
            None => Some(self.density.value * self.volume()?),
        }
    }
}

/// Steiner's term of a mass displaced by `d`: `m (|d|² 1 - d dᵀ)`.
fn steiner(m: f64, d: Vec3<f64>) -> Mat3<f64> {
    let lever = Mat3::skew(d);
    lever.mul(&lever).scale(-m)
}

fn diagonal([x, y, z]: [f64; 3]) -> Mat3<f64> {
    Mat3::of([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]])
}

/// Principal moments of a symmetric matrix and their axes, by columns (Jacobi's rotations).
pub fn principal(inertia: [[f64; 3]; 3]) -> ([f64; 3], Mat3<f64>) {
    let (mut a, mut axes) = (inertia, Mat3::identity());
    for _ in 0..64 {
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let (p, q) =
            pairs.into_iter().max_by(|&(i, j), &(k, l)| a[i][j].abs().total_cmp(&a[k][l].abs())).unwrap_or((0, 1));
        let size = a[0][0].abs() + a[1][1].abs() + a[2][2].abs();
        if a[p][q].abs() <= 1e-16 * size || !a[p][q].is_finite() {
            break;
        }
        let theta = 0.5 * (a[q][q] - a[p][p]) / a[p][q];
        let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
        let c = 1.0 / t.hypot(1.0);
        let s = t * c;
        let mut turn = Mat3::identity().0.map(Vec3::array);
        (turn[p][p], turn[q][q], turn[p][q], turn[q][p]) = (c, c, s, -s);
        let turn = Mat3::of(turn);
        a = turn.transpose().mul(&Mat3::of(a)).mul(&turn).0.map(Vec3::array);
        axes = axes.mul(&turn);
    }
    ([a[0][0], a[1][1], a[2][2]], axes)
}

const NONE: MassProperties = MassProperties { mass: 0.0, com: Vec3 { x: 0.0, y: 0.0, z: 0.0 }, inertia: [[0.0; 3]; 3] };

impl Mjcf {
    /// Whether a body's mass properties follow from its geoms.
    pub fn weighs_by_geoms(&self, body: &Body) -> bool {
        match self.compiler.inertia_from_geom {
            InertiaFromGeom::Always => true,
            InertiaFromGeom::Auto => body.inertial.is_none(),
            InertiaFromGeom::Never => false,
        }
    }

    /// Whether a geom has a part in the mass of its body.
    pub fn weighs(&self, body: &Body, geom: &Geom) -> bool {
        let [first, last] = self.compiler.inertia_groups;
        let massive = geom.own_mass().is_none_or(|m| m > 0.0);
        self.weighs_by_geoms(body)
            && (first..=last).contains(&geom.group)
            && massive
            && geom.kind.value != GeomType::Plane
    }

    /// Mass properties of every body but the world, in the frame of each (kg, m, kg m² about the centre of mass).
    ///
    /// # Errors
    /// If a geom has an unknown mass, or an inertia is one that no solid has.
    pub fn masses(&self) -> Result<Vec<MassProperties>, MjcfError> {
        let mut all = vec![NONE];
        for body in &self.bodies[1..] {
            let own = match &body.inertial {
                _ if self.weighs_by_geoms(body) => self.of_geoms(body)?,
                Some(i) => {
                    let turn = i.frame.q.matrix();
                    let inertia = turn.mul(&Mat3::of(i.inertia)).mul(&turn.transpose());
                    MassProperties { mass: i.mass, com: i.frame.p, inertia: inertia.0.map(Vec3::array) }
                }
                None => NONE,
            };
            all.push(self.bounded(body, own)?);
        }
        let total: f64 = all.iter().map(|m| m.mass).sum();
        if self.compiler.total_mass > 0.0 && total > 0.0 {
            let share = self.compiler.total_mass / total;
            for m in &mut all {
                m.mass *= share;
                m.inertia = m.inertia.map(|row| row.map(|x| x * share));
            }
        }
        let finite = |m: &MassProperties| {
            let mut numbers = m.inertia.as_flattened().iter().chain([&m.mass, &m.com.x, &m.com.y, &m.com.z]);
            numbers.all(|x| x.is_finite())
        };
        match all.iter().position(|m| !finite(m)) {
            None => Ok(all),
            Some(i) => Err(self.wrong(self.bodies[i].place, "the mass of this body is no finite number")),
        }
    }

    fn of_geoms(&self, body: &Body) -> Result<MassProperties, MjcfError> {
        let mut parts = Vec::new();
        for geom in body.geoms.iter().filter(|g| self.weighs(body, g)) {
            let known = geom.own_mass().zip(solid(geom.kind.value, geom.size));
            let Some((mass, (_, moments))) = known.filter(|_| !geom.shell.value) else {
                let kind = if geom.shell.value { "shell" } else { geom.kind.value.name() };
                let message =
                    format!("the mass of a {kind} is not known\n  give the body an `inertial`, or the geom mass=\"0\"");
                return Err(self.wrong(geom.place, message));
            };
            let turn = geom.frame.q.matrix();
            let inertia = turn.mul(&diagonal(moments.map(|x| x * mass))).mul(&turn.transpose());
            parts.push((mass, geom.frame.p, inertia));
        }
        let mass: f64 = parts.iter().map(|(m, ..)| m).sum();
        if mass == 0.0 {
            return Ok(NONE);
        }
        let com = parts.iter().fold(Vec3::zero(), |sum: Vec3<f64>, (m, p, _)| sum + p.scale(*m)).scale(1.0 / mass);
        let inertia =
            parts.iter().fold(Mat3::zero(), |sum: Mat3<f64>, (m, p, own)| sum.add(own).add(&steiner(*m, *p - com)));
        Ok(MassProperties { mass, com, inertia: inertia.0.map(Vec3::array) })
    }

    /// The least mass and inertia, and whether some solid has this inertia.
    fn bounded(&self, body: &Body, mut own: MassProperties) -> Result<MassProperties, MjcfError> {
        let c = &self.compiler;
        own.mass = own.mass.max(c.least_mass);
        let (moments, axes) = principal(own.inertia);
        let mut bounded = moments.map(|x| x.max(c.least_inertia));
        let [a, b, d] = bounded;
        let largest = a.max(b).max(d);
        // Round-off of a flat body is allowed for.
        if (a + b + d - 2.0 * largest) < -1e-9 * largest || bounded.iter().any(|x| *x < -1e-12 * largest) {
            if !c.balance_inertia {
                let place = body.inertial.as_ref().map_or(body.place, |i| i.place);
                let message = "no solid has this inertia: of its principal moments none is negative or larger than the \
                               sum of the others\n  correct it, or set balanceinertia=\"true\" in `compiler`";
                return Err(self.wrong(place, message));
            }
            bounded = [(a + b + d) / 3.0; 3];
        }
        if bounded != moments {
            own.inertia = axes.mul(&diagonal(bounded)).mul(&axes.transpose()).0.map(Vec3::array);
        }
        Ok(own)
    }
}
