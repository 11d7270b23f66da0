//! States to check a gradient at: random ones of every kind, or those of a file.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::app::misused;
use crate::device::philox::Philox;
use crate::env::{EnvSizes, Task};
use crate::sim::JointKind;

/// A state with the raw action that is taken in it.
#[derive(Clone, Debug, PartialEq)]
pub struct StateAction {
    pub q: Vec<f64>,
    pub qd: Vec<f64>,
    pub action: Vec<f64>,
}

/// State number `e`: a reset, lowered towards or into the ground if the root is free. Of three one is at rest, one
/// moves, one moves fast; of three one has hinges and slides far beyond their limits; of four one lies any way round,
/// of five one is far from the origin, of seven one has its quaternion's sign turned. Some actions are beyond 1.
///
/// # Panics
/// If the task is not under dFlex's law.
pub fn random_state(task: &Task, rng: &Philox, e: u32) -> StateAction {
    let s = task.sizes;
    let (mut q, mut qd) = (vec![0.0; s.nq], vec![0.0; s.nqd]);
    let bodies = || task.dflex().model().links.iter();
    let simple: Vec<usize> =
        bodies().filter(|l| matches!(l.kind, JointKind::Hinge | JointKind::Slide)).map(|l| l.q).collect();
    // Numbers of the height, the joints, the velocities, the turn, the place, the action.
    let speeds = 1 + simple.len();
    let (turn, place) = (speeds + s.nqd, speeds + s.nqd + 4);
    let action = place + 3;
    let each = (action + s.act).max(64) as u32;
    let u = |k: usize| 2.0 * rng.uniform(5, e * each + k as u32) - 1.0;
    task.dflex().reset_row(rng, 0, e, &mut q, &mut qd);
    let free = bodies().next().is_some_and(|l| l.kind == JointKind::Free);
    if free {
        q[1] -= 0.35 * (u(0) + 1.0);
    }
    for (k, &i) in simple.iter().enumerate() {
        q[i] += u(1 + k) * if e.is_multiple_of(3) { 1.0 } else { 0.3 };
    }
    for (k, x) in qd.iter_mut().enumerate() {
        *x = u(speeds + k) * [0.0, 1.0, 6.0][e as usize % 3];
    }
    if free && e % 4 == 3 {
        let turned = [0, 1, 2, 3].map(|k| u(turn + k));
        let norm = turned.iter().map(|x| x * x).sum::<f64>().sqrt();
        q[3..7].iter_mut().zip(turned).for_each(|(x, t)| *x = t / norm);
    }
    if free && e % 5 == 4 {
        (q[0], q[2]) = (8.0 * u(place), 8.0 * u(place + 1));
    }
    if free && e % 7 == 6 {
        q[3..7].iter_mut().for_each(|x| *x = -*x);
    }
    StateAction { q, qd, action: (0..s.act).map(|k| 1.2 * u(action + k)).collect() }
}

/// A state from coordinates and velocities, and the entries of an action unless that is to be zero.
pub fn state_of(s: EnvSizes, numbers: &[f64]) -> anyhow::Result<StateAction> {
    let state = s.nq + s.nqd;
    ensure!(
        numbers.len() == state || numbers.len() == state + s.act,
        misused(format_args!(
            "a state has {} numbers; give {} coordinates, {} velocities and, if it is not zero, an action of {}",
            numbers.len(),
            s.nq,
            s.nqd,
            s.act
        ))
    );
    if let Some(bad) = numbers.iter().find(|x| !x.is_finite()) {
        bail!(misused(format_args!("a state holds {bad}; give finite numbers")));
    }
    let mut action = numbers[state..].to_vec();
    action.resize(s.act, 0.0);
    Ok(StateAction { q: numbers[..s.nq].to_vec(), qd: numbers[s.nq..state].to_vec(), action })
}

/// The states of a file: one a line, numbers apart by commas or blanks, `#` before remarks.
pub fn states_of(s: EnvSizes, file: &Path) -> anyhow::Result<Vec<StateAction>> {
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
        states.push(numbers.map_err(Into::into).and_then(|x| state_of(s, &x)).with_context(place)?);
    }
    ensure!(!states.is_empty(), misused(format_args!("{} holds no state; write one a line", file.display())));
    Ok(states)
}
