"""Batched, differentiable robots and policy learning in learned world models.

>>> import pwm_rl
>>> envs = pwm_rl.make_vec("ant", num_envs=4)
>>> obs, info = envs.reset(seed=0)
>>> obs.shape
(4, 37)

`make_vec` makes environments for gymnasium, `pwm_rl.torch.DiffEnv` a step that PyTorch differentiates through,
`train`, `plan`, `Run` and `Policy` are training, memory plans, run folders and stored policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors
from ._core import __version__, env_names
from .errors import PwmError
from .policy import Policy
from .runs import Run, config, plan, train

if TYPE_CHECKING:
    from .vector import VectorEnv

__all__ = ["Policy", "PwmError", "Run", "__version__", "config", "env_names", "errors", "make_vec", "plan", "train"]


def make_vec(env: str = "ant", num_envs: int = 1, **options) -> VectorEnv:
    """Environments of one task side by side, as a `gymnasium.vector.VectorEnv`: see `pwm_rl.vector.VectorEnv`."""
    from .vector import VectorEnv

    return VectorEnv(env, num_envs, **options)


def _register() -> None:
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        return
    from .single import register

    register()


_register()
