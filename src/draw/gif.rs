//! The moving picture of an episode as an animated GIF, for places that show no page: drawn flat from the side, encoded
//! here.
//!
//! The camera is that of the still picture: orthographic, looking along -z and a little down, moving with the body. Ten
//! colours, so a frame of the usual size is a few kilobytes (GIF89a, LZW with codes of up to twelve bits).

use crate::draw::viewer::{Movie, ViewerError};

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
        let mut out = head();
        let mut pixels = vec![0; WIDTH * HEIGHT];
        for f in shown {
            self.draw(f, &mut pixels);
            frame(&mut out, &pixels);
        }
        out.push(0x3b);
        Ok(out)
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

/// Header, screen, palette and "repeat for ever".
fn head() -> Vec<u8> {
    let mut out = b"GIF89a".to_vec();
    out.extend((WIDTH as u16).to_le_bytes());
    out.extend((HEIGHT as u16).to_le_bytes());
    // A global table of 2^(3 + 1) colours.
    out.extend([0xf3, 0, 0]);
    out.extend(PALETTE.iter().flatten());
    out.extend(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00");
    out
}

/// One picture: its time, its place, its pixels.
fn frame(out: &mut Vec<u8>, pixels: &[u8]) {
    let hundredths = (100.0 / FPS) as u8;
    out.extend([0x21, 0xf9, 4, 4, hundredths, 0, 0, 0, 0x2c, 0, 0, 0, 0]);
    out.extend((WIDTH as u16).to_le_bytes());
    out.extend((HEIGHT as u16).to_le_bytes());
    out.extend([0, BITS as u8]);
    let codes = lzw(pixels);
    for block in codes.chunks(255) {
        out.push(block.len() as u8);
        out.extend_from_slice(block);
    }
    out.push(0);
}

/// Bits of a colour.
const BITS: u32 = 4;
const CLEAR: u16 = 1 << BITS;
const END: u16 = CLEAR + 1;

/// GIF's variant of Lempel-Ziv-Welch: codes grow from 5 to 12 bits, low bits first; a full table is thrown away.
fn lzw(pixels: &[u8]) -> Vec<u8> {
    // The code of each known string by the code of its head and its last colour; 0 is none.
    let mut table = vec![[0u16; 1 << BITS]; 4096];
    let (mut next, mut width) = (END + 1, BITS + 1);
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    let mut put = |code: u16, width: u32| {
        bits |= u32::from(code) << held;
        held += width;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
        if code == END && held > 0 {
            out.push(bits as u8);
        }
    };
    put(CLEAR, width);
    let mut pixels = pixels.iter().map(|p| usize::from(*p));
    let Some(mut string) = pixels.next() else {
        put(END, width);
        return out;
    };
    for colour in pixels {
        let known = table[string][colour];
        if known != 0 {
            string = usize::from(known);
            continue;
        }
        put(string as u16, width);
        if next == 4096 {
            put(CLEAR, width);
            table.iter_mut().for_each(|t| *t = [0; 1 << BITS]);
            (next, width) = (END + 1, BITS + 1);
        } else {
            table[string][colour] = next;
            // The reader is one code behind: codes get wider when the one just made no longer fits.
            if next == 1 << width {
                width += 1;
            }
            next += 1;
        }
        string = colour;
    }
    put(string as u16, width);
    if next == 1 << width && width < 12 {
        width += 1;
    }
    put(END, width);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads codes as the standard says.
    fn unlzw(bytes: &[u8]) -> Vec<u8> {
        let (mut strings, mut width, mut at) = (Vec::<Vec<u8>>::new(), BITS + 1, 0);
        let fresh = || (0..END + 1).map(|c| vec![c as u8]).collect::<Vec<_>>();
        let (mut out, mut last): (Vec<u8>, Option<Vec<u8>>) = (vec![], None);
        loop {
            let code = (0..width)
                .fold(0usize, |c, i| c | usize::from(bytes[(at + i as usize) / 8] >> ((at + i as usize) % 8) & 1) << i);
            at += width as usize;
            match code as u16 {
                CLEAR => (strings, width, last) = (fresh(), BITS + 1, None),
                END => return out,
                _ => {
                    let string = match (&last, strings.get(code)) {
                        (_, Some(s)) => s.clone(),
                        (Some(l), None) => [&l[..], &l[..1]].concat(),
                        (None, None) => panic!("a code from nowhere"),
                    };
                    if let Some(l) = last
                        && strings.len() < 4096
                    {
                        strings.push([&l[..], &string[..1]].concat());
                    }
                    out.extend(&string);
                    last = Some(string);
                    if strings.len() == 1 << width && width < 12 {
                        width += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn codes_read_back() {
        let noise: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 15).collect();
        let stripes: Vec<u8> = (0..60_000u32).map(|i| (i / 700 % 7) as u8).collect();
        for pixels in [&noise[..], &stripes, &noise[..1], &noise[..40], &[3; 9999]] {
            assert!(unlzw(&lzw(pixels)) == pixels, "{} pixels", pixels.len());
        }
        assert!(lzw(&stripes).len() < 6_000);
    }
}
