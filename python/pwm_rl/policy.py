"""Stored policies."""

from __future__ import annotations

import json
import os
from functools import cached_property

import numpy as np

from . import _core, errors


class Policy:
    """A stored policy: `policy(obs)` gives the mean actions, each in -1..1.

    >>> policy = pwm_rl.Policy.load("runs/ant")            # doctest: +SKIP
    >>> policy(envs.reset(seed=0)[0]).shape                # doctest: +SKIP
    (4, 8)
    """

    def __init__(self, native):
        self._native = native

    @classmethod
    def load(cls, path: str | os.PathLike, task: str | None = None, threads: int = 1) -> Policy:
        """The policy of a checkpoint, or of a run's folder (then its best one); of a policy for many tasks that in
        `task`."""
        return cls(_core.Policy(os.fspath(path), task, threads))

    def __call__(self, obs) -> np.ndarray:
        """Actions `[..., act_dim]` on observations `[..., obs_dim]`."""
        obs = np.asarray(obs, dtype=np.float32)
        if obs.ndim == 0:
            raise errors.SettingError("an observation is an array of numbers")
        rows = np.ascontiguousarray(obs.reshape(-1, obs.shape[-1]))
        return self._native.act(rows).reshape(*obs.shape[:-1], self.act_dim)

    def predict(self, observation, state=None, episode_start=None, deterministic: bool = True):
        """As a policy of Stable-Baselines3, for its `evaluate_policy`."""
        return self(observation), state

    @property
    def path(self) -> str:
        return os.fspath(self._native.path)

    @property
    def task(self) -> str:
        """The task that it acts in."""
        return self._native.task

    @property
    def tasks(self) -> list[str]:
        """All tasks that it is for."""
        return self._native.tasks

    @property
    def epoch(self) -> int:
        return self._native.epoch

    @property
    def obs_dim(self) -> int:
        return self._native.obs_dim

    @property
    def act_dim(self) -> int:
        return self._native.act_dim

    @cached_property
    def config(self) -> dict:
        """Every setting of the run that it is of."""
        return json.loads(self._native.config())

    def __repr__(self) -> str:
        return f"Policy({self.path!r}, task={self.task!r}, epoch={self.epoch})"
