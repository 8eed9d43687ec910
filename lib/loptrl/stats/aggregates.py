"""Aggregates over runs and tasks, and their intervals.

References:
  Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice" (IQM, stratified
  bootstrap, probability of improvement). Wilson 1927 and Newcombe 1998, method 10 (rates).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loptrl.errors import LoptrlError
from loptrl.stats.checks import (
    RESAMPLES,
    Floats,
    checked,
    generator_checked,
    level_checked,
    resamples_checked,
)

__all__ = [
    "Estimate",
    "Statistic",
    "difference_ci",
    "fresh",
    "iqm",
    "mean",
    "normalised_ci",
    "performance_profile",
    "probability_of_improvement",
    "rate_difference_interval",
    "stratified_bootstrap_ci",
    "task_matrix",
    "wilson_interval",
]

Statistic = Callable[[Floats], float]


def fresh(rng: np.random.Generator) -> np.random.Generator:
    """A copy, one for each interval that is printed: none depends on which were computed before."""
    return copy.deepcopy(rng)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
      value: the statistic on the data.
      low, high: the interval's limits.
      n: seeds behind it (of the smaller group, for a difference), or trials, for a rate.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length, (high - low) / 2."""
        return (self.high - self.low) / 2

    @property
    def includes_zero(self) -> bool:
        """Whether low <= 0 <= high."""
        return self.low <= 0.0 <= self.high

    def __str__(self) -> str:
        largest = max(abs(self.value), abs(self.low), abs(self.high))
        if 0 < largest < 1e-3:
            return f"{self.value:.1e} [{self.low:.1e}, {self.high:.1e}]"
        # Two digits of the largest number, and never fewer than two decimals below 10.
        digits = 2 if largest == 0 else max(1 - math.floor(math.log10(largest)), 0)
        digits = max(digits, 2) if largest < 10 else digits
        # An interval without 0 does not show a limit of 0.
        nearest = min(abs(self.low), abs(self.high))
        if not self.includes_zero and nearest > 1e-3 * largest and round(nearest, digits) == 0:
            digits = -math.floor(math.log10(nearest))
        # "+ 0.0" turns a rounded -0 into 0.
        value, low, high = (
            f"{round(x, digits) + 0.0:,.{digits}f}" for x in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"


def _percentiles(draws: Floats, level: float) -> Floats:
    tail = 50.0 * (1.0 - level)
    return np.percentile(draws, [tail, 100.0 - tail], axis=0)


def mean(scores: ArrayLike) -> float:
    """Mean of all entries of `scores` (any shape)."""
    return float(np.mean(np.asarray(scores, dtype=np.float64)))


def _trimmed(ordered: Floats) -> Floats:
    """Mean along axis 0 of sorted values without the lowest and highest floor(n / 4)."""
    cut = ordered.shape[0] // 4
    return ordered[cut : ordered.shape[0] - cut].mean(axis=0)


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean of all entries of `scores`, runs and tasks pooled.

    The mean of what is left after dropping the floor(n / 4) lowest and as many highest of the n
    entries: three seeds keep all three (a plain mean), five keep the middle three.
    """
    return float(_trimmed(np.sort(np.asarray(scores, dtype=np.float64), axis=None)))


def _matrix(scores: ArrayLike, name: str) -> Floats:
    array = checked(scores, name, (1, 2))
    return array[:, None] if array.ndim == 1 else array


def _draw(scores: Floats, rng: np.random.Generator, count: int) -> tuple[Floats, NDArray[np.intp]]:
    """`count` resamples [count, R, T] of runs, drawn separately within every task (stratum)."""
    runs, tasks = scores.shape
    rows = rng.integers(0, runs, size=(count, runs, tasks))
    return scores[rows, np.arange(tasks)], rows


def stratified_bootstrap_ci(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of `statistic`, runs resampled within each task.

    Args:
      scores: [num_runs, num_tasks], or [num_runs] for one task.
      statistic: maps [num_runs, num_tasks] to one number.
      rng: numpy Generator; the same state gives the same interval.
      level: coverage aimed at.
      resamples: bootstrap draws.

    Raises:
      LoptrlError: on NaN, a wrong shape, or an rng that is no Generator.
    """
    data = _matrix(scores, "scores")
    draws, _ = _draw(data, generator_checked(rng), resamples_checked(resamples))
    values = np.array([statistic(draw) for draw in draws])
    low, high = _percentiles(values, level_checked(level))
    return Estimate(float(statistic(data)), float(low), float(high), data.shape[0])


def normalised_ci(
    scores: ArrayLike,
    references: Sequence[ArrayLike],
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of statistic(x / mean(r)), by task; both are drawn again.

    `stratified_bootstrap_ci` of normalised scores takes the reference as exact instead.

    Args:
      scores: x, [num_runs, num_tasks], or [num_runs] for one task.
      references: r, for each task the reference's scores, [its own num_runs].

    Raises:
      LoptrlError: on NaN, a wrong shape, or not one reference a task.
    """
    data = _matrix(scores, "scores")
    if len(references) != data.shape[1]:
        raise LoptrlError(
            f"expected the reference's scores on {data.shape[1]} tasks, got {len(references)}; "
            "give one array for each task"
        )
    own = [checked(reference, "references", (1,)) for reference in references]
    count = resamples_checked(resamples)
    draws, _ = _draw(data, generator_checked(rng), count)
    drawn = [r[rng.integers(0, r.size, size=(count, r.size))].mean(axis=1) for r in own]
    levels = np.stack(drawn, axis=-1)[:, None, :]
    values = np.array([statistic(draw) for draw in draws / levels])
    low, high = _percentiles(values, level_checked(level))
    value = float(statistic(data / [r.mean() for r in own]))
    return Estimate(value, float(low), float(high), data.shape[0])


def difference_ci(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of statistic(x) - statistic(y); paired, of statistic(x - y).

    Args:
      x, y: [num_runs, num_tasks] or [num_runs]; the numbers of runs may differ unless paired.
      paired: run i of x and run i of y belong together (same seed and drift): what is looked at is
        their difference; otherwise the two sets are independent.

    Raises:
      LoptrlError: on NaN, different tasks, or paired sets of different size.
    """
    first, second = _matrix(x, "x"), _matrix(y, "y")
    if first.shape[1] != second.shape[1] or (paired and first.shape != second.shape):
        wanted = "paired sets of the same shape" if paired else "the same number of tasks"
        raise LoptrlError(
            f"expected {wanted} in x and y, got {first.shape} and {second.shape}; "
            "select the runs and tasks that both have"
        )
    count = resamples_checked(resamples)
    if paired:
        return stratified_bootstrap_ci(
            first - second, statistic, rng=rng, level=level, resamples=resamples
        )
    draws_x, _ = _draw(first, generator_checked(rng), count)
    draws_y, _ = _draw(second, rng, count)
    values = np.array([statistic(a) - statistic(b) for a, b in zip(draws_x, draws_y, strict=True)])
    low, high = _percentiles(values, level_checked(level))
    value = float(statistic(first) - statistic(second))
    return Estimate(value, float(low), float(high), min(first.shape[0], second.shape[0]))


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """P(X > Y) with its bootstrap interval: how often a run of x beats a run of y.

    Mean over tasks of mean over all pairs of [x > y] + 0.5 [x = y] (the Mann-Whitney U over the
    number of pairs). x and y are resampled independently within each task.
    """
    first, second = _matrix(x, "x"), _matrix(y, "y")
    if first.shape[1] != second.shape[1]:
        raise LoptrlError(
            f"expected the same number of tasks in x and y, got {first.shape[1]} and "
            f"{second.shape[1]}; select the tasks that both have"
        )
    count = resamples_checked(resamples)
    # The comparison of every pair is fixed; resampling only chooses which pairs count.
    difference = first[:, None, :] - second[None, :, :]
    wins = (difference > 0) + 0.5 * (difference == 0)  # [Rx, Ry, T]
    _, rows_x = _draw(first, generator_checked(rng), count)
    _, rows_y = _draw(second, rng, count)
    tasks = np.arange(first.shape[1])
    values = np.array(
        [
            wins[a[:, None, :], b[None, :, :], tasks].mean()
            for a, b in zip(rows_x, rows_y, strict=True)
        ]
    )
    low, high = _percentiles(values, level_checked(level))
    return Estimate(
        float(wins.mean()), float(low), float(high), min(first.shape[0], second.shape[0])
    )


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson score interval of a rate.

    centre = (p + z^2 / 2n) / (1 + z^2 / n),
    half width = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2), p = successes / n.

    Raises:
      LoptrlError: unless n >= 1 and 0 <= successes <= n, both whole numbers.
    """
    whole = all(isinstance(v, (int, np.integer)) for v in (successes, n))
    if not whole or n < 1 or not 0 <= successes <= n:
        raise LoptrlError(
            f"expected whole numbers with 0 <= successes <= n and n >= 1, got {successes!r} of "
            f"{n!r}; count the runs before calling"
        )
    z = NormalDist().inv_cdf(0.5 + level_checked(level) / 2)
    p = successes / n
    scale = 1.0 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Exact at the ends, where rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(p, low, high, int(n))


def task_matrix(scores: Mapping[str, ArrayLike]) -> Floats:
    """Task -> scores [num_runs] as [num_runs, num_tasks], cut to the runs that every task has.

    Raises:
      LoptrlError: on no task, or on NaN.
    """
    if not scores:
        raise LoptrlError("expected scores of at least one task, got none; compute some runs")
    columns = [checked(values, f"the scores of {task}", (1,)) for task, values in scores.items()]
    runs = min(column.size for column in columns)
    return np.stack([column[:runs] for column in columns], axis=1)


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[Floats, Floats, Floats]:
    """Share of runs above each threshold, tau -> mean over tasks of P(score > tau), with a band.

    Args:
      scores: [num_runs, num_tasks], normalised so that tasks can be pooled.
      thresholds: [num_thresholds].
      rng: numpy Generator.

    Returns:
      The share, and the lower and upper limit of its bootstrap interval, [num_thresholds] each.

    References:
      Agarwal et al. 2021, section 4.3.
    """
    data = _matrix(scores, "scores")
    taus = checked(thresholds, "thresholds", (1,))
    draws, _ = _draw(data, generator_checked(rng), resamples_checked(resamples))
    share = (data[..., None] > taus).mean(axis=(0, 1))
    low, high = _percentiles(
        np.stack([(draw[..., None] > taus).mean(axis=(0, 1)) for draw in draws]),
        level_checked(level),
    )
    return share, low, high


def rate_difference_interval(
    successes_x: int, n_x: int, successes_y: int, n_y: int, *, level: float = 0.95
) -> Estimate:
    """Newcombe's score interval of a difference of rates, p_x - p_y.

    Built from the Wilson limits l, u of each rate:
    low = d - sqrt((p_x - l_x)^2 + (u_y - p_y)^2), high = d + sqrt((u_x - p_x)^2 + (p_y - l_y)^2).
    Unlike a bootstrap it keeps its width when no run, or every run, is a success.
    """
    x = wilson_interval(successes_x, n_x, level=level)
    y = wilson_interval(successes_y, n_y, level=level)
    d = x.value - y.value
    low = d - math.hypot(x.value - x.low, y.high - y.value)
    high = d + math.hypot(x.high - x.value, y.value - y.low)
    return Estimate(d, low, high, min(x.n, y.n))
