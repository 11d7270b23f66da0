//! The Ant against the reference's double-precision twin, about the world origin (tolerances: 1e-9 of the largest
//! element per state; 1e-8 far from the origin; free-running rollouts 1e-6 over 50 steps).

use crate::support::ant::{ACT, ACTION_SCALE, BODIES, DT, NQ, NQD, OBS, START_Q, SUBSTEPS, observe, task};
use crate::support::verdict::{Golden, Verdict, relative_error};
use pwm::config::Config;
use pwm::env::{EnvReal, Task};
use pwm::sim::articulation::Geometry;
use pwm::sim::contact::{body_contact, point_contact};
use pwm::sim::inertia::{body_bias, spatial_inertia};
use pwm::sim::integrate::integrate;
use pwm::sim::joint::joint_force;
use pwm::sim::kinematics::body_kinematics;
use pwm::sim::mass::{Inertia, mass_properties};
use pwm::sim::mass_matrix::{factorise, mass_matrix, solve};
use pwm::sim::{JointKind, ReferencePoint, Spatial, SpatialInertia, Work};

const EXACT: f64 = 1e-9;
const FAR: f64 = 1e-8;

fn world(mm_caching_frequency: usize, action_in_obs: bool) -> Task {
    task(Config { mm_caching_frequency, action_in_obs, reference_point: ReferencePoint::World, ..Config::default() })
}

fn flat6(s: Spatial<f64>) -> [f64; 6] {
    s.array()
}

fn dense(g: &SpatialInertia<f64>) -> Vec<f64> {
    let (aa, al, ll) = (g.aa.0, g.al.0, g.ll.0);
    let lower = g.al.transpose().0;
    (0..6)
        .flat_map(|r| {
            let (a, b) = if r < 3 { (aa[r], al[r]) } else { (lower[r - 3], ll[r - 3]) };
            a.array().into_iter().chain(b.array())
        })
        .collect()
}

