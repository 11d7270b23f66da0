//! Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC
//! 2011).
//!
//! A draw is a pure function of `(seed, stream, step, index)`: there is no state to store, to share between threads or
//! to lose in a checkpoint, and every back end produces the same integers.

/// What a random number is for. Streams never overlap; the numbers are part of the checkpoint format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Parameter initialisation; `step` is the parameter's ordinal.
    Init = 1,
    /// Stochastic resets of the training environments.
    Reset = 2,
    /// Exploration noise of the policy.
    Policy = 3,
    /// Replay windows.
    Replay = 4,
    /// Starts of evaluation episodes (`protocol`: the same starts every time).
    Eval = 5,
    /// Fresh evaluation episodes for published figures.
    FreshEval = 6,
    /// Flow-matching times.
    Tau = 7,
    /// Order of critic minibatches.
    Critic = 8,
    /// Test data.
    Test = 9,
    /// Starts and noise of episodes that are recorded.
    Collect = 10,
}

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32 on `counter` under `key`.
#[inline(always)]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(M0) * u64::from(counter[0]);
        let p1 = u64::from(M1) * u64::from(counter[2]);
        counter =
            [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    counter
}

/// A random function: seed and stream fixed, `(step, index)` free.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
}

impl Philox {
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], stream: stream as u32 }
    }

    pub fn seed(&self) -> u64 {
        u64::from(self.key[0]) | u64::from(self.key[1]) << 32
    }

    /// The number of the stream.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Four independent 32-bit integers for position `index` of step `step`.
    #[inline(always)]
    pub fn bits(&self, step: u64, index: u32) -> [u32; 4] {
        philox4x32([index, step as u32, (step >> 32) as u32, self.stream], self.key)
    }

    /// Four uniforms in [0, 1), each a multiple of 2^-24 and so exact in `f32`.
    #[inline(always)]
    pub fn uniform4(&self, step: u64, index: u32) -> [f64; 4] {
        self.bits(step, index).map(unit)
    }

    /// Uniform number `index` in [0, 1); four consecutive indices share one Philox block.
    #[inline(always)]
    pub fn uniform(&self, step: u64, index: u32) -> f64 {
        unit(self.bits(step, index / 4)[(index % 4) as usize])
    }

    /// Standard normal number `index`, by Box-Muller in `f64`; two consecutive indices share one pair of uniforms.
    #[inline]
    pub fn normal(&self, step: u64, index: u32) -> f64 {
        let b = self.bits(step, index / 2);
        // (0, 1]: the logarithm stays finite.
        let u = (f64::from(b[0]) + 1.0) * (1.0 / 4_294_967_296.0);
        let angle = f64::from(b[1]) * (std::f64::consts::TAU / 4_294_967_296.0);
        let radius = (-2.0 * u.ln()).sqrt();
        if index.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
    }
}

#[inline(always)]
fn unit(bits: u32) -> f64 {
    f64::from(bits >> 8) * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors published with Random123 (kat_vectors, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "a hundred thousand numbers, and no memory that they share")]
    fn normals_have_unit_moments() {
        let p = Philox::new(7, Stream::Test);
        let n = 100_000u32;
        let (mut s, mut s2) = (0.0, 0.0);
        for i in 0..n {
            let x = p.normal(3, i);
            s += x;
            s2 += x * x;
        }
        let mean = s / f64::from(n);
        let var = s2 / f64::from(n) - mean * mean;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.02, "mean {mean}, variance {var}");
    }
}
