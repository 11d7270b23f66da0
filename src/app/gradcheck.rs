//! `pwm gradcheck`: the simulator's adjoint stage by stage and over a whole step, against dual numbers and central
//! differences, and how a gradient grows over a horizon.

pub mod physics;
mod stage;
pub mod stages;
pub mod states;

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;

use super::{misused, say};
use crate::config::Subgradient;
use crate::device::Dual;
use crate::device::philox::{Philox, Stream};
use crate::env::{EnvReal, InputCotangents, OutputCotangents, StepOperands, Task, in_physics};
use stages::{StageError, check_stages};
use states::{StateAction, random_state, state_of, states_of};

/// Check the gradient of the simulator.
#[derive(Clone, Debug, clap::Args)]
pub struct GradcheckArgs {
    /// Settings as key=value, as in mm_caching_frequency=1 seed=3
    pub overrides: Vec<String>,
    /// Random states to check
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub states: u32,
    /// One state to check instead: coordinates, velocities and, if it is not zero, an action, with commas
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    pub state: Vec<f64>,
    /// A file of states to check instead, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub file: Option<PathBuf>,
    /// Steps over which the Jacobian's norm is shown
    #[arg(long, value_name = "H", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub horizon: u32,
}

impl GradcheckArgs {
    fn states(&self, task: &Task, rng: &Philox) -> anyhow::Result<Vec<StateAction>> {
        match &self.file {
            Some(file) => states_of(task.sizes, file),
            None if self.state.is_empty() => Ok(self.random(task, rng)),
            None => Ok(vec![state_of(task.sizes, &self.state)?]),
        }
    }

    /// As many random states as are asked for. A step that throws a light body out of the ground may leave physics,
    /// where there is no gradient: such states are passed over, as far as there are enough others.
    fn random(&self, task: &Task, rng: &Philox) -> Vec<StateAction> {
        let stays = |s: &StateAction| in_physics(&step::<f64>(task, &s.inputs())[task.sizes.nq + task.sizes.nqd..]);
        let all = || (0..2 * self.states).map(|e| random_state(task, rng, e));
        let (stay, leave): (Vec<_>, Vec<_>) = all().partition(stays);
        stay.into_iter().chain(leave).take(self.states as usize).collect()
    }
}

impl StateAction {
    /// The numbers that go into a step.
    fn inputs(&self) -> Vec<f64> {
        [&self.q[..], &self.qd, &self.action].concat()
    }
}

/// What comes out of a step from `x`: q, qd and observation.
fn step<R: EnvReal>(task: &Task, x: &[R]) -> Vec<R> {
    let s = task.sizes;
    let (state, action) = x.split_at(s.nq + s.nqd);
    let (q, qd) = state.split_at(s.nq);
    let (mut q, mut qd) = (q.to_vec(), qd.to_vec());
    let (before, mut obs, mut reward) = (vec![R::zero(); s.obs], vec![R::zero(); s.obs], [R::zero()]);
    R::step_rows(task, 1, &mut q, &mut qd, &before, action, &mut obs, &mut reward);
    [q, qd, obs].concat()
}

/// The adjoint: cotangents of what went in from `bar`, those of what came out.
fn pull<R: EnvReal>(task: &Task, x: &[R], bar: &[R]) -> Vec<R> {
    let s = task.sizes;
    let state = s.nq + s.nqd;
    let [mut q, mut qd, mut obs, mut action] = [s.nq, s.nqd, s.obs, s.act].map(|n| vec![R::zero(); n]);
    let before = vec![R::zero(); s.obs];
    R::adjoint_rows(
        task,
        1,
        StepOperands { q: &x[..s.nq], qd: &x[s.nq..state], action: &x[state..], obs: &before },
        OutputCotangents { q: &bar[..s.nq], qd: &bar[s.nq..state], obs: &bar[state..], reward: &[R::zero()] },
        InputCotangents { q: &mut q, qd: &mut qd, obs: &mut obs, action: &mut action },
    );
    [q, qd, action].concat()
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
    ensure!(
        config.env_names().len() == 1,
        misused(format_args!("a gradient is checked on one task, and env names {}", config.env_names().len()))
    );
    let task = Task::from_config(&config)?;
    ensure!(
        task.is_differentiable(),
        misused(format_args!(
            "{} moves by MuJoCo's law, which has no gradient here\n  its tasks are for algorithms that learn a model \
             of it: pwm_small and its kin",
            task.spec.title
        ))
    );
    let rng = Philox::new(config.seed, Stream::Test);
    let states = args.states(&task, &rng)?;
    say(
        out,
        format_args!(
            "{} at {} states: relative errors of the adjoint, in f64 unless said, sub-gradients: {}",
            task.spec.title,
            states.len(),
            config.subgradient
        ),
    );
    say(
        out,
        format_args!("(a state at rest in the ground stands at kinks, where differences are the mean of both sides)"),
    );
    say(out, format_args!(""));
    let worst_stage = show_stages(&task, &states, &rng, out);
    say(out, format_args!(""));
    let (substeps, every) = (task.dflex().spec.substeps, task.dflex().spec.mass_matrix_every);
    say(out, format_args!("a step of {substeps} substeps, mass matrix every {every}"));
    let titles = ["state", "|gradient|", "dual numbers", "differences", "f32"];
    say(
        out,
        format_args!("{:>5}  {:>10}  {:>12}  {:>12}  {:>10}", titles[0], titles[1], titles[2], titles[3], titles[4]),
    );
    let mut worst = [0.0f64; 3];
    for (i, state) in states.iter().enumerate() {
        let (size, errors) = check(&task, state, &rng, i as u32);
        let [dual, differences, single] = errors;
        say(out, format_args!("{i:>5}  {size:>10.3e}  {dual:>12.1e}  {differences:>12.1e}  {single:>10.1e}"));
        worst.iter_mut().zip(errors).for_each(|(worst, error)| *worst = worse(*worst, error));
    }
    let [dual, differences, single] = worst;
    say(out, format_args!("worst              {dual:>12.1e}  {differences:>12.1e}  {single:>10.1e}"));
    say(out, format_args!(""));
    say(out, format_args!("norm of d state(t) / d state(0) along the first state's path, action held: the largest"));
    say(out, format_args!("growth of a random direction, by dual numbers"));
    growth(&task, &states[0], &rng, args.horizon as usize, out);
    ensure!(
        worst.iter().all(|x| x.is_finite()) && worst_stage.is_finite(),
        "at some of the states a step leaves physics: there is no gradient to compare; take others, or less speed"
    );
    // Dual numbers take the reference's side at a kink; another choice may differ there, and is shown above.
    if config.subgradient == Subgradient::Reference {
        ensure!(worst_stage < 1e-12, "a stage's adjoint is not its derivative: {worst_stage:.1e} from dual numbers");
        ensure!(dual < 1e-10, "the adjoint is not the derivative of the step: {dual:.1e} from dual numbers");
    }
    Ok(())
}

