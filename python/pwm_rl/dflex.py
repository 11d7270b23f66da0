"""Environments in the shape of dFlex's classes, so that published SHAC and PWM code runs on them unchanged.

    import pwm_rl.dflex
    pwm_rl.dflex.install()      # `import envs`, `import dflex` now find these
    from algorithms.shac import SHAC

Both generations of the classes are served: that of DiffRL, and that of published PWM, whose `reset(grads=True)` begins a
trajectory and whose `extras` hold `termination`, `truncation` and `primal`. Keywords are those of the published classes
and configuration files; what is set that the tasks here do not have is refused. Physics, observations and rewards are
those that published PWM was trained in: the reward of a step is that of the observation before it. Tensors may lie on any
device; the simulator computes on the processor.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import torch

from . import errors
from .torch import DiffEnv


class DFlexEnv:
    """dFlex's interface around `pwm_rl.torch.DiffEnv`."""

    #: The task here, and the entry of its observation that is its progress; none for the Cartpole.
    task = "ant"
    progress: int | None = 5
    #: Constants of the published class that the task holds fixed.
    fixed: dict[str, float] = {}

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
        nan_state_fix: bool = False,
        jacobian_norm: float | None = None,
        jacobian: bool = False,
        logdir: str | None = None,
        threads: int = 1,
        **published,
    ):
        if jacobian:
            raise errors.SettingError("jacobian=True: Jacobians of steps are not recorded here")
        for name, value in self.fixed.items():
            given = published.pop(name, value)
            if abs(given - value) > 1e-3:
                raise errors.SettingError(f"{name}={given}: {self.task} has {value} there, as published")
        given = {
            "episode_length": episode_length,
            "stochastic_init": stochastic_init,
            "mm_caching_frequency": MM_caching_frequency,
            "early_termination": early_termination,
            **published,
        }
        bound = jacobian_norm if jacobian_norm else np.inf if nan_state_fix else None
        options = {"seed": seed, "device": device, "threads": threads, "gradient_bound": bound}
        self.inner = DiffEnv(self.task, num_envs, **options, **given)
        self.seed, self.no_grad, self.device, self.visualize = seed, no_grad, device, render
        self.num_environments, self.num_agents = num_envs, 1
        self.num_observations, self.num_actions = self.inner.obs_dim, self.inner.act_dim
        self.num_joint_q, self.num_joint_qd = self.inner.num_q, self.inner.num_qd
        self.episode_length = self.max_episode_steps = episode_length
        self.early_termination, self.stochastic_init = early_termination, stochastic_init
        self.logdir, self.extras = logdir, {}
        self.inner.reset(seed=seed)
        self.termination_buf = self.reset_buf = torch.zeros(num_envs, dtype=torch.long, device=device)

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
        return self.inner.obs.clone()

    @property
    def progress_buf(self) -> torch.Tensor:
        return torch.from_numpy(self.inner.progress.copy()).to(self.device)

    def get_number_of_agents(self) -> int:
        return self.num_agents

    def step(self, actions: torch.Tensor, play: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict]:
        """Observations, rewards, which episodes ended, and `extras`: `obs_before_reset`, `termination`, `truncation`,
        `primal` (the progress that the reward counts), and DiffRL's `episode_end`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.no_grad):
            primal = self._primal(self.inner.obs.detach())
            obs, reward, terminated, truncated, info = self.inner.step(actions)
        done = terminated | truncated
        self.rew_buf, self.termination_buf, self.reset_buf = reward, terminated.long(), done.long()
        self.extras = {
            "obs_before_reset": info["obs_before_reset"],
            "termination": terminated,
            "truncation": truncated,
            "primal": primal,
            "episode_end": self.termination_buf,
        }
        return obs, reward, done, self.extras

    def _primal(self, obs: torch.Tensor) -> torch.Tensor:
        if self.progress is not None:
            return obs[:, self.progress].clone()
        return -(torch.atan2(obs[:, 2], obs[:, 3]) ** 2)

    def reset(self, env_ids=None, force_reset: bool = True, grads: bool = False) -> torch.Tensor:
        """Begins episodes in all environments, or in those of `env_ids`; with `grads` none, but a trajectory."""
        if grads:
            return self.initialize_trajectory()
        if env_ids is None:
            return self.inner.reset() if force_reset else self.obs_buf
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

    def render(self, mode: str = "human") -> np.ndarray | None:
        """A picture of the first environment, `[height, width, 3]`, where `render=True`."""
        if not self.visualize:
            return None
        inner = self.inner
        rows = [x.detach().cpu().numpy() for x in (inner.q, inner.qd, inner.obs)]
        inner.batch.set_state(*rows, inner.progress)
        return inner.batch.picture(0)


class AntEnv(DFlexEnv):
    task = "ant"


class HopperEnv(DFlexEnv):
    task = "hopper"
    fixed = {
        "termination_angle": np.pi / 6,
        "termination_height_tolerance": 0.15,
        "termination_angle_tolerance": 0.05,
        "height_rew_scale": 1.0,
        "angle_rew_scale": 1.0,
    }


class CheetahEnv(DFlexEnv):
    task, progress = "cheetah", 8


class CartPoleSwingUpEnv(DFlexEnv):
    task, progress = "cartpole", None


class HumanoidEnv(DFlexEnv):
    task = "humanoid"
    fixed = {"termination_tolerance": 0.1, "height_rew_scale": 10.0, "heading_rew_scale": 1.0}


class AnymalEnv(DFlexEnv):
    task = "anymal"
    fixed = {"heading_rew_scale": 1.0, "heigh_rew_scale": 1.0}


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
