//! Every shipped robot against the reference's double-precision twin, about the world origin: what it is made of,
//! steps, and gradients (tolerances: 1e-9 of the largest element per state, 1e-8 far from the origin). And every
//! shipped task: its adjoint against dual numbers, and no gradient that is not a number.

use crate::support::verdict::{Golden, Verdict, quantile, relative_error};
use pwm::app::gradcheck::stages::check_stages;
use pwm::app::gradcheck::states::random_state;
use pwm::config::{Shipped, ShippedKind, load};
use pwm::device::Dual;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvReal, InputCotangents, OutputCotangents, StepOperands, Task, TaskSpec, in_physics};
use pwm::sim::articulation::{Articulation, Geometry, Joint, Material};
use pwm::sim::mass::{Inertia, mass_properties};
use pwm::sim::robots::{ROBOTS, by_name};
use pwm::sim::{JointKind, Transform};

const EXACT: f64 = 1e-9;
const FAR: f64 = 1e-8;
/// A limit of the reference beyond this is none.
const NO_LIMIT: f64 = 1e3;

/// Robots of published experiments, whose shipped task has their name: there are numbers of the reference for each.
const PUBLISHED: [&str; 6] = ["ant", "anymal", "cartpole", "cheetah", "hopper", "humanoid"];

fn robot(name: &str) -> Articulation {
    by_name(name).unwrap_or_else(|| panic!("{name} is in the list"))
}

/// The published task of a robot as the reference computes it: about the world origin, every body as its file has it.
/// No number means the published number of substeps that share a mass matrix.
fn reference(robot: &str, mass_matrix_every: Option<usize>, action_in_obs: bool) -> Task {
    let every = mass_matrix_every.map(|n| format!("mm_caching_frequency={n}"));
    let settings = [format!("env={robot}"), "reference_point=world".into(), format!("action_in_obs={action_in_obs}")];
    let c = load(&settings.into_iter().chain(every).collect::<Vec<_>>()).unwrap();
    let task = Task::from_config(&c).unwrap();
    let (law, spec) = (task.dflex().spec.clone(), task.spec);
    Task::under_dflex(TaskSpec { robot: by_name(robot).unwrap(), ..spec }, law)
}

/// The bodies of the file that move, weigh or touch something, or carry one that does.
fn kept(g: &Golden) -> Vec<usize> {
    let parent: Vec<i64> = g.get("joint_parent").data.iter().map(|p| *p as i64).collect();
    let (mass, qd) = (&g.get("body_mass").data, &g.get("joint_qd_start").data);
    let mut keep: Vec<bool> = (0..parent.len()).map(|i| mass[i] > 0.0 || qd[i + 1] > qd[i]).collect();
    for i in (0..parent.len()).rev() {
        if keep[i] && parent[i] >= 0 {
            keep[parent[i] as usize] = true;
        }
    }
    (0..parent.len()).filter(|i| keep[*i]).collect()
}

fn pose(t: Transform<f64>) -> [f64; 7] {
    let mut a = [0.0; 7];
    t.p.write(&mut a);
    t.q.write(&mut a[3..]);
    a
}

/// Positions and quaternions one after the other, each with the sign that the file's has: both are the same rotation.
fn poses(got: impl Iterator<Item = Transform<f64>>, want: &[f64]) -> Vec<f64> {
    let one = |(t, want): (Transform<f64>, &[f64])| {
        let mut t = pose(t);
        if t[3..].iter().zip(&want[3..]).map(|(a, b)| a * b).sum::<f64>() < 0.0 {
            t[3..].iter_mut().for_each(|x| *x = -*x);
        }
        t
    };
    got.zip(want.chunks(7)).flat_map(one).collect()
}

#[test]
fn golden_models() {
    let mut v = Verdict::default();
    for name in PUBLISHED {
        model(name, &robot(name), &mut v);
    }
    v.finish();
}

