//! The replay: episodes recorded, windows drawn.

use super::lab::{Case, case};
use crate::ops::embedding::gather_rows;
use crate::ops::replay::{ReplaySpec, ReplayVars, Sampling, Transition, replay_begin, replay_record, replay_sample};

pub(super) fn replay_cases(list: &mut Vec<Case>) {
    for (num_envs, tasks, capacity, batch) in [(1, 1, 9, 1), (6, 3, 60, 70), (300, 1, 900, 33)] {
        for sampling in [Sampling::Row, Sampling::Episode] {
            for unfinished in [false, true] {
                let name = format!("replay {num_envs} {capacity} {sampling:?} unfinished {unfinished}");
                list.push(case(name, move |l| {
                    let (obs_dim, act_dim) = (5, 2);
                    let spec = ReplaySpec {
                        num_envs,
                        tasks,
                        horizon: 3,
                        capacity,
                        staging_rows: 9,
                        obs_dim,
                        act_dim,
                        batch,
                        sampling,
                        unfinished,
                        seed: 3,
                    };
                    let r = ReplayVars::new(&mut l.vars, &spec);
                    let obs = l.real(&[num_envs, obs_dim]);
                    replay_begin(&mut l.p, &l.vars, &r, obs);
                    for _ in 0..25 {
                        let t = Transition {
                            obs: l.real(&[num_envs, obs_dim]),
                            action: l.real(&[num_envs, act_dim]),
                            reward: l.real(&[num_envs]),
                            done: l.flags(&[num_envs], -1.2),
                            next: l.real(&[num_envs, obs_dim]),
                        };
                        replay_record(&mut l.p, &l.vars, &r, &t);
                    }
                    for _ in 0..2 {
                        let w = replay_sample(&mut l.p, &l.vars, &r);
                        for v in [w.obs, w.act, w.rew] {
                            l.keep(v);
                        }
                        if let Some(ids) = w.tasks {
                            let table = l.real(&[tasks, 2]);
                            let told = gather_rows(&mut l.p, table, ids);
                            l.keep(told);
                        }
                    }
                    l.runs = 3;
                }));
            }
        }
    }
}