#[test]
fn golden_ant_model() {
    let g = Golden::open("ant/ant_model");
    let ant = world(16, true);
    let robot = &ant.spec.robot;
    let mut v = Verdict::default();
    let mut same = |name: &str, got: Vec<f64>| {
        let exact = format!("{name}_f64");
        let want = g.get(if g.has(&exact) { &exact } else { name });
        v.check(name, "", relative_error(&got, &want.data), EXACT);
    };
    let bodies = || robot.bodies.iter();
    let (q, qd) = robot.offsets();
    let numbers = |x: Vec<usize>| x.into_iter().map(|x| x as f64).collect::<Vec<_>>();

    same("num_q_qd_obs_act", numbers(vec![NQ, NQD, OBS, ACT]));
    same("joint_q_start", numbers(q));
    same("joint_qd_start", numbers(qd));
    same("joint_parent", bodies().map(|b| b.parent.map_or(-1.0, |p| p as f64)).collect());
    let kind = |k| match k {
        JointKind::Slide => 0.0,
        JointKind::Hinge => 1.0,
        JointKind::Ball => 2.0,
        JointKind::Fixed => 3.0,
        JointKind::Free => 4.0,
    };
    same("joint_type", bodies().map(|b| kind(b.joint.kind)).collect());
    let frame = |t: pwm::sim::Transform<f64>| {
        let mut a = [0.0; 7];
        t.p.write(&mut a);
        t.q.write(&mut a[3..]);
        a
    };
    same("joint_X_pj", bodies().flat_map(|b| frame(b.joint.frame)).collect());
    same("joint_axis", bodies().flat_map(|b| b.joint.axis.array()).collect());
    same("joint_armature", ant.model().armature.clone());
    same("gravity", robot.gravity.to_vec());
    same("start_q", START_Q.to_vec());
    same("sim_dt", vec![DT]);
    same("sim_substeps", numbers(vec![SUBSTEPS]));
    same("default_MM_caching_frequency", numbers(vec![Config::default().mm_caching_frequency]));
    same("action_scale", vec![ACTION_SCALE; ACT]);

    let mass: Vec<_> = bodies().map(|b| mass_properties(&b.shapes, Inertia::Reference)).collect();
    same("body_mass", mass.iter().map(|m| m.mass).collect());
    same("body_com", mass.iter().flat_map(|m| m.com.array()).collect());
    same("body_inertia", mass.iter().flat_map(|m| m.inertia.as_flattened().to_vec()).collect());

    let shapes = || bodies().enumerate().flat_map(|(i, b)| b.shapes.iter().map(move |s| (i, s)));
    same("shape_body", shapes().map(|(i, _)| i as f64).collect());
    let geometry = |g| match g {
        Geometry::Sphere { radius } => (0.0, [radius, 0.0, 0.0]),
        Geometry::Box { half } => (1.0, half),
        Geometry::Capsule { radius, half_length } => (2.0, [radius, half_length, 0.0]),
    };
    same("shape_geo_type", shapes().map(|(_, s)| geometry(s.geometry).0).collect());
    same("shape_geo_scale", shapes().flat_map(|(_, s)| geometry(s.geometry).1).collect());
    let material = |m: pwm::sim::articulation::Material| [m.stiffness, m.damping, m.viscosity, m.friction];
    same("shape_materials", shapes().flat_map(|(_, s)| material(s.material)).collect());
    // A quaternion and its negative are the same rotation: compare with the sign of the file.
    let placed: Vec<f64> = shapes()
        .zip(g.get("shape_transform_f64").data.chunks(7))
        .flat_map(|((_, s), want)| {
            let mut t = frame(s.frame);
            if t[3..].iter().zip(&want[3..]).map(|(a, b)| a * b).sum::<f64>() < 0.0 {
                t[3..].iter_mut().for_each(|x| *x = -*x);
            }
            t
        })
        .collect();
    same("shape_transform", placed);

    let points = robot.contact_points();
    same("contact_body", points.iter().map(|p| p.body as f64).collect());
    same("contact_point", points.iter().flat_map(|p| p.point.array()).collect());
    same("contact_dist", points.iter().map(|p| p.radius).collect());
    same("contact_material", points.iter().map(|p| p.shape as f64).collect());

    // Joints only: the free joint stores none of these.
    let hinge =
        |name: &str, coordinate: bool, pick: &dyn Fn(&pwm::sim::articulation::Joint) -> f64, v: &mut Verdict| {
            let want = &g.get(&format!("{name}_f64")).data;
            for (i, b) in robot.bodies.iter().enumerate().filter(|(_, b)| b.joint.kind == JointKind::Hinge) {
                let at = if coordinate { ant.model().links[i].q } else { i };
                v.check(name, i, relative_error(&[pick(&b.joint)], &[want[at]]), EXACT);
            }
        };
    hinge("joint_limit_lower", true, &|j| j.lower, &mut v);
    hinge("joint_limit_upper", true, &|j| j.upper, &mut v);
    hinge("joint_target", true, &|j| j.target, &mut v);
    hinge("joint_limit_ke", false, &|j| j.limit_stiffness, &mut v);
    hinge("joint_limit_kd", false, &|j| j.limit_damping, &mut v);
    hinge("joint_target_ke", false, &|j| j.drive_stiffness, &mut v);
    hinge("joint_target_kd", false, &|j| j.drive_damping, &mut v);
    v.finish();
}

/// Lower triangle of the branch-sparse matrix in `rows` as a dense symmetric one.
fn symmetric(ant: &Task, rows: &[[f64; NQD]; NQD]) -> Vec<f64> {
    let mut h = vec![0.0; NQD * NQD];
    for (i, row) in rows.iter().enumerate() {
        for &j in ant.model().ancestors(i).iter().chain([&i]) {
            h[i * NQD + j] = row[j];
            h[j * NQD + i] = row[j];
        }
    }
    h
}