fn model(name: &str, robot: &Articulation, v: &mut Verdict) {
    let g = Golden::open(&format!("ant/{name}_model"));
    let task = reference(name, None, true);
    let kept = kept(&g);
    assert_eq!(robot.bodies.len(), kept.len(), "{name}: bodies");
    let array = |key: &str| {
        let exact = format!("{key}_f64");
        g.get(if g.has(&exact) { &exact } else { key })
    };
    // The rows of the bodies that are kept.
    let rows = |key: &str| -> Vec<f64> { kept.iter().flat_map(|&i| array(key).row(i).to_vec()).collect() };
    // The number of a body of the file among those kept.
    let here = |of: f64| kept.iter().position(|&i| i as f64 == of).map_or(-1.0, |i| i as f64);
    let mut check = |key: &str, got: &[f64], want: &[f64]| {
        v.check(&format!("{name}: {key}"), "", relative_error(got, want), EXACT);
    };
    let bodies = || robot.bodies.iter();
    let numbers = |x: &[usize]| x.iter().map(|x| *x as f64).collect::<Vec<_>>();

    let s = task.sizes;
    check("num_q_qd_obs_act", &numbers(&[s.nq, s.nqd, s.obs, s.act]), &array("num_q_qd_obs_act").data);
    let (q, qd) = robot.offsets();
    check("joint_q_start", &numbers(&q[..kept.len()]), &rows("joint_q_start"));
    check("joint_qd_start", &numbers(&qd[..kept.len()]), &rows("joint_qd_start"));
    let parents: Vec<f64> = bodies().map(|b| b.parent.map_or(-1.0, |p| p as f64)).collect();
    check("joint_parent", &parents, &rows("joint_parent").into_iter().map(here).collect::<Vec<_>>());
    let kind = |k| match k {
        JointKind::Slide => 0.0,
        JointKind::Hinge => 1.0,
        JointKind::Ball => 2.0,
        JointKind::Fixed => 3.0,
        JointKind::Free => 4.0,
    };
    check("joint_type", &bodies().map(|b| kind(b.joint.kind)).collect::<Vec<_>>(), &rows("joint_type"));
    let frames = rows("joint_X_pj");
    check("joint_X_pj", &poses(bodies().map(|b| b.joint.frame), &frames), &frames);
    check("joint_axis", &bodies().flat_map(|b| b.joint.axis.array()).collect::<Vec<_>>(), &rows("joint_axis"));
    check("joint_armature", &task.dflex().model().armature, &array("joint_armature").data);
    check("gravity", &robot.gravity, &array("gravity").data);
    check("ground", &[f64::from(u8::from(robot.ground))], &array("ground").data);
    check("start_q", &task.dflex().spec.reset.start, &array("start_q").data);
    check("sim_dt", &[task.spec.dt], &array("sim_dt").data);
    check("sim_substeps", &numbers(&[task.dflex().spec.substeps]), &array("sim_substeps").data);
    let every = array("default_MM_caching_frequency").data[0].min(task.dflex().spec.substeps as f64);
    check("default_MM_caching_frequency", &numbers(&[task.dflex().spec.mass_matrix_every]), &[every]);
    let gains: Vec<f64> = task.dflex().spec.drives.iter().map(|d| d.gain).collect();
    check("action_scale", &gains, &array("action_scale").data);

    let mass: Vec<_> = bodies().map(|b| mass_properties(&b.shapes, Inertia::Reference)).collect();
    check("body_mass", &mass.iter().map(|m| m.mass).collect::<Vec<_>>(), &rows("body_mass"));
    check("body_com", &mass.iter().flat_map(|m| m.com.array()).collect::<Vec<_>>(), &rows("body_com"));
    let inertias: Vec<f64> = mass.iter().flat_map(|m| m.inertia.as_flattened().to_vec()).collect();
    check("body_inertia", &inertias, &rows("body_inertia"));

    let shapes = || bodies().enumerate().flat_map(|(i, b)| b.shapes.iter().map(move |s| (i, s)));
    let of_bodies = |key: &str| array(key).data.iter().map(|b| here(*b)).collect::<Vec<_>>();
    check("shape_body", &shapes().map(|(i, _)| i as f64).collect::<Vec<_>>(), &of_bodies("shape_body"));
    let geometry = |g| match g {
        Geometry::Sphere { radius } => (0.0, [radius, 0.0, 0.0]),
        Geometry::Box { half } => (1.0, half),
        Geometry::Capsule { radius, half_length } => (2.0, [radius, half_length, 0.0]),
    };
    let kinds: Vec<f64> = shapes().map(|(_, s)| geometry(s.geometry).0).collect();
    check("shape_geo_type", &kinds, &array("shape_geo_type").data);
    let sizes: Vec<f64> = shapes().flat_map(|(_, s)| geometry(s.geometry).1).collect();
    check("shape_geo_scale", &sizes, &array("shape_geo_scale").data);
    let material = |m: Material| [m.stiffness, m.damping, m.viscosity, m.friction];
    let materials: Vec<f64> = shapes().flat_map(|(_, s)| material(s.material)).collect();
    check("shape_materials", &materials, &array("shape_materials").data);
    let frames = &array("shape_transform").data;
    check("shape_transform", &poses(shapes().map(|(_, s)| s.frame), frames), frames);

    let points = robot.contact_points();
    let numbers: Vec<[f64; 2]> = points.iter().map(|p| [p.body as f64, p.shape as f64]).collect();
    check("contact_body", &numbers.iter().map(|p| p[0]).collect::<Vec<_>>(), &of_bodies("contact_body"));
    check("contact_material", &numbers.iter().map(|p| p[1]).collect::<Vec<_>>(), &array("contact_material").data);
    let places: Vec<f64> = points.iter().flat_map(|p| p.point.array()).collect();
    check("contact_point", &places, &array("contact_point").data);
    check("contact_dist", &points.iter().map(|p| p.radius).collect::<Vec<_>>(), &array("contact_dist").data);

    // Of joints that move by one number: the others store what nothing reads.
    let mut simple = |key: &str, coordinate: bool, pick: fn(&Joint) -> f64| {
        for (i, b) in bodies().enumerate() {
            if !matches!(b.joint.kind, JointKind::Hinge | JointKind::Slide) {
                continue;
            }
            let want = array(key).data[if coordinate { q[i] } else { kept[i] }];
            let got = pick(&b.joint);
            let error = if got.is_infinite() && got * want >= 0.0 && want.abs() >= NO_LIMIT {
                0.0
            } else {
                relative_error(&[got], &[want])
            };
            v.check(&format!("{name}: {key}"), &b.name, error, EXACT);
        }
    };
    simple("joint_limit_lower", true, |j| j.lower);
    simple("joint_limit_upper", true, |j| j.upper);
    simple("joint_target", true, |j| j.target);
    simple("joint_limit_ke", false, |j| j.limit_stiffness);
    simple("joint_limit_kd", false, |j| j.limit_damping);
    simple("joint_target_ke", false, |j| j.drive_stiffness);
    simple("joint_target_kd", false, |j| j.drive_damping);
}

