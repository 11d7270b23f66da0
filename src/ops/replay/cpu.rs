//! CPU kernels of the replay.

use super::directory::{Directory, DirectoryMut, below};
use super::{Begin, Counter, Record, Sample, Sampling};
use crate::device::Real;
use crate::device::philox::{Philox, Stream};
use crate::tape::OpArgs;
use crate::tape::op::chunk;

/// Environments of a task.
pub(super) const ENVS: usize = 8;
/// Windows of a task.
pub(super) const DRAWS: usize = 16;

/// What all draws of a sample share: unfinished episodes to draw from, window starts in the ring, window starts in
/// unfinished episodes, step of the random stream; then for each such episode its environment and the starts before it.
pub(super) const SETUP_HEAD: usize = 4;

/// Row 0 of an episode.
#[inline(always)]
fn first_row<F: Real>(row: &mut [F], obs: &[F]) {
    row[..obs.len()].copy_from_slice(obs);
    row[obs.len()..].fill(F::of(f64::NAN));
}

impl Begin {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, _task: usize) {
        let s = &self.spec;
        let (o, w) = (s.obs_dim, s.width());
        for n in 0..s.num_envs {
            let at = n * s.staging_rows * w;
            first_row(args.out(0, at..at + w), &args.input(0)[n * o..][..o]);
        }
        args.out_index(1, 0..s.num_envs).fill(1);
        // One row is too few for a window: only the ring counts.
        let directory = Directory { entries: args.index(2), counters: args.index(1) };
        args.out_index(2, 0..1)[0] = directory.starts();
    }
}

impl Record {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        match phase {
            0 => chunk(self.spec.num_envs, ENVS, task).for_each(|n| self.stage(args, n)),
            1 => self.reserve(args),
            _ => chunk(self.spec.num_envs, ENVS, task).for_each(|n| self.flush(args, n)),
        }
    }

    /// The new row of environment `n`.
    #[inline(always)]
    fn stage<F: Real>(&self, args: &OpArgs<F>, n: usize) {
        let s = &self.spec;
        let (o, a, w) = (s.obs_dim, s.act_dim, s.width());
        let length = &mut args.out_index(1, n..n + 1)[0];
        let at = (n * s.staging_rows + *length as usize) * w;
        let row = args.out(0, at..at + w);
        row[..o].copy_from_slice(&args.input(0)[n * o..][..o]);
        row[o..o + a].copy_from_slice(&args.input(1)[n * a..][..a]);
        row[o + a] = args.input(2)[n];
        if s.tasks > 1 {
            row[o + a + 1] = F::of((n / s.envs_of_task()) as f64);
        }
        *length += 1;
    }

    /// Rows of the ring for the episodes that end, in environment order; 0 for those that go on, else first row + 1.
    #[inline(always)]
    fn reserve<F: Real>(&self, args: &OpArgs<F>) {
        let s = &self.spec;
        let lengths = args.read_output_index(1, 0..s.num_envs);
        let mut directory = DirectoryMut {
            entries: args.out_index(3, 0..args.out_len(3)),
            counters: args.out_index(4, 0..Counter::COUNT),
            capacity: s.capacity as u32,
            horizon: s.horizon as u32,
        };
        directory.rebase();
        let moves = args.out_index(6, 0..s.num_envs);
        let mut staged = 0;
        for (n, (to, &length)) in moves.iter_mut().zip(lengths).enumerate() {
            let ends = args.input(3)[n].value() > 0.5 || length as usize == s.staging_rows;
            *to = if ends { directory.append(length) + 1 } else { 0 };
            // An episode that ends leaves one row behind, too few for a window.
            staged += if ends || !s.unfinished { 0 } else { length.saturating_sub(s.horizon as u32) };
        }
        args.out_index(5, 0..1)[0] = directory.view().starts() + staged;
    }

    /// The episode of environment `n` to its place in the ring, if it ended, and row 0 of the next one.
    #[inline(always)]
    fn flush<F: Real>(&self, args: &OpArgs<F>, n: usize) {
        let s = &self.spec;
        let to = args.read_output_index(6, n..n + 1)[0];
        if to == 0 {
            return;
        }
        let (o, w) = (s.obs_dim, s.width());
        let length = &mut args.out_index(1, n..n + 1)[0];
        let (start, rows) = (to as usize - 1, *length as usize);
        // Rows that this very call overwrites are skipped, so that no two tasks write the same slot.
        let end = args.read_output_index(4, 0..Counter::COUNT)[Counter::Rows as usize] as usize;
        let mut row = end.saturating_sub(s.capacity).saturating_sub(start).min(rows);
        while row < rows {
            let slot = (start + row) % s.capacity;
            let count = (rows - row).min(s.capacity - slot);
            let from = (n * s.staging_rows + row) * w;
            args.out(2, slot * w..(slot + count) * w).copy_from_slice(args.read_output(0, from..from + count * w));
            row += count;
        }
        let at = n * s.staging_rows * w;
        first_row(args.out(0, at..at + w), &args.input(4)[n * o..][..o]);
        *length = 1;
    }
}

