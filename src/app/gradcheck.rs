//! `pwm gradcheck`: the simulator's adjoint against dual numbers and central differences, and how a gradient grows over
//! a horizon.

use std::io::Write;

use anyhow::ensure;

use super::say;
use crate::device::Dual;
use crate::device::philox::{Philox, Stream};
use crate::env::ant::{ACT, Ant, Cotangents, EnvReal, NQ, NQD, OBS, Operands, Results, reset_row};
use crate::env::step::ant_from_config;

/// Check the gradient of the simulator.
#[derive(Clone, Debug, clap::Args)]
pub struct GradcheckArgs {
    /// Settings as key=value, as in env=ant mm_caching_frequency=1 seed=3
    pub overrides: Vec<String>,
    /// Random states to check
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub states: u32,
    /// One state to check instead: 15 coordinates and 14 velocities, with commas between them
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    pub state: Vec<f64>,
    /// Steps over which the Jacobian's norm is shown
    #[arg(long, value_name = "H", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub horizon: u32,
}

/// A state with the action that is taken in it.
#[derive(Clone)]
struct Case {
    q: [f64; NQ],
    qd: [f64; NQD],
    action: [f64; ACT],
}

/// Numbers that go into a step, and that come out of it.
const IN: usize = NQ + NQD + ACT;
const OUT: usize = NQ + NQD + OBS;

impl Case {
    fn inputs(&self) -> [f64; IN] {
        let mut x = [0.0; IN];
        x[..NQ].copy_from_slice(&self.q);
        x[NQ..NQ + NQD].copy_from_slice(&self.qd);
        x[NQ + NQD..].copy_from_slice(&self.action);
        x
    }

    /// What comes out of a step from `x`: q, qd and observation.
    fn step<R: EnvReal>(ant: &Ant, x: &[R; IN]) -> [R; OUT] {
        let (mut q, mut qd) = (x[..NQ].to_vec(), x[NQ..NQ + NQD].to_vec());
        let (before, mut obs, mut reward) = ([R::zero(); OBS], [R::zero(); OBS], [R::zero()]);
        R::step_rows(ant, 1, &mut q, &mut qd, &before, &x[NQ + NQD..], &mut obs, &mut reward);
        let mut out = [R::zero(); OUT];
        out[..NQ].copy_from_slice(&q);
        out[NQ..NQ + NQD].copy_from_slice(&qd);
        out[NQ + NQD..].copy_from_slice(&obs);
        out
    }

