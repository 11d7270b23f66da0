//! Running statistics, schedules, Adam with clipping and TD(lambda) against the reference (`pwm/e_optim`).
//!
//! `meter` of the file is not part of this product: training returns are means over an epoch.

use crate::support::golden::{Array, Golden};
use crate::support::lab::{Lab, Score, numbers, put, team};
use pwm::algo::schedule::{Network, Schedule};
use pwm::config::{Config, LrSchedule};
use pwm::ops::optim::{AdamSpec, AdamVals, adam};
use pwm::ops::returns::td_lambda;
use pwm::ops::stats::{START_COUNT, normalise, update_stats};
use pwm::tape::{DType, Machine, Program, Region, TapeReal, VarId, Vars};

/// Arrays `prefix0`, `prefix1`, ... of the file.
fn series(g: &Golden, prefix: &str) -> Vec<Array> {
    (0..).map(|i| format!("{prefix}{i}")).take_while(|n| g.has(n)).map(|n| g.array(&n)).collect()
}

fn statistics<F: TapeReal>() {
    let g = Golden::open("pwm/e_optim");
    let mut score = Score::new::<F>(&g);
    for name in ["rms1", "rms_ret", "rms5"] {
        let mut lab = Lab::new();
        let batches = series(&g, &format!("{name}/in"));
        let columns = g.want(&format!("{name}/mean0")).values.len();
        let start: Vec<f64> = (0..columns).flat_map(|_| [0.0, 1.0, START_COUNT]).collect();
        let stats = lab.input("stats", &[columns, 3], start);
        for (i, x) in batches.iter().enumerate() {
            let x = lab.array(x);
            update_stats(&mut lab.p, x, stats, 1.0);
            lab.keep(&format!("stats{i}"), stats);
            let y = normalise(&mut lab.p, x, stats, true);
            lab.keep(&format!("normalize{i}"), y);
        }
        let run = lab.run::<F>();
        for i in 0..batches.len() {
            let stats = run.get(&format!("stats{i}"));
            for (at, what) in ["mean", "var", "count"].into_iter().enumerate() {
                let got: Vec<f64> = stats.iter().skip(at).step_by(3).copied().collect();
                // The count is one for all columns.
                let shown = if what == "count" { &got[..1] } else { &got };
                score.check(&format!("{name}/{what}{i}"), shown);
            }
            let normalised = format!("normalize{i}");
            if g.has(&format!("{name}/{normalised}")) {
                score.check(&format!("{name}/{normalised}"), &run.get(&normalised));
            }
        }
    }
    score.finish("statistics");
}

#[test]
fn golden_statistics() {
    statistics::<f64>();
}

#[test]
fn golden_statistics_f32() {
    statistics::<f32>();
}

#[test]
fn golden_learning_rates() {
    let g = Golden::open("pwm/e_optim");
    let mut score = Score::new::<f64>(&g);
    for name in ["lr/actor", "lr/model", "lr/flow20k"] {
        // The metadata reads `lr0=0.0005, max_epochs=15000`.
        let [lr, epochs] = ["lr0=", "max_epochs="].map(|key| {
            let text = g.meta(name).split(", ").find_map(|part| part.strip_prefix(key));
            text.and_then(|t| t.parse::<f64>().ok()).expect("a setting of the schedule")
        });
        let c =
            Config { lr_schedule: LrSchedule::Linear, max_epochs: epochs as u64, actor_lr: lr, ..Config::default() };
        let schedule = Schedule::of(&c, Network::Actor);
        let got: Vec<f64> = g.get(&format!("{name}/epoch")).iter().map(|&e| schedule.rate(e as u64)).collect();
        score.check(&format!("{name}/value"), &got);
    }
    score.finish("learning rates");
}

/// One optimiser over all tensors of a test case, as one flat group.
struct Flat<F: TapeReal> {
    machine: Machine<F>,
    params: VarId,
    grads: VarId,
    m: VarId,
    v: VarId,
    norm: VarId,
    rate: VarId,
}

impl<F: TapeReal> Flat<F> {
    fn new(n: usize, spec: AdamSpec) -> Self {
        let mut vars = Vars::default();
        let mut real = |name: &str, n: usize| vars.add(Region::Optimiser, name, DType::Real, &[n]);
        let [params, grads, m, v] = ["params", "grads", "m", "v"].map(|name| real(name, n));
        let (norm, rate) = (real("norm", 1), real("rate", 1));
        let [step, skipped] = ["step", "skipped"].map(|name| vars.add(Region::Optimiser, name, DType::Index, &[1]));
        let mut p = Program::new("adam");
        let [params_v, grads_v, m_v, v_v, norm_v, rate_v, step_v, skipped_v] =
            [params, grads, m, v, norm, rate, step, skipped].map(|var| p.var(&vars, var));
        let vals = AdamVals {
            params: params_v,
            grads: grads_v,
            m: m_v,
            v: v_v,
            step: step_v,
            rate: rate_v,
            norm: norm_v,
            skipped: skipped_v,
        };
        adam(&mut p, spec, &vals);
        let machine = Machine::new(vars, vec![p], team()).expect("memory");
        Self { machine, params, grads, m, v, norm, rate }
    }

