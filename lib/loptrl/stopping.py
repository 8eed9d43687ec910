"""Stopping in good order: signals, deadlines, and durations as people write them."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from loptrl.errors import LoptrlError

__all__ = ["StopSignals", "parse_duration"]

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([hms]?)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}


def parse_duration(value: str | float | None) -> float | None:
    """Seconds from ``90``, ``"90s"``, ``"30m"``, ``"2h"`` or ``"1h30m"``; None stays None.

    Raises:
        LoptrlError: not a duration, or not above zero.
    """
    if value is None:
        return None
    seconds = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip().lower()
        parts = _PART.findall(text)
        units = [unit or "s" for _, unit in parts]
        in_order = sorted(set(units), key="hms".index) == units
        if parts and in_order and _PART.sub("", text).strip() == "":
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not (math.isfinite(seconds) and seconds > 0):
        raise LoptrlError(
            f"Expected a time limit such as 90s, 30m, 2h or 1h30m, got {value!r}; write it so."
        )
    return seconds


class StopSignals:
    """While it is entered, SIGINT and SIGTERM are noted instead of acted on.

    A second signal acts as if nobody had listened, so that an impatient person is not held up.
    Outside the main thread, where Python hears no signals, it does nothing.

    Args:
        notice: told in one sentence when the first signal comes.
    """

    def __init__(self, notice: Callable[[str], None] = lambda text: None) -> None:
        self.signum: int | None = None
        self._notice = notice
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up for a signal."""
        end = time.monotonic() + seconds
        while self.signum is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signum = number
        self._restore()
        name = signal.Signals(number).name
        # The signal may have come in the middle of another line, which must not be re-entered.
        with contextlib.suppress(RuntimeError):
            self._notice(f"{name}: finishing this slice, then saving (once more to stop at once).")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None means that the old handler was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}
