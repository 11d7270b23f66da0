//! CUDA launches that take windows which the host has drawn.

use super::Take;
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "rl/windows.cu";
    fn windows_take[256](
        samples: In, draws: IndexIn, obs: Out, act: Out, rew: Out, tasks: IndexOut,
        count: u32, o: u32, a: u32, r: u32, b: u32,
    );
    fn windows_count[32](draws: IndexOut);
}

impl Take {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let [o, a, r, b] = self.sizes.map(|n| n as u32);
        let each = self.sizes.iter().sum();
        let count = (x.len(0) / each) as u32;
        let draws = x.out_index(2);
        let (act, rew) = if self.sizes[2] > 0 { (x.out(3), x.out(4)) } else { (Out::default(), Out::default()) };
        let (samples, obs, tasks) = (x.input(0), x.out(0), x.out_index(1));
        vec![
            windows_take(cover(each, 256), [], samples, IndexIn(draws.0), obs, act, rew, tasks, count, o, a, r, b),
            windows_count([1, 1, 1], [], draws),
        ]
    }
}
