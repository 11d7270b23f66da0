//! The Ant against the reference's double-precision twin, about the world origin: every stage of a substep, and long
//! rollouts (tolerances: 1e-9 of the largest element per state; free-running rollouts 1e-6 over 50 steps). Its model,
//! steps and gradients stand with those of the other robots in `robots.rs`.

use crate::support::ant::{ACTION_SCALE, BODIES, NQ, NQD, OBS, observe, task};
use crate::support::verdict::{Golden, Verdict, relative_error};
use pwm::config::Config;
use pwm::env::{EnvReal, Task};
use pwm::sim::contact::{body_contact, point_contact};
use pwm::sim::inertia::{body_bias, spatial_inertia};
use pwm::sim::integrate::integrate;
use pwm::sim::joint::joint_force;
use pwm::sim::kinematics::body_kinematics;
use pwm::sim::mass_matrix::{factorise, mass_matrix, solve};
use pwm::sim::{ReferencePoint, Spatial, SpatialInertia, Work};

const EXACT: f64 = 1e-9;

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

/// Lower triangle of the branch-sparse matrix in `rows` as a dense symmetric one.
fn symmetric(ant: &Task, rows: &[[f64; NQD]; NQD]) -> Vec<f64> {
    let mut h = vec![0.0; NQD * NQD];
    for (i, row) in rows.iter().enumerate() {
        for &j in ant.dflex().model().ancestors(i).iter().chain([&i]) {
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
    let m = ant.dflex().model();
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
