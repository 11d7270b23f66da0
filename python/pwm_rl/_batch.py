"""What all forms of environments share: a batch of the native half, and the arrays that it writes."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from . import _core, errors
from ._settings import settings as as_settings

_SEEDS = 1 << 64


def whole(name: str, value: object, least: int = 0, most: int = _SEEDS - 1) -> int:
    """A whole number in a range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise errors.SettingError(f"{name} is {value!r}; it is a whole number") from None
    if not least <= number <= most:
        raise errors.SettingError(f"{name} is {number}; it is {least} to {most}")
    return number


def core(env: str, num_envs: int, threads: int, settings: dict, double: bool = False):
    """A native batch of `num_envs` environments of the task `env`, a name or the path of a file."""
    made = _core.Batch64 if double else _core.Batch32
    num_envs = whole("num_envs", num_envs, 1, _core.MOST_ENVS)
    return made(str(env), as_settings([], settings), num_envs, whole("threads", threads, 1, _core.MOST_THREADS))


def seeds_of(seed: int | Sequence[int | None] | None, count: int, has_begun: bool) -> list[int]:
    """One seed for each environment; none to go on with the next episodes."""
    if seed is None and has_begun:
        return []

    def fresh():
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])

    if seed is None or isinstance(seed, (int, np.integer)):
        first = fresh() if seed is None else whole("seed", seed)
        return [(first + i) % _SEEDS for i in range(count)]
    if len(seed) != count:
        raise errors.SettingError(f"{len(seed)} seeds for {count} environments")
    return [fresh() if s is None else whole("seed", s) for s in seed]


def mask_of(mask, count: int) -> np.ndarray:
    """Which environments are meant."""
    mask = np.ascontiguousarray(mask, dtype=np.bool_)
    if mask.shape != (count,):
        raise errors.SettingError(f"a mask of shape {mask.shape}; ({count},) is expected")
    return mask


def check_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise errors.SettingError(f"render_mode is {render_mode!r}; it is None or 'rgb_array'")
    return render_mode


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
        self.every = np.ones(n, np.bool_)

    def step(self, batch, actions: np.ndarray, autoreset: str) -> None:
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


def actions_of(actions, shape: tuple[int, ...]) -> np.ndarray:
    """Actions as rows of single precision."""
    rows = np.ascontiguousarray(actions, dtype=np.float32)
    if rows.shape != shape:
        raise errors.SettingError(f"actions of shape {rows.shape}; {shape} is expected")
    return rows