/// The larger error; one that is not a number is the largest.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// A table of stages, and the worst error against dual numbers. Differences mean little where a state stands at a kink,
/// so their median is shown too.
fn show_stages(task: &Task, states: &[StateAction], rng: &Philox, out: &mut dyn Write) -> f64 {
    let each = |(e, state)| check_stages(task.dflex(), state, rng, e);
    let all: Vec<Vec<StageError>> = (0..).zip(states).map(each).collect();
    say(out, format_args!("{:<16}  {:>12}  {:>12}  {:>12}", "stage", "dual numbers", "differences", "median"));
    let mut worst = 0.0f64;
    for i in 0..all[0].len() {
        let dual = all.iter().fold(0.0f64, |m, s| worse(m, s[i].dual));
        let mut differences: Vec<f64> = all.iter().map(|s| s[i].differences).collect();
        differences.sort_by(f64::total_cmp);
        let [median, most] = [differences[differences.len() / 2], differences[differences.len() - 1]];
        say(out, format_args!("{:<16}  {dual:>12.1e}  {most:>12.1e}  {median:>12.1e}", all[0][i].stage));
        worst = worse(worst, dual);
    }
    worst
}

/// Norm of the gradient of a random weighing of the results, and relative errors of the adjoint: against dual numbers
/// and central differences along a random direction, and single against double precision.
fn check(task: &Task, state: &StateAction, rng: &Philox, e: u32) -> (f64, [f64; 3]) {
    let x = state.inputs();
    let outputs = task.sizes.nq + task.sizes.nqd + task.sizes.obs;
    let draws = |stream, n: usize| -> Vec<f64> {
        let each = outputs.max(128) as u32;
        (0..n as u32).map(|k| rng.normal(stream, e * each + k)).collect()
    };
    let (bar, along) = (draws(2, outputs), draws(3, x.len()));
    let back = pull(task, &x, &bar);
    let size = norm(&back) * norm(&along);

    let dual: Vec<Dual> = x.iter().zip(&along).map(|(&x, &d)| Dual::new(x, d)).collect();
    let y = step::<Dual>(task, &dual);
    let by_dual: f64 = y.iter().zip(&bar).map(|(y, w)| y.d * w).sum();
    const H: f64 = 1e-7;
    let moved = |s: f64| step::<f64>(task, &x.iter().zip(&along).map(|(x, d)| x + s * H * d).collect::<Vec<_>>());
    let by_difference = (dot(&moved(1.0), &bar) - dot(&moved(-1.0), &bar)) / (2.0 * H);
    let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (x, bar) = (narrow(&x), narrow(&bar));
    let single = wide(&pull(task, &x, &bar));
    let double = pull(task, &wide(&x), &wide(&bar));
    let apart: Vec<f64> = single.iter().zip(&double).map(|(a, b)| a - b).collect();
    let there = dot(&back, &along);
    let errors = [(there - by_dual).abs() / size, (there - by_difference).abs() / size, norm(&apart) / norm(&double)];
    (norm(&back), errors)
}

/// Prints how much random directions of the first state have grown after 1, 2, 4, ... steps.
fn growth(task: &Task, state: &StateAction, rng: &Philox, horizon: usize, out: &mut dyn Write) {
    const DIRECTIONS: usize = 16;
    let numbers = task.sizes.nq + task.sizes.nqd;
    let x = state.inputs();
    let mut rows: Vec<Vec<Dual>> = (0..DIRECTIONS as u32)
        .map(|d| {
            let each = x.len().max(128) as u32;
            let mut along: Vec<f64> = (0..x.len() as u32).map(|k| rng.normal(4, d * each + k)).collect();
            along[numbers..].fill(0.0);
            let n = norm(&along);
            x.iter().zip(along).map(|(&x, d)| Dual::new(x, d / n)).collect()
        })
        .collect();
    for t in 1..=horizon {
        let mut largest = 0.0f64;
        for row in &mut rows {
            let next = step(task, row);
            row[..numbers].copy_from_slice(&next[..numbers]);
            largest = worse(largest, norm(&row[..numbers].iter().map(|x| x.d).collect::<Vec<_>>()));
        }
        if t.is_power_of_two() || t == horizon {
            say(out, format_args!("  {t:>4} steps  {largest:>10.3e}"));
        }
    }
}
