"""Environments side by side, for Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from . import _batch


class SB3VecEnv(VecEnv):
    """`pwm_rl.vector.VectorEnv` in the form of Stable-Baselines3: an episode that ended makes room in the same step, its
    last observation is `info["terminal_observation"]`, and `info["episode"]` has its return and length."""

    def __init__(
        self,
        env: str = "ant",
        num_envs: int = 1,
        *,
        seed: int | None = None,
        threads: int = 1,
        render_mode: str | None = None,
        **settings,
    ):
        self.batch = _batch.core(env, num_envs, threads, settings)
        obs_dim, act_dim, *_ = self.batch.sizes
        self.render_mode = _batch.check_render_mode(render_mode)
        self._first_seed = seed
        super().__init__(
            num_envs,
            gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (act_dim,), np.float32),
        )
        self._out = _batch.Arrays(self.batch)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._actions = None

    def reset(self) -> np.ndarray:
        if any(s is not None for s in self._seeds):
            seeds = _batch.seeds_of(self._seeds, self.num_envs, False)
        else:
            first = None if self.batch.has_begun else self._first_seed
            seeds = _batch.seeds_of(first, self.num_envs, self.batch.has_begun)
        self.batch.reset(seeds, self._out.every, self._out.obs)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return self._out.obs.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = _batch.actions_of(actions, (self.num_envs, self.action_space.shape[0]))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
        out = self._out
        out.step(self.batch, self._actions, "SameStep")
        self._returns += out.reward
        self._lengths += 1
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        done = out.terminated | out.truncated
        for row in np.flatnonzero(done):
            infos[row] = {
                "terminal_observation": out.final_obs[row].copy(),
                "TimeLimit.truncated": bool(out.truncated[row] and not out.terminated[row]),
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row])},
            }
        self._returns[done] = 0.0
        self._lengths[done] = 0
        return out.obs.copy(), out.reward.astype(np.float32), done, infos

    def close(self) -> None:
        pass

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [self.batch.picture(row) for row in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices=None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices=None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args, indices=None, **method_kwargs) -> list[Any]:
        raise AttributeError(f"there are no single environments to call {method_name} of")

    def env_is_wrapped(self, wrapper_class, indices=None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]
