"""The errors a user may meet: one sentence that says what was expected, what came, what to do.

The command line prints ``loptrl: <sentence>`` and leaves with ``error.exit_code``.
"""

from __future__ import annotations

import signal

__all__ = [
    "DamagedRun",
    "LoptrlError",
    "MissingRun",
    "NotebookError",
    "RunLocked",
    "Stopped",
    "StoreError",
    "WeightsError",
]


class LoptrlError(ValueError):
    """Base of every error that a user can cause or cure."""

    exit_code: int = 2


class StoreError(LoptrlError):
    """The store of runs cannot be read or written (permissions, full disk, wrong content)."""


class DamagedRun(StoreError):
    """A stored run fails its checksum or its schema; the sentence names the file."""


class MissingRun(StoreError):
    """A run that is not stored was asked for; the sentence has the command that makes it."""


class RunLocked(StoreError):
    """Another process is computing this run at the moment."""


class NotebookError(LoptrlError):
    """A notebook could not be executed with the parameters it was given."""


class WeightsError(LoptrlError):
    """Trained weights are missing, damaged, or not what they should be."""


class Stopped(LoptrlError):
    """Work was stopped in good order by a signal or a time limit, and can go on from where it was.

    Args:
        sentence: what was stopped and how to go on.
        signum: the signal that stopped it, or None for a time limit.
    """

    def __init__(self, sentence: str, signum: int | None = None) -> None:
        super().__init__(sentence, signum)
        self.sentence = sentence
        self.signum = signum
        # The shell's convention for signals; 124 is what timeout(1) returns.
        self.exit_code = 124 if signum is None else 128 + signum

    def __str__(self) -> str:
        return self.sentence

    @property
    def reason(self) -> str:
        """``"time limit"`` or the signal's name, such as ``"SIGTERM"``."""
        return "time limit" if self.signum is None else signal.Signals(self.signum).name
