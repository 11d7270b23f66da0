//! What an environment rewards: terms of an observation and of the action taken on it, listed by its task; values and
//! adjoints.
//!
//! The reward of a step is that of the observation *before* it, so the step's own action moves only later rewards,
//! beside its cost.

use crate::device::Scalar;

/// A summand of the reward. Entries are numbers of the observation, x is the entry `of` less `offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    /// `weight x`, with x cut to [low, high].
    Linear { of: usize, weight: f64, offset: f64, low: f64, high: f64 },
    /// With x cut to [low, high]: `below x²` where it is negative, `above x` elsewhere.
    ClippedQuadratic { of: usize, offset: f64, low: f64, high: f64, below: f64, above: f64 },
    /// `1 - (x / scale)²`.
    Angle { of: usize, offset: f64, scale: f64 },
    /// `weight x²`.
    Squared { of: usize, offset: f64, weight: f64 },
    /// `weight θ²` with the angle θ in [-π, π] of these sine and cosine.
    WrappedAngle { sine: usize, cosine: usize, weight: f64 },
    /// `weight Σ a²` over the clipped action; a penalty has a negative weight.
    ActionCost { weight: f64 },
}

/// x cut to [low, high]; the end points belong to the inside.
#[inline(always)]
pub fn cut<S: Scalar>(x: S, low: S, high: S) -> S {
    S::select(x.lt(low), low, S::select(high.lt(x), high, x))
}

/// Derivative of [`cut`]: 1 inside, `at_end` at an end point, 0 outside.
#[inline(always)]
fn cut_slope<S: Scalar>(x: S, low: S, high: S, at_end: S) -> S {
    let (inside, within) = (low.lt(x) & x.lt(high), low.le(x) & x.le(high));
    S::select(inside, S::one(), S::select(within, at_end, S::zero()))
}

/// What the adjoint of [`Term::value`] gives for the entries that it reads, the action aside.
#[derive(Clone, Copy, Debug)]
pub enum EntryBars<S> {
    None,
    One(usize, S),
    Two([(usize, S); 2]),
}

impl Term {
    /// Whether its derivative depends on the observation.
    pub fn is_curved(self) -> bool {
        match self {
            Self::Linear { low, high, .. } => low.is_finite() || high.is_finite(),
            Self::ActionCost { .. } => false,
            _ => true,
        }
    }

