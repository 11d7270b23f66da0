//! Positions and orientations, in each of the ways that a file may give them.

use super::xml::{Element, Given, Place, Read};
use crate::sim::quat::{Quat, Transform};
use crate::sim::vec3::Vec3;

/// What a file's angles mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angles {
    /// Radians in one unit of an angle: degrees unless the file says otherwise.
    pub unit: f64,
    /// The axes of Euler angles in their order; small letters turn with the frame, capitals stay.
    pub sequence: [u8; 3],
}

impl Default for Angles {
    fn default() -> Self {
        Self { unit: 1f64.to_radians(), sequence: *b"xyz" }
    }
}

/// The unit vector along `v`, if it has a direction.
pub(super) fn unit(v: [f64; 3]) -> Option<Vec3<f64>> {
    // Divided by the largest first: no square of it is too large or too small.
    let largest = v.iter().fold(0f64, |m, x| m.max(x.abs()));
    let v = Vec3::<f64>::of(v.map(|x| x / largest));
    let norm = v.norm();
    (largest > 0.0 && norm.is_finite()).then(|| v.scale(1.0 / norm))
}

/// The smallest rotation that takes the z axis to a unit vector; a half turn about x to its opposite.
pub fn z_axis_to(d: Vec3<f64>) -> Quat<f64> {
    if d.z < -1.0 + 1e-12 {
        return Quat::new(1.0, 0.0, 0.0, 0.0);
    }
    Quat { v: Vec3::new(0.0, 0.0, 1.0).cross(d), w: 1.0 + d.z }.normalised()
}

/// Rotations by these angles (rad) about the axes of a sequence.
fn euler(angles: [f64; 3], sequence: [u8; 3]) -> Quat<f64> {
    let mut q = Quat::identity();
    for (angle, axis) in angles.into_iter().zip(sequence) {
        let mut about = [0.0; 3];
        about[usize::from(axis.to_ascii_lowercase() - b'x')] = 1.0;
        let turn = Quat::about(Vec3::of(about), angle);
        q = if axis.is_ascii_lowercase() { q * turn } else { turn * q };
    }
    q
}

/// The orientation of an element, and where it is given: by `quat`, `axisangle`, `euler`, `xyaxes` or `zaxis`.
pub(super) fn orientation(e: &Element, angles: Angles) -> Read<Given<Quat<f64>>> {
    let directionless = |name: &str, place: Option<Place>| {
        e.wrong(place.unwrap_or_default(), format!("`{name}` has no direction\n  its numbers are not all 0"))
    };
    let mut found: Vec<(&str, Given<Quat<f64>>)> = Vec::new();
    if let Some(q) = e.maybe::<4>("quat")? {
        let [w, x, y, z] = q.value;
        let largest = q.value.iter().fold(0f64, |m, x| m.max(x.abs()));
        if largest == 0.0 {
            return Err(directionless("quat", q.place));
        }
        found.push(("quat", q.map(|_| Quat::of([x, y, z, w].map(|x| x / largest)).normalised())));
    }
    if let Some(a) = e.maybe::<4>("axisangle")? {
        let [x, y, z, angle] = a.value;
        let axis = unit([x, y, z]).ok_or_else(|| directionless("axisangle", a.place))?;
        found.push(("axisangle", a.map(|_| Quat::about(axis, angle * angles.unit))));
    }
    if let Some(a) = e.maybe::<3>("euler")? {
        found.push(("euler", a.map(|a| euler(a.map(|x| x * angles.unit), angles.sequence))));
    }
    if let Some(a) = e.maybe::<6>("xyaxes")? {
        let [x, y] = [0, 3].map(|at| unit([a.value[at], a.value[at + 1], a.value[at + 2]]));
        let across = x.zip(y).and_then(|(x, y)| Some((x, unit((y - x.scale(x.dot(y))).array())?)));
        let (x, y) = across.ok_or_else(|| directionless("xyaxes", a.place))?;
        let z = x.cross(y);
        let rows = [[x.x, y.x, z.x], [x.y, y.y, z.y], [x.z, y.z, z.z]];
        found.push(("xyaxes", a.map(|_| Quat::of_matrix(rows))));
    }
    if let Some(a) = e.maybe::<3>("zaxis")? {
        let z = unit(a.value).ok_or_else(|| directionless("zaxis", a.place))?;
        found.push(("zaxis", a.map(|_| z_axis_to(z))));
    }
    match found[..] {
        [] => Ok(Given::default(Quat::identity())),
        [(_, one)] => Ok(one),
        [.., (a, _), (b, second)] => {
            let message = format!("the orientation is given twice, by `{a}` and by `{b}`\n  keep one of the two");
            Err(e.wrong(second.place.unwrap_or_default(), message))
        }
    }
}

/// Position and orientation of an element in what carries it (m).
pub(super) fn frame(e: &Element, angles: Angles) -> Read<Transform<f64>> {
    let p = e.exactly("pos", [0.0; 3])?.value;
    Ok(Transform { p: Vec3::of(p), q: orientation(e, angles)?.value })
}
