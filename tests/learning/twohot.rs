//! Adjoints of the distributional reward head against dual numbers.

use crate::support::gradcheck::{check, fixed, input};
use pwm::ops::twohot::{Decode, two_hot_decode, two_hot_loss};

const TOLERANCE: f64 = 1e-12;
const BOUNDS: (f64, f64) = (-10.0, 10.0);

#[test]
fn decode() {
    for decode in [Decode::Symexp, Decode::Symlog] {
        for shape in [vec![1, 2], vec![101], vec![3, 70, 101], vec![64, 17]] {
            check(&format!("{decode:?} {shape:?}"), &[input(&shape)], TOLERANCE, |p, _, v| {
                vec![two_hot_decode(p, v[0], BOUNDS, decode)]
            });
        }
    }
}

#[test]
fn loss() {
    // Rewards beyond the bins, on an edge, on both sides of zero.
    let special = [0.0, 3.0, -0.4, 1e6, -1e6, 0.2f64.exp_m1(), -17.5];
    for (h, b, bins) in [(1, 1, 2), (4, 3, 101), (5, 33, 101), (2, 64, 5)] {
        let rewards = (0..h * b).map(|i| special[i % special.len()] * (1.0 + 0.1 * (i / 7) as f64)).collect();
        let weights: Vec<f64> = (0..h).map(|t| 0.9f64.powi(t as i32) / b as f64).collect();
        check(&format!("{h}x{b}x{bins}"), &[input(&[h, b, bins]), fixed(&[h, b], rewards)], TOLERANCE, |p, _, v| {
            vec![two_hot_loss(p, v[0], v[1], BOUNDS, weights.clone())]
        });
    }
}

#[test]
fn decode_and_loss_of_the_same_logits_add_up() {
    check("both", &[input(&[2, 3, 11]), fixed(&[2, 3], vec![0.5; 6])], TOLERANCE, |p, _, v| {
        let y = two_hot_decode(p, v[0], (-3.0, 4.0), Decode::Symexp);
        let z = two_hot_decode(p, v[0], (-3.0, 4.0), Decode::Symlog);
        vec![two_hot_loss(p, v[0], v[1], (-3.0, 4.0), vec![0.3, 0.7]), y, z]
    });
}