/// Observations of states, without an action.
fn observe<R: EnvReal>(task: &Task, q: &[R], qd: &[R]) -> Vec<R> {
    let s = task.sizes;
    let mut obs = vec![R::zero(); q.len() / s.nq * s.obs];
    for ((q, qd), obs) in q.chunks(s.nq).zip(qd.chunks(s.nqd)).zip(obs.chunks_mut(s.obs)) {
        task.dflex().observe_row(q, qd, None, obs);
    }
    obs
}

/// One step of every row: next q, qd, observation, reward.
fn step<R: EnvReal>(task: &Task, q: &[R], qd: &[R], obs: &[R], action: &[R]) -> [Vec<R>; 4] {
    let rows = q.len() / task.sizes.nq;
    let (mut q, mut qd) = (q.to_vec(), qd.to_vec());
    let (mut next, mut reward) = (vec![R::zero(); rows * task.sizes.obs], vec![R::zero(); rows]);
    R::step_rows(task, rows, &mut q, &mut qd, obs, action, &mut next, &mut reward);
    [q, qd, next, reward]
}

#[test]
fn golden_steps() {
    let mut v = Verdict::default();
    for name in PUBLISHED {
        let g = Golden::open(&format!("ant/{name}_step"));
        let (q, qd, action, kind) = (g.get("q"), g.get("qd"), g.get("action"), g.get("kind"));
        let tolerance = |s: usize| if kind.data[s] == 4.0 { FAR } else { EXACT };
        for (suffix, every) in [("mmc", None), ("mm1", Some(1))] {
            for (variant, action_in_obs) in [("obs_next", false), ("obs_next_nograd", true)] {
                let task = reference(name, every, action_in_obs);
                let before = observe(&task, &q.data, &qd.data);
                let [q1, qd1, obs1, reward] = step(&task, &q.data, &qd.data, &before, &action.data);
                let mut same = |key: &str, got: &[f64]| {
                    let (want, n) = (g.get(key), got.len() / q.rows());
                    for s in 0..q.rows() {
                        let error = relative_error(&got[s * n..][..n], want.row(s));
                        v.check(&format!("{name}: {key}"), s, error, tolerance(s));
                    }
                };
                same("obs_prev_f64", &before);
                same(&format!("q_next_{suffix}_f64"), &q1);
                same(&format!("qd_next_{suffix}_f64"), &qd1);
                same(&format!("{variant}_{suffix}_f64"), &obs1);
                same("reward_f64", &reward);
                let ended = obs1.chunks(task.sizes.obs).map(|o| f64::from(u8::from(task.is_terminal(o))));
                same(&format!("termination_{suffix}"), &ended.collect::<Vec<_>>());
                if suffix == "mmc" {
                    // The reward of the next observation is what a second step returns.
                    let [.., later] = step(&task, &q1, &qd1, &obs1, &action.data);
                    same("reward_of_next_obs_mmc_f64", &later);
                }
            }
        }
    }
    v.finish();
}

