"""Single environments, for `gymnasium.make`."""

from __future__ import annotations

import gymnasium
import numpy as np

from . import _batch, _core


class Env(gymnasium.Env):
    """One environment of a task: `pwm_rl.vector.VectorEnv` has the parameters."""

    # The instance says how many frames a second its task has.
    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(self, env: str = "ant", *, seed: int | None = None, render_mode: str | None = None, **settings):
        self.batch = _batch.core(env, 1, 1, settings)
        obs_dim, act_dim, *_ = self.batch.sizes
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (act_dim,), np.float32)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": max(1, round(1.0 / self.batch.dt))}
        self.render_mode = _batch.check_render_mode(render_mode)
        self._seed = seed
        self._out = _batch.Arrays(self.batch)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begins an episode."""
        first = self._seed if seed is None and not self.batch.has_begun else seed
        super().reset(seed=first)
        self.batch.reset(_batch.seeds_of(first, 1, self.batch.has_begun), self._out.every, self._out.obs)
        return self._out.obs[0].copy(), {}

    def step(self, action) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One step."""
        out, (_, act_dim, *_) = self._out, self.batch.sizes
        out.step(self.batch, _batch.actions_of(action, (act_dim,))[None], "Disabled")
        info = {"left_physics": True} if out.left_physics[0] else {}
        ends = bool(out.terminated[0]), bool(out.truncated[0])
        return out.obs[0].copy(), float(out.reward[0]), *ends, info

    def render(self) -> np.ndarray | None:
        """A picture, `[height, width, 3]`."""
        return None if self.render_mode is None else self.batch.picture(0)


def gymnasium_id(env: str) -> str:
    """`walker-run` as `pwm/WalkerRun-v0`."""
    return "pwm/" + "".join(part.capitalize() for part in env.replace("_", "-").split("-")) + "-v0"


def _make_vec(env: str, num_envs: int = 1, **options):
    from .vector import VectorEnv

    return VectorEnv(env, num_envs, **options)


def register() -> None:
    """Makes all shipped tasks known to `gymnasium.make` and `gymnasium.make_vec`."""
    for env in _core.env_names():
        name = gymnasium_id(env)
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="pwm_rl.single:Env",
                vector_entry_point="pwm_rl.single:_make_vec",
                kwargs={"env": env},
            )
