//! What a site feels: the normal forces of contacts of its body that push towards it.

use super::compile::System;
use super::law::{Point, View};
use super::rows::Rows;
use crate::device::Scalar;
use crate::sim::mjcf::model::GeomType;
use crate::sim::number::SimScalar;
use crate::sim::vec3::{Mat3, Vec3};

/// A site that feels contacts.
#[derive(Clone, Debug)]
pub struct TouchSensor<S> {
    centre: Point<S>,
    /// Axes of the ellipsoid in the link by columns, and one over its half sizes (1/m).
    axes: Mat3<S>,
    inverse_size: Vec3<S>,
    /// Pairs with a geom of the body, each with whether that is the first of the two.
    pairs: Vec<(usize, bool)>,
}

impl TouchSensor<f64> {
    /// The site of this name.
    ///
    /// # Errors
    /// Why there is none that can feel.
    pub fn new(system: &System, name: &str) -> Result<Self, String> {
        let Some(site) = system.sites.iter().find(|s| s.name.as_deref() == Some(name)) else {
            let names = system.sites.iter().filter_map(|s| s.name.as_deref());
            let near =
                crate::config::nearest(name, names).map_or(String::new(), |n| format!("\n  did you mean `{n}`?"));
            return Err(format!("there is no site `{name}`{near}"));
        };
        let [x, y, z] = site.size;
        let half = match site.kind {
            GeomType::Sphere => [x; 3],
            GeomType::Ellipsoid => [x, y, z],
            _ => return Err(format!("the site `{name}` feels nothing\n  make it a sphere or an ellipsoid")),
        };
        let of_body = |geom: usize| system.geoms[geom].body == site.body;
        let pairs = (system.law.pairs.iter().enumerate())
            .filter(|(_, p)| p.geoms.map(of_body).contains(&true))
            .map(|(i, p)| (i, of_body(p.geoms[0])))
            .collect();
        Ok(Self {
            centre: Point { link: site.seat.link, at: site.seat.frame.p },
            axes: site.seat.frame.q.matrix(),
            inverse_size: Vec3::of(half.map(|x| 1.0 / x)),
            pairs,
        })
    }

    /// Rounded to the number type `T`.
    pub fn cast<T: Scalar>(&self) -> TouchSensor<T> {
        TouchSensor {
            centre: Point { link: self.centre.link, at: Vec3::of(self.centre.at.array()) },
            axes: Mat3::of(self.axes.0.map(Vec3::array)),
            inverse_size: Vec3::of(self.inverse_size.array()),
            pairs: self.pairs.clone(),
        }
    }
}

impl<S: SimScalar> TouchSensor<S> {
    /// The sum of the normal forces (N) of all contacts of the body whose normal, away from the body, meets the site.
    /// `row_force` is what the rows push with, in the state that `view` shows.
    #[inline(always)]
    pub fn read<const B: usize, const D: usize, const R: usize>(
        &self,
        view: View<'_, S, B, D>,
        rows: &Rows<S, D, R>,
        row_force: &[S; R],
    ) -> S {
        let (zero, one) = (S::zero(), S::one());
        let mut sum = zero;
        let turn = self.centre.link.map(|l| view.work.body[l].rot);
        let centre = super::collide::place(&self.centre, view);
        for contact in &rows.contact[..rows.made] {
            let Some(&(_, is_first)) = self.pairs.iter().find(|(pair, _)| *pair == contact.pair) else { continue };
            let mut force = zero;
            for &f in &row_force[contact.row..][..contact.pushing] {
                force += f;
            }
            // The ray as the unit ball of the site sees it.
            let seen = |v: Vec3<S>| {
                let v = self.axes.transpose_mul_vec(turn.map_or(v, |t| t.transpose_mul_vec(v)));
                Vec3::new(v.x * self.inverse_size.x, v.y * self.inverse_size.y, v.z * self.inverse_size.z)
            };
            let away = if is_first { contact.normal } else { -contact.normal };
            let (from, along) = (seen(contact.point - centre), seen(away));
            let (a, b, c) = (along.dot(along), from.dot(along), from.dot(from) - one);
            let meets = c.le(zero) | (b.le(zero) & (a * c).le(b * b));
            sum += S::select(meets & zero.lt(force), force, zero);
        }
        sum
    }
}