/// Every stage of the first substep.
#[test]
fn golden_ant_internals() {
    let g = Golden::open("ant/ant_internals");
    let ant = world(16, true);
    let m = ant.model();
    let mut v = Verdict::default();
    for s in 0..g.get("q").rows() {
        let mut q: [f64; NQ] = g.get("q").row(s).try_into().unwrap();
        let mut qd: [f64; NQD] = g.get("qd").row(s).try_into().unwrap();
        let mut w = Work::<f64, BODIES, NQD>::new(m);
        let mut same = |name: &str, got: &[f64]| {
            v.check(name, format!("state {s}"), relative_error(got, g.get(&format!("{name}_f64")).row(s)), EXACT)
        };

        let mut actuation = [0.0; NQD];
        for (u, a) in actuation[6..].iter_mut().zip(g.get("action").row(s)) {
            *u = ACTION_SCALE * a.clamp(-1.0, 1.0);
        }
        same("tau_act", &actuation);

        (0..BODIES).for_each(|i| body_kinematics(m, i, &q, &qd, &mut w));
        let frames = |at: fn(&pwm::sim::work::BodyWork<f64>) -> pwm::sim::Vec3<f64>| -> Vec<f64> {
            w.body
                .iter()
                .flat_map(|b| at(b).array().into_iter().chain(b.q.v.array()).chain([b.q.w]).collect::<Vec<_>>())
                .collect()
        };
        same("body_X_sc", &frames(|b| b.p));
        same("body_X_sm", &frames(|b| b.com));
        same("joint_S_s", w.axis.map(flat6).as_flattened());
        same("body_v_s", w.body.map(|b| b.v.array()).as_flattened());
        same("body_a_s", w.body.map(|b| b.a.array()).as_flattened());
        let inertias: Vec<f64> = m.links.iter().zip(&w.body).flat_map(|(l, b)| dense(&spatial_inertia(l, b))).collect();
        same("body_I_s", &inertias);

        (0..BODIES).for_each(|i| body_bias(m, i, &mut w));
        same("body_f_bias", w.body.map(|b| b.f.array()).as_flattened());

        let mut points = Vec::new();
        let mut active = Vec::new();
        for (link, b) in m.links.iter().zip(&w.body) {
            for c in &m.contacts[link.contacts.clone()] {
                let contact = point_contact(c, b, 0.0);
                points.extend(contact.map_or([0.0; 6], |(f, _)| f.array()));
                active.push(f64::from(u8::from(contact.is_some())));
            }
        }
        same("contact_wrench_point", &points);
        same("contact_active", &active);
        (0..BODIES).for_each(|i| body_contact(m, i, 0.0, &mut w));
        same("contact_wrench_body", w.body.map(|b| b.contact.array()).as_flattened());
        same("body_f_s", w.body.map(|b| b.f.array()).as_flattened());

        (0..BODIES).rev().for_each(|i| joint_force(m, i, &q, &qd, &actuation, &mut w));
        same("body_ft_s", w.body.map(|b| b.children.array()).as_flattened());
        same("joint_tau", &w.tau);

        // J from the axes and the tree: the rows of a body hold the axes on its path to the root.
        let mut jacobian = vec![0.0; 6 * BODIES * NQD];
        for (i, link) in m.links.iter().enumerate() {
            let last = link.qd + link.kind.velocities() - 1;
            for &dof in m.ancestors(last).iter().chain([&last]) {
                for (k, x) in w.axis[dof].array().into_iter().enumerate() {
                    jacobian[(6 * i + k) * NQD + dof] = x;
                }
            }
        }
        same("J", &jacobian);

        mass_matrix(m, &mut w);
        same("H", &symmetric(&ant, &w.factor));
        factorise(m, &mut w);
        // The reference factors from the root, L Lᵀ; this library from the leaves, Lᵀ L. Both products are H +
        // armature.
        let mut product = vec![0.0; NQD * NQD];
        let lower = symmetric(&ant, &w.factor);
        let theirs = g.get("L_f64").row(s);
        let mut want = product.clone();
        for i in 0..NQD {
            for j in 0..NQD {
                product[i * NQD + j] = (i.max(j)..NQD).map(|k| lower[k * NQD + i] * lower[k * NQD + j]).sum();
                want[i * NQD + j] = (0..=i.min(j)).map(|k| theirs[i * NQD + k] * theirs[j * NQD + k]).sum();
            }
        }
        v.check("L", format!("state {s}"), relative_error(&product, &want), EXACT);
        // Only what both read of it, the solution, decides the motion.
        let mut qdd = w.tau;
        solve(m, &w.factor, &w.pivot, &mut qdd);
        let mut same = |name: &str, got: &[f64]| {
            v.check(name, format!("state {s}"), relative_error(got, g.get(&format!("{name}_f64")).row(s)), EXACT)
        };
        same("joint_qdd", &qdd);
        integrate(m, 1.0 / 960.0, &qdd, &mut q, &mut qd);
        same("q_sub", &q);
        same("qd_sub", &qd);
    }
    v.finish();
}

/// One step of every row: next q, qd, observation, reward.
fn step_all(ant: &Task, q: &[f64], qd: &[f64], obs: &[f64], action: &[f64]) -> [Vec<f64>; 4] {
    let rows = q.len() / NQ;
    let (mut q, mut qd) = (q.to_vec(), qd.to_vec());
    let (mut next, mut reward) = (vec![0.0; rows * OBS], vec![0.0; rows]);
    f64::step_rows(ant, rows, &mut q, &mut qd, obs, action, &mut next, &mut reward);
    [q, qd, next, reward]
}

