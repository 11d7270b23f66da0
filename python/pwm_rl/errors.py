"""Exceptions of this package. Each is also the built-in exception that fits, so that either can be caught."""

from __future__ import annotations


class PwmError(Exception):
    """Anything that this package raises of its own."""


class SettingError(PwmError, ValueError):
    """A setting or an argument is wrong; nothing was computed. The text says what would be right."""


class FileError(PwmError, OSError):
    """A file cannot be read or written: no room, no permission, not there."""


class DamagedError(PwmError, ValueError):
    """A file is damaged, cut short, or of another version or configuration."""


class LearningError(PwmError, ArithmeticError):
    """The learning died: it collapsed, its reward signal is dead, or numbers were not finite."""


class BudgetError(PwmError, MemoryError):
    """There is not enough memory for what was asked."""


class InternalError(PwmError, RuntimeError):
    """A broken invariant: a defect of this package, please report it."""


_OF_STATUS = {2: SettingError, 3: FileError, 4: DamagedError, 5: LearningError, 6: BudgetError, 255: InternalError}


def of_status(status: int) -> type[PwmError]:
    """The class for an exit status of the command line's programs."""
    return _OF_STATUS.get(status, PwmError)
