//! CUDA launches of returns: a thread for each environment.

use super::{ActorLoss, ActorLossGrad, Bootstrap, TdLambda};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "rl/returns.cu";
    fn actor_loss_each[64](
        reward: In, value: In, done: In, term: In, each: Out, gamma: f64, lambda: f64, reference: u32, h: u32, n: u32,
    );
    fn actor_loss_total[256](
        each: In, stats: Out, scale: Out, loss: Out, normalise: u32, decay: f32, h: u32, n: u32,
    );
    fn actor_loss_grad[64](
        c: In, scale: In, reward: In, done: In, term: In, out: Out, gamma: f64, lambda: f64, reference: u32,
        of_reward: u32, accumulate: u32, h: u32, n: u32,
    );
    fn td_lambda[64](
        r: In, v: In, d: In, term: In, out: Out, gamma: f32, lambda: f32, inv: f32, h: u32, n: u32,
    );
}

fn sizes(shape: &[usize]) -> (u32, u32) {
    (shape[0] as u32, shape[1] as u32)
}

impl ActorLoss {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (s, (h, n)) = (&self.spec, sizes(x.shape(0)));
        let reference = (s.bootstrap == Bootstrap::Reference).into();
        let (r, v, d, t) = (x.input(0), x.input(1), x.input(2), x.input(3));
        let (loss, each, scale, stats) = (x.out(0), x.out(1), x.out(2), x.out(3));
        vec![
            actor_loss_each(cover(n as usize, 64), [], r, v, d, t, each, s.gamma, s.lambda, reference, h, n),
            actor_loss_total([1, 1, 1], [], each.into(), stats, scale, loss, s.normalise.into(), s.decay as f32, h, n),
        ]
    }
}

impl ActorLossGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (s, (h, n)) = (&self.spec, sizes(x.shape(2)));
        let reference = (s.bootstrap == Bootstrap::Reference).into();
        let (c, scale, r, d, t) = (x.input(0), x.input(1), x.input(2), x.input(3), x.input(4));
        let (of_reward, accumulate, grid) = (self.of_reward.into(), self.accumulate.into(), cover(n as usize, 64));
        vec![actor_loss_grad(
            grid,
            [],
            c,
            scale,
            r,
            d,
            t,
            x.out(0),
            s.gamma,
            s.lambda,
            reference,
            of_reward,
            accumulate,
            h,
            n,
        )]
    }
}

impl TdLambda {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (h, n) = sizes(x.shape(0));
        let (r, v, d, t) = (x.input(0), x.input(1), x.input(2), x.input(3));
        let (gamma, lambda, inv) = (self.gamma as f32, self.lambda as f32, (1.0 / self.scale) as f32);
        vec![td_lambda(cover(n as usize, 64), [], r, v, d, t, x.out(0), gamma, lambda, inv, h, n)]
    }
}
