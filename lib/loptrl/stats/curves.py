"""What is computed along a run: final return, smoothing, intervals by row, regime-relative return.

`values` are `[num_rows]` for one run or `[num_seeds, num_rows]`; `env_steps` is `[num_rows]`, and
a run lasts from 0 to its last entry.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from loptrl.errors import LoptrlError
from loptrl.stats.checks import (
    Floats,
    checked,
    checked_steps,
    fraction_of_run,
    generator_checked,
    level_checked,
    resamples_checked,
)

__all__ = [
    "around",
    "bootstrap_curve",
    "fill_diverged",
    "final",
    "largest_after_changes",
    "regime_relative",
    "smooth",
]


def fill_diverged(values: ArrayLike, fill: float) -> Floats:
    """Replace what follows a divergence by `fill`, normally the random policy's return.

    A run whose parameters became NaN acts no better than a random policy from then on, so that
    is what it counts as; dropping it, or repeating its last good row, would flatter its arm.

    Args:
      values: [num_rows] or [num_seeds, num_rows]; from a run's first NaN or infinity on, every
        later row of that run must be NaN or infinite too.
      fill: the finite number to put there.

    Raises:
      LoptrlError: when a finite number follows a missing one: a gap is not a divergence.
    """
    if not np.isfinite(fill):
        raise LoptrlError(
            f"expected a finite fill, got {fill!r}; pass the random policy's mean return"
        )
    array = np.array(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise LoptrlError(
            f"expected values [num_rows] or [num_seeds, num_rows], got shape {array.shape}; "
            "pass one metric of one arm"
        )
    missing = ~np.isfinite(array)
    gaps = np.logical_or.accumulate(missing, axis=-1) & ~missing
    if np.any(gaps):
        row = int(np.argwhere(gaps)[0][-1])
        raise LoptrlError(
            f"expected nothing finite after a run's divergence, got a number in row {row}; "
            "a gap in a run is damage, recompute the run"
        )
    array[missing] = fill
    return array


def final(env_steps: ArrayLike, values: ArrayLike, *, fraction: float = 0.05) -> Floats | float:
    """Mean over the last 5 % of a run.

    Rows with env_steps > (1 - fraction) * last are averaged; the last row always counts.

    Args:
      env_steps: [num_rows].
      values: [num_rows] -> one number, or [num_seeds, num_rows] -> [num_seeds].
      fraction: of the run's env steps, in (0, 1].
    """
    data = checked(values, "values", (1, 2))
    steps = checked_steps(env_steps, data.shape[-1])
    # The small term keeps a row that sits on the border, up to rounding, out.
    border = (1.0 - fraction_of_run(fraction, "fraction")) * steps[-1] * (1 + 1e-12)
    rows = steps > border
    rows[-1] = True
    result = data[..., rows].mean(axis=-1)
    return float(result) if data.ndim == 1 else result


def around(
    env_steps: ArrayLike, values: ArrayLike, place: float, *, fraction: float = 0.05
) -> Floats | float:
    """Mean over the 5 % of a run around a place in it, as wide as the window of `final`.

    Rows within fraction * last / 2 env steps of place * last are averaged; the nearest row always
    counts.

    Args:
      env_steps: [num_rows].
      values: [num_rows] -> one number, or [num_seeds, num_rows] -> [num_seeds].
      place: as a fraction of the run's env steps, in (0, 1].
      fraction: of the run's env steps, in (0, 1].
    """
    data = checked(values, "values", (1, 2))
    steps = checked_steps(env_steps, data.shape[-1])
    distance = np.abs(steps - fraction_of_run(place, "place") * steps[-1])
    # The small term keeps rows that sit on the border, up to rounding, in.
    rows = distance <= 0.5 * fraction_of_run(fraction, "fraction") * steps[-1] * (1 + 1e-9)
    rows[np.argmin(distance)] = True
    result = data[..., rows].mean(axis=-1)
    return float(result) if data.ndim == 1 else result


def smooth(env_steps: ArrayLike, values: ArrayLike, *, fraction: float = 0.02) -> Floats:
    """Centred moving average over a window of 2 % of the run's env steps.

    Row i becomes the plain mean of the rows within fraction * last / 2 env steps of it, itself
    included. At both ends the window is cut off: the mean runs over the rows that exist. Rows
    further apart than half a window are left as they are.

    Args:
      env_steps: [num_rows].
      values: [num_rows] or [num_seeds, num_rows].
      fraction: window over run length, in (0, 1].

    Returns:
      Smoothed values, same shape.
    """
    data = checked(values, "values", (1, 2))
    steps = checked_steps(env_steps, data.shape[-1])
    # The small term keeps rows that sit on the window's border, up to rounding, in.
    half = 0.5 * fraction_of_run(fraction, "fraction") * steps[-1] * (1 + 1e-9)
    first = np.searchsorted(steps, steps - half, side="left")
    last = np.searchsorted(steps, steps + half, side="right")
    columns = [data[..., a:b].mean(axis=-1) for a, b in zip(first, last, strict=True)]
    return np.stack(columns, axis=-1)


def bootstrap_curve(
    values: ArrayLike,
    *,
    rng: np.random.Generator,
    statistic: Literal["iqm", "mean"] = "iqm",
    level: float = 0.95,
    resamples: int = 2_000,
) -> tuple[Floats, Floats, Floats]:
    """Aggregate over seeds with a bootstrap interval at every row.

    Whole seeds are resampled, the same draw for every row. The interval is pointwise: it holds
    for one row, not for the curve as a whole.

    Args:
      values: [num_seeds, num_rows].
      statistic: "iqm" or "mean", over seeds.

    Returns:
      (value, low, high), each [num_rows].
    """
    data = checked(values, "values", (2,))
    if statistic not in ("iqm", "mean"):
        raise LoptrlError(f"expected statistic 'iqm' or 'mean', got {statistic!r}")
    seeds = data.shape[0]
    cut = seeds // 4 if statistic == "iqm" else 0

    def aggregate(samples: Floats) -> Floats:
        return np.sort(samples, axis=0)[cut : seeds - cut].mean(axis=0)

    rows = generator_checked(rng).integers(0, seeds, size=(resamples_checked(resamples), seeds))
    # One resample at a time: all at once would hold resamples x seeds x rows numbers.
    draws = np.stack([aggregate(data[row]) for row in rows])
    tail = 50.0 * (1.0 - level_checked(level))
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return aggregate(data), low, high


def regime_relative(
    values: ArrayLike,
    regime_value: ArrayLike,
    control_values: ArrayLike,
    control_returns: ArrayLike,
    *,
    outside: Literal["refuse", "nearest"] = "refuse",
) -> Floats:
    """Return divided by what a control trained on that regime alone reaches.

    r(t) = R(t) / C(log f(t)), C interpolating the controls' returns linearly in log friction:
    under drift the task itself gets harder and easier, and r does not.

    Args:
      values: [num_rows] or [num_seeds, num_rows], returns R.
      regime_value: the friction f in force, same shape as values or [num_rows].
      control_values: [num_controls] frictions of the controls, > 0, strictly increasing.
      control_returns: [num_controls] final returns of the controls, > 0.
      outside: what a friction beyond the controls does: "refuse", or take the "nearest" control.

    Returns:
      r, same shape as values.

    Raises:
      LoptrlError: on frictions or control returns that are not positive, or out of range.
    """
    data = checked(values, "values", (1, 2))
    regime = checked(regime_value, "regime_value", (1, 2))
    frictions = checked(control_values, "control_values", (1,))
    returns = checked(control_returns, "control_returns", (1,))
    if regime.shape not in (data.shape, data.shape[-1:]):
        raise LoptrlError(
            f"expected regime_value shaped {data.shape} or {data.shape[-1:]}, got "
            f"{regime.shape}; pass the friction in force at every row"
        )
    if frictions.shape != returns.shape or np.any(np.diff(frictions) <= 0):
        raise LoptrlError(
            f"expected one control return for each of strictly increasing frictions, got "
            f"{returns.size} returns for {frictions.size} frictions; sort the controls"
        )
    for name, array in (("regime_value", regime), ("control_values", frictions)):
        if np.any(array <= 0):
            raise LoptrlError(
                f"expected {name} above 0 (they are interpolated in the log), got "
                f"{array.min():g}; pass frictions"
            )
    if np.any(returns <= 0):
        raise LoptrlError(
            f"expected control returns above 0, got {returns.min():g}; a ratio to a control "
            "that learned nothing means nothing, leave that control out"
        )
    if outside not in ("refuse", "nearest"):
        raise LoptrlError(f"expected outside to be 'refuse' or 'nearest', got {outside!r}")
    # Stored frictions may be float32: a value is outside only beyond that rounding.
    beyond = (regime < frictions[0] * (1 - 1e-6)) | (regime > frictions[-1] * (1 + 1e-6))
    if outside == "refuse" and np.any(beyond):
        raise LoptrlError(
            f"expected frictions within the controls' {frictions[0]:g} to {frictions[-1]:g}, got "
            f"{regime[beyond][0]:g}; add a control there or pass outside='nearest'"
        )
    control = np.interp(np.log(regime), np.log(frictions), returns)
    return data / control


def largest_after_changes(
    env_steps: ArrayLike, values: ArrayLike, change_steps: ArrayLike, *, window: float
) -> Floats | float:
    """Largest value soon after a change of the task, averaged over the changes.

    For every change c the maximum over the rows with c < env_steps <= c + window; then the mean
    over changes. A row describes the time since the row before it, so a row at c itself is from
    before the change.

    Args:
      env_steps: [num_rows].
      values: [num_rows] -> one number, or [num_seeds, num_rows] -> [num_seeds].
      change_steps: [num_changes] env steps at which the task changed.
      window: env steps after a change that count, > 0.

    Raises:
      LoptrlError: when a window holds no row, so that nothing was measured there.
    """
    data = checked(values, "values", (1, 2))
    steps = checked_steps(env_steps, data.shape[-1])
    changes = checked(change_steps, "change_steps", (1,))
    if not (np.isfinite(window) and window > 0):
        raise LoptrlError(f"expected a window of env steps above 0, got {window!r}")
    largest = []
    for change in changes:
        rows = (steps > change) & (steps <= change + window)
        if not rows.any():
            raise LoptrlError(
                f"expected a row within {window:g} env steps after the change at {change:g}, "
                "got none; widen the window or drop changes at the very end of the run"
            )
        largest.append(data[..., rows].max(axis=-1))
    result = np.mean(largest, axis=0)
    return float(result) if data.ndim == 1 else result