#[test]
fn golden_ant_step() {
    let g = Golden::open("ant/ant_step");
    let mut v = Verdict::default();
    let (q, qd, action, kind) = (g.get("q"), g.get("qd"), g.get("action"), g.get("kind"));
    let rows = q.rows();
    let tolerance = |s: usize| if kind.data[s] == 4.0 { FAR } else { EXACT };

    let cached = g.scalar("mm_cached") as usize;
    for (suffix, every) in [("mmc", cached), ("mm1", 1)] {
        for (variant, action_in_obs) in [("obs_next", false), ("obs_next_nograd", true)] {
            let ant = world(every, action_in_obs);
            let mut prev = vec![0.0; rows * OBS];
            for s in 0..rows {
                observe(&ant, q.row(s), qd.row(s), &mut prev[s * OBS..][..OBS]);
                let error = relative_error(&prev[s * OBS..][..OBS], g.get("obs_prev_f64").row(s));
                v.check("obs_prev", s, error, tolerance(s));
            }
            let [q1, qd1, obs1, reward] = step_all(&ant, &q.data, &qd.data, &prev, &action.data);
            let mut same = |name: String, got: &[f64], n: usize| {
                for s in 0..rows {
                    let want = g.get(&name).row(s);
                    v.check(&name, s, relative_error(&got[s * n..][..n], want), tolerance(s));
                }
            };
            same(format!("q_next_{suffix}_f64"), &q1, NQ);
            same(format!("qd_next_{suffix}_f64"), &qd1, NQD);
            same(format!("{variant}_{suffix}_f64"), &obs1, OBS);
            same("reward_f64".into(), &reward, 1);
            let ended: Vec<f64> = obs1.chunks(OBS).map(|o| f64::from(u8::from(ant.is_terminal(o)))).collect();
            same(format!("termination_{suffix}"), &ended, 1);
            if suffix == "mmc" {
                // The reward of the next observation is what a second step returns; its own action does not matter.
                let [.., later] = step_all(&ant, &q1, &qd1, &obs1, &action.data);
                same("reward_of_next_obs_mmc_f64".into(), &later, 1);
            }
        }
    }
    v.finish();
}

#[test]
fn golden_ant_rollout() {
    let g = Golden::open("ant/ant_rollout");
    let ant = world(g.scalar("mm_cached") as usize, false);
    let action = g.get("action");
    let (steps, envs) = (action.shape[0], action.shape[1]);
    let mut v = Verdict::default();

    // Free running from the start.
    let (mut q, mut qd) = (g.get("q_f64").row(0).to_vec(), g.get("qd_f64").row(0).to_vec());
    let mut obs = g.get("obs_f64").row(0).to_vec();
    for t in 0..steps.min(50) {
        let [q1, qd1, obs1, reward] = step_all(&ant, &q, &qd, &obs, action.row(t));
        (q, qd, obs) = (q1, qd1, obs1);
        let mut same = |name: &str, got: &[f64], row: usize, n: usize| {
            let want = g.get(name).row(row);
            for e in 0..envs {
                let error = relative_error(&got[e * n..][..n], &want[e * n..][..n]);
                v.check(name, format!("step {t}, environment {e}"), error, 1e-6);
            }
        };
        same("q_f64", &q, t + 1, NQ);
        same("qd_f64", &qd, t + 1, NQD);
        same("obs_f64", &obs, t + 1, OBS);
        same("reward_f64", &reward, t, 1);
    }

    // Each step from its own start.
    for t in 0..steps {
        let mut prev = vec![0.0; envs * OBS];
        let (q, qd) = (g.get("q").row(t), g.get("qd").row(t));
        for e in 0..envs {
            observe(&ant, &q[e * NQ..], &qd[e * NQD..], &mut prev[e * OBS..][..OBS]);
        }
        let [q1, qd1, ..] = step_all(&ant, q, qd, &prev, action.row(t));
        for (name, got, n) in [("restart_q_next_f64", q1, NQ), ("restart_qd_next_f64", qd1, NQD)] {
            let want = g.get(name).row(t);
            for e in 0..envs {
                let error = relative_error(&got[e * n..][..n], &want[e * n..][..n]);
                v.check(name, format!("step {t}, environment {e}"), error, EXACT);
            }
        }
    }
    v.finish();
}