/// Cotangents of `q`, `qd`, observation before and action of steps.
struct Pulled<R = f64> {
    q: Vec<R>,
    qd: Vec<R>,
    obs: Vec<R>,
    action: Vec<R>,
}

/// From cotangents of the state after the step, its observation and the reward; the reward reads `obs`.
fn pull_from<R: EnvReal>(
    task: &Task,
    [q, qd, obs, action]: [&[R]; 4],
    [q_bar, qd_bar, obs_bar, reward_bar]: [&[R]; 4],
) -> Pulled<R> {
    let (rows, s) = (reward_bar.len(), task.sizes);
    let zeros = |n: usize| vec![R::zero(); rows * n];
    let mut p = Pulled { q: zeros(s.nq), qd: zeros(s.nqd), obs: zeros(s.obs), action: zeros(s.act) };
    R::adjoint_rows(
        task,
        rows,
        StepOperands { q, qd, action, obs },
        OutputCotangents { q: q_bar, qd: qd_bar, obs: obs_bar, reward: reward_bar },
        InputCotangents { q: &mut p.q, qd: &mut p.qd, obs: &mut p.obs, action: &mut p.action },
    );
    p
}

/// The reward reads the observation before the step, that of the state.
fn pull(task: &Task, [q, qd, action]: [&[f64]; 3], bars: [&[f64]; 4]) -> Pulled {
    pull_from(task, [q, qd, &observe(task, q, qd), action], bars)
}

impl Pulled {
    /// Sends the cotangent of the observation before the step on to the state that it shows.
    fn through_observation(&mut self, task: &Task, q: &[f64], qd: &[f64]) {
        let s = task.sizes;
        let (none, mut lost) = (vec![0.0; s.act], vec![0.0; s.act]);
        for i in 0..q.len() / s.nq {
            let (at, rate) = (i * s.nq..(i + 1) * s.nq, i * s.nqd..(i + 1) * s.nqd);
            let bar = &self.obs[i * s.obs..][..s.obs];
            let (q_bar, qd_bar) = (&mut self.q[at.clone()], &mut self.qd[rate.clone()]);
            task.dflex().spec.observation.adjoint(&q[at], &qd[rate], &none, bar, q_bar, qd_bar, &mut lost);
        }
    }
}

/// The robots whose gradients the set has.
fn with_gradients() -> impl Iterator<Item = (&'static str, Golden)> {
    let all = PUBLISHED.into_iter().filter_map(|name| Some((name, Golden::find(&format!("ant/{name}_vjp"))?)));
    all.collect::<Vec<_>>().into_iter()
}

