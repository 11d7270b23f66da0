//! Actions of a policy, choices of rows, returns.

use super::lab::{Case, case};
use crate::ops::policy::{anchor_rows, ensemble_min, select_rows, spread, squash};
use crate::ops::returns::{ActorLossSpec, Bootstrap, actor_loss, td_lambda};

pub(super) fn policy_cases(list: &mut Vec<Case>) {
    for (n, a) in [(1, 1), (33, 8), (300, 3)] {
        list.push(case(format!("squash {n}x{a}"), move |l| {
            let (mean, logstd, noise) = (l.leaf(&[n, a]), l.leaf(&[a]), l.real(&[n, a]));
            let y = squash(&mut l.p, mean, logstd, Some(noise), None);
            l.follow(y);
            let y = squash(&mut l.p, mean, logstd, Some(noise), None);
            l.follow(y);
            let y = squash(&mut l.p, mean, logstd, None, None);
            l.follow(y);
            let y = spread(&mut l.p, logstd, noise);
            l.follow(y);
        }));
        list.push(case(format!("select rows {n}x{a}"), move |l| {
            let mask = l.flags(&[n], 0.0);
            let (x, y) = (l.leaf(&[n, a]), l.leaf(&[n, a]));
            let z = select_rows(&mut l.p, mask, x, y, None);
            l.follow(z);
            let z = anchor_rows(&mut l.p, mask, z, y, None);
            l.follow(z);
        }));
        list.push(case(format!("ensemble minimum {a}x{n}"), move |l| {
            let v = l.leaf(&[a, n, 1]);
            let y = ensemble_min(&mut l.p, v, 3.0);
            l.follow(y);
            let y = ensemble_min(&mut l.p, v, 1.0);
            l.follow(y);
        }));
    }
    for (h, n) in [(1, 3), (5, 64), (16, 130)] {
        for (bootstrap, lambda, normalised) in
            [(Bootstrap::Exact, 1.0, true), (Bootstrap::Exact, 0.9, false), (Bootstrap::Reference, 1.0, true)]
        {
            list.push(case(format!("returns {h}x{n} {bootstrap:?} {lambda}"), move |l| {
                let (reward, value) = (l.leaf(&[h, n]), l.leaf(&[h, n]));
                let done = l.flags(&[h, n], -1.0);
                let term = l.flags(&[h, n], -1.0);
                let stats = l.given(&[3], vec![0.3, 4.0, 50.0]);
                let spec = ActorLossSpec { gamma: 0.97, lambda, bootstrap, normalise: normalised, decay: 0.9 };
                let y = actor_loss(&mut l.p, spec, reward, value, done, term, stats);
                l.follow(y);
                let out = l.given(&[h, n], vec![f64::NAN; h * n]);
                td_lambda(&mut l.p, 0.99, 0.95, 2.0, reward, value, done, term, out);
            }));
        }
    }
}