    /// The entries that it reads.
    pub fn entries(self) -> impl Iterator<Item = usize> {
        let (a, b) = match self {
            Self::Linear { of, .. }
            | Self::ClippedQuadratic { of, .. }
            | Self::Angle { of, .. }
            | Self::Squared { of, .. } => (Some(of), None),
            Self::WrappedAngle { sine, cosine, .. } => (Some(sine), Some(cosine)),
            Self::ActionCost { .. } => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// The summand for the observation whose entries `obs` gives, under a clipped action.
    #[inline(always)]
    pub fn value<S: Scalar>(self, obs: impl Fn(usize) -> S, action: &[S]) -> S {
        match self {
            Self::Linear { of, weight, offset, low, high } => {
                let x = obs(of) - S::of(offset);
                let x = if low.is_finite() || high.is_finite() { cut(x, S::of(low), S::of(high)) } else { x };
                if weight == 1.0 { x } else { S::of(weight) * x }
            }
            Self::ClippedQuadratic { of, offset, low, high, below, above } => {
                let x = cut(obs(of) - S::of(offset), S::of(low), S::of(high));
                S::select(x.lt(S::zero()), S::of(below) * x * x, S::of(above) * x)
            }
            Self::Angle { of, offset, scale } => {
                let x = (obs(of) - S::of(offset)) * S::of(1.0 / scale);
                S::one() - x * x
            }
            Self::Squared { of, offset, weight } => {
                let x = obs(of) - S::of(offset);
                S::of(weight) * x * x
            }
            Self::WrappedAngle { sine, cosine, weight } => {
                let angle = obs(sine).atan2(obs(cosine));
                S::of(weight) * angle * angle
            }
            Self::ActionCost { weight } => {
                let mut squares = S::zero();
                for &a in action {
                    squares = a.mul_add(a, squares);
                }
                S::of(weight) * squares
            }
        }
    }

    /// Adjoint of [`Term::value`] from the reward's cotangent: those of its entries; that of the clipped action is
    /// added to. `at_end` is the share of the inside's derivative at a kink.
    #[inline(always)]
    pub fn adjoint<S: Scalar>(
        self,
        obs: impl Fn(usize) -> S,
        action: &[S],
        bar: S,
        at_end: S,
        action_bar: &mut [S],
    ) -> EntryBars<S> {
        match self {
            Self::Linear { of, weight, offset, low, high } => {
                let bar = if weight == 1.0 { bar } else { S::of(weight) * bar };
                if low.is_finite() || high.is_finite() {
                    let slope = cut_slope(obs(of) - S::of(offset), S::of(low), S::of(high), at_end);
                    return EntryBars::One(of, slope * bar);
                }
                EntryBars::One(of, bar)
            }
            Self::ClippedQuadratic { of, offset, low, high, below, above } => {
                let (x, zero) = (obs(of) - S::of(offset), S::zero());
                let (low, high, above) = (S::of(low), S::of(high), S::of(above));
                // The parabola is flat where it meets the line.
                let line = S::select(zero.lt(x), above, at_end * above);
                let slope = S::select(x.lt(zero), S::of(2.0 * below) * x, line);
                EntryBars::One(of, cut_slope(x, low, high, at_end) * slope * bar)
            }
            Self::Angle { of, offset, scale } => {
                let x = obs(of) - S::of(offset);
                EntryBars::One(of, S::of(-2.0 / (scale * scale)) * x * bar)
            }
            Self::Squared { of, offset, weight } => {
                EntryBars::One(of, S::of(2.0 * weight) * (obs(of) - S::of(offset)) * bar)
            }
            Self::WrappedAngle { sine, cosine, weight } => {
                // dθ = (c ds - s dc) / (s² + c²)
                let (s, c) = (obs(sine), obs(cosine));
                let pull = S::of(2.0 * weight) * s.atan2(c) * bar / s.mul_add(s, c * c);
                EntryBars::Two([(sine, c * pull), (cosine, -(s * pull))])
            }
            Self::ActionCost { weight } => {
                let twice = S::of(2.0 * weight) * bar;
                for (to, &a) in action_bar.iter_mut().zip(action) {
                    *to = twice.mul_add(a, *to);
                }
                EntryBars::None
            }
        }
    }
}

/// Sum of the terms.
#[inline(always)]
pub fn reward<S: Scalar>(terms: &[Term], obs: impl Fn(usize) -> S, action: &[S]) -> S {
    let mut sum: Option<S> = None;
    for term in terms {
        let value = term.value(&obs, action);
        sum = match sum {
            Some(sum) => Some(sum + value),
            None => Some(value),
        };
    }
    match sum {
        Some(sum) => sum,
        None => S::zero(),
    }
}

/// Adjoint of [`reward`]: writes the cotangents of the entries that terms read into `obs_bar`, whose other entries stay
/// as they are, and adds to that of the clipped action.
#[inline(always)]
pub fn reward_adjoint<S: Scalar>(
    terms: &[Term],
    obs: impl Fn(usize) -> S,
    action: &[S],
    bar: S,
    at_end: S,
    obs_bar: &mut [S],
    action_bar: &mut [S],
) {
    for entry in terms.iter().flat_map(|t| t.entries()) {
        obs_bar[entry] = -S::zero();
    }
    for term in terms {
        match term.adjoint(&obs, action, bar, at_end, action_bar) {
            EntryBars::None => {}
            EntryBars::One(entry, x) => obs_bar[entry] += x,
            EntryBars::Two([(a, x), (b, y)]) => {
                obs_bar[a] += x;
                obs_bar[b] += y;
            }
        }
    }
}
