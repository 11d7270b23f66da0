//! CUDA launches of the replay. The queue of episodes is kept by one thread, rows move in parallel.

use super::{Begin, Record, Sample, Sampling};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::device::philox::{Philox, Stream};
use crate::tape::cuda::Operands;

crate::cuda_kernels! {
    "rl/replay.cu";
    fn replay_begin[64](
        obs: In, staging: Out, lengths: IndexOut, ready: IndexOut, directory: IndexOut, counters: IndexOut,
        len: u32, envs: u32, horizon: u32, capacity: u32, rows: u32, o: u32, a: u32, each: u32,
    );
    fn replay_stage[64](
        obs: In, action: In, reward: In, staging: Out, lengths: IndexOut, rows: u32, o: u32, a: u32, each: u32,
    );
    fn replay_reserve[256](
        done: In, lengths: IndexIn, directory: IndexOut, counters: IndexOut, ready: IndexOut, moves: IndexOut,
        len: u32, envs: u32, horizon: u32, capacity: u32, rows: u32, unfinished: u32,
    );
    fn replay_flush[256](
        next: In, staging: Out, lengths: IndexOut, ring: Out, counters: IndexIn, moves: IndexIn,
        capacity: u32, rows: u32, o: u32, a: u32, each: u32,
    );
    fn replay_prepare[256](
        lengths: IndexIn, directory: IndexOut, counters: IndexOut, draws: IndexOut, setup: IndexOut,
        len: u32, envs: u32, horizon: u32, unfinished: u32,
    );
    fn replay_draw[128](
        ring: In, staging: In, lengths: IndexIn, directory: IndexOut, counters: IndexOut, setup: IndexIn,
        obs: Out, act: Out, rew: Out, tasks: IndexOut, seed: u64, stream: u32,
        len: u32, envs: u32, horizon: u32, capacity: u32, rows: u32, o: u32, a: u32, by_row: u32, each: u32,
    );
}

/// The same memory, to write: kernels share one view of the directory, and those that are given inputs only read it.
fn view(p: IndexIn) -> IndexOut {
    IndexOut(p.0)
}

fn read(p: IndexOut) -> IndexIn {
    IndexIn(p.0)
}

/// Directory entries, environments, horizon, rows of the ring, rows of an episode, widths, environments of a task.
fn sizes(s: &super::ReplaySpec) -> [u32; 8] {
    let widths = [s.obs_dim, s.act_dim, s.envs_of_task()];
    let [o, a, each] = widths.map(|n| n as u32);
    let [len, envs, horizon, capacity, rows] =
        [s.directory_len(), s.num_envs, s.horizon, s.capacity, s.staging_rows].map(|n| n as u32);
    [len, envs, horizon, capacity, rows, o, a, each]
}

impl Begin {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let [len, envs, horizon, capacity, rows, o, a, each] = sizes(&self.spec);
        let (counters, directory) = (view(x.index(1)), view(x.index(2)));
        let (staging, lengths, ready) = (x.out(0), x.out_index(1), x.out_index(2));
        let grid = [self.spec.num_envs, 1, 1];
        vec![replay_begin(
            grid,
            [],
            x.input(0),
            staging,
            lengths,
            ready,
            directory,
            counters,
            len,
            envs,
            horizon,
            capacity,
            rows,
            o,
            a,
            each,
        )]
    }
}

impl Record {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let s = &self.spec;
        let [len, envs, horizon, capacity, rows, o, a, each] = sizes(s);
        let (obs, action, reward, done, next) = (x.input(0), x.input(1), x.input(2), x.input(3), x.input(4));
        let (staging, lengths, ring) = (x.out(0), x.out_index(1), x.out(2));
        let (directory, counters, ready, moves) = (x.out_index(3), x.out_index(4), x.out_index(5), x.out_index(6));
        let (grid, unfinished) = ([s.num_envs, 1, 1], s.unfinished.into());
        vec![
            replay_stage(grid, [], obs, action, reward, staging, lengths, rows, o, a, each),
            replay_reserve(
                [1, 1, 1],
                [],
                done,
                read(lengths),
                directory,
                counters,
                ready,
                moves,
                len,
                envs,
                horizon,
                capacity,
                rows,
                unfinished,
            ),
            replay_flush(
                grid,
                [],
                next,
                staging,
                lengths,
                ring,
                read(counters),
                read(moves),
                capacity,
                rows,
                o,
                a,
                each,
            ),
        ]
    }
}

impl Sample {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let s = &self.spec;
        let [len, envs, horizon, capacity, rows, o, a, each] = sizes(s);
        let rng = Philox::new(s.seed, Stream::Replay);
        let (ring, staging, lengths) = (x.input(0), x.input(1), x.index(2));
        let (directory, counters) = (view(x.index(3)), view(x.index(4)));
        let (draws, setup) = (x.out_index(3), x.out_index(4));
        let by_row = (s.sampling == Sampling::Row).into();
        let tasks = if s.tasks > 1 { x.out_index(5) } else { IndexOut::default() };
        vec![
            replay_prepare(
                [1, 1, 1],
                [],
                lengths,
                directory,
                counters,
                draws,
                setup,
                len,
                envs,
                horizon,
                s.unfinished.into(),
            ),
            replay_draw(
                [s.batch, 1, 1],
                [],
                ring,
                staging,
                lengths,
                directory,
                counters,
                read(setup),
                x.out(0),
                x.out(1),
                x.out(2),
                tasks,
                rng.seed(),
                rng.stream(),
                len,
                envs,
                horizon,
                capacity,
                rows,
                o,
                a,
                by_row,
                each,
            ),
        ]
    }
}
