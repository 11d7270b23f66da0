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
    /// 1 within bounds, less beyond them, never below its least: see [`Tolerance`]. It may multiply the next term rather
    /// than being a summand of its own: a product of several is high only where all of them are.
    Tolerance { of: usize, tolerance: Tolerance, times_next: bool },
}

/// How near a number is to [low, high], as dm_control rewards it (Tassa et al. 2018): `least + (1 - least) s`, where s
/// is 1 inside and falls with the distance outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub low: f64,
    pub high: f64,
    /// Distance at which s is `at_margin`. With 0, s is 0 everywhere outside and has no derivative.
    pub margin: f64,
    pub at_margin: f64,
    pub fall: Fall,
    pub least: f64,
}

/// The shape of s outside; d is the distance in margins, v the value at d = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// `1 / (1 + (1/v - 1) d²)`: nowhere flat, so a gradient comes from afar.
    LongTail,
    /// `exp(ln(v) d²)`.
    Gaussian,
    /// `1 - (1 - v) d²`, or 0 where that is negative.
    Quadratic,
    /// `1 - (1 - v) d`, or 0 where that is negative.
    Linear,
}

impl Fall {
    /// All of them, with their names in a specification.
    pub const ALL: [(&str, Self); 4] = [
        ("long_tail", Self::LongTail),
        ("gaussian", Self::Gaussian),
        ("quadratic", Self::Quadratic),
        ("linear", Self::Linear),
    ];

    /// The factor before d or d².
    pub fn steepness(self, at_margin: f64) -> f64 {
        match self {
            Self::LongTail => 1.0 / at_margin - 1.0,
            Self::Gaussian => -at_margin.ln(),
            Self::Quadratic | Self::Linear => 1.0 - at_margin,
        }
    }
}

impl Tolerance {
    /// Margins that x is away from the bounds.
    #[inline(always)]
    fn away<S: Scalar>(self, x: S) -> S {
        let (low, high) = (S::of(self.low), S::of(self.high));
        let beyond = S::select(x.lt(low), low - x, S::select(high.lt(x), x - high, S::zero()));
        beyond * S::of(1.0 / self.margin)
    }

    /// # Errors
    /// What is wrong with its numbers.
    pub fn checked(self) -> Result<Self, String> {
        let numbers = [self.low, self.high, self.margin, self.at_margin, self.least];
        if numbers.iter().any(|x| x.is_nan()) || self.margin.is_infinite() {
            return Err("one of the bounds is no number".into());
        }
        if self.low > self.high {
            return Err(format!("`low` ({}) is above `high` ({})\n  exchange them", self.low, self.high));
        }
        for (name, x) in [("at_margin", self.at_margin), ("least", self.least)] {
            if !(0.0..1.0).contains(&x) {
                return Err(format!("`{name}` is from 0 to below 1, not {x}"));
            }
        }
        if self.margin < 0.0 {
            return Err(format!("`margin` is a distance, not {}", self.margin));
        }
        if matches!(self.fall, Fall::LongTail | Fall::Gaussian) && self.at_margin == 0.0 {
            return Err("what falls like this never ends: `at_margin` is more than 0".into());
        }
        Ok(self)
    }

    #[inline(always)]
    pub fn value<S: Scalar>(self, x: S) -> S {
        let one = S::one();
        let s = if self.margin > 0.0 {
            let (d, k) = (self.away(x), S::of(self.fall.steepness(self.at_margin)));
            match self.fall {
                Fall::LongTail => one / (k * d * d + one),
                Fall::Gaussian => (-(k * d * d)).exp(),
                Fall::Quadratic => (one - k * d * d).max(S::zero()),
                Fall::Linear => (one - k * d).max(S::zero()),
            }
        } else {
            let outside = x.lt(S::of(self.low)) | S::of(self.high).lt(x);
            S::select(outside, S::zero(), one)
        };
        S::of(self.least) + S::of(1.0 - self.least) * s
    }

    /// Derivative of [`Tolerance::value`]. Where it begins to fall that of the inside counts `at_end`; where it has
    /// fallen to 0 there is none.
    #[inline(always)]
    fn slope<S: Scalar>(self, x: S, at_end: S) -> S {
        if self.margin <= 0.0 {
            return S::zero();
        }
        let (one, zero) = (S::one(), S::zero());
        let (low, high) = (S::of(self.low), S::of(self.high));
        let (d, k) = (self.away(x), S::of(self.fall.steepness(self.at_margin)));
        // Minus the derivative by d.
        let fall = match self.fall {
            Fall::LongTail => {
                let s = one / (k * d * d + one);
                S::of(2.0) * k * d * s * s
            }
            Fall::Gaussian => S::of(2.0) * k * d * (-(k * d * d)).exp(),
            Fall::Quadratic => S::select((k * d * d).lt(one), S::of(2.0) * k * d, zero),
            Fall::Linear => S::select((k * d).lt(one), k, zero),
        };
        let outside = one - at_end;
        let side = S::select(x.lt(low), one, S::select(x.le(low), outside, zero))
            - S::select(high.lt(x), one, S::select(high.le(x), outside, zero));
        side * fall * S::of((1.0 - self.least) / self.margin)
    }
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

/// What the adjoint of [`Term::value`] gives for what it reads: entries of the observation, or the sum of the squares of
/// the action.
#[derive(Clone, Copy, Debug)]
pub enum TermBars<S> {
    Squares(S),
    One(usize, S),
    Two([(usize, S); 2]),
}

/// Adds the square of an entry of the clipped action to `sum`.
#[inline(always)]
pub fn square<S: Scalar>(a: S, sum: S) -> S {
    a.mul_add(a, sum)
}

/// Adjoint of [`square`] for the entry: `sum`, its cotangent so far, with what that of the squares adds.
#[inline(always)]
pub fn square_adjoint<S: Scalar>(a: S, squares_bar: S, sum: S) -> S {
    (S::of(2.0) * squares_bar).mul_add(a, sum)
}

/// `Σ a²` over the clipped action, which terms cost.
#[inline(always)]
pub fn squares<S: Scalar>(action: &[S]) -> S {
    action.iter().fold(S::zero(), |sum, &a| square(a, sum))
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
            | Self::Squared { of, .. }
            | Self::Tolerance { of, .. } => (Some(of), None),
            Self::WrappedAngle { sine, cosine, .. } => (Some(sine), Some(cosine)),
            Self::ActionCost { .. } => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// The summand for the observation whose entries `obs` gives, and the [`squares`] of the action on it.
    #[inline(always)]
    pub fn value<S: Scalar>(self, obs: impl Fn(usize) -> S, squares: S) -> S {
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
            Self::ActionCost { weight } => S::of(weight) * squares,
            Self::Tolerance { of, tolerance, .. } => tolerance.value(obs(of)),
        }
    }

