//! The moving picture of an episode: one HTML file that plays anywhere, and a still strip of poses as SVG.
//!
//! Input: spheres and capsules, and where each was in every frame (world position and quaternion xyzw, y up, ground at
//! y = 0, a capsule's axis along its local x). Shape 0 is the body that the camera follows; where it is a sphere it
//! gets eyes on its local +x side with local z up, so that the eye sees which way it faces. The page (`viewer.html`)
//! holds everything: no network, no other file.
//!
//! Poses are stored relative to shape 0 as sixteen-bit integers, the body's own path as f32: a thousand frames of a
//! walker of thirteen shapes are 275 kB of text, and no error is larger than a tenth of a millimetre. Forces of the
//! ground are arrows, stored in the same way: what is not in contact takes no room.

use std::fmt::{self, Write as _};

use crate::draw::plot::escape;

/// A sphere (`half_length` 0) or a capsule along its local x axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MovieShape {
    /// Metres.
    pub radius: f32,
    /// Half the distance between the centres of a capsule's ends, metres.
    pub half_length: f32,
    /// Colour: 0 the body, 1 upper limbs, 2 lower limbs.
    pub group: u8,
}

/// The numbers shown beside a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readout {
    /// Seconds.
    pub time: f32,
    /// Metres a second.
    pub speed: f32,
    /// Return so far.
    pub total_reward: f32,
}

/// A force of the ground on the robot in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContactForce {
    pub frame: usize,
    /// Where, metres.
    pub at: [f32; 3],
    /// Newtons.
    pub force: [f32; 3],
}

/// An episode to show.
#[derive(Clone, Copy, Debug)]
pub struct Movie<'a> {
    /// Headline.
    pub title: &'a str,
    /// A line below it; may be empty.
    pub subtitle: &'a str,
    /// Frames a second.
    pub fps: f32,
    /// The robot.
    pub shapes: &'a [MovieShape],
    /// Frames × shapes × 7: position xyz, quaternion xyzw.
    pub poses: &'a [f32],
    /// One for each frame.
    pub readouts: &'a [Readout],
    /// Forces of the ground, by frame; may be empty.
    pub contact_forces: &'a [ContactForce],
    /// The robot's weight in newtons, which is what an arrow of half a metre stands for.
    pub weight: f32,
    /// Lines of text that stand beside the robot, in place of the readouts; usually none.
    pub notes: &'a str,
}

/// What can be wrong with a movie.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ViewerError {
    /// No frame, or no shape.
    #[error("a movie needs at least one frame and one shape")]
    Empty,
    /// The lengths of the inputs do not agree.
    #[error("{poses} pose numbers for {frames} frames of {shapes} shapes, expected frames × shapes × 7")]
    Lengths {
        /// Numbers given.
        poses: usize,
        /// Readouts given.
        frames: usize,
        /// Shapes given.
        shapes: usize,
    },
    /// The encoder of GIFs refuses, in its words.
    #[error("the GIF cannot be made: {0}")]
    Gif(String),
    /// A number is infinite or not a number.
    #[error("frame {frame}: a pose or readout is not finite; end the movie before it")]
    NotFinite {
        /// The frame.
        frame: usize,
    },
    /// A force stands in no frame or before one of an earlier frame.
    #[error(
        "forces must be finite, in the order of their frames, and of a frame that the movie has; the {index}th is not"
    )]
    BadForce {
        /// Which of them.
        index: usize,
    },
    /// A still was asked of a frame that is not there.
    #[error("no frame {frame}, the movie has {frames}")]
    NoFrame {
        /// The frame asked for.
        frame: usize,
        /// How many there are.
        frames: usize,
    },
}

impl From<gif::EncodingError> for ViewerError {
    fn from(e: gif::EncodingError) -> Self {
        Self::Gif(e.to_string())
    }
}

type V3 = [f32; 3];

