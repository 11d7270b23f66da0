"""Training, memory plans, and what a run leaves behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from . import _core, errors
from ._settings import settings as as_settings
from .policy import Policy


def config(*settings: str, **named) -> dict:
    """The configuration that settings give: every setting with its value.

    >>> pwm_rl.config("alg=pwm_5M", env="hopper")["env"]
    'hopper'
    """
    return json.loads(_core.config(as_settings(settings, named)))


def plan(
    *settings: str, mem: str | None = None, device_mem: str | None = None, epoch: bool = False, **named
) -> dict:
    """What a run would hold in memory, before anything is allocated: the object that `pwm plan --json` prints; with
    `epoch` what a GPU would launch in an epoch, `pwm plan --epoch --json`.

    >>> pwm_rl.plan("alg=pwm_48M_flow_v2", mem="128G")["fits"]
    True
    """
    return json.loads(_core.plan(as_settings(settings, named), mem, device_mem, epoch))


def train(
    *settings: str,
    resume: str | os.PathLike | None = None,
    mem: str | None = None,
    device_mem: str | None = None,
    ui: str | None = None,
    on_row: Callable[[dict], object] | None = None,
    **named,
) -> Run:
    """Trains, as `pwm-train` does, and returns the run.

    `on_row` is given every row of metrics as it is written, as a dictionary, while training goes on. An exception that it
    raises, and KeyboardInterrupt, stop the run after the present epoch, with everything saved: the same call continues
    it. If that saving fails, its error is the exception's cause. Python's lock is free in between. `ui` is None, "plain", "bar" or "full": how progress is shown on
    stderr.
    """
    given = as_settings(settings, named)
    hear = None if on_row is None else lambda row: on_row(json.loads(row))
    if resume is not None:
        return Run(resume, _core.train(given, os.fspath(resume), mem, device_mem, ui, hear))
    said = _core.train(given, None, mem, device_mem, ui, hear)
    return Run(_core.run_folder(given), said)


class Run:
    """The folder of a run."""

    def __init__(self, path: str | os.PathLike, said: str = ""):
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise errors.SettingError(f"{self.path}: holds no run (no config.yaml)")
        #: What the run said of itself, if it was trained by this process.
        self.said = said

    @cached_property
    def config(self) -> dict:
        """Every setting."""
        file = self.path / "config.yaml"
        return json.loads(_core.config_of_run(str(file), file.read_text()))

    @property
    def info(self) -> dict:
        """`run.json`: versions, device, seed, times, how it ended."""
        file = self.path / "run.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def rows(self) -> Iterator[dict]:
        """The rows of metrics, first to last. A last line that is still being written is left out."""
        path = self.path / "metrics.jsonl"
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line for line in file if line.endswith("\n")]
        except OSError as e:
            raise errors.FileError(f"{path}: {e.strerror}") from e
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as e:
                raise errors.DamagedError(f"{path}:{number}: not a row of metrics ({e})") from e

    def metrics(self, frame: str = "pandas"):
        """All rows of metrics as a frame of "pandas" or "polars"; what a row did not measure is missing."""
        return _frame(list(self.rows()), frame)

    def evaluations(self, frame: str = "pandas"):
        """The rows in which the policy was evaluated on the true environment."""
        return _frame([row for row in self.rows() if "eval/return_mean" in row], frame)

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the best and the latest among them, by name."""
        return sorted((self.path / "checkpoints").glob("*.safetensors"))

    def policy(self, checkpoint: str = "best", task: str | None = None) -> Policy:
        """The policy of one of the checkpoints."""
        return Policy.load(self.path / "checkpoints" / f"{checkpoint}.safetensors", task)

    def _repr_html_(self) -> str:
        curve = self.path / "curve.svg"
        return curve.read_text() if curve.is_file() else repr(self)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def _frame(rows: list[dict], frame: str):
    if frame == "pandas":
        import pandas

        return pandas.DataFrame(rows)
    if frame == "polars":
        import polars

        return polars.DataFrame(rows, infer_schema_length=None)
    raise errors.SettingError(f"frame is {frame!r}; it is 'pandas' or 'polars'")