    /// The adjoint: cotangents of what went in from `bar`, those of what came out.
    fn pull<R: EnvReal>(ant: &Ant, x: &[R; IN], bar: &[R; OUT]) -> [R; IN] {
        let (mut q, mut qd, mut obs, mut action) =
            ([R::zero(); NQ], [R::zero(); NQD], [R::zero(); OBS], [R::zero(); ACT]);
        R::adjoint_rows(
            ant,
            1,
            Operands { q: &x[..NQ], qd: &x[NQ..NQ + NQD], action: &x[NQ + NQD..] },
            Results { q: &bar[..NQ], qd: &bar[NQ..NQ + NQD], obs: &bar[NQ + NQD..], reward: &[R::zero()] },
            Cotangents { q: &mut q, qd: &mut qd, obs: &mut obs, action: &mut action },
        );
        let mut out = [R::zero(); IN];
        out[..NQ].copy_from_slice(&q);
        out[NQ..NQ + NQD].copy_from_slice(&qd);
        out[NQ + NQD..].copy_from_slice(&action);
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &GradcheckArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = crate::config::load(&args.overrides)?;
    let ant = ant_from_config(&config);
    let rng = Philox::new(config.seed, Stream::Test);
    let cases = if args.state.is_empty() {
        (0..args.states).map(|e| random_case(&ant, &rng, e)).collect()
    } else {
        ensure!(
            args.state.len() == NQ + NQD,
            "--state has {} numbers; give {NQ} coordinates and {NQD} velocities",
            args.state.len()
        );
        let mut case = random_case(&ant, &rng, 0);
        case.q.copy_from_slice(&args.state[..NQ]);
        case.qd.copy_from_slice(&args.state[NQ..]);
        vec![case]
    };
    say(
        out,
        format_args!("the Ant's step, mass matrix every {} substeps, f64 unless said", config.mm_caching_frequency),
    );
    say(
        out,
        format_args!(
            "{:>5}  {:>10}  {:>12}  {:>12}  {:>10}",
            "state", "|gradient|", "dual numbers", "differences", "f32"
        ),
    );
    let mut worst = [0.0f64; 3];
    for (i, case) in cases.iter().enumerate() {
        let (size, errors) = check(&ant, case, &rng, i as u32);
        say(
            out,
            format_args!("{i:>5}  {size:>10.3e}  {:>12.1e}  {:>12.1e}  {:>10.1e}", errors[0], errors[1], errors[2]),
        );
        for (worst, error) in worst.iter_mut().zip(errors) {
            *worst = worst.max(error);
        }
    }
    say(out, format_args!("worst              {:>12.1e}  {:>12.1e}  {:>10.1e}", worst[0], worst[1], worst[2]));
    say(out, format_args!(""));
    say(out, format_args!("norm of d state(t) / d state(0) along the first state's path, action held: the largest"));
    say(out, format_args!("growth of a random direction, by dual numbers"));
    growth(&ant, &cases[0], &rng, args.horizon as usize, out);
    ensure!(worst[0] < 1e-10, "the adjoint is not the derivative of the step: {:.1e} from dual numbers", worst[0]);
    Ok(())
}

/// A start state lowered towards the ground and moved, with a random action.
fn random_case(ant: &Ant, rng: &Philox, e: u32) -> Case {
    let mut c = Case { q: [0.0; NQ], qd: [0.0; NQD], action: [0.0; ACT] };
    reset_row(ant, rng, 0, e, &mut c.q, &mut c.qd);
    let normal = |k: u32| rng.normal(1, e * 64 + k);
    c.q[1] -= 0.25 * normal(0).abs();
    for (k, x) in c.qd.iter_mut().enumerate() {
        *x += normal(1 + k as u32);
    }
    for (k, x) in c.action.iter_mut().enumerate() {
        *x = 0.5 * normal(20 + k as u32);
    }
    c
}

/// Norm of the gradient of a random weighing of the results, and relative errors of the adjoint: against dual numbers
/// and central differences along a random direction, and single against double precision.
fn check(ant: &Ant, case: &Case, rng: &Philox, e: u32) -> (f64, [f64; 3]) {
    let x = case.inputs();
    let bar: [f64; OUT] = std::array::from_fn(|k| rng.normal(2, e * 128 + k as u32));
    let along: [f64; IN] = std::array::from_fn(|k| rng.normal(3, e * 128 + k as u32));
    let back = Case::pull(ant, &x, &bar);
    let size = norm(&back) * norm(&along);

    let y = Case::step::<Dual>(ant, &std::array::from_fn(|k| Dual::new(x[k], along[k])));
    let by_dual: f64 = y.iter().zip(&bar).map(|(y, w)| y.d * w).sum();
    const H: f64 = 1e-7;
    let moved = |s: f64| Case::step::<f64>(ant, &std::array::from_fn(|k| x[k] + s * H * along[k]));
    let by_difference = (dot(&moved(1.0), &bar) - dot(&moved(-1.0), &bar)) / (2.0 * H);
    let narrow: [f32; IN] = x.map(|x| x as f32);
    let single = Case::pull(ant, &narrow, &bar.map(|w| w as f32)).map(f64::from);
    let double = Case::pull(ant, &narrow.map(f64::from), &bar.map(|w| f64::from(w as f32)));
    let apart: Vec<f64> = single.iter().zip(&double).map(|(a, b)| a - b).collect();
    let there = dot(&back, &along);
    let errors = [(there - by_dual).abs() / size, (there - by_difference).abs() / size, norm(&apart) / norm(&double)];
    (norm(&back), errors)
}

/// Prints how much random directions of the first state have grown after 1, 2, 4, ... steps.
fn growth(ant: &Ant, case: &Case, rng: &Philox, horizon: usize, out: &mut dyn Write) {
    const DIRECTIONS: usize = 16;
    const STATE: usize = NQ + NQD;
    let mut rows: Vec<[Dual; IN]> = (0..DIRECTIONS as u32)
        .map(|d| {
            let mut along: [f64; IN] = std::array::from_fn(|k| rng.normal(4, d * 128 + k as u32));
            along[STATE..].fill(0.0);
            let n = norm(&along);
            let x = case.inputs();
            std::array::from_fn(|k| Dual::new(x[k], along[k] / n))
        })
        .collect();
    for t in 1..=horizon {
        let mut largest = 0.0f64;
        for row in &mut rows {
            let next = Case::step(ant, row);
            row[..STATE].copy_from_slice(&next[..STATE]);
            largest = largest.max(norm(&row[..STATE].iter().map(|x| x.d).collect::<Vec<_>>()));
        }
        if t.is_power_of_two() || t == horizon {
            say(out, format_args!("  {t:>4} steps  {largest:>10.3e}"));
        }
    }
}
