//! The replay against the reference's buffer: 14 episodes into a ring of 120 rows.

use crate::support::golden;
use crate::support::golden::Golden;
use crate::support::replay::Driver;
use pwm::ops::replay::{Counter, ReplaySpec, Sampling};

/// Observations are (step id, episode).
fn spec(g: &Golden, lengths: &[usize]) -> ReplaySpec {
    ReplaySpec {
        num_envs: 1,
        tasks: 1,
        horizon: g.number("horizon") as usize,
        capacity: g.number("capacity") as usize,
        staging_rows: lengths.iter().max().expect("episodes") + 1,
        obs_dim: 2,
        act_dim: 1,
        batch: 1000,
        sampling: Sampling::Episode,
        unfinished: false,
        seed: 5,
    }
}

/// Appends the episodes from `*id`'s on: `lengths` counts rows, the one after the reset included.
fn append(d: &mut Driver<f64>, lengths: &[usize], episodes: std::ops::Range<usize>, id: &mut f64) {
    for e in episodes {
        for i in 1..lengths[e] {
            *id += 1.0;
            let last = i + 1 == lengths[e];
            let (done, next) = if last { (1.0, [*id + 1.0, e as f64 + 1.0]) } else { (0.0, [*id, e as f64]) };
            d.record([&[*id, e as f64], &[0.5 * *id], &[-*id], &[done], &next]);
        }
        *id += 1.0;
    }
}

#[test]
fn golden_storage_trajectories_and_windows() {
    let g = Golden::open("pwm/i_buffer");
    let lengths: Vec<usize> = g.get("episode_lengths").iter().map(|&x| x as usize).collect();
    let spec = spec(&g, &lengths);
    let (capacity, h, width) = (spec.capacity, spec.horizon, spec.width());
    let mut d = Driver::<f64>::new(&spec, 2);
    let (mut id, mut from) = (0.0, 0);
    d.begin(&[0.0, 0.0]);
    for to in [4, 8, 14] {
        append(&mut d, &lengths, from..to, &mut id);
        from = to;
        let name = |s: &str| format!("after{to}/{s}");

        // Storage: every row of the ring, by the step and the episode it came from.
        let (steps, episodes) = (g.get(&name("row_step_id")), g.get(&name("row_episode")));
        assert_eq!(d.counter(Counter::Rows).min(capacity), steps.len());
        assert_eq!(d.counter(Counter::Episodes), to);
        let ring = d.machine.real(d.vars.ring);
        let starts: Vec<usize> = lengths.iter().scan(0, |at, l| Some(std::mem::replace(at, *at + l))).collect();
        for (slot, (&step, &episode)) in steps.iter().zip(&episodes).enumerate() {
            let row = &ring[slot * width..][..width];
            assert_eq!(row[..2], [step, episode], "after {to}, slot {slot}");
            if starts.contains(&(step as usize)) {
                assert!(row[2].is_nan() && row[3].is_nan(), "the row after a reset has no action");
            } else {
                assert_eq!(row[2..], [0.5 * step, -step]);
            }
        }

        // Trajectories: the reference lists short ones too, which the directory leaves out.
        let mut want: Vec<(usize, usize)> = (g.get(&name("traj_start_row")).iter().zip(g.get(&name("traj_len"))))
            .map(|(&s, n)| (s as usize, n as usize))
            .filter(|&(_, rows)| rows > h)
            .collect();
        let mut got: Vec<_> = d.episodes().iter().map(|&(start, rows)| (start % capacity, rows)).collect();
        want.sort();
        got.sort();
        assert_eq!(got, want, "trajectories after {to}");

        // Probability of each window start, exactly and as drawn.
        let want = g.array(&name("start_prob.f64"));
        let mut exact = vec![0.0; capacity];
        for &(start, rows) in &got {
            for i in 0..rows - h {
                exact[(start + i) % capacity] += 1.0 / got.len() as f64 / (rows - h) as f64;
            }
        }
        golden::assert_close(&exact, &want, 1e-12);
        assert_eq!(d.ready(), want.values.iter().filter(|&&p| p > 0.0).count());
        let rounds = 60;
        let mut count = vec![0usize; capacity];
        for _ in 0..rounds {
            let [obs, act, rew] = d.draw();
            for b in 0..spec.batch {
                let slot = obs[b * 2] as usize % capacity;
                count[slot] += 1;
                for t in 1..=h {
                    let row = &obs[(t * spec.batch + b) * 2..][..2];
                    assert_eq!(row[0], obs[b * 2] + t as f64, "windows are consecutive rows");
                    assert_eq!(row[1], obs[b * 2 + 1], "of one episode");
                    let at = (t - 1) * spec.batch + b;
                    assert_eq!((act[at], rew[at]), (0.5 * row[0], -row[0]), "with the step that led to each");
                }
            }
        }
        let n = (rounds * spec.batch) as f64;
        for (slot, (&c, &p)) in count.iter().zip(&want.values).enumerate() {
            if p == 0.0 {
                assert_eq!(c, 0, "after {to}: no window starts in slot {slot}");
            }
            let sigma = (p * (1.0 - p) / n).sqrt();
            assert!((c as f64 / n - p).abs() <= 4.0 * sigma, "after {to}, slot {slot}: {c} of {n}, probability {p}");
        }
    }
}