/// Where a window begins.
#[derive(Clone, Copy)]
enum Window {
    /// Row of the ring.
    Ring(usize),
    /// Row of the staging area, all environments in one.
    Staged(usize),
}

impl Sample {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        if phase == 0 {
            self.prepare(args);
        } else {
            let rng = Philox::new(self.spec.seed, Stream::Replay);
            for b in chunk(self.spec.batch, DRAWS, task) {
                self.copy(args, b, self.draw(args, &rng, b));
            }
        }
    }

    #[inline(always)]
    fn prepare<F: Real>(&self, args: &OpArgs<F>) {
        let s = &self.spec;
        let directory = Directory { entries: args.index(3), counters: args.index(4) };
        let (head, list) = args.out_index(4, 0..args.out_len(4)).split_at_mut(SETUP_HEAD);
        let (envs, before) = list.split_at_mut(s.num_envs);
        let (mut count, mut starts) = (0, 0);
        for (n, &length) in args.index(2).iter().enumerate() {
            if s.unfinished && length as usize > s.horizon {
                (envs[count], before[count]) = (n as u32, starts);
                count += 1;
                starts += length - s.horizon as u32;
            }
        }
        let draws = &mut args.out_index(3, 0..1)[0];
        head.copy_from_slice(&[count as u32, directory.starts(), starts, *draws]);
        *draws = draws.wrapping_add(1);
    }

    #[inline(always)]
    fn draw<F: Real>(&self, args: &OpArgs<F>, rng: &Philox, b: usize) -> Option<Window> {
        let s = &self.spec;
        let directory = Directory { entries: args.index(3), counters: args.index(4) };
        let setup = args.read_output_index(4, 0..args.out_len(4));
        let (count, in_ring, in_staging) = (setup[0], setup[1], setup[2]);
        if in_ring + in_staging == 0 {
            return None;
        }
        let (envs, before) = setup[SETUP_HEAD..].split_at(s.num_envs);
        let staged = |i: usize, row: u32| Window::Staged(envs[i] as usize * s.staging_rows + row as usize);
        let bits = rng.bits(u64::from(setup[3]), b as u32);
        Some(match s.sampling {
            Sampling::Row => {
                let i = below(in_ring + in_staging, bits[0], bits[1]);
                if i < in_ring {
                    Window::Ring(directory.window(i) as usize)
                } else {
                    let i = i - in_ring;
                    let at = before[..count as usize].partition_point(|&x| x <= i) - 1;
                    staged(at, i - before[at])
                }
            }
            Sampling::Episode => {
                let i = below(directory.count() + count, bits[0], bits[1]);
                let rows = |rows: u32| below(rows - s.horizon as u32, bits[2], bits[3]);
                if i < directory.count() {
                    let e = directory.episode(i);
                    Window::Ring((e.start + rows(e.rows)) as usize)
                } else {
                    let at = (i - directory.count()) as usize;
                    staged(at, rows(args.index(2)[envs[at] as usize]))
                }
            }
        })
    }

    /// Window `b` of the batch; zeros if there is none.
    #[inline(always)]
    fn copy<F: Real>(&self, args: &OpArgs<F>, b: usize, window: Option<Window>) {
        let s = &self.spec;
        let (o, a, w) = (s.obs_dim, s.act_dim, s.width());
        for t in 0..=s.horizon {
            let row = match window {
                Some(Window::Ring(start)) => Some(&args.input(0)[(start + t) % s.capacity * w..][..w]),
                Some(Window::Staged(start)) => Some(&args.input(1)[(start + t) * w..][..w]),
                None => None,
            };
            let at = t * s.batch + b;
            let obs = args.out(0, at * o..(at + 1) * o);
            match row {
                Some(row) => obs.copy_from_slice(&row[..o]),
                None => obs.fill(F::zero()),
            }
            // The action and the reward of row t + 1 lead from row t to it; those of the first row are outside.
            if t > 0 {
                let at = at - s.batch;
                let (act, rew) = (args.out(1, at * a..(at + 1) * a), args.out(2, at..at + 1));
                match row {
                    Some(row) => {
                        act.copy_from_slice(&row[o..o + a]);
                        rew[0] = row[o + a];
                        // Every row but the first of an episode tells its task.
                        if s.tasks > 1 {
                            args.out_index(5, b..b + 1)[0] = row[o + a + 1].value() as u32;
                        }
                    }
                    None => {
                        act.fill(F::zero());
                        rew[0] = F::zero();
                        if s.tasks > 1 {
                            args.out_index(5, b..b + 1)[0] = 0;
                        }
                    }
                }
            }
        }
    }
}
