"""Settings of a configuration as keyword arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def text(value: object) -> str:
    """A value as the command line has it."""
    if value is True or value is False:
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(text(v) for v in value) + "]"
    return str(value)


def settings(given: Iterable[str], named: Mapping[str, object]) -> list[str]:
    """`("alg=pwm_5M",), {"seed": 3}` as `["alg=pwm_5M", "seed=3"]`."""
    return [*given, *(f"{key}={text(value)}" for key, value in named.items())]