/// The reference's gradients of a single step, in double precision.
#[test]
fn golden_vjps() {
    let mut v = Verdict::default();
    let mut robots = 0;
    for (name, g) in with_gradients() {
        robots += 1;
        let get = |key: &str| g.get(key).data.clone();
        let at = [get("q"), get("qd"), get("action")];
        let [q, qd, action] = [0, 1, 2].map(|i| &at[i][..]);
        let kind = get("kind");
        for (suffix, every) in [("_mmc", None), ("_mm1", Some(1))] {
            let task = reference(name, every, false);
            let (s, rows) = (task.sizes, q.len() / task.sizes.nq);
            let zeros = |n: usize| vec![0.0; rows * n];
            let (zq, zqd, zo, zr) = (zeros(s.nq), zeros(s.nqd), zeros(s.obs), zeros(1));
            let mut check = |what: &str, suffix: &str, p: &Pulled| {
                for (part, got, n) in [("q", &p.q, s.nq), ("qd", &p.qd, s.nqd), ("action", &p.action, s.act)] {
                    let want = g.get(&format!("{what}_g_{part}{suffix}_f64"));
                    for i in 0..rows {
                        if want.row(i).iter().chain(&got[i * n..][..n]).all(|x| *x == 0.0) {
                            continue;
                        }
                        let error = relative_error(&got[i * n..][..n], want.row(i));
                        let tolerance = if kind[i] == 4.0 { FAR } else { EXACT };
                        v.check(&format!("{name}: {what} {part}{suffix}"), i, error, tolerance);
                    }
                }
            };
            check("state", suffix, &pull(&task, [q, qd, action], [&get("cot_q"), &get("cot_qd"), &zo, &zr]));
            check("obs", suffix, &pull(&task, [q, qd, action], [&zq, &zqd, &get("cot_obs"), &zr]));
            let mut p = pull(&task, [q, qd, action], [&zq, &zqd, &zo, &get("cot_rew")]);
            p.through_observation(&task, q, qd);
            check("rew", "", &p);
        }
    }
    assert!(robots >= 5, "{robots} robots");
    v.finish();
}

/// Gradients over eight steps: of the sum of rewards, and of the last observation.
#[test]
fn golden_rollout_gradients() {
    let mut v = Verdict::default();
    for (name, g) in with_gradients() {
        let action = g.get("roll8_action");
        let steps = action.rows();
        for (suffix, every) in [("_mmc", None), ("_mm1", Some(1))] {
            let task = reference(name, every, false);
            let (s, rows) = (task.sizes, g.get("roll8_q").rows());
            let (mut q, mut qd) = (vec![g.get("roll8_q").data.clone()], vec![g.get("roll8_qd").data.clone()]);
            let mut rewards = vec![];
            for t in 0..steps {
                let obs = observe(&task, &q[t], &qd[t]);
                let [q1, qd1, _, reward] = step(&task, &q[t], &qd[t], &obs, action.row(t));
                q.push(q1);
                qd.push(qd1);
                rewards.extend(reward);
            }
            let mut check = |key: String, got: &[f64], n: usize| {
                let want = &g.get(&format!("{key}{suffix}_f64")).data;
                for i in 0..got.len() / n {
                    let (got, want) = (&got[i * n..][..n], &want[i * n..][..n]);
                    if got.iter().chain(want).any(|x| *x != 0.0) {
                        v.check(&format!("{name}: {key}{suffix}"), i, relative_error(got, want), EXACT);
                    }
                }
            };
            check("roll8_q_final".into(), &q[steps], s.nq);
            check("roll8_qd_final".into(), &qd[steps], s.nqd);
            check("roll8_rewards".into(), &rewards, 1);
            for (what, reward_bar) in [("sumrew", 1.0), ("finalobs", 0.0)] {
                let zeros = |n: usize| vec![0.0; rows * n];
                let mut p = Pulled { q: zeros(s.nq), qd: zeros(s.nqd), obs: zeros(s.obs), action: vec![] };
                if what == "finalobs" {
                    p.obs.copy_from_slice(&g.get("roll8_cot_obs").data);
                }
                let mut of_actions = vec![vec![]; steps];
                for t in (0..steps).rev() {
                    let bars = [&p.q[..], &p.qd, &p.obs, &vec![reward_bar; rows]];
                    p = pull(&task, [&q[t], &qd[t], action.row(t)], bars);
                    of_actions[t] = std::mem::take(&mut p.action);
                }
                p.through_observation(&task, &q[0], &qd[0]);
                check(format!("roll8_{what}_g_q"), &p.q, s.nq);
                check(format!("roll8_{what}_g_qd"), &p.qd, s.nqd);
                check(format!("roll8_{what}_g_action"), &of_actions.concat(), s.act);
            }
        }
    }
    v.finish();
}

