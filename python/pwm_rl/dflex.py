"""Environments in the shape of dFlex's classes, so that published SHAC and PWM code runs on them unchanged.

    import pwm_rl.dflex
    pwm_rl.dflex.install()      # `import envs`, `import dflex` now find these
    from algorithms.shac import SHAC

Physics, observations and rewards are those of the environments that published PWM was trained in; the reward of a step
is that of the observation before it. Tensors may lie on any device; the simulator computes on the processor.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import torch

from .torch import DiffEnv


class DFlexEnv:
    """dFlex's interface around `pwm_rl.torch.DiffEnv`. `env` is the task's name; the other parameters are dFlex's."""

    env = "ant"

    def __init__(
        self,
        render: bool = False,
        device: torch.device | str = "cpu",
        num_envs: int = 64,
        seed: int = 0,
        episode_length: int = 1000,
        no_grad: bool = True,
        stochastic_init: bool = False,
        MM_caching_frequency: int = 1,
        early_termination: bool = True,
        threads: int = 1,
        **settings,
    ):
        given = {
            "episode_length": episode_length,
            "stochastic_init": stochastic_init,
            "mm_caching_frequency": MM_caching_frequency,
            "early_termination": early_termination,
            **settings,
        }
        self.inner = DiffEnv(self.env, num_envs, seed=seed, device=device, threads=threads, **given)
        self.seed, self.no_grad, self.device, self.visualize = seed, no_grad, device, render
        self.num_environments, self.num_agents = num_envs, 1
        self.num_observations, self.num_actions = self.inner.obs_dim, self.inner.act_dim
        self.num_joint_q, self.num_joint_qd = self.inner.num_q, self.inner.num_qd
        self.episode_length = episode_length
        self.early_termination, self.stochastic_init = early_termination, stochastic_init
        self.extras: dict = {}
        self.inner.reset(seed=seed)
        self._flags()

    def _flags(self, terminated=None, truncated=None) -> None:
        zeros = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self.termination_buf = zeros if terminated is None else terminated.long()
        self.reset_buf = zeros if terminated is None else (terminated | truncated).long()

    @property
    def num_envs(self) -> int:
        return self.num_environments

    @property
    def num_obs(self) -> int:
        return self.num_observations

    @property
    def num_acts(self) -> int:
        return self.num_actions

    @property
    def observation_space(self):
        import gymnasium

        return gymnasium.spaces.Box(-np.inf, np.inf, (self.num_observations,), np.float32)

    @property
    def action_space(self):
        import gymnasium

        return gymnasium.spaces.Box(-1.0, 1.0, (self.num_actions,), np.float32)

    obs_space, act_space = observation_space, action_space

    @property
    def obs_buf(self) -> torch.Tensor:
        return self.inner.obs

    @property
    def progress_buf(self) -> torch.Tensor:
        return torch.from_numpy(self.inner.progress.copy()).to(self.device)

    def get_number_of_agents(self) -> int:
        return self.num_agents

    def step(self, actions: torch.Tensor):
        """Observations, rewards, which episodes ended, and `obs_before_reset` and `episode_end`."""
        if self.no_grad:
            with torch.no_grad():
                return self._step(actions)
        return self._step(actions)

    def _step(self, actions):
        obs, reward, terminated, truncated, info = self.inner.step(actions)
        self.rew_buf = reward
        self._flags(terminated, truncated)
        if not self.no_grad:
            self.extras = {
                "obs_before_reset": info["obs_before_reset"],
                "episode_end": self.termination_buf,
                "termination": terminated,
                "truncation": truncated,
            }
        return obs, reward, self.reset_buf, self.extras

    def reset(self, env_ids=None, force_reset: bool = True) -> torch.Tensor:
        """Begins episodes in all environments, or in those of `env_ids`."""
        if env_ids is None and not force_reset:
            return self.inner.obs
        mask = None
        if env_ids is not None:
            mask = torch.zeros(self.num_envs, dtype=torch.bool)
            mask[torch.as_tensor(env_ids).cpu()] = True
        return self.inner.reset(mask=mask)

    def get_state(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner.q.clone().flatten(), self.inner.qd.clone().flatten()

    def get_checkpoint(self) -> dict:
        """What `clear_grad` goes on from."""
        inner = self.inner
        return {
            "joint_q": inner.q.detach().clone(),
            "joint_qd": inner.qd.detach().clone(),
            "obs": inner.obs.detach().clone(),
            "progress_buf": self.progress_buf,
        }

    def clear_grad(self, checkpoint: dict | None = None) -> None:
        """Cuts the gradient between what was and what comes; from a checkpoint, goes back to it."""
        inner = self.inner
        if checkpoint is not None:
            names = ("joint_q", "joint_qd", "obs")
            inner.q, inner.qd, inner.obs = (checkpoint[name].detach().clone() for name in names)
            inner.progress[:] = checkpoint["progress_buf"].cpu().numpy()
        inner.detach()

    def initialize_trajectory(self) -> torch.Tensor:
        """Cuts the gradient; the observations from which a trajectory begins."""
        return self.inner.detach()

    def render(self, mode: str = "human"):
        """A picture of the first environment, `[height, width, 3]`, where `render=True`."""
        if not self.visualize:
            return None
        inner = self.inner
        rows = [x.detach().cpu().numpy() for x in (inner.q, inner.qd, inner.obs)]
        inner.batch.set_state(*rows, inner.progress)
        return inner.batch.picture(0)


class AntEnv(DFlexEnv):
    env = "ant"


class HopperEnv(DFlexEnv):
    env = "hopper"


class CheetahEnv(DFlexEnv):
    env = "cheetah"


class CartPoleSwingUpEnv(DFlexEnv):
    env = "cartpole"


class HumanoidEnv(DFlexEnv):
    env = "humanoid"


class AnymalEnv(DFlexEnv):
    env = "anymal"


ENVIRONMENTS = (AntEnv, HopperEnv, CheetahEnv, CartPoleSwingUpEnv, HumanoidEnv, AnymalEnv)


def install() -> None:
    """Puts these classes where published code imports dFlex's: the modules `envs` and `dflex.envs`; `dflex` itself is
    empty. Modules of these names that were imported already stay."""
    for name in ("envs", "dflex", "dflex.envs"):
        module = sys.modules.setdefault(name, types.ModuleType(name))
        if name.endswith("envs"):
            for environment in ENVIRONMENTS:
                module.__dict__.setdefault(environment.__name__, environment)
    sys.modules["dflex"].__dict__.setdefault("envs", sys.modules["dflex.envs"])
