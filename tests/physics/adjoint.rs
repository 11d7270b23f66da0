//! The adjoint of an environment step: against dual numbers stage by stage and over 16 substeps, and single against
//! double precision. The reference's own gradients are in `robots.rs`.

use crate::support::branches::branches;

use crate::support::ant::{ACT, NQ, NQD, OBS, observe, task};
use crate::support::verdict::{Golden, Verdict, quantile, relative_error};
use pwm::app::gradcheck::stages::check_stages;
use pwm::app::gradcheck::states::{StateAction, random_state};
use pwm::config::Config;
use pwm::device::Dual;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvReal, InputCotangents, OutputCotangents, StepOperands, Task};
use pwm::sim::{self, Inertia, Model, ReferencePoint, Subgradient};

fn ant(reference_point: ReferencePoint, mm_caching_frequency: usize, action_in_obs: bool) -> Task {
    task(Config { reference_point, mm_caching_frequency, action_in_obs, action_penalty: -0.03, ..Config::default() })
}

/// Cotangents of `q`, `qd`, observation before and action of `rows` steps.
struct Pulled<R> {
    q: Vec<R>,
    qd: Vec<R>,
    obs: Vec<R>,
    action: Vec<R>,
}

fn pull<R: EnvReal>(
    ant: &Task,
    [q, qd, action]: [&[R]; 3],
    [q_bar, qd_bar, obs_bar, reward_bar]: [&[R]; 4],
) -> Pulled<R> {
    let rows = reward_bar.len();
    let zeros = |n: usize| vec![R::zero(); rows * n];
    let mut p = Pulled { q: zeros(NQ), qd: zeros(NQD), obs: zeros(OBS), action: zeros(ACT) };
    R::adjoint_rows(
        ant,
        rows,
        StepOperands { q, qd, action, obs: &[] },
        OutputCotangents { q: q_bar, qd: qd_bar, obs: obs_bar, reward: reward_bar },
        InputCotangents { q: &mut p.q, qd: &mut p.qd, obs: &mut p.obs, action: &mut p.action },
    );
    p
}

fn random(stream: u64, n: usize) -> Vec<f64> {
    let rng = Philox::new(stream, Stream::Test);
    (0..n.div_ceil(4)).flat_map(|k| rng.uniform4(stream, k as u32)).take(n).map(|u| 2.0 * u - 1.0).collect()
}