/// Shipped tasks that a gradient flows through.
fn differentiable() -> impl Iterator<Item = &'static str> {
    Shipped::names(ShippedKind::Env).into_iter().filter(|name| shipped(name, &[]).is_differentiable())
}

/// A shipped task with these settings.
fn shipped(name: &str, settings: &[&str]) -> Task {
    let env = format!("env={name}");
    Task::from_config(&load(&[&[&env[..]], settings].concat()).unwrap()).unwrap()
}

/// The first shipped task on a robot, the published one where there is one.
fn task_on(robot: &str, settings: &[&str]) -> Task {
    let names = Shipped::names(ShippedKind::Env);
    let of_it = |name: &&str| {
        let task = shipped(name, &[]);
        task.is_differentiable() && task.spec.robot.name == robot
    };
    let name = names.iter().find(|n| **n == robot).or_else(|| names.iter().find(|n| of_it(n)));
    shipped(name.unwrap_or_else(|| panic!("{robot} has no shipped task: see docs/MAP.md")), settings)
}

fn random(seed: u64, n: usize) -> Vec<f64> {
    let rng = Philox::new(seed, Stream::Test);
    (0..n as u32).map(|k| rng.normal(seed, k)).collect()
}

/// Coordinates, velocities, observations and actions of these states of every kind, in rows. Observations are a little
/// off those of the states: no summand of a reward stands at a kink.
fn states(task: &Task, numbers: std::ops::Range<u32>) -> [Vec<f64>; 4] {
    let rng = Philox::new(3, Stream::Test);
    let all: Vec<_> = numbers.clone().map(|e| random_state(task, &rng, e)).collect();
    let q: Vec<f64> = all.iter().flat_map(|s| s.q.clone()).collect();
    let qd: Vec<f64> = all.iter().flat_map(|s| s.qd.clone()).collect();
    let off = random(u64::from(numbers.start), numbers.len() * task.sizes.obs);
    let obs = observe(task, &q, &qd).iter().zip(off).map(|(x, off)| x + 0.1 * off).collect();
    [q, qd, obs, all.iter().flat_map(|s| s.action.clone()).collect()]
}

#[test]
fn every_stage_of_every_task_is_the_transpose_of_its_derivative() {
    let mut v = Verdict::default();
    let mut check = |task: &Task, how: &str| {
        let rng = Philox::new(3, Stream::Test);
        for e in 0..40 {
            for error in check_stages(task.dflex(), &random_state(task, &rng, e), &rng, e) {
                v.check(&format!("{how}: {}", error.stage), format!("{} {e}", task.spec.name), error.dual, 1e-12);
            }
        }
    };
    for name in differentiable() {
        check(&shipped(name, &["reference_point=world"]), "tasks");
    }
    for name in PUBLISHED {
        check(&reference(name, None, true), "as the files have them");
    }
    v.finish();
}