impl Movie<'_> {
    pub(super) fn check(&self) -> Result<(), ViewerError> {
        let (frames, shapes) = (self.readouts.len(), self.shapes.len());
        if frames == 0 || shapes == 0 {
            return Err(ViewerError::Empty);
        }
        if self.poses.len() != frames * shapes * 7 {
            return Err(ViewerError::Lengths { poses: self.poses.len(), frames, shapes });
        }
        let fine = |f: usize| {
            let r = self.readouts[f];
            let poses = &self.poses[f * shapes * 7..(f + 1) * shapes * 7];
            poses.iter().chain([&r.time, &r.speed, &r.total_reward]).all(|v| v.is_finite())
        };
        if let Some(frame) = (0..frames).find(|&f| !fine(f)) {
            return Err(ViewerError::NotFinite { frame });
        }
        let mut last = 0;
        for (index, p) in self.contact_forces.iter().enumerate() {
            if p.frame < last || p.frame >= frames || !p.at.iter().chain(&p.force).all(|v| v.is_finite()) {
                return Err(ViewerError::BadForce { index });
            }
            last = p.frame;
        }
        Ok(())
    }

    pub(super) fn pose(&self, frame: usize, shape: usize) -> (V3, [f32; 4]) {
        let p = &self.poses[(frame * self.shapes.len() + shape) * 7..][..7];
        ([p[0], p[1], p[2]], [p[3], p[4], p[5], p[6]])
    }

    /// The page.
    pub fn html(&self) -> Result<String, ViewerError> {
        self.check()?;
        let (frames, shapes) = (self.readouts.len(), self.shapes.len());
        let root = |f: usize| self.pose(f, 0).0;
        // One scale for all: the farthest any shape gets from the body.
        let mut reach = 1e-3f32;
        for f in 0..frames {
            let r = root(f);
            for s in 0..shapes {
                let (p, _) = self.pose(f, s);
                reach = (0..3).map(|c| (p[c] - r[c]).abs()).fold(reach, f32::max);
            }
        }
        for p in self.contact_forces {
            let r = root(p.frame);
            reach = (0..3).map(|c| (p.at[c] - r[c]).abs()).fold(reach, f32::max);
        }
        let scale = reach / 32767.0;

        let mut data = Vec::with_capacity(frames * (24 + shapes * 14));
        for f in 0..frames {
            root(f).iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
        }
        for r in self.readouts {
            [r.time, r.speed, r.total_reward].iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
        }
        for f in 0..frames {
            let r = root(f);
            for s in 0..shapes {
                let (p, q) = self.pose(f, s);
                let norm = q.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
                let place = (0..3).map(|c| (p[c] - r[c]) / scale);
                for v in place.chain(q.iter().map(|v| v / norm * 32767.0)) {
                    data.extend_from_slice(&(v.round() as i16).to_le_bytes());
                }
            }
        }
        let strongest = self.contact_forces.iter().flat_map(|p| p.force).fold(1e-3f32, |m, f| m.max(f.abs()));
        // Which of them are of a frame: those from its number to the next frame's.
        let mut forces: Vec<u8> = (0..=frames)
            .flat_map(|f| (self.contact_forces.partition_point(|p| p.frame < f) as u32).to_le_bytes())
            .collect();
        for p in self.contact_forces {
            let r = root(p.frame);
            let places = (0..3).map(|c| (p.at[c] - r[c]) / scale);
            for v in places.chain(p.force.iter().map(|f| f / strongest * 32767.0)) {
                forces.extend_from_slice(&(v.round() as i16).to_le_bytes());
            }
        }
        let movie = serde_json::json!({
            "title": self.title, "subtitle": self.subtitle, "fps": self.fps, "frames": frames, "scale": scale,
            "shapes": self.shapes.iter().map(|s| (s.radius, s.half_length, s.group)).collect::<Vec<_>>(),
            "data": base64(&data),
            "forces": base64(&forces), "strongest": strongest, "weight": self.weight, "notes": self.notes,
        });
        // Inside a script element only `</script` and `<!--` could end it early.
        let movie = movie.to_string().replace('<', "\\u003c");
        Ok(include_str!("viewer.html").replacen("/*MOVIE*/null", &movie, 1))
    }

    /// Frames at which the body has moved on by `gap` metres, `count` of them at most, from the middle of the movie so
    /// that they show the gait rather than the start. Fewer where the body does not get that far.
    pub fn strides(&self, count: usize, gap: f32) -> Vec<usize> {
        let frames = self.readouts.len();
        if self.check().is_err() {
            return vec![];
        }
        let walk = |from: usize| {
            let mut picked = vec![from];
            for f in from..frames {
                let (a, b) = (self.pose(picked[picked.len() - 1], 0).0, self.pose(f, 0).0);
                if picked.len() < count && (b[0] - a[0]).hypot(b[2] - a[2]) >= gap {
                    picked.push(f);
                }
            }
            picked
        };
        let middle = walk(frames / 3);
        if middle.len() >= count { middle } else { walk(0) }
    }

    /// A strip of poses along the path, seen from the side and a little from above.
    pub fn still_svg(&self, frames: &[usize]) -> Result<String, ViewerError> {
        self.check()?;
        if frames.is_empty() {
            return Err(ViewerError::Empty);
        }
        if let Some(&frame) = frames.iter().find(|&&f| f >= self.readouts.len()) {
            return Err(ViewerError::NoFrame { frame, frames: self.readouts.len() });
        }
        let mut s = String::new();
        // Writing to a String cannot fail.
        let height = self.draw_strip(&mut s, frames).unwrap_or_default();
        Ok(if self.notes.is_empty() { s } else { with_notes(&s, height, self.notes) })
    }

    /// Draws the strip, and says how high it is.
    fn draw_strip(&self, s: &mut String, frames: &[usize]) -> Result<f32, fmt::Error> {
        // The camera looks down by this angle: heights shrink by its cosine, depths on the ground by its sine.
        let (sin, cos) = 0.30f32.sin_cos();
        let root = |f: usize| self.pose(f, 0).0;
        let (start, z0) = (root(0)[0], root(frames[0])[2]);
        let xs = || frames.iter().map(|&f| root(f)[0]);
        let (x_min, x_max) = (xs().fold(f32::MAX, f32::min) - 1.05, xs().fold(f32::MIN, f32::max) + 1.05);
        let scale = (WIDTH / (x_max - x_min)).min(240.0);
        let high = frames.iter().map(|&f| root(f)[1]).fold(0.4, f32::max) + 0.55;
        let (front, back) = (1.05f32, 1.1f32);
        let ground = 66.0 + scale * high * cos;
        let height = ground + scale * front * sin + 40.0;
        let left = (WIDTH - scale * (x_max - x_min)) / 2.0;
        let px = |x: f32| left + scale * (x - x_min);
        let at = |p: V3| (px(p[0]), ground - scale * (p[1] * cos - (p[2] - z0) * sin));

        writeln!(
            s,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             font-family=\"Inter, Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n<title>{}</title>\n<defs>\
             <linearGradient id=\"sky\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"1\"><stop offset=\"0\" stop-color=\"#b9cfe2\"/><stop offset=\"1\" stop-color=\"#edf3f7\"/></linearGradient>\
             <linearGradient id=\"floor\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"1\"><stop offset=\"0\" stop-color=\"#d3dade\"/><stop offset=\"1\" stop-color=\"#e3e7ea\"/></linearGradient>\
             <radialGradient id=\"ball\" cx=\".38\" cy=\".28\" r=\".8\"><stop offset=\"0\" stop-color=\"#6d8299\"/><stop offset=\".5\" stop-color=\"#384b5f\"/><stop offset=\"1\" stop-color=\"#1b2733\"/></radialGradient>\
             <filter id=\"soft\" x=\"-20%\" y=\"-20%\" width=\"140%\" height=\"140%\"><feGaussianBlur stdDeviation=\".045\"/></filter>\
             <clipPath id=\"card\"><rect width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"12\"/></clipPath></defs>\n<g clip-path=\"url(#card)\">",
            escape(self.title)
        )?;
        let horizon = ground - scale * back * sin;
        writeln!(
            s,
            "<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"url(#sky)\"/><rect y=\"{horizon:.1}\" width=\"{WIDTH}\" height=\"{:.1}\" fill=\"url(#floor)\"/>",
            height - horizon
        )?;

        // Metre lines across the floor and their marks in front.
        let edge = (x_min - left / scale, x_max + left / scale);
        for m in (edge.0 - start).ceil() as i32..=(edge.1 - start).floor() as i32 {
            let x = px(start + m as f32);
            let (ink, w) = if m % 5 == 0 { ("#8995a0", 1.7) } else { ("#b9c2c9", 1.0) };
            writeln!(
                s,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{horizon:.1}\" y2=\"{:.1}\" stroke=\"{ink}\" stroke-width=\"{w}\"/><text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"#596570\" text-anchor=\"middle\">{m} m</text>",
                height - 28.0,
                height - 11.0
            )?;
        }
        for z in [-1.0f32, 0.0, 1.0] {
            let y = ground + scale * z * sin;
            writeln!(s, "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#b9c2c9\"/>")?;
        }

        // Shadows are drawn in metres on the floor, so that the floor's foreshortening flattens them as well.
        writeln!(
            s,
            "<g transform=\"matrix({scale} 0 0 {} {} {ground})\" stroke=\"#22303c\" stroke-linecap=\"round\" opacity=\".26\" filter=\"url(#soft)\">",
            scale * sin,
            px(0.0)
        )?;
        for &f in frames {
            for (shape, half) in self.shapes.iter().enumerate().map(|(i, sh)| (i, sh.half_length)) {
                let (a, b) = self.ends(f, shape, half);
                // The sun stands behind the left shoulder: higher parts throw their shadow to the right and back.
                let cast = |p: V3| (p[0] + 0.35 * p[1], p[2] - z0 - 0.25 * p[1]);
                let ((ax, az), (bx, bz)) = (cast(a), cast(b));
                writeln!(
                    s,
                    "<line x1=\"{ax:.3}\" y1=\"{az:.3}\" x2=\"{:.3}\" y2=\"{bz:.3}\" stroke-width=\"{:.3}\"/>",
                    bx + 1e-3,
                    2.0 * self.shapes[shape].radius
                )?;
            }
        }
        writeln!(s, "</g>")?;
        for &f in frames {
            self.draw_pose(s, f, scale, &at, [0.0, sin, cos])?;
            let r = self.readouts[f];
            let x = at(root(f)).0;
            if !self.notes.is_empty() {
                continue;
            }
            writeln!(
                s,
                "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"#46535f\" text-anchor=\"middle\">{:.2} s · {:.1} m/s</text>",
                74.0, r.time, r.speed
            )?;
        }
        writeln!(
            s,
            "<text x=\"22\" y=\"32\" font-size=\"18\" font-weight=\"600\" fill=\"#1b232c\">{}</text>",
            escape(self.title)
        )?;
        writeln!(
            s,
            "<text x=\"22\" y=\"52\" font-size=\"13\" fill=\"#536070\">{}</text>\n</g></svg>",
            escape(self.subtitle)
        )?;
        Ok(height)
    }

    /// One pose: capsules as round strokes in three tones, far ones first.
    fn draw_pose(
        &self,
        s: &mut String,
        frame: usize,
        scale: f32,
        at: &impl Fn(V3) -> (f32, f32),
        toward: V3,
    ) -> fmt::Result {
        let depth = |p: V3| p[0] * toward[0] + p[1] * toward[1] + p[2] * toward[2];
        let mut order: Vec<(f32, usize, V3, V3)> = (0..self.shapes.len())
            .map(|i| {
                let (a, b) = self.ends(frame, i, self.shapes[i].half_length);
                ((depth(a) + depth(b)) / 2.0 + 0.1 * self.shapes[i].radius, i, a, b)
            })
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, i, a, b) in order {
            let shape = self.shapes[i];
            let ((ax, ay), (bx, by)) = (at(a), at(b));
            let r = scale * shape.radius;
            if shape.half_length == 0.0 {
                writeln!(s, "<circle cx=\"{ax:.1}\" cy=\"{ay:.1}\" r=\"{r:.1}\" fill=\"url(#ball)\"/>")?;
                if i == 0 {
                    self.draw_eyes(s, frame, scale, at, toward)?;
                }
                continue;
            }
            let (edge, face, shine) = match shape.group {
                0 => ("#1b2733", "#3a4d61", "#7288a0"),
                1 => ("#8f3a15", "#d2602c", "#f2a27a"),
                _ => ("#b06420", "#ee9a45", "#fbd0a0"),
            };
            for (ink, width, lift) in [(edge, 2.0 * r, 0.0), (face, 1.56 * r, 0.10 * r), (shine, 0.34 * r, 0.42 * r)] {
                write!(
                    s,
                    "<line x1=\"{ax:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{ink}\" stroke-width=\"{width:.1}\" stroke-linecap=\"round\"/>",
                    ay - lift,
                    bx + 0.01,
                    by - lift
                )?;
            }
            writeln!(s)?;
        }
        Ok(())
    }

    fn draw_eyes(
        &self,
        s: &mut String,
        frame: usize,
        scale: f32,
        at: &impl Fn(V3) -> (f32, f32),
        toward: V3,
    ) -> fmt::Result {
        let (p, q) = self.pose(frame, 0);
        let r = self.shapes[0].radius;
        for side in [-0.36f32, 0.36] {
            // The same direction as in the page's shader, of length one.
            let n = rotate(q, [0.855, side * 1.018, 0.366]);
            let facing = n[0] * toward[0] + n[1] * toward[1] + n[2] * toward[2];
            if facing > 0.12 {
                let (x, y) = at([p[0] + r * n[0], p[1] + r * n[1], p[2] + r * n[2]]);
                let (wide, dark) = (0.26 * r * scale, 0.14 * r * scale);
                writeln!(
                    s,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{wide:.1}\" fill=\"#f4f6f8\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{dark:.1}\" fill=\"#10161d\"/>"
                )?;
            }
        }
        Ok(())
    }

    /// Centres of a shape's two ends; the same point for a sphere.
    pub(super) fn ends(&self, frame: usize, shape: usize, half: f32) -> (V3, V3) {
        let (p, q) = self.pose(frame, shape);
        let x = rotate(q, [half, 0.0, 0.0]);
        ([p[0] - x[0], p[1] - x[1], p[2] - x[2]], [p[0] + x[0], p[1] + x[1], p[2] + x[2]])
    }
}

