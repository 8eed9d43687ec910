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
from typing import Any

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
    "Scores",
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
    "wilson_interval",
]

Statistic = Callable[[Floats], float]
Scores = ArrayLike | Mapping[str, ArrayLike]
"""`[num_runs, num_tasks]`, `[num_runs]` for one task, or task -> `[its own num_runs]`.

Tasks weigh the same, however many runs each has.
"""


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


def _columns(scores: Scores, name: str) -> dict[Any, Floats]:
    """The runs of each task, [its own num_runs]."""
    if isinstance(scores, Mapping):
        if not scores:
            raise LoptrlError(f"expected {name} of at least one task, got none; compute some runs")
        return {task: checked(own, f"{name} of {task}", (1,)) for task, own in scores.items()}
    array = checked(scores, name, (1, 2))
    return dict(enumerate(array[:, None].T if array.ndim == 1 else array.T))


def _same_tasks(
    x: Scores, y: Scores, names: tuple[str, str] = ("x", "y")
) -> tuple[dict[Any, Floats], dict[Any, Floats]]:
    first, second = _columns(x, names[0]), _columns(y, names[1])
    if set(first) != set(second):
        raise LoptrlError(
            f"expected the same tasks in {names[0]} and {names[1]}, got {_named(first)} and "
            f"{_named(second)}; select the tasks that both have"
        )
    return first, {task: second[task] for task in first}


def _named(columns: Mapping[Any, Floats]) -> str:
    texts = [task for task in columns if isinstance(task, str)]
    return ", ".join(texts) or f"{len(columns)}"


def _fewest(*groups: Mapping[Any, Floats]) -> int:
    return min(own.size for columns in groups for own in columns.values())