/// `ȳ·ẏ = x̄·ẋ` for random ẋ and ȳ, ẏ from dual numbers, over all substeps.
#[test]
fn the_adjoint_of_every_task_is_that_of_dual_numbers() {
    const ROWS: usize = 24;
    let mut v = Verdict::default();
    let mut check = |task: &Task| {
        let s = task.sizes;
        let at = states(task, 0..ROWS as u32);
        let along = [s.nq, s.nqd, s.obs, s.act].map(|n| random(20 + n as u64, ROWS * n));
        let dual = |i: usize| -> Vec<Dual> { at[i].iter().zip(&along[i]).map(|(&x, &d)| Dual::new(x, d)).collect() };
        let out = step(task, &dual(0), &dual(1), &dual(2), &dual(3));
        let bars = [s.nq, s.nqd, s.obs, 1].map(|n| random(30 + n as u64, ROWS * n));
        let p = pull_from(task, at.each_ref().map(|x| &x[..]), bars.each_ref().map(|x| &x[..]));
        for e in (0..ROWS).filter(|e| in_physics(&out[2][e * s.obs..][..s.obs])) {
            let mut size = 0.0f64;
            let (mut there, mut back) = (0.0, 0.0);
            let mut add = |sum: &mut f64, term: f64| {
                size = size.max(term.abs());
                *sum += term;
            };
            for (y, bar) in out.iter().zip(&bars) {
                let n = y.len() / ROWS;
                for k in e * n..(e + 1) * n {
                    add(&mut there, y[k].d * bar[k]);
                }
            }
            for (x_bar, along) in [&p.q, &p.qd, &p.obs, &p.action].into_iter().zip(&along) {
                let n = along.len() / ROWS;
                for k in e * n..(e + 1) * n {
                    add(&mut back, x_bar[k] * along[k]);
                }
            }
            v.check(&task.spec.name, e, (there - back).abs() / size, 1e-10);
        }
    };
    for name in differentiable() {
        check(&shipped(name, &[]));
    }
    for name in PUBLISHED {
        check(&reference(name, Some(1), false));
        check(&reference(name, Some(5), true));
    }
    v.finish();
}

/// Rigidly connected bodies made one, and positions taken from the robot: with unit quaternions neither changes a
/// motion or its gradient.
#[test]
fn neither_welding_nor_the_reference_point_changes_a_motion() {
    const ROWS: usize = 60;
    let mut v = Verdict::default();
    for (name, build) in ROBOTS {
        let plain = reference(name, None, true);
        let s = plain.sizes;
        let [q, qd, obs, action] = states(&plain, 0..ROWS as u32);
        let bars = [s.nq, s.nqd, s.obs, 1].map(|n| random(30 + n as u64, ROWS * n));
        let both = |task: &Task| {
            let [q1, qd1, next, _] = step(task, &q, &qd, &obs, &action);
            let p = pull_from(task, [&q, &qd, &obs, &action], bars.each_ref().map(|x| &x[..]));
            // Along a free root's quaternion nothing is the same.
            let mut of_q = p.q;
            if plain.dflex().model().links[0].kind == JointKind::Free {
                of_q.chunks_mut(s.nq).for_each(|q| q[3..7].fill(0.0));
            }
            [(q1, s.nq), (qd1, s.nqd), (next, s.obs), (of_q, s.nq), (p.qd, s.nqd), (p.action, s.act)]
        };
        let want = both(&plain);
        let want_of = |part: usize| &want[part].0;
        for (how, settings) in [("welded", &["reference_point=world"][..]), ("from the robot", &[])] {
            let task = task_on(name, settings);
            let fixed = build().bodies.iter().filter(|b| b.joint.kind == JointKind::Fixed).count();
            assert_eq!(task.dflex().model().links.len() + fixed, build().bodies.len(), "{name}");
            for (part, ((got, n), (want, _))) in both(&task).iter().zip(&want).enumerate() {
                // A step that throws a body magnifies what rounding changes, in its gradient most.
                let calm = |e: &usize| want_of(2)[e * s.obs..][..s.obs].iter().all(|x| x.abs() < 50.0);
                for e in (0..ROWS).filter(calm) {
                    let error = relative_error(&got[e * n..][..*n], &want[e * n..][..*n]);
                    v.check(&format!("{name}, {how}: part {part}"), e, error, if part < 3 { EXACT } else { 1e-7 });
                }
            }
        }
    }
    v.finish();
}

