//! Losses and two-hot heads.

use super::lab::{Case, case};
use crate::ops::loss::squared_error;
use crate::ops::twohot::{Decode, two_hot_decode, two_hot_loss};

pub(super) fn loss_cases(list: &mut Vec<Case>) {
    for (t, n) in [(1, 5), (3, 4096), (4, 4097), (70, 33)] {
        for shared in [false, true] {
            list.push(case(format!("squared error {t}x{n} shared {shared}"), move |l| {
                let x = l.leaf(&[t, n]);
                let target = l.real(&[if shared { 1 } else { t }, n]);
                let weights = (0..t).map(|i| 0.5 + i as f64).collect();
                let y = squared_error(&mut l.p, x, target, weights);
                l.follow(y);
            }));
        }
    }
    for (h, b, bins) in [(1, 1, 2), (3, 9, 101), (66, 3, 33)] {
        for decode in [Decode::Symexp, Decode::Symlog] {
            list.push(case(format!("two-hot {h}x{b}x{bins} {decode:?}"), move |l| {
                let logits = l.leaf(&[h, b, bins]);
                let y = two_hot_decode(&mut l.p, logits, (-2.0, 2.0), decode);
                l.follow(y);
                let reward = l.noise(h * b).into_iter().map(|x| 5.0 * x).collect();
                let reward = l.given(&[h, b], reward);
                let weights = (0..h).map(|i| 0.1 + i as f64).collect();
                let y = two_hot_loss(&mut l.p, logits, reward, (-2.0, 2.0), weights);
                l.follow(y);
            }));
        }
    }
}
