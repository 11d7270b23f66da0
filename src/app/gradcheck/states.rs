//! States to check a gradient at: random ones of every kind, or those of a file.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::device::philox::Philox;
use crate::env::ant::{ACT, Ant, NQ, NQD, reset_row};

/// A state with the raw action that is taken in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    pub q: [f64; NQ],
    pub qd: [f64; NQD],
    pub action: [f64; ACT],
}

/// State number `e`: a reset lowered towards or into the ground. Of three one is at rest, one moves, one moves fast; of
/// three one has hinges far beyond their limits; of four one lies any way round, of five one is far from the origin, of
/// seven one has its quaternion's sign turned. Some actions are beyond 1.
pub fn random_state(ant: &Ant, rng: &Philox, e: u32) -> State {
    let (mut q, mut qd) = ([0.0; NQ], [0.0; NQD]);
    let u = |k: u32| 2.0 * rng.uniform(5, e * 64 + k) - 1.0;
    reset_row(ant, rng, 0, e, &mut q, &mut qd);
    q[1] -= 0.35 * (u(0) + 1.0);
    for k in 0..8 {
        q[7 + k] += u(1 + k as u32) * if e.is_multiple_of(3) { 1.0 } else { 0.3 };
    }
    for (k, x) in qd.iter_mut().enumerate() {
        *x = u(9 + k as u32) * [0.0, 1.0, 6.0][e as usize % 3];
    }
    if e % 4 == 3 {
        let turned = [u(23), u(24), u(25), u(26)];
        let norm = turned.iter().map(|x| x * x).sum::<f64>().sqrt();
        q[3..7].iter_mut().zip(turned).for_each(|(x, t)| *x = t / norm);
    }
    if e % 5 == 4 {
        (q[0], q[2]) = (8.0 * u(27), 8.0 * u(28));
    }
    if e % 7 == 6 {
        q[3..7].iter_mut().for_each(|x| *x = -*x);
    }
    State { q, qd, action: std::array::from_fn(|k| 1.2 * u(30 + k as u32)) }
}

/// A state from 15 coordinates and 14 velocities, and 8 entries of an action unless that is to be zero.
pub fn state_of(numbers: &[f64]) -> anyhow::Result<State> {
    ensure!(
        numbers.len() == NQ + NQD || numbers.len() == NQ + NQD + ACT,
        "a state has {} numbers; give {NQ} coordinates, {NQD} velocities and, if it is not zero, an action of {ACT}",
        numbers.len()
    );
    if let Some(bad) = numbers.iter().find(|x| !x.is_finite()) {
        bail!("a state holds {bad}; give finite numbers");
    }
    let at = |k: usize| numbers.get(k).copied().unwrap_or(0.0);
    Ok(State {
        q: std::array::from_fn(at),
        qd: std::array::from_fn(|k| at(NQ + k)),
        action: std::array::from_fn(|k| at(NQ + NQD + k)),
    })
}

/// The states of a file: one a line, numbers apart by commas or blanks, `#` before remarks.
pub fn states_of(file: &Path) -> anyhow::Result<Vec<State>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut states = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("");
        let words: Vec<&str> = line.split([',', ' ', '\t']).filter(|w| !w.is_empty()).collect();
        if words.is_empty() {
            continue;
        }
        let place = || format!("{}, line {}", file.display(), n + 1);
        let numbers: Result<Vec<f64>, _> = words.iter().map(|w| w.parse()).collect();
        states.push(numbers.map_err(Into::into).and_then(|x| state_of(&x)).with_context(place)?);
    }
    ensure!(!states.is_empty(), "{} holds no state; write one a line", file.display());
    Ok(states)
}
