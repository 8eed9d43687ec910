"""What every statistic refuses, each with one sentence: expected, got, remedy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loptrl.errors import LoptrlError

__all__ = [
    "RESAMPLES",
    "Floats",
    "checked",
    "checked_steps",
    "fraction_of_run",
    "generator_checked",
    "level_checked",
    "resamples_checked",
]

Floats = NDArray[np.float64]

RESAMPLES = 5_000


def checked(values: ArrayLike, name: str, dims: tuple[int, ...]) -> Floats:
    """`values` as float64 with one of the `dims` allowed, no empty axis and no NaN or infinity.

    Raises:
      LoptrlError: on text, a wrong number of axes, an empty array, or numbers that are not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise LoptrlError(
            f"expected an array of numbers for {name}, got {type(values).__name__} that is not "
            "one; pass a rectangular array or list of numbers"
        ) from None
    if array.ndim not in dims or array.size == 0:
        wanted = " or ".join(f"{d} axes" if d != 1 else "1 axis" for d in dims)
        raise LoptrlError(
            f"expected {name} with {wanted} and at least one number, got shape {array.shape}; "
            "reshape or select before calling"
        )
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise LoptrlError(
            f"expected finite numbers in {name}, got {bad} of {array.size} that are NaN or "
            "infinite; fill a diverged run with stats.fill_diverged first"
        )
    return array


def checked_steps(env_steps: ArrayLike, rows: int) -> Floats:
    """`env_steps [rows]` as float64: finite, not negative, strictly increasing, ending above 0.

    Raises:
      LoptrlError: otherwise.
    """
    steps = checked(env_steps, "env_steps", (1,))
    if steps.size != rows:
        raise LoptrlError(
            f"expected one env_steps entry per row, got {steps.size} for {rows} rows; "
            "pass the run's own env_steps column"
        )
    if steps[0] < 0 or steps[-1] <= 0 or np.any(np.diff(steps) <= 0):
        raise LoptrlError(
            "expected env_steps that start at 0 or later and strictly increase, got "
            f"{_short(steps)}; sort the rows and drop repeated ones"
        )
    return steps


def _short(values: Floats) -> str:
    shown = ", ".join(f"{v:g}" for v in values[:4])
    return f"[{shown}, ...]" if values.size > 4 else f"[{shown}]"


def generator_checked(rng: np.random.Generator) -> np.random.Generator:
    """`rng` itself, or a LoptrlError when it is no numpy Generator."""
    if not isinstance(rng, np.random.Generator):
        raise LoptrlError(
            f"expected a numpy random Generator for rng, got {type(rng).__name__}; "
            "pass numpy.random.default_rng(seed)"
        )
    return rng


def fraction_of_run(value: float, name: str) -> float:
    """`value` when it lies in (0, 1], else a LoptrlError naming `name`."""
    if not (isinstance(value, (int, float)) and 0.0 < value <= 1.0):
        raise LoptrlError(f"expected {name} above 0 and at most 1, got {value!r}; 0.05 is 5 %")
    return float(value)


def level_checked(level: float) -> float:
    """`level` when it lies in (0, 1), else a LoptrlError."""
    if not (isinstance(level, (int, float)) and 0.0 < level < 1.0):
        raise LoptrlError(f"expected a level between 0 and 1, got {level!r}; 0.95 is 95 %")
    return float(level)


def resamples_checked(resamples: int) -> int:
    """`resamples` when it is a whole number of at least 100, else a LoptrlError."""
    if not isinstance(resamples, (int, np.integer)) or resamples < 100:
        raise LoptrlError(
            f"expected at least 100 resamples, got {resamples!r}; leave it out for {RESAMPLES}"
        )
    return int(resamples)
