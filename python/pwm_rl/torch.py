"""A step of the simulator that PyTorch differentiates through."""

from __future__ import annotations

import numpy as np
import torch

from . import _batch, errors

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def _rows(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().contiguous().numpy()


class _Transition(torch.autograd.Function):
    @staticmethod
    def forward(ctx, batch, bound, q, qd, obs, action):
        results = batch.transition(*(_rows(x) for x in (q, qd, obs, action)))
        # The batch and not the environments, whose state refers to this.
        ctx.batch, ctx.bound = batch, bound
        ctx.save_for_backward(q, qd, obs, action)
        ctx.lost = ~np.logical_and.reduce([np.isfinite(x).reshape(len(x), -1).all(1) for x in results])
        return tuple(torch.from_numpy(x).to(q.device) for x in results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *cotangents):
        given = ctx.batch.transition_adjoint(*(_rows(x) for x in (*ctx.saved_tensors, *cotangents)))
        if ctx.lost.any():
            # No gradient flows through a state that left physics.
            for x in given:
                x[ctx.lost] = 0.0
        if ctx.bound is not None:
            _bound(given, ctx.bound)
        return None, None, *(torch.from_numpy(x).to(cotangents[0].device) for x in given)


def _bound(rows: tuple[np.ndarray, ...], norm: float) -> None:
    """Scales the gradient of each environment down to `norm`; one that is not finite becomes zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.sqrt(sum((x.astype(np.float64) ** 2).sum(1) for x in rows))
        scale = np.where(size > norm, norm / size, 1.0)
    bad = ~np.isfinite(size)
    for x in rows:
        x *= np.where(bad, 0.0, scale)[:, None].astype(x.dtype)
        x[bad] = 0.0


class DiffEnv:
    """Environments of one task whose steps PyTorch differentiates through, by the simulator's hand-written adjoint.

    Parameters
    ----------
    env: name of a task under dFlex's law, or the path of a task's file; one under MuJoCo's law has no gradient and is
        refused.
    num_envs: how many side by side.
    seed: as that of `pwm_rl.vector.VectorEnv`.
    dtype: `torch.float32`, or `torch.float64`, several times slower, for `torch.autograd.gradcheck`.
    device: where tensors come out; the simulator itself computes on the processor.
    threads: threads that share a step. Results do not depend on it.
    gradient_bound: norm that the gradient of one environment's step is scaled down to, as SHAC trains here; `None`
        leaves it as it is.
    settings: any setting of the environment, as in `episode_length=500`.

    `step` keeps the state and begins new episodes by itself, where the gradient is cut; `transition` is the step as a
    function. The reward is that of the observation before the step.

    >>> env = DiffEnv("hopper", num_envs=2, seed=0)
    >>> obs = env.reset()
    >>> action = torch.zeros(2, env.act_dim, requires_grad=True)
    >>> obs, reward, terminated, truncated, info = env.step(action)
    >>> obs.sum().backward()
    >>> action.grad.shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        env: str = "ant",
        num_envs: int = 1,
        *,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        threads: int = 1,
        gradient_bound: float | None = None,
        **settings,
    ):
        if dtype not in _NUMPY:
            raise errors.SettingError(f"dtype is {dtype}; it is torch.float32 or torch.float64")
        self.batch = _batch.core(env, num_envs, threads, settings, double=dtype == torch.float64)
        self.batch.check_differentiable()
        self.num_envs, self.dtype, self.device = num_envs, dtype, torch.device(device)
        self.obs_dim, self.act_dim, self.num_q, self.num_qd = self.batch.sizes
        self.episode_length = self.batch.episode_length
        self.gradient_bound = gradient_bound
        self.progress = np.zeros(num_envs, np.int64)
        self._seed, self._obs = seed, np.zeros((num_envs, self.obs_dim), _NUMPY[dtype])
        #: `[N, num_q]`, `[N, num_qd]`, `[N, obs_dim]`: coordinates, velocities and observations now.
        self.q = self.qd = self.obs = None

    def _begin(self, mask: np.ndarray, seeds: list[int]) -> list[torch.Tensor]:
        self.batch.reset(seeds, mask, self._obs)
        self.progress[mask] = 0
        return [torch.from_numpy(x).to(self.device) for x in self.batch.state()[:3]]

    def reset(self, *, seed: int | None = None, mask=None) -> torch.Tensor:
        """Begins episodes in all environments, or in those of `mask` (the first time in all); the observations, whose gradient is cut
        there."""
        first = self._seed if seed is None and not self.batch.has_begun else seed
        seeds = _batch.seeds_of(first, self.num_envs, self.batch.has_begun)
        if mask is None or self.q is None:
            self.q, self.qd, self.obs = self._begin(np.ones(self.num_envs, np.bool_), seeds)
            return self.obs.clone()
        mask = _batch.mask_of(torch.as_tensor(mask).cpu().numpy(), self.num_envs)
        self._put(mask, self._begin(mask, seeds))
        return self.obs.clone()

    def _put(self, mask: np.ndarray, fresh: list[torch.Tensor]) -> None:
        chosen = torch.from_numpy(mask).to(self.device)[:, None]
        now = (self.q, self.qd, self.obs)
        self.q, self.qd, self.obs = (torch.where(chosen, new, old) for new, old in zip(fresh, now))

    def transition(self, q, qd, obs, action) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The step as a function: coordinates, velocities and observations after it, and rewards `[N]`."""
        return _Transition.apply(self.batch, self.gradient_bound, q, qd, obs, action)

    def step(
        self, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """One step: observations, rewards, whether episodes were terminated, whether truncated, and
        `{"obs_before_reset": ...}`, the observations before new episodes began."""
        if self.q is None:
            raise errors.SettingError("reset() comes before the first step()")
        if action.numel() != self.num_envs * self.act_dim:
            wanted = (self.num_envs, self.act_dim)
            raise errors.SettingError(f"actions of shape {tuple(action.shape)}; {wanted} is expected")
        action = action.to(self.dtype).reshape(self.num_envs, self.act_dim)
        self.q, self.qd, self.obs, reward = self.transition(self.q, self.qd, self.obs, action)
        self.progress += 1
        terminated, truncated, lost = self.batch.judge(_rows(self.obs), _rows(reward), self.progress)
        if lost.any():
            gone = torch.from_numpy(lost).to(self.device)
            reward = torch.where(gone, torch.zeros_like(reward), reward)
            self.obs = torch.where(gone[:, None], torch.zeros_like(self.obs), self.obs)
        info = {"obs_before_reset": self.obs.clone()}
        over = terminated | truncated
        if over.any():
            self._put(over, self._begin(over, []))
        ends = (torch.from_numpy(x).to(self.device) for x in (terminated, truncated))
        return self.obs.clone(), reward, *ends, info

    def detach(self) -> torch.Tensor:
        """Cuts the gradient between what was and what comes; the observations."""
        self.q, self.qd, self.obs = (x.detach() for x in (self.q, self.qd, self.obs))
        return self.obs.clone()
