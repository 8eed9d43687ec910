"""What a person sees while runs are computed: one bar, or one line a minute."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

from tqdm.std import tqdm

from loptrl.errors import LoptrlError

__all__ = ["Progress", "ProgressMode", "count", "duration"]

ProgressMode = bool | Literal["auto"]
LINE_EVERY_S = 60.0
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


class _Bar(tqdm):
    # Without tqdm's watching thread: a slice is short, and threads and forks do not mix.
    monitor_interval = 0


class Progress:
    """Progress on stderr.

    Args:
        mode: True for a bar; "auto" for a bar on a terminal or in a notebook and one plain line
            a minute elsewhere; False for nothing but notices.

    Raises:
        LoptrlError: another mode.
    """

    def __init__(self, mode: ProgressMode = "auto") -> None:
        if mode not in (True, False, "auto"):
            raise LoptrlError(
                f"Expected progress as true, false or 'auto', got {mode!r}; choose one of them."
            )
        self._bars = mode is True or (mode == "auto" and _is_live())
        self._lines = mode == "auto" and not self._bars
        self._bar: Any = None
        self._label = ""
        self._total = self._first = self._now = 0
        self._started = self._spoken = 0.0
        self._rated = False

    def start(self, label: str, position: int, runs: int, env_steps: int, total: int) -> None:
        """A run begins, or goes on from ``env_steps`` of ``total``."""
        self._label = f"run {position}/{runs} {label}"
        self._total, self._first, self._now = total, env_steps, env_steps
        self._started = self._spoken = time.monotonic()
        self._rated = False
        if self._bars:
            self._bar = _Bar(
                total=total,
                initial=env_steps,
                desc=self._label,
                unit=" steps",
                unit_scale=True,
                bar_format=_BAR,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def update(self, env_steps: int) -> None:
        """The run has come to ``env_steps``."""
        gained, self._now = env_steps - self._now, env_steps
        if not self._rated:
            # The first slice compiles: what it took says nothing about the rest.
            self._rated, self._first, self._started = True, env_steps, time.monotonic()
        if self._bar is not None:
            self._bar.update(gained)
        elif self._lines and time.monotonic() - self._spoken >= LINE_EVERY_S:
            self._spoken = time.monotonic()
            self._say(self._line())

    def notice(self, text: str) -> None:
        """Something a person should know, without disturbing the bar."""
        self._say(text)

    def finish(self) -> None:
        """The run has ended or was stopped."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self) -> str:
        line = (
            f"{self._label}: {count(self._now)} of {count(self._total)} env steps "
            f"({100 * self._now / max(self._total, 1):.0f} %)"
        )
        rate = (self._now - self._first) / max(time.monotonic() - self._started, 1e-9)
        if rate <= 0:
            return line
        return f"{line}, {count(rate)} steps/s, {duration((self._total - self._now) / rate)} left"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        print(f"loptrl: {text}", file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()


def count(value: float) -> str:
    """A count for people: 950, 28.1k, 20M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # A value that would be printed as 1000k is 1M.
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """A duration for people: 42s, 7m50s, 1h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _is_live() -> bool:
    if sys.stderr is None:
        return False
    # A notebook's stderr is no terminal, yet it redraws a line as one does.
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
