"""Environments side by side, for `gymnasium`."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from . import _batch


class VectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` environments of one task.

    Parameters
    ----------
    env: name of a shipped task (`pwm_rl.env_names()`), or the path of a task's file.
    num_envs: how many.
    seed: of the first `reset()` without one; by default the system's randomness.
    autoreset_mode: when an episode that ended makes room for the next, as in gymnasium 1.x: with the next step (then
        that step's action is not used and its reward is 0), in the same step (then the last observations of the ended
        episodes are `info["final_obs"]`), or not at all: call `reset(options={"reset_mask": mask})`.
    threads: threads that share a step. Results do not depend on it.
    copy: whether observations, rewards and flags are the caller's to keep. Otherwise they are views of arrays that the
        next step overwrites.
    render_mode: `None` or `"rgb_array"`.
    settings: any setting of the environment (the section "Environment" of docs/CONFIG.md), as in
        `episode_length=500`.

    Observations are single precision, `[num_envs, obs_dim]`; actions, cut to -1..1, `[num_envs, act_dim]`; rewards
    double precision, `[num_envs]`. Environment `i` of a seed `s` starts as a single environment of the seed `s + i`
    does. A state that left physics ends its episode (`terminated`); its observation and reward are zeros, and
    `left_physics` marks it, in `info` or, where the next episode begins in the same step, in `info["final_info"]`.
    Without autoreset an environment whose episode is over must be reset before it steps again.
    """

    def __init__(
        self,
        env: str = "ant",
        num_envs: int = 1,
        *,
        seed: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        copy: bool = True,
        render_mode: str | None = None,
        **settings,
    ):
        self.batch = _batch.core(env, num_envs, threads, settings)
        obs_dim, act_dim, *_ = self.batch.sizes
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (act_dim,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": max(1, round(1.0 / self.batch.dt)),
        }
        self.render_mode = _batch.check_render_mode(render_mode)
        self.closed = False
        self._seed, self._copy = seed, copy
        self._out = _batch.Arrays(self.batch)

    def _given(self, array: np.ndarray) -> np.ndarray:
        return array.copy() if self._copy else array

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begins episodes in all environments, or in those of `options["reset_mask"]` (the first time in all)."""
        first = self._seed if seed is None and not self.batch.has_begun else seed
        if isinstance(first, (int, np.integer)):
            super().reset(seed=_batch.whole("seed", first))
        mask = (options or {}).get("reset_mask")
        mask = self._out.every if mask is None else _batch.mask_of(mask, self.num_envs)
        seeds = _batch.seeds_of(first, self.num_envs, self.batch.has_begun)
        self.batch.reset(seeds, mask, self._out.obs)
        return self._given(self._out.obs), {}

    def step(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step of every environment."""
        actions = _batch.actions_of(actions, self.action_space.shape)
        out = self._out
        out.step(self.batch, actions, self.autoreset_mode.value)
        info: dict = {}
        if out.terminated.any() or out.truncated.any():
            lost = {}
            if out.left_physics.any():
                lost = {"left_physics": out.left_physics.copy(), "_left_physics": out.left_physics.copy()}
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                ended = out.terminated | out.truncated
                final = np.empty(self.num_envs, dtype=object)
                for row in np.flatnonzero(ended):
                    final[row] = out.final_obs[row].copy()
                info = {"final_obs": final, "_final_obs": ended, "final_info": lost, "_final_info": ended.copy()}
            else:
                info = lost
        given = self._given
        return given(out.obs), given(out.reward), given(out.terminated), given(out.truncated), info

    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates, velocities, observations and steps of the present episodes: copies."""
        return self.batch.state()

    def set_state(self, q, qd, obs, progress) -> None:
        """Puts the environments into a state that `state` gave."""
        self.batch.set_state(
            *(np.ascontiguousarray(x, dtype=np.float32) for x in (q, qd, obs)),
            np.ascontiguousarray(progress, dtype=np.int64),
        )

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every environment, `[height, width, 3]` each."""
        if self.render_mode is None:
            return None
        return tuple(self.batch.picture(row) for row in range(self.num_envs))
