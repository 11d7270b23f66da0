//! A stage of a step as a function from a list of numbers to a list of numbers, with its adjoint, so that it can be
//! held against dual numbers and central differences.

use crate::device::Dual;
use crate::device::philox::Philox;
use crate::sim::{Mat3, Quat, SimScalar, Spatial, Vec3};

pub(super) trait Stage {
    /// What the stage is computed with, in one number type.
    type At<'a, S: SimScalar>;
    const NAME: &'static str;
    fn forward<S: SimScalar>(at: &Self::At<'_, S>, x: &[S]) -> Vec<S>;
    /// Cotangents of `x` from those of what [`Stage::forward`] makes of it.
    fn adjoint(at: &Self::At<'_, f64>, x: &[f64], bar: &[f64]) -> Vec<f64>;
}

/// How far the adjoint of a stage is from being right at one state, along one random direction ẋ under one random
/// weighing ȳ: `|ȳ·ẏ - x̄·ẋ|` as a share of the sizes of the terms.
#[derive(Clone, Copy, Debug)]
pub struct StageError {
    pub stage: &'static str,
    /// ẏ by dual numbers.
    pub dual: f64,
    /// ẏ by central differences. At a kink they are the mean of both sides, to the order of their step.
    pub differences: f64,
}

/// Step of the central differences, of fourth order, in units of the operands (of 1, where they are small).
const STEP: f64 = 1e-6;

/// One stage at the operands `x`; `e` chooses among the random directions.
pub(super) fn check<T: Stage>(
    (at, dual): (&T::At<'_, f64>, &T::At<'_, Dual>),
    x: &[f64],
    rng: &Philox,
    e: u32,
) -> StageError {
    let draw = |k: usize| rng.normal(7, e * 8192 + k as u32);
    let along: Vec<f64> = x.iter().enumerate().map(|(k, x)| draw(k) * x.abs().max(1.0)).collect();
    let given: Vec<Dual> = x.iter().zip(&along).map(|(&x, &d)| Dual::new(x, d)).collect();
    let by_dual: Vec<f64> = T::forward(dual, &given).iter().map(|y| y.d).collect();
    let moved = |s: f64| T::forward(at, &x.iter().zip(&along).map(|(x, d)| x + s * STEP * d).collect::<Vec<_>>());
    let across = |s: f64| moved(s).into_iter().zip(moved(-s)).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let ends = across(1.0).into_iter().zip(across(2.0));
    let by_differences: Vec<f64> = ends.map(|(near, far)| (8.0 * near - far) / (12.0 * STEP)).collect();
    let bar: Vec<f64> = (0..by_dual.len()).map(|k| draw(4096 + k)).collect();
    let back = T::adjoint(at, x, &bar);
    assert_eq!(back.len(), x.len(), "{}: one cotangent for each operand", T::NAME);
    let apart = |y: &[f64]| {
        let (out, size) = dot(&bar, y);
        let (into, other) = dot(&back, &along);
        (out - into).abs() / size.max(other).max(f64::MIN_POSITIVE)
    };
    StageError { stage: T::NAME, dual: apart(&by_dual), differences: apart(&by_differences) }
}

/// Sum of the products, and of their sizes.
fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// Reads back what was put into a list.
pub(super) struct Reader<'a, S>(pub &'a [S]);

impl<'a, S: SimScalar> Reader<'a, S> {
    pub fn take(&mut self, n: usize) -> &'a [S] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }
    pub fn vec3(&mut self) -> Vec3<S> {
        Vec3::read(self.take(3))
    }
    pub fn quat(&mut self) -> Quat<S> {
        Quat::read(self.take(4))
    }
    pub fn mat3(&mut self) -> Mat3<S> {
        Mat3([self.vec3(), self.vec3(), self.vec3()])
    }
    pub fn spatial(&mut self) -> Spatial<S> {
        Spatial::read(self.take(6))
    }
}
