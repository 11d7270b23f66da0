//! Branch-free `f32` functions that the compiler turns into vector code, and fixed-order reductions.
//!
//! Everything here is `#[inline(always)]`, so that it is compiled with the instructions of the kernel that calls it.

use crate::device::Real;

/// e^x to about 1 ulp, for x clamped to [-87, 88]; NaN stays NaN. Cody-Waite reduction and a degree-6 polynomial.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    const LOG2E: f32 = std::f32::consts::LOG2_E;
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let t = x * LOG2E + ROUND;
    let n = t - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * (r * r) + r + 1.0;
    y * f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// tanh(x) with an absolute error of about 1e-7.
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    let e = exp_f32(-2.0 * x.abs());
    let t = (1.0 - e) / (1.0 + e);
    t.copysign(x)
}

/// Mish(x) = x tanh(ln(1 + e^x)).
///
/// With e = e^x and n = e (e + 2) the hyperbolic tangent is n / (n + 2); above 20 it is 1 in every precision.
#[inline(always)]
pub fn mish<F: Real>(x: F) -> F {
    let e = x.min(F::of(20.0)).exp();
    let n = e * (e + F::of(2.0));
    x * (n / (n + F::of(2.0)))
}

/// Mish(x) and its derivative.
#[inline(always)]
pub fn mish_grad<F: Real>(x: F) -> (F, F) {
    let e = x.min(F::of(20.0)).exp();
    let n = e * (e + F::of(2.0));
    let inv = F::one() / (n + F::of(2.0));
    let t = n * inv;
    // 1 - t^2 = 4 (1 + e)^2 / (n + 2)^2, times the logistic function e / (1 + e).
    let slope = F::of(4.0) * e * (F::one() + e) * inv * inv;
    (x * t, t + x * slope)
}

/// Independent partial sums of a reduction: enough to fill the vector units, in an order that never changes.
const LANES: usize = 16;

/// Sum of `f(x)` over a slice, in a fixed order.
#[inline(always)]
pub fn sum_of<F: Real>(x: &[F], f: impl Fn(F) -> F) -> F {
    let mut acc = [F::zero(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for c in chunks {
        for (a, x) in acc.iter_mut().zip(c) {
            *a += f(*x);
        }
    }
    let mut total = F::zero();
    for x in rest {
        total += f(*x);
    }
    fold(acc) + total
}

/// Sum of `f(x, y)` over two slices of one length, in a fixed order.
#[inline(always)]
pub fn sum_of_pairs<F: Real>(x: &[F], y: &[F], f: impl Fn(F, F) -> F) -> F {
    let mut acc = [F::zero(); LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for ((a, x), y) in acc.iter_mut().zip(x).zip(y) {
            *a += f(*x, *y);
        }
    }
    let mut total = F::zero();
    for (x, y) in x_rest.iter().zip(y_rest) {
        total += f(*x, *y);
    }
    fold(acc) + total
}

/// Adds the upper half to the lower until one is left.
#[inline(always)]
fn fold<F: Real>(mut acc: [F; LANES]) -> F {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            let other = acc[l + width];
            acc[l] += other;
        }
        width /= 2;
    }
    acc[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Dual;

    /// Miri takes every so many of the numbers: it looks at memory.
    const SPARSE: usize = if cfg!(miri) { 997 } else { 1 };

    #[test]
    fn exp_is_close_to_libm() {
        let mut worst = 0.0f64;
        for i in (-86_000..88_000).step_by(SPARSE) {
            let x = i as f32 * 1e-3;
            let want = f64::from(x).exp();
            worst = worst.max(((f64::from(exp_f32(x)) - want) / want).abs());
        }
        assert!(worst < 2.5e-7, "relative error {worst}");
        assert!(exp_f32(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_close_to_libm() {
        for i in (-20_000..20_000).step_by(SPARSE) {
            let x = i as f32 * 1e-3;
            assert!((f64::from(tanh_f32(x)) - f64::from(x).tanh()).abs() < 2.5e-7, "at {x}");
        }
    }

    #[test]
    fn mish_and_its_slope() {
        for i in (-900..900).step_by(SPARSE) {
            let x = f64::from(i) * 0.1 + 0.013;
            let want = x * x.exp().ln_1p().min(1e3).tanh();
            assert!((mish(x) - want).abs() < 1e-14 * (1.0 + x.abs()), "at {x}: {} {want}", mish(x));
            let (v, d) = mish_grad(x);
            let dual = mish(Dual::new(x, 1.0));
            assert!((v - dual.v).abs() < 1e-15 * (1.0 + x.abs()) && (d - dual.d).abs() < 1e-13, "slope at {x}");
        }
    }

    #[test]
    fn sum_is_exact_on_integers() {
        for n in [0usize, 1, 15, 16, 17, 100] {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            let twice = (n * n.saturating_sub(1)) as f64;
            assert_eq!(sum_of(&x, |x| 2.0 * x), twice);
            assert_eq!(sum_of_pairs(&x, &x, |x, y| x + y), twice);
        }
    }
}
