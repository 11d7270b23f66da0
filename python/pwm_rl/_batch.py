"""What all forms of environments share: a batch of the native half, and the arrays that it writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import _core, errors
from ._settings import settings as as_settings

NEXT_STEP, SAME_STEP, DISABLED = range(3)


def core(env: str, num_envs: int, threads: int, settings: dict, double: bool = False):
    """A native batch of `num_envs` environments of the task `env`, a name or the path of a file."""
    made = _core.Batch64 if double else _core.Batch32
    return made(env, as_settings([], settings), num_envs, threads)


def seeds_of(seed: int | Sequence[int] | None, count: int, is_seeded: bool) -> list[int]:
    """One seed for each environment; none to go on with the next episodes."""
    if seed is None:
        if is_seeded:
            return []
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(count)]
    seeds = [int(s) for s in seed]
    if len(seeds) != count:
        raise errors.SettingError(f"{len(seeds)} seeds for {count} environments")
    return seeds


class Arrays:
    """Where a step of a batch is written to."""

    def __init__(self, batch, dtype=np.float32):
        n, (obs, *_) = batch.count, batch.sizes
        self.obs = np.zeros((n, obs), dtype)
        self.final_obs = np.zeros((n, obs), dtype)
        self.reward = np.zeros(n, np.float64)
        self.terminated = np.zeros(n, np.bool_)
        self.truncated = np.zeros(n, np.bool_)
        self.left_physics = np.zeros(n, np.bool_)
        self.all = np.ones(n, np.bool_)

    def step(self, batch, actions: np.ndarray, autoreset: int) -> None:
        batch.step(
            actions,
            self.obs,
            self.reward,
            self.terminated,
            self.truncated,
            self.left_physics,
            self.final_obs,
            autoreset,
        )


def actions_of(actions, shape: tuple[int, int]) -> np.ndarray:
    """Actions as rows of single precision."""
    rows = np.ascontiguousarray(actions, dtype=np.float32)
    if rows.shape != shape:
        raise errors.SettingError(f"actions of shape {rows.shape}; {shape} is expected")
    return rows