    /// Whether it multiplies the next term instead of being added.
    pub fn times_next(self) -> bool {
        matches!(self, Self::Tolerance { times_next: true, .. })
    }

    /// Adjoint of [`Term::value`] from the reward's cotangent. `at_end` is the share of the inside's derivative at a
    /// kink.
    #[inline(always)]
    pub fn adjoint<S: Scalar>(self, obs: impl Fn(usize) -> S, bar: S, at_end: S) -> TermBars<S> {
        match self {
            Self::Linear { of, weight, offset, low, high } => {
                let bar = if weight == 1.0 { bar } else { S::of(weight) * bar };
                if low.is_finite() || high.is_finite() {
                    let slope = cut_slope(obs(of) - S::of(offset), S::of(low), S::of(high), at_end);
                    return TermBars::One(of, slope * bar);
                }
                TermBars::One(of, bar)
            }
            Self::ClippedQuadratic { of, offset, low, high, below, above } => {
                let (x, zero) = (obs(of) - S::of(offset), S::zero());
                let (low, high, above) = (S::of(low), S::of(high), S::of(above));
                // The parabola is flat where it meets the line.
                let line = S::select(zero.lt(x), above, at_end * above);
                let slope = S::select(x.lt(zero), S::of(2.0 * below) * x, line);
                TermBars::One(of, cut_slope(x, low, high, at_end) * slope * bar)
            }
            Self::Angle { of, offset, scale } => {
                let x = obs(of) - S::of(offset);
                TermBars::One(of, S::of(-2.0 / (scale * scale)) * x * bar)
            }
            Self::Squared { of, offset, weight } => {
                TermBars::One(of, S::of(2.0 * weight) * (obs(of) - S::of(offset)) * bar)
            }
            Self::WrappedAngle { sine, cosine, weight } => {
                // dθ = (c ds - s dc) / (s² + c²)
                let (s, c) = (obs(sine), obs(cosine));
                let pull = S::of(2.0 * weight) * s.atan2(c) * bar / s.mul_add(s, c * c);
                TermBars::Two([(sine, c * pull), (cosine, -(s * pull))])
            }
            Self::ActionCost { weight } => TermBars::Squares(S::of(weight) * bar),
            Self::Tolerance { of, tolerance, .. } => TermBars::One(of, tolerance.slope(obs(of), at_end) * bar),
        }
    }
}

/// Sum of the terms, of those that multiply each other of their product.
#[inline(always)]
pub fn reward<S: Scalar>(terms: &[Term], obs: impl Fn(usize) -> S, squares: S) -> S {
    let mut sum: Option<S> = None;
    let mut product: Option<S> = None;
    for term in terms {
        let value = term.value(&obs, squares);
        let value = match product {
            Some(product) => product * value,
            None => value,
        };
        product = term.times_next().then_some(value);
        if product.is_some() {
            continue;
        }
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
/// as they are, and returns that of the squares, if a term reads them.
#[inline(always)]
pub fn reward_adjoint<S: Scalar>(
    terms: &[Term],
    obs: impl Fn(usize) -> S,
    bar: S,
    at_end: S,
    obs_bar: &mut [S],
) -> Option<S> {
    for entry in terms.iter().flat_map(|t| t.entries()) {
        obs_bar[entry] = -S::zero();
    }
    let mut squares_bar: Option<S> = None;
    for (i, term) in terms.iter().enumerate() {
        // The other factors of a product, tolerances all, are factors of this one's derivative.
        let (mut bar, squares) = (bar, S::zero());
        for other in terms[..i].iter().rev().take_while(|t| t.times_next()) {
            bar *= other.value(&obs, squares);
        }
        for (before, other) in terms[i..].iter().zip(&terms[i + 1..]) {
            if !before.times_next() {
                break;
            }
            bar *= other.value(&obs, squares);
        }
        match term.adjoint(&obs, bar, at_end) {
            TermBars::Squares(x) => {
                squares_bar = match squares_bar {
                    Some(sum) => Some(sum + x),
                    None => Some(x),
                }
            }
            TermBars::One(entry, x) => obs_bar[entry] += x,
            TermBars::Two([(a, x), (b, y)]) => {
                obs_bar[a] += x;
                obs_bar[b] += y;
            }
        }
    }
    squares_bar
}

/// Adds to the cotangent of the clipped action what that of its [`squares`] gives.
#[inline(always)]
pub fn squares_adjoint<S: Scalar>(action: &[S], squares_bar: Option<S>, action_bar: &mut [S]) {
    if let Some(squares_bar) = squares_bar {
        for (to, &a) in action_bar.iter_mut().zip(action) {
            *to = square_adjoint(a, squares_bar, *to);
        }
    }
}
