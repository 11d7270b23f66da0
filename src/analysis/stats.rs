//! Statistics of a few seeds: what is said about a method when only a handful of runs can be paid for.
//!
//! The inter-quartile mean with percentile bootstrap intervals over runs, as Agarwal et al. (2021) recommend, and an
//! exact (or sampled) two-sided permutation test of a difference of means. All random draws are fixed: the same numbers
//! give the same intervals.

use rayon::prelude::*;

use crate::device::philox::{Philox, Stream};

/// Draws of a bootstrap, and of a permutation test with too many permutations to visit all.
const DRAWS: usize = 10_000;

/// Mean; NaN of nothing.
pub fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Standard deviation (n - 1); 0 of fewer than two.
pub fn std(x: &[f64]) -> f64 {
    let m = mean(x);
    (x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0).max(1.0)).sqrt()
}

/// The middle of the order; of an even number the mean of the middle two.
pub fn median(x: &[f64]) -> f64 {
    let s = sorted(x);
    if s.is_empty() { f64::NAN } else { (s[(s.len() - 1) / 2] + s[s.len() / 2]) / 2.0 }
}

/// Inter-quartile mean: the mean of what is left when the lowest and the highest quarter (rounded down) are cut off.
pub fn iqm(x: &[f64]) -> f64 {
    let s = sorted(x);
    let cut = s.len() / 4;
    mean(&s[cut..s.len() - cut])
}

fn sorted(x: &[f64]) -> Vec<f64> {
    let mut s = x.to_vec();
    s.sort_by(f64::total_cmp);
    s
}

/// 95 % percentile bootstrap interval of `statistic`: samples are redrawn `DRAWS` times.
pub fn interval(x: &[f64], statistic: impl Fn(&[f64]) -> f64 + Sync) -> (f64, f64) {
    let rng = Philox::new(0, Stream::FreshEval);
    let draw = |sample: &mut Vec<f64>, d| {
        redraw(&rng, d, x, sample);
        statistic(sample)
    };
    percentiles(&mut bootstrap(|| vec![0.0; x.len()], draw))
}

/// 95 % percentile bootstrap interval of `statistic(b) - statistic(a)`, each side redrawn by itself.
pub fn interval_of_difference(a: &[f64], b: &[f64], statistic: impl Fn(&[f64]) -> f64 + Sync) -> (f64, f64) {
    let (one, two) = (Philox::new(0, Stream::FreshEval), Philox::new(1, Stream::FreshEval));
    let draw = |(sa, sb): &mut (Vec<f64>, Vec<f64>), d| {
        redraw(&one, d, a, sa);
        redraw(&two, d, b, sb);
        statistic(sb) - statistic(sa)
    };
    percentiles(&mut bootstrap(|| (vec![0.0; a.len()], vec![0.0; b.len()]), draw))
}

/// The values of all draws in their order. A draw depends on its number alone: threads share them as they like.
fn bootstrap<T>(room: impl Fn() -> T + Send + Sync, draw: impl Fn(&mut T, usize) -> f64 + Send + Sync) -> Vec<f64> {
    (0..DRAWS).into_par_iter().map_init(room, draw).collect()
}

fn redraw(rng: &Philox, draw: usize, from: &[f64], into: &mut [f64]) {
    for (i, v) in into.iter_mut().enumerate() {
        let u = rng.uniform(draw as u64, i as u32);
        *v = from[((u * from.len() as f64) as usize).min(from.len() - 1)];
    }
}

fn percentiles(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |p: f64| values.get(((values.len() - 1) as f64 * p).round() as usize).copied().unwrap_or(f64::NAN);
    (at(0.025), at(0.975))
}

