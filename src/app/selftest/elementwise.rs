//! Bookkeeping, sums, random numbers, statistics, probes, Adam.

use super::lab::{Case, case};
use crate::device::philox::Stream;
use crate::ops::control::{accumulate, clamp_below, clip, increment};
use crate::ops::embedding::gather_rows;
use crate::ops::optim::{AdamSpec, AdamVals, adam};
use crate::ops::probe::{covariance, group_drift};
use crate::ops::random::{normal, permutation, uniform};
use crate::ops::stats::{normalise, update_stats};
use crate::ops::sum::sum;

pub(super) fn elementwise_cases(list: &mut Vec<Case>) {
    for n in [1, 255, 256, 257, 5000] {
        list.push(case(format!("control {n}"), move |l| {
            let x = l.real(&[n]);
            let y = clip(&mut l.p, x, 0.8);
            l.keep(y);
            let z = l.real(&[n]);
            clamp_below(&mut l.p, z, -0.3);
            let bad = l.given(&[3], vec![f64::NAN, f64::INFINITY, -7.0]);
            let bad = clip(&mut l.p, bad, 5.0);
            l.keep(bad);
            let counter = l.index(vec![7]);
            increment(&mut l.p, counter);
            let (a, b, c) = (l.real(&[1]), l.real(&[1]), l.real(&[1]));
            accumulate(&mut l.p, a, b, false);
            accumulate(&mut l.p, a, c, true);
            l.runs = 2;
        }));
        list.push(case(format!("sum {n}"), move |l| {
            let (a, b) = (l.leaf(&[n]), l.leaf(&[n]));
            let y = sum(&mut l.p, a, b, None);
            let y = sum(&mut l.p, y, a, None);
            l.follow(y);
        }));
        list.push(case(format!("random {n}"), move |l| {
            let step = l.index(vec![11]);
            let x = normal(&mut l.p, 0x1234_5678_9abc, Stream::Policy, step, &[n]);
            l.keep_drawn(x, 2);
            let x = uniform(&mut l.p, 77, Stream::Tau, step, &[n]);
            l.keep_drawn(x, 0);
            let order = permutation(&mut l.p, 5, Stream::Critic, step, n);
            let x = l.real(&[n, 3]);
            let y = gather_rows(&mut l.p, x, order);
            l.keep(y);
        }));
    }
    for (rows, d) in [(1, 1), (70, 37), (1000, 3)] {
        list.push(case(format!("statistics {rows}x{d}"), move |l| {
            let x = l.leaf(&[rows, d]);
            let start = (0..d).flat_map(|i| [0.1 * i as f64, 1.0 + i as f64, 20.0]).collect();
            let stats = l.given(&[d, 3], start);
            update_stats(&mut l.p, x, stats, 0.9);
            for center in [true, false] {
                let y = normalise(&mut l.p, x, stats, center);
                l.follow(y);
            }
            l.runs = 2;
        }));
    }
    for n in [1, 40, 777] {
        list.push(case(format!("probes {n}"), move |l| {
            let (x, y) = (l.real(&[n]), l.real(&[n]));
            let c = covariance(&mut l.p, x, y);
            l.keep(c);
            let z = l.real(&[n, 4]);
            let d = group_drift(&mut l.p, z, 4);
            l.keep(d);
        }));
    }
    for n in [1, 300, 16_384, 16_385] {
        list.push(case(format!("adam {n}"), move |l| {
            let spec = AdamSpec { beta1: 0.9, beta2: 0.95, max_norm: 2.0 };
            let v = l.noise(n).into_iter().map(f64::abs).collect();
            let a = AdamVals {
                params: l.real(&[n]),
                grads: l.real(&[n]),
                m: l.real(&[n]),
                v: l.given(&[n], v),
                step: l.index(vec![3]),
                rate: l.given(&[1], vec![1e-3]),
                norm: l.real(&[1]),
                skipped: l.index(vec![0]),
            };
            adam(&mut l.p, spec, &a);
            l.runs = 3;
        }));
    }
    list.push(case("adam of a gradient that is not finite", |l| {
        let spec = AdamSpec { beta1: 0.9, beta2: 0.95, max_norm: 2.0 };
        let mut g = l.noise(40);
        g[17] = f64::INFINITY;
        let a = AdamVals {
            params: l.real(&[40]),
            grads: l.given(&[40], g),
            m: l.real(&[40]),
            v: l.real(&[40]),
            step: l.index(vec![3]),
            rate: l.given(&[1], vec![1e-3]),
            norm: l.real(&[1]),
            skipped: l.index(vec![2]),
        };
        adam(&mut l.p, spec, &a);
    }));
}