/// States of every kind, in rows.
fn states(numbers: std::ops::Range<usize>) -> [Vec<f64>; 3] {
    let (ant, rng) = (ant(ReferencePoint::World, 16, true), Philox::new(3, Stream::Test));
    let all: Vec<StateAction> = numbers.map(|e| random_state(&ant, &rng, e as u32)).collect();
    let rows = |f: fn(&StateAction) -> &[f64]| all.iter().flat_map(f).copied().collect();
    [rows(|s| &s.q), rows(|s| &s.qd), rows(|s| &s.action)]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Every stage of a substep and of the task against dual numbers, and against central differences where no kink is
/// near: a state at rest stands on several.
#[test]
fn every_stage_is_the_transpose_of_its_derivative() {
    let (ant, rng) = (ant(ReferencePoint::World, 16, true), Philox::new(3, Stream::Test));
    let mut v = Verdict::default();
    for e in 0..240 {
        let state = random_state(&ant, &rng, e);
        for error in check_stages(ant.dflex(), &state, &rng, e) {
            v.check(&format!("{} by dual numbers", error.stage), e, error.dual, 1e-12);
            if state.qd.iter().any(|x| *x != 0.0) {
                v.check(&format!("{} by differences", error.stage), e, error.differences, 1e-7);
            }
        }
    }
    v.finish();
}

/// At rest in the ground, a hinge at its limit, actions at the ends of their range: the central choice is what central
/// differences measure, as well as they do across a kink; the reference's is not.
#[test]
fn central_sub_gradients_are_what_differences_measure() {
    let rng = Philox::new(3, Stream::Test);
    let settings = Config { action_penalty: -0.03, ..Config::default() };
    let kinked = ["contact", "joint", "reward"];
    for subgradient in [Subgradient::Central, Subgradient::Reference] {
        let ant = task(Config { subgradient, ..settings.clone() });
        let mut worst = [0.0f64; 3];
        for e in 0..30 {
            let mut state = StateAction { qd: vec![0.0; NQD], ..random_state(&ant, &rng, e) };
            state.q[1] = 0.2;
            state.q[7] = ant.dflex().model().links[1].upper;
            state.q[8] = ant.dflex().model().links[2].lower;
            (state.action[0], state.action[1]) = (1.0, -1.0);
            for error in check_stages(ant.dflex(), &state, &rng, e) {
                match kinked.iter().position(|k| *k == error.stage) {
                    Some(i) if subgradient == Subgradient::Reference => worst[i] = worst[i].max(error.differences),
                    _ => assert!(error.differences <= 1e-5, "{subgradient:?}, state {e}, {error:?}"),
                }
            }
        }
        assert!(subgradient == Subgradient::Central || worst.iter().all(|w| *w > 1e-3), "{worst:?}");
    }
}

/// A whole step against central differences, where both ends of the difference take the same branches.
#[test]
fn adjoint_agrees_with_central_differences() {
    const ROWS: usize = 120;
    const H: f64 = 1e-7;
    let [q, qd, action] = states(0..ROWS);
    let model = Model::<f64>::new(&sim::robots::ant(), Inertia::Reference);
    let along = [random(61, ROWS * NQ), random(62, ROWS * NQD), random(63, ROWS * ACT)];
    let bars = [random(64, ROWS * NQ), random(65, ROWS * NQD), random(66, ROWS * OBS), vec![0.0; ROWS]];
    let mut v = Verdict::default();
    for every in [16, 1] {
        let ant = ant(ReferencePoint::World, every, true);
        let moved = |s: f64| {
            let at = |x: &[f64], d: &[f64]| x.iter().zip(d).map(|(x, d)| x + s * H * d).collect::<Vec<f64>>();
            [at(&q, &along[0]), at(&qd, &along[1]), at(&action, &along[2])]
        };
        let stepped = |x: &[Vec<f64>; 3]| {
            let (mut q, mut qd) = (x[0].clone(), x[1].clone());
            let (before, mut obs, mut reward) = (vec![0.0; ROWS * OBS], vec![0.0; ROWS * OBS], vec![0.0; ROWS]);
            f64::step_rows(&ant, ROWS, &mut q, &mut qd, &before, &x[2], &mut obs, &mut reward);
            [q, qd, obs]
        };
        let ends = [moved(1.0), moved(-1.0)];
        let results = [stepped(&ends[0]), stepped(&ends[1])];
        let p = pull(&ant, [&q, &qd, &action], [&bars[0], &bars[1], &bars[2], &bars[3]]);
        let mut near_kinks = 0;
        for s in 0..ROWS {
            let row = |x: &[f64], n: usize| x[s * n..][..n].to_vec();
            let taken = |x: &[Vec<f64>; 3]| branches(&model, &row(&x[0], NQ), &row(&x[1], NQD), &row(&x[2], ACT));
            if taken(&ends[0]) != taken(&ends[1]) {
                near_kinks += 1;
                continue;
            }
            let mut out = 0.0;
            for (k, n) in [NQ, NQD, OBS].into_iter().enumerate() {
                let (a, b) = (row(&results[0][k], n), row(&results[1][k], n));
                out += (dot(&a, &row(&bars[k], n)) - dot(&b, &row(&bars[k], n))) / (2.0 * H);
            }
            let (back, dirs) = (
                [row(&p.q, NQ), row(&p.qd, NQD), row(&p.action, ACT)].concat(),
                [row(&along[0], NQ), row(&along[1], NQD), row(&along[2], ACT)].concat(),
            );
            let size = (dot(&back, &back) * dot(&dirs, &dirs)).sqrt();
            v.check(&format!("mass matrix every {every}"), s, (out - dot(&back, &dirs)).abs() / size, 1e-7);
        }
        println!("every {every}: {near_kinks} of {ROWS} states stand at a kink");
        assert!(near_kinks < ROWS / 2);
    }
    v.finish();
}

/// `ȳ·ẏ = x̄·ẋ` for random ẋ and ȳ, ẏ from dual numbers, ẋ with components along the quaternion too.
#[test]
fn adjoint_is_the_transpose_of_the_dual_derivative() {
    const ROWS: usize = 60;
    let [q, qd, action] = states(0..ROWS);
    let mut v = Verdict::default();
    for every in [16, 1, 5] {
        for point in [ReferencePoint::World, ReferencePoint::Torso] {
            let ant = ant(point, every, true);
            let dual = |x: &[f64], seed: u64| -> Vec<Dual> {
                x.iter().zip(random(seed, x.len())).map(|(&v, d)| Dual::new(v, d)).collect()
            };
            let (q0, qd0, a0) = (dual(&q, 21), dual(&qd, 22), dual(&action, 23));
            let mut obs = vec![Dual::default(); ROWS * OBS];
            for s in 0..ROWS {
                observe(&ant, &q0[s * NQ..], &qd0[s * NQD..], &mut obs[s * OBS..][..OBS]);
            }
            let (mut q1, mut qd1) = (q0.clone(), qd0.clone());
            let (mut next, mut reward) = (vec![Dual::default(); ROWS * OBS], vec![Dual::default(); ROWS]);
            Dual::step_rows(&ant, ROWS, &mut q1, &mut qd1, &obs, &a0, &mut next, &mut reward);
            let (q_bar, qd_bar) = (random(31, ROWS * NQ), random(32, ROWS * NQD));
            let (obs_bar, reward_bar) = (random(33, ROWS * OBS), random(34, ROWS));
            let p = pull(&ant, [&q, &qd, &action], [&q_bar, &qd_bar, &obs_bar, &reward_bar]);
            let tangents = |x: &[Dual]| x.iter().map(|x| x.d).collect::<Vec<_>>();
            let forward = [&q1, &qd1, &next, &reward].map(|x| tangents(x));
            let inward = [&q0, &qd0, &obs, &a0].map(|x| tangents(x));
            for s in 0..ROWS {
                let part = |x: &[f64], n: usize| x[s * n..(s + 1) * n].to_vec();
                let mut size = 0.0f64;
                let mut sum = |pairs: [(&[f64], &[f64], usize); 4]| -> f64 {
                    let products = pairs.map(|(a, b, n)| dot(&part(a, n), &part(b, n)));
                    size = products.iter().fold(size, |m, p| m.max(p.abs()));
                    products.iter().sum()
                };
                let out = sum([
                    (&forward[0], &q_bar, NQ),
                    (&forward[1], &qd_bar, NQD),
                    (&forward[2], &obs_bar, OBS),
                    (&forward[3], &reward_bar, 1),
                ]);
                let back = sum([
                    (&inward[0], &p.q, NQ),
                    (&inward[1], &p.qd, NQD),
                    (&inward[2], &p.obs, OBS),
                    (&inward[3], &p.action, ACT),
                ]);
                let name = format!("16 substeps, mass matrix every {every}, {point:?}");
                v.check(&name, s, (out - back).abs() / size, 1e-10);
            }
        }
    }
    v.finish();
}

/// Single precision against double over one step, on states whose contact, friction and limit branches agree.
#[test]
fn golden_f32_adjoint_is_accurate() {
    let g = Golden::open("ant/ant_step");
    let (q, qd, action, kind) = (g.get("q"), g.get("qd"), g.get("action"), g.get("kind"));
    let robot = sim::robots::ant();
    let (single, double) =
        (Model::<f32>::new(&robot, Inertia::Reference), Model::<f64>::new(&robot, Inertia::Reference));
    let rows = q.rows();
    let unit = |s: usize| (q.row(s)[3..7].iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5;
    let near: Vec<usize> = (0..rows).filter(|&s| kind.data[s] < 4.0 && unit(s)).collect();
    let (same, apart): (Vec<usize>, Vec<usize>) = near.iter().partition(|&&s| {
        branches(&single, q.row(s), qd.row(s), action.row(s)) == branches(&double, q.row(s), qd.row(s), action.row(s))
    });
    println!("{} states judged, {} with other branches in f32", same.len(), apart.len());
    let bars = [random(41, rows * NQ), random(42, rows * NQD), vec![0.0; rows * OBS], vec![0.0; rows]];
    for every in [16, 1] {
        let ant = ant(ReferencePoint::Torso, every, true);
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let at = [&q.data, &qd.data, &action.data].map(|x| narrow(x));
        let cot = [0, 1, 2, 3].map(|k| narrow(&bars[k]));
        let ours = pull(&ant, [&at[0], &at[1], &at[2]], [&cot[0], &cot[1], &cot[2], &cot[3]]);
        let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
        let (at, cot) = (at.map(|x| wide(&x)), cot.map(|x| wide(&x)));
        let want = pull(&ant, [&at[0], &at[1], &at[2]], [&cot[0], &cot[1], &cot[2], &cot[3]]);
        let row = |p: [&[f64]; 3], s: usize| {
            [&p[0][s * NQ..][..NQ], &p[1][s * NQD..][..NQD], &p[2][s * ACT..][..ACT]].concat()
        };
        let (a, b, c) = (wide(&ours.q), wide(&ours.qd), wide(&ours.action));
        let errors = |states: &[usize]| -> (Vec<f64>, Vec<f64>) {
            let each = states.iter().map(|&s| {
                let (x, y) = (row([&a, &b, &c], s), row([&want.q, &want.qd, &want.action], s));
                let off = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
                let (nx, ny) = (dot(&x, &x).sqrt(), dot(&y, &y).sqrt());
                (off / ny, dot(&x, &y) / (nx * ny))
            });
            each.unzip()
        };
        let (relative, cosine) = errors(&same);
        assert!(relative.iter().chain(&cosine).all(|x| x.is_finite()), "every {every}: a gradient is not finite");
        let [median, p95, worst] = [0.5, 0.95, 1.0].map(|p| quantile(&relative, p));
        let least = quantile(&cosine, 0.0);
        println!("every {every}: median {median:.2e}, p95 {p95:.2e}, max {worst:.2e}, least cosine {least:.9}");
        if !apart.is_empty() {
            let (relative, _) = errors(&apart);
            println!("  other branches: median {:.2e}, max {:.2e}", quantile(&relative, 0.5), quantile(&relative, 1.0));
        }
        assert!(median <= 5e-6 && p95 <= 2e-5, "every {every}: median {median:.2e}, p95 {p95:.2e}");
        assert!(least >= 0.999_999, "every {every}: cosine {least}");
    }
}

/// As a distribution, single precision about the torso, the default, is on every percentile nearer to double precision
/// than the reference's. About the world's origin, as the reference computes, both lose alike what states far from it
/// lose.
#[test]
fn golden_f32_adjoint_is_no_worse_than_the_references() {
    let g = Golden::open("ant/ant_vjp");
    let get = |name: &str| g.get(name).data.clone();
    let at = ["q", "qd", "action"].map(get);
    let rows = at[0].len() / NQ;
    let zeros = |n: usize| vec![0.0; rows * n];
    let narrow = |x: &Vec<f64>| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    for (suffix, every) in [("_mmc", g.scalar("mm_cached") as usize), ("_mm1", 1)] {
        for (name, bars) in [
            ("state", [get("cot_q"), get("cot_qd"), zeros(OBS), zeros(1)]),
            ("obs", [zeros(NQ), zeros(NQD), get("cot_obs"), zeros(1)]),
        ] {
            let ant = ant(ReferencePoint::Torso, every, false);
            let exact = pull(&ant, [&at[0], &at[1], &at[2]], [&bars[0], &bars[1], &bars[2], &bars[3]]);
            let (x, c) = (at.each_ref().map(narrow), bars.each_ref().map(narrow));
            let single = pull(&ant, [&x[0], &x[1], &x[2]], [&c[0], &c[1], &c[2], &c[3]]);
            let (mut ours, mut reference) = (vec![], vec![]);
            for s in 0..rows {
                let parts = [
                    ("q", &single.q, &exact.q, NQ),
                    ("qd", &single.qd, &exact.qd, NQD),
                    ("action", &single.action, &exact.action, ACT),
                ];
                let mut of = [vec![], vec![], vec![], vec![]];
                for (what, single, exact, n) in parts {
                    let theirs = |precision| g.get(&format!("{name}_g_{what}{suffix}{precision}")).row(s);
                    of[0].extend(single[s * n..][..n].iter().map(|&x| f64::from(x)));
                    of[1].extend_from_slice(&exact[s * n..][..n]);
                    of[2].extend_from_slice(theirs(""));
                    of[3].extend_from_slice(theirs("_f64"));
                }
                ours.push(relative_error(&of[0], &of[1]));
                reference.push(relative_error(&of[2], &of[3]));
            }
            for percent in [25, 50, 75, 90, 95, 100] {
                let at = f64::from(percent) / 100.0;
                let (ours, reference) = (quantile(&ours, at), quantile(&reference, at));
                println!("{name}{suffix} {percent:3} %: {ours:.2e}, the reference {reference:.2e}");
                assert!(ours <= reference, "{name}{suffix}, {percent} %: {ours:e} against {reference:e}");
            }
        }
    }
}

/// States of every kind, deep contact and sign flips included: no gradient is infinite or not a number, unless the step
/// itself leaves physics. Such a step has no gradient: an operation resets it and sends nothing back.
fn all_finite(rows: usize) {
    const BATCH: usize = 5000;
    let mut left_physics = 0;
    for every in [16, 1] {
        let ant = ant(ReferencePoint::Torso, every, true);
        for batch in 0..rows / BATCH {
            let at = states(batch * BATCH..(batch + 1) * BATCH);
            let at = at.map(|x| x.iter().map(|&x| x as f32).collect::<Vec<f32>>());
            let ones = |n: usize| vec![1.0f32; BATCH * n];
            let p = pull(&ant, [&at[0], &at[1], &at[2]], [&ones(NQ), &ones(NQD), &ones(OBS), &ones(1)]);
            let (mut q, mut qd) = (at[0].clone(), at[1].clone());
            let (before, mut obs, mut reward) = (ones(OBS), ones(OBS), ones(1));
            f32::step_rows(&ant, BATCH, &mut q, &mut qd, &before, &at[2], &mut obs, &mut reward);
            for e in 0..BATCH {
                if !obs[e * OBS..][..OBS].iter().all(|x| x.abs() < 1e6) {
                    left_physics += 1;
                    continue;
                }
                for (name, x, n) in
                    [("q", &p.q, NQ), ("qd", &p.qd, NQD), ("obs", &p.obs, OBS), ("action", &p.action, ACT)]
                {
                    let row = &x[e * n..][..n];
                    assert!(row.iter().all(|x| x.is_finite()), "state {}, every {every}: {name}", batch * BATCH + e);
                }
            }
        }
    }
    println!("{left_physics} of {} steps left physics", 2 * rows);
    assert!(left_physics < rows / 1000);
}

#[test]
fn no_gradient_is_lost() {
    all_finite(20_000);
}

#[test]
#[ignore = "a million states, a minute: scripts/full"]
fn no_gradient_is_lost_in_a_million_states() {
    all_finite(1_000_000);
}