/// Probability that a draw from `b` is above one from `a`, ties counted half (the Mann-Whitney statistic).
pub fn probability_of_improvement(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let won: f64 = pairs
        .map(|(x, y)| {
            if y > x {
                1.0
            } else if y == x {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    won / (a.len() * b.len()) as f64
}

/// What a permutation test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PermutationTest {
    /// Two-sided probability of a difference of means as large as the one seen, if labels meant nothing.
    pub p: f64,
    /// The smallest value that `p` could have had with so few samples.
    pub smallest: f64,
    /// Whether all permutations were visited.
    pub exact: bool,
}

/// Two-sided permutation test of the difference of means. Exact where there are no more than `DRAWS` ways to label.
pub fn permutation_test(a: &[f64], b: &[f64]) -> PermutationTest {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let (n, k) = (all.len(), a.len());
    let total: f64 = all.iter().sum();
    let difference = |sum_a: f64| (sum_a / k as f64 - (total - sum_a) / (n - k) as f64).abs();
    let seen = difference(a.iter().sum());
    // Sums in another order differ in the last bits.
    let reaches = |d: f64| d >= seen * (1.0 - 1e-12) - 1e-300;
    let ways = (0..k).fold(1.0f64, |w, i| w * (n - i) as f64 / (i + 1) as f64);
    let symmetric = if k == n - k { 2.0 } else { 1.0 };
    let smallest = symmetric / ways;
    if ways <= DRAWS as f64 {
        let mut chosen: Vec<usize> = (0..k).collect();
        let (mut extreme, mut count) = (0.0, 0.0);
        loop {
            count += 1.0;
            extreme += f64::from(u8::from(reaches(difference(chosen.iter().map(|&i| all[i]).sum()))));
            // The next combination in lexicographic order.
            let Some(i) = (0..k).rev().find(|&i| chosen[i] < n - k + i) else { break };
            chosen[i] += 1;
            (i + 1..k).for_each(|j| chosen[j] = chosen[j - 1] + 1);
        }
        return PermutationTest { p: extreme / count, smallest, exact: true };
    }
    let rng = Philox::new(2, Stream::FreshEval);
    let mut x = all.clone();
    let mut extreme = 0;
    for d in 0..DRAWS {
        // The first k of a Fisher-Yates shuffle.
        for i in 0..k {
            let j = i + ((rng.uniform(d as u64, i as u32) * (n - i) as f64) as usize).min(n - i - 1);
            x.swap(i, j);
        }
        extreme += usize::from(reaches(difference(x[..k].iter().sum())));
    }
    // The labelling that was seen is one of them.
    PermutationTest { p: (extreme + 1) as f64 / (DRAWS + 1) as f64, smallest: 1.0 / (DRAWS + 1) as f64, exact: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn statistics_of_known_numbers() {
        let x = [1.0, 2.0, 3.0, 100.0, 5.0, 6.0, 7.0, -50.0];
        assert_eq!(iqm(&x), (2.0 + 3.0 + 5.0 + 6.0) / 4.0);
        assert_eq!((iqm(&[1.0, 2.0, 9.0]), median(&x), median(&[3.0, 1.0, 2.0])), (4.0, 4.0, 2.0));
        assert_abs_diff_eq!(std(&[1.0, 2.0, 3.0]), 1.0, epsilon = 1e-15);
        assert_eq!(std(&[4.0]), 0.0);
        assert_eq!(probability_of_improvement(&[1.0, 2.0], &[2.0, 3.0]), 0.875);
    }

    #[test]
    fn the_exact_test_counts_labellings() {
        // Of the 20 ways to call three of six numbers A, two are as extreme as the sorted one.
        let t = permutation_test(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]);
        assert_eq!(t, PermutationTest { p: 0.1, smallest: 0.1, exact: true });
        assert_eq!(permutation_test(&[1.0, 2.0], &[1.0, 2.0]).p, 1.0);
    }

    /// However many threads draw, and as one thread after the other would.
    #[test]
    fn intervals_do_not_depend_on_threads() {
        let a: Vec<f64> = (0..17).map(|i| f64::from(i * i % 29) * 0.37).collect();
        let b: Vec<f64> = a.iter().map(|x| x * 1.1 + 0.2).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (interval(&a, iqm), interval_of_difference(&a, &b, mean)))
        };
        let (rng, mut sample) = (Philox::new(0, Stream::FreshEval), vec![0.0; a.len()]);
        let mut values: Vec<f64> = (0..DRAWS)
            .map(|d| {
                redraw(&rng, d, &a, &mut sample);
                iqm(&sample)
            })
            .collect();
        let one = with(1);
        assert_eq!(one.0, percentiles(&mut values));
        assert_eq!((one, one), (with(3), with(16)));
    }

    #[test]
    fn many_samples_are_drawn_and_agree_with_what_is_so() {
        let a: Vec<f64> = (0..30).map(f64::from).collect();
        let b: Vec<f64> = a.iter().map(|x| x + 20.0).collect();
        let (far, near) = (permutation_test(&a, &b), permutation_test(&a, &a));
        assert!(!far.exact && far.p < 1e-3 && near.p > 0.9, "{far:?} {near:?}");
        let (low, high) = interval_of_difference(&a, &b, mean);
        assert!(low > 14.0 && low < 17.0 && high > 23.0 && high < 26.0, "{low} {high}");
        let (low, high) = interval(&a, iqm);
        assert!(low > 8.0 && low < 12.0 && high > 17.0 && high < 21.0 && (low, high) == interval(&a, iqm));
    }
}