def _balanced(columns: Sequence[Floats]) -> Floats:
    """Columns as one [num_runs, num_tasks]; runs are repeated until all tasks have as many."""
    runs = math.lcm(*(own.size for own in columns))
    return np.stack([np.repeat(own, runs // own.size) for own in columns], axis=1)


def _draw(
    columns: Mapping[Any, Floats], rng: np.random.Generator, count: int
) -> list[NDArray[np.intp]]:
    """`count` resamples of each task's runs, drawn within the task (stratum): [count, num_runs]."""
    return [rng.integers(0, own.size, size=(count, own.size)) for own in columns.values()]


def _drawn(columns: Mapping[Any, Floats], rng: np.random.Generator, count: int) -> list[Floats]:
    rows = _draw(columns, rng, count)
    return [own[chosen] for own, chosen in zip(columns.values(), rows, strict=True)]


def _values(statistic: Statistic, drawn: Sequence[Floats]) -> Floats:
    """The statistic of every resample, [count]."""
    return np.array([statistic(_balanced(columns)) for columns in zip(*drawn, strict=True)])


def stratified_bootstrap_ci(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of `statistic`, runs resampled within each task.

    Args:
      scores: see `Scores`.
      statistic: maps [num_runs, num_tasks] to one number; where tasks differ in their runs, these
        are repeated until all have as many.
      rng: numpy Generator; the same state gives the same interval.
      level: coverage aimed at.
      resamples: bootstrap draws.

    Raises:
      LoptrlError: on NaN, a wrong shape, or an rng that is no Generator.
    """
    data = _columns(scores, "scores")
    drawn = _drawn(data, generator_checked(rng), resamples_checked(resamples))
    low, high = _percentiles(_values(statistic, drawn), level_checked(level))
    value = float(statistic(_balanced(list(data.values()))))
    return Estimate(value, float(low), float(high), _fewest(data))


def normalised_ci(
    scores: Scores,
    references: Scores,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of statistic(x / mean(r)), by task; both are drawn again.

    `stratified_bootstrap_ci` of normalised scores takes the reference as exact instead.

    Args:
      scores: x; see `Scores`.
      references: r > 0, the reference's scores on the same tasks.

    Raises:
      LoptrlError: on NaN, a wrong shape, different tasks, or a reference that is not above 0.
    """
    data, own = _same_tasks(scores, references, ("scores", "references"))
    least = min(r.min() for r in own.values())
    if least <= 0:
        raise LoptrlError(
            f"expected references above 0 to divide by, got {least:g}; compare by difference_ci"
        )
    count = resamples_checked(resamples)
    drawn = _drawn(data, generator_checked(rng), count)
    levels = [chosen.mean(axis=1, keepdims=True) for chosen in _drawn(own, rng, count)]
    values = _values(statistic, [x / r for x, r in zip(drawn, levels, strict=True)])
    low, high = _percentiles(values, level_checked(level))
    value = float(statistic(_balanced([data[task] / own[task].mean() for task in data])))
    return Estimate(value, float(low), float(high), _fewest(data))


def difference_ci(
    x: Scores,
    y: Scores,
    statistic: Statistic = iqm,
    *,
    rng: np.random.Generator,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Percentile bootstrap interval of statistic(x) - statistic(y); paired, of statistic(x - y).

    Args:
      x, y: see `Scores`; the numbers of runs may differ unless paired.
      paired: run i of x and run i of y belong together (same seed and drift): what is looked at is
        their difference; otherwise the two sets are independent.

    Raises:
      LoptrlError: on NaN, different tasks, or paired sets of different size.
    """
    first, second = _same_tasks(x, y)
    count = resamples_checked(resamples)
    if paired:
        sizes = [{task: own.size for task, own in columns.items()} for columns in (first, second)]
        if sizes[0] != sizes[1]:
            raise LoptrlError(
                "expected paired sets with the same runs in x and y, got "
                f"{list(sizes[0].values())} and {list(sizes[1].values())} runs; select the runs "
                "that both have"
            )
        return stratified_bootstrap_ci(
            {task: first[task] - second[task] for task in first},
            statistic,
            rng=rng,
            level=level,
            resamples=resamples,
        )
    values = _values(statistic, _drawn(first, generator_checked(rng), count))
    values = values - _values(statistic, _drawn(second, rng, count))
    low, high = _percentiles(values, level_checked(level))
    whole = [float(statistic(_balanced(list(columns.values())))) for columns in (first, second)]
    return Estimate(whole[0] - whole[1], float(low), float(high), _fewest(first, second))


def probability_of_improvement(
    x: Scores,
    y: Scores,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """P(X > Y) with its bootstrap interval: how often a run of x beats a run of y.

    Mean over tasks of mean over all pairs of [x > y] + 0.5 [x = y] (the Mann-Whitney U over the
    number of pairs). x and y are resampled independently within each task.

    Args:
      x, y: see `Scores`; the numbers of runs may differ.
    """
    first, second = _same_tasks(x, y)
    count = resamples_checked(resamples)
    rows_x = _draw(first, generator_checked(rng), count)
    rows_y = _draw(second, rng, count)
    # The comparison of every pair is fixed; resampling only chooses which pairs count.
    differences = [first[task][:, None] - second[task][None, :] for task in first]
    wins = [(pairs > 0) + 0.5 * (pairs == 0) for pairs in differences]
    values = np.mean(
        [
            won[a[:, :, None], b[:, None, :]].mean(axis=(1, 2))
            for won, a, b in zip(wins, rows_x, rows_y, strict=True)
        ],
        axis=0,
    )
    low, high = _percentiles(values, level_checked(level))
    value = float(np.mean([won.mean() for won in wins]))
    return Estimate(value, float(low), float(high), _fewest(first, second))


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


def performance_profile(
    scores: Scores,
    thresholds: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[Floats, Floats, Floats]:
    """Share of runs above each threshold, tau -> mean over tasks of P(score > tau), with a band.

    Args:
      scores: see `Scores`; normalised so that tasks can be pooled.
      thresholds: [num_thresholds].
      rng: numpy Generator.

    Returns:
      The share, and the lower and upper limit of its bootstrap interval, [num_thresholds] each.

    References:
      Agarwal et al. 2021, section 4.3.
    """
    data = _columns(scores, "scores")
    taus = checked(thresholds, "thresholds", (1,))
    drawn = _drawn(data, generator_checked(rng), resamples_checked(resamples))
    share = np.mean([(own[:, None] > taus).mean(axis=0) for own in data.values()], axis=0)
    shares = np.mean([(own[..., None] > taus).mean(axis=1) for own in drawn], axis=0)
    low, high = _percentiles(shares, level_checked(level))
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