    fn step(&mut self, grads: &[f64]) {
        put(&mut self.machine, self.grads, grads);
        let id = self.machine.program(0);
        self.machine.run(id).expect("run");
    }
}

/// Splits a flat vector into parts of the lengths of `like`.
fn split<'a>(flat: &'a [f64], like: &[Array]) -> Vec<&'a [f64]> {
    let mut rest = flat;
    let mut cut = |n: usize| {
        let (part, tail) = rest.split_at(n);
        rest = tail;
        part
    };
    like.iter().map(|a| cut(a.values.len())).collect()
}

fn flat(arrays: &[Array]) -> Vec<f64> {
    arrays.iter().flat_map(|a| a.values.clone()).collect()
}

fn adam_steps<F: TapeReal>() {
    let g = Golden::open("pwm/e_optim");
    let mut score = Score::new::<F>(&g);
    let (start, grads) = (series(&g, "adam/p0/"), series(&g, "adam/grads/"));
    for (name, beta1, beta2) in [("b07_095", 0.7, 0.95), ("b09_0999", 0.9, 0.999)] {
        let spec = AdamSpec { beta1, beta2, max_norm: f64::INFINITY };
        let mut opt = Flat::<F>::new(flat(&start).len(), spec);
        put(&mut opt.machine, opt.params, &flat(&start));
        let rates = g.want("adam/lr").values;
        let steps = grads[0].shape[0];
        for t in 0..steps {
            put(&mut opt.machine, opt.rate, &[rates[t.min(rates.len() - 1)]]);
            let row = |a: &Array| a.values[t * (a.values.len() / steps)..][..a.values.len() / steps].to_vec();
            opt.step(&grads.iter().flat_map(row).collect::<Vec<f64>>());
            let params = numbers(&opt.machine, opt.params);
            for (i, part) in split(&params, &start).into_iter().enumerate() {
                score.check_part(&format!("adam/{name}/p/{i}"), t * part.len(), part);
            }
        }
        for (var, what) in [(opt.m, "m"), (opt.v, "v")] {
            for (i, part) in split(&numbers(&opt.machine, var), &start).into_iter().enumerate() {
                score.check(&format!("adam/{name}/{what}/{i}"), part);
            }
        }
    }
    score.finish("adam");
}

#[test]
fn golden_adam() {
    adam_steps::<f64>();
}

#[test]
fn golden_adam_f32() {
    adam_steps::<f32>();
}

/// With both decay rates 0 the first moment is the clipped gradient.
fn clipping<F: TapeReal>() {
    let g = Golden::open("pwm/e_optim");
    let mut score = Score::new::<F>(&g);
    for name in ["clip/active", "clip/inactive", "clip/wm", "clip/boundary"] {
        // The metadata reads `max_norm=1.0; ...`.
        let max_norm = g.meta(name).split(';').next().and_then(|s| s.strip_prefix("max_norm=")?.parse().ok());
        let spec = AdamSpec { beta1: 0.0, beta2: 0.0, max_norm: max_norm.expect("the largest norm") };
        let grads = series(&g, &format!("{name}/in"));
        let mut opt = Flat::<F>::new(flat(&grads).len(), spec);
        opt.step(&flat(&grads));
        score.check(&format!("{name}/norm"), &numbers(&opt.machine, opt.norm));
        for (i, part) in split(&numbers(&opt.machine, opt.m), &grads).into_iter().enumerate() {
            score.check(&format!("{name}/out{i}"), part);
        }
    }
    score.finish("clipping");
}

#[test]
fn golden_clipping() {
    clipping::<f64>();
}

#[test]
fn golden_clipping_f32() {
    clipping::<f32>();
}

fn td<F: TapeReal>() {
    let g = Golden::open("pwm/e_optim");
    let mut score = Score::new::<F>(&g);
    let gamma = Config::default().gamma;
    for name in g.names().iter().filter_map(|n| n.strip_suffix(".f64")).filter(|n| n.starts_with("td/lam")) {
        let lambda: f64 = name["td/lam".len()..].parse().expect("lambda in the name");
        let [reward, value, done] = ["rew", "next_values", "done"].map(|n| g.array(&format!("td/{n}")));
        let mut lab = Lab::new();
        // The reference has set the values of terminated steps to zero already.
        let terminated = lab.input("terminated", &done.shape, vec![0.0; done.values.len()]);
        let (r, v, d) = (lab.array(&reward), lab.array(&value), lab.array(&done));
        let out = lab.p.real(&done.shape);
        td_lambda(&mut lab.p, gamma, lambda, 1.0, r, v, d, terminated, out);
        lab.keep("targets", out);
        score.check(name, &lab.run::<F>().get("targets"));
    }
    score.finish("TD(lambda)");
}

#[test]
fn golden_td_lambda() {
    td::<f64>();
}

#[test]
fn golden_td_lambda_f32() {
    td::<f32>();
}
