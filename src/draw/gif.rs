//! The moving picture of an episode as an animated GIF, for places that show no page: drawn flat from the side.
//!
//! The camera is that of the still picture: orthographic, looking along -z and a little down, moving with the body. Ten
//! colours, so a frame of the usual size is a few kilobytes.

use crate::draw::viewer::{Movie, ViewerError};
use gif::{Encoder, Frame, Repeat};

const WIDTH: usize = 480;
const HEIGHT: usize = 270;
/// Pixels a metre.
const SCALE: f32 = 130.0;
/// Row of the ground below the body.
const GROUND: f32 = 205.0;
/// Frames a second of the GIF: viewers slow anything faster than 50 down.
const FPS: f32 = 25.0;
/// The longest a GIF gets, seconds.
const SECONDS: f32 = 8.0;

/// Sky, floor, line, shadow; edge and face of body, upper and lower limbs.
const PALETTE: [[u8; 3]; 16] = {
    let mut p = [[0; 3]; 16];
    p[0] = [211, 224, 235];
    p[1] = [219, 224, 227];
    p[2] = [172, 182, 190];
    p[3] = [178, 185, 190];
    p[4] = [27, 39, 51];
    p[5] = [58, 77, 97];
    p[6] = [143, 58, 21];
    p[7] = [210, 96, 44];
    p[8] = [176, 100, 32];
    p[9] = [238, 154, 69];
    p
};

impl Movie<'_> {
    /// The GIF, at most eight seconds from the middle of the episode at its true speed.
    pub fn gif(&self) -> Result<Vec<u8>, ViewerError> {
        self.check()?;
        let frames = self.readouts.len();
        let wanted = (self.fps * SECONDS) as usize;
        let first = frames.saturating_sub(wanted) / 2;
        let step = self.fps / FPS;
        let shown = (0..).map(|i| first + (i as f32 * step) as usize).take_while(|f| *f < frames.min(first + wanted));
        let mut encoder = begin()?;
        let mut pixels = vec![0; WIDTH * HEIGHT];
        for f in shown {
            self.draw(f, &mut pixels);
            encoder.write_frame(&frame(&pixels))?;
        }
        Ok(encoder.into_inner()?)
    }

    /// One frame as rows of red, green and blue, and its width and height.
    pub fn rgb(&self, frame: usize) -> Result<(Vec<u8>, usize, usize), ViewerError> {
        self.check()?;
        let frames = self.readouts.len();
        if frame >= frames {
            return Err(ViewerError::NoFrame { frame, frames });
        }
        let mut pixels = vec![0; WIDTH * HEIGHT];
        self.draw(frame, &mut pixels);
        Ok((pixels.into_iter().flat_map(|ink| PALETTE[usize::from(ink)]).collect(), WIDTH, HEIGHT))
    }

    fn draw(&self, f: usize, pixels: &mut [u8]) {
        let (sin, cos) = 0.30f32.sin_cos();
        let (root, start) = (self.pose(f, 0).0, self.pose(0, 0).0);
        let at = |p: [f32; 3]| {
            (WIDTH as f32 / 2.0 + SCALE * (p[0] - root[0]), GROUND - SCALE * (p[1] * cos - (p[2] - root[2]) * sin))
        };
        let horizon = (GROUND - SCALE * 1.1 * sin) as usize;
        for (y, row) in pixels.chunks_exact_mut(WIDTH).enumerate() {
            row.fill(u8::from(y >= horizon));
        }
        // Lines every metre from the start.
        let half = WIDTH as f32 / 2.0 / SCALE;
        for m in (root[0] - half - start[0]).ceil() as i32..=(root[0] + half - start[0]).floor() as i32 {
            let x = at([start[0] + m as f32, 0.0, root[2]]).0 as usize;
            (horizon..HEIGHT).for_each(|y| pixels[y * WIDTH + x.min(WIDTH - 1)] = 2);
        }
        let ends = |s: usize| self.ends(f, s, self.shapes[s].half_length);
        for (s, shape) in self.shapes.iter().enumerate() {
            let (a, b) = ends(s);
            let flat = |p: [f32; 3]| at([p[0] + 0.25 * p[1], 0.0, p[2] - 0.2 * p[1]]);
            capsule(pixels, flat(a), flat(b), SCALE * shape.radius * 0.8, |_| 3);
        }
        // Far ones first.
        let depth = |s: usize| {
            let (a, b) = ends(s);
            (a[2] + b[2]) * cos + (a[1] + b[1]) * sin
        };
        let mut order: Vec<usize> = (0..self.shapes.len()).collect();
        order.sort_by(|&a, &b| depth(a).total_cmp(&depth(b)).then(a.cmp(&b)));
        for s in order {
            let (shape, (a, b)) = (self.shapes[s], ends(s));
            let ink = 4 + 2 * shape.group.min(2);
            capsule(pixels, at(a), at(b), SCALE * shape.radius, |d| if d > 0.78 { ink } else { ink + 1 });
        }
    }
}

/// A picture that repeats for ever, without frames.
fn begin() -> Result<Encoder<Vec<u8>>, gif::EncodingError> {
    let mut encoder = Encoder::new(Vec::new(), WIDTH as u16, HEIGHT as u16, PALETTE.as_flattened())?;
    encoder.set_repeat(Repeat::Infinite)?;
    Ok(encoder)
}

/// One picture and its time, in units of 10 ms.
fn frame(pixels: &[u8]) -> Frame<'_> {
    Frame {
        delay: (100.0 / FPS) as u16,
        width: WIDTH as u16,
        height: HEIGHT as u16,
        buffer: pixels.into(),
        ..Frame::default()
    }
}

/// Fills what is within `r` of a segment; `ink` takes the distance as a fraction of `r`.
fn capsule(pixels: &mut [u8], a: (f32, f32), b: (f32, f32), r: f32, ink: impl Fn(f32) -> u8) {
    let bound =
        |low: f32, high: f32, end: usize| (low.max(0.0) as usize).min(end)..(high.max(0.0) as usize + 1).min(end);
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = (dx * dx + dy * dy).max(1e-6);
    for y in bound(a.1.min(b.1) - r, a.1.max(b.1) + r, HEIGHT) {
        for x in bound(a.0.min(b.0) - r, a.0.max(b.0) + r, WIDTH) {
            let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
            let t = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
            let d = (px - t * dx).hypot(py - t * dy) / r;
            if d <= 1.0 {
                pixels[y * WIDTH + x] = ink(d);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of noise, of stripes and of one colour come back as they were, with their time and the palette.
    #[test]
    fn pictures_read_back() {
        let noise = (0..(WIDTH * HEIGHT) as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 15).collect();
        let stripes = (0..WIDTH * HEIGHT).map(|i| (i / 700 % 7) as u8).collect();
        let pictures: [Vec<u8>; 3] = [noise, stripes, vec![3; WIDTH * HEIGHT]];
        let mut encoder = begin().unwrap();
        pictures.iter().for_each(|p| encoder.write_frame(&frame(p)).unwrap());
        let bytes = encoder.into_inner().unwrap();
        let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
        assert_eq!(decoder.repeat(), Repeat::Infinite);
        assert_eq!(decoder.global_palette(), Some(PALETTE.as_flattened()));
        for picture in &pictures {
            let read = decoder.read_next_frame().unwrap().unwrap();
            assert_eq!((read.width, read.height, read.delay), (WIDTH as u16, HEIGHT as u16, 4));
            assert!(read.buffer[..] == picture[..]);
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
    }
}