/// Single precision in lanes, as a run steps its robots, against the reference's double precision: at the median and
/// the 95th percentile no worse than the reference's own single precision, or within 2e-5.
#[test]
fn golden_f32_steps() {
    for name in PUBLISHED {
        let g = Golden::open(&format!("ant/{name}_step"));
        let near: Vec<usize> = (0..g.get("kind").rows()).filter(|&s| g.get("kind").data[s] < 3.0).collect();
        let narrow = |key: &str| g.get(key).data.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (q, qd, action) = (narrow("q"), narrow("qd"), narrow("action"));
        for (suffix, settings) in [("mmc", &[][..]), ("mm1", &["mm_caching_frequency=1"])] {
            let task = shipped(name, settings);
            let before = observe(&task, &q, &qd);
            let [q1, qd1, ..] = step(&task, &q, &qd, &before, &action);
            for (key, got, n) in [("q_next", q1, task.sizes.nq), ("qd_next", qd1, task.sizes.nqd)] {
                let (want, theirs) = (g.get(&format!("{key}_{suffix}_f64")), g.get(&format!("{key}_{suffix}")));
                let wide: Vec<f64> = got.iter().map(|&x| x.into()).collect();
                let errors = |of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
                    near.iter().map(|&s| relative_error(&of(s), want.row(s))).collect()
                };
                let ours = errors(&|s| wide[s * n..][..n].to_vec());
                let reference = errors(&|s| theirs.row(s).to_vec());
                for p in [0.5, 0.95] {
                    let (ours, reference) = (quantile(&ours, p), quantile(&reference, p));
                    println!("{name}: {key}_{suffix} {p}: {ours:.2e}, the reference {reference:.2e}");
                    assert!(ours <= reference.max(2e-5), "{name} {key}_{suffix} {p}: {ours:e} against {reference:e}");
                }
            }
        }
    }
}

/// Every task that is not a published one earns between 0 and 1 a step, and not always the same.
#[test]
fn tasks_of_tolerances_earn_shares() {
    let names: Vec<_> = Shipped::names(ShippedKind::Env).into_iter().filter(|n| n.starts_with("dflex-")).collect();
    assert!(names.len() + PUBLISHED.len() >= 16, "{names:?}");
    for name in names {
        let task = shipped(name, &[]);
        let [q, qd, obs, action] = states(&task, 0..200);
        let [.., reward] = step(&task, &q, &qd, &obs, &action);
        let (least, most) = (quantile(&reward, 0.0), quantile(&reward, 1.0));
        assert!(least >= 0.0 && most <= 1.0, "{name}: {least} to {most}");
        assert!(least < most || name.ends_with("sparse"), "{name}: always {least}");
        assert_eq!(task.spec.returns, []);
    }
}

/// States of every kind, deep contact and violated limits included: no gradient is infinite or not a number, unless the
/// step itself leaves physics. Such a step has no gradient: an operation resets it and sends nothing back.
fn all_finite(states_each: u32) {
    const BATCH: u32 = 1000;
    for (name, _) in ROBOTS {
        let task = task_on(name, &[]);
        let s = task.sizes;
        let mut left_physics = 0;
        for first in (0..states_each).step_by(BATCH as usize) {
            let at = states(&task, first..first + BATCH).map(|x| x.iter().map(|&x| x as f32).collect::<Vec<f32>>());
            let ones = [s.nq, s.nqd, s.obs, 1].map(|n| vec![1.0f32; BATCH as usize * n]);
            let p = pull_from(&task, at.each_ref().map(|x| &x[..]), ones.each_ref().map(|x| &x[..]));
            let [_, _, next, _] = step(&task, &at[0], &at[1], &at[2], &at[3]);
            for (e, next) in next.chunks(s.obs).enumerate() {
                // Deep in the ground stiff contacts throw light bodies far.
                if !in_physics(next) {
                    left_physics += 1;
                    continue;
                }
                for (part, x, n) in
                    [("q", &p.q, s.nq), ("qd", &p.qd, s.nqd), ("obs", &p.obs, s.obs), ("action", &p.action, s.act)]
                {
                    let finite = x[e * n..][..n].iter().all(|x| x.is_finite());
                    assert!(finite, "{name}, state {}: {part}", first as usize + e);
                }
            }
        }
        println!("{name}: {left_physics} of {states_each} steps left physics");
        assert!(left_physics * 20 < states_each, "{name}: {left_physics}");
    }
}

#[test]
fn no_gradient_is_lost() {
    all_finite(10_000);
}

#[test]
#[ignore = "a million states of every robot, minutes: scripts/full"]
fn no_gradient_is_lost_in_a_million_states() {
    all_finite(1_000_000);
}