/// Width of a strip of poses.
const WIDTH: f32 = 1200.0;

/// A picture of this height with lines of text below it.
fn with_notes(picture: &str, height: f32, notes: &str) -> String {
    let longest = notes.lines().map(|l| l.chars().count()).max().unwrap_or(1).max(1);
    // A letter is about 0.6 of its size wide.
    let size = ((WIDTH - 44.0) / (0.602 * longest as f32)).min(13.0);
    let whole = height + 24.0 + 1.45 * size * notes.lines().count() as f32;
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {whole:.0}\" width=\"{WIDTH}\" \
         height=\"{whole:.0}\">\n<rect width=\"{WIDTH}\" height=\"{whole:.0}\" rx=\"12\" fill=\"#f7f9fa\"/>\n{picture}\n<g \
         font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"{size:.2}\" fill=\"#1b232c\">\n"
    );
    for (n, line) in notes.lines().enumerate().filter(|(_, l)| !l.is_empty()) {
        let y = height + 14.0 + 1.45 * size * (n as f32 + 0.7);
        // Writing to a String cannot fail.
        let _ = writeln!(s, "<text x=\"22\" y=\"{y:.1}\" xml:space=\"preserve\">{}</text>", escape(line));
    }
    s + "</g></svg>\n"
}

/// A vector turned by a quaternion xyzw.
fn rotate(q: [f32; 4], v: V3) -> V3 {
    let [x, y, z, w] = q;
    let t = [2.0 * (y * v[2] - z * v[1]), 2.0 * (z * v[0] - x * v[2]), 2.0 * (x * v[1] - y * v[0])];
    [
        v[0] + w * t[0] + y * t[2] - z * t[1],
        v[1] + w * t[1] + z * t[0] - x * t[2],
        v[2] + w * t[2] + x * t[1] - y * t[0],
    ]
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &b| n << 8 | b as u32) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors() {
        for (text, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }

    #[test]
    fn bad_movies_are_refused() {
        let shapes = [MovieShape { radius: 0.25, half_length: 0.0, group: 0 }];
        let one = [Readout::default()];
        let movie = Movie {
            title: "",
            subtitle: "",
            fps: 60.0,
            shapes: &shapes,
            poses: &[0.0; 7],
            readouts: &one,
            contact_forces: &[],
            weight: 0.0,
            notes: "",
        };
        assert!(movie.html().is_ok());
        assert_eq!(Movie { readouts: &[], poses: &[], ..movie }.html(), Err(ViewerError::Empty));
        assert!(matches!(Movie { poses: &[0.0; 6], ..movie }.html(), Err(ViewerError::Lengths { .. })));
        assert_eq!(Movie { poses: &[f32::NAN; 7], ..movie }.html(), Err(ViewerError::NotFinite { frame: 0 }));
        let push = |frame, x| ContactForce { frame, at: [0.0; 3], force: [x, 0.0, 0.0] };
        assert!(Movie { contact_forces: &[push(0, 1.0); 2], ..movie }.html().is_ok());
        for (contact_forces, index) in [([push(0, 1.0), push(1, 1.0)], 1), ([push(0, f32::NAN), push(0, 1.0)], 0)] {
            assert_eq!(Movie { contact_forces: &contact_forces, ..movie }.html(), Err(ViewerError::BadForce { index }));
        }
        assert_eq!(movie.still_svg(&[3]), Err(ViewerError::NoFrame { frame: 3, frames: 1 }));
    }
}
