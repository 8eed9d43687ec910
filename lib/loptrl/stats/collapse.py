"""Dips, collapses and recovery, defined once.

R is the evaluation return smoothed over 2 % of the run (`smooth`), P its running maximum. A *dip*
is a stretch with R < 0.5 P, once P is above the random policy's return (and above 0: half of a
negative return is no threshold). A *collapse* is a dip never left again before the end of the
run and lasting at least 10 % of it. A last dip shorter than that is neither left nor a collapse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loptrl.errors import LoptrlError
from loptrl.stats.aggregates import Estimate, mean, stratified_bootstrap_ci, wilson_interval
from loptrl.stats.checks import Floats, checked, checked_steps, fraction_of_run
from loptrl.stats.curves import smooth

__all__ = [
    "DIP_THRESHOLD",
    "MINIMUM_COLLAPSE",
    "CollapseSummary",
    "Dip",
    "RunReport",
    "collapse_report",
    "collapse_reports",
    "deepest_drawdown",
    "find_dips",
    "summarise_collapses",
]

DIP_THRESHOLD = 0.5
MINIMUM_COLLAPSE = 0.10


@dataclass(frozen=True)
class Dip:
    """One dip of one run; times in env steps.

    Attributes:
      start: first row below the threshold.
      end: first row back at or above it, or None when the run ends inside the dip.
      depth: 1 - min R / P within the dip; above 1 when R falls below 0.
      lasted: from start to end, or to the run's last row.
    """

    start: float
    end: float | None
    depth: float
    lasted: float

    @property
    def recovery_time(self) -> float | None:
        """Env steps from the start of the dip to leaving it, or None if it is never left."""
        return None if self.end is None else self.lasted


@dataclass(frozen=True)
class RunReport:
    """Dips and collapse of one run; times in env steps.

    Attributes:
      dips: in order of time.
      collapsed: whether the last dip is a collapse.
      collapse_time: start of the collapse, or None.
      drawdown: depth of the deepest drawdown, defined for every run (`deepest_drawdown`).
      run_length: env steps of the run.
    """

    dips: tuple[Dip, ...]
    collapsed: bool
    collapse_time: float | None
    drawdown: float
    run_length: float

    @property
    def dip_depth(self) -> float:
        """Mean depth of this run's dips; 0 for a run without a dip, so that arms compare."""
        return float(np.mean([dip.depth for dip in self.dips])) if self.dips else 0.0

    @property
    def left_a_dip(self) -> bool:
        """Whether the run dipped and left that dip."""
        return any(dip.end is not None for dip in self.dips)


@dataclass(frozen=True)
class CollapseSummary:
    """Dips and collapses of one arm over its seeds.

    Attributes:
      collapse_rate: fraction of seeds that collapse, Wilson interval.
      dip_rate: fraction of seeds with at least one dip, Wilson interval.
      dip_depth: mean over seeds of `RunReport.dip_depth` (0 without a dip), bootstrap interval.
      drawdown: mean over seeds of the deepest drawdown, bootstrap interval.
      recovery_time: mean over the seeds that leave a dip of their mean recovery time in env
        steps, bootstrap interval; None when no seed leaves one.
      collapse_times: start of every collapse, env steps.
      dips: number of dips over all seeds.
      dips_left: how many of them are left again.
    """

    collapse_rate: Estimate
    dip_rate: Estimate
    dip_depth: Estimate
    drawdown: Estimate
    recovery_time: Estimate | None
    collapse_times: tuple[float, ...]
    dips: int
    dips_left: int


def _running_maximum(smoothed: Floats, random_return: float) -> tuple[Floats, np.ndarray]:
    """Running maximum P [num_rows] and the rows at which it counts."""
    if not np.isfinite(random_return):
        raise LoptrlError(
            f"expected a finite random_return, got {random_return!r}; measure the random "
            "policy's mean return"
        )
    peak = np.maximum.accumulate(smoothed)
    return peak, (peak > random_return) & (peak > 0.0)


def find_dips(
    env_steps: ArrayLike,
    smoothed: ArrayLike,
    *,
    random_return: float,
    threshold: float = DIP_THRESHOLD,
) -> tuple[Dip, ...]:
    """Every stretch of a smoothed return below half its running maximum.

    Args:
      env_steps: [num_rows].
      smoothed: [num_rows], R; call `smooth` first.
      random_return: the random policy's mean return; the running maximum counts above it.
      threshold: fraction of the running maximum, in (0, 1].
    """
    returns = checked(smoothed, "smoothed", (1,))
    steps = checked_steps(env_steps, returns.size)
    peak, counts = _running_maximum(returns, random_return)
    below = counts & (returns < fraction_of_run(threshold, "threshold") * peak)
    # +1 where a dip starts, -1 at the first row after one.
    edges = np.diff(np.concatenate([[False], below, [False]]).astype(np.int8))
    dips = []
    for first, after in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        end = float(steps[after]) if after < steps.size else None
        depth = 1.0 - float(returns[first:after].min() / peak[first])
        until = end if end is not None else float(steps[-1])
        dips.append(Dip(float(steps[first]), end, depth, until - float(steps[first])))
    return tuple(dips)


def deepest_drawdown(smoothed: ArrayLike, *, random_return: float) -> float:
    """max over t of 1 - R(t) / P(t), over the rows with P above the random return (and 0).

    Defined for every run: 0 when the return never falls or never passes the random policy.

    Args:
      smoothed: [num_rows], R.
    """
    returns = checked(smoothed, "smoothed", (1,))
    peak, counts = _running_maximum(returns, random_return)
    if not counts.any():
        return 0.0
    return float(np.max(1.0 - returns[counts] / peak[counts]))


def collapse_report(
    env_steps: ArrayLike,
    returns: ArrayLike,
    *,
    random_return: float,
    smoothing: float = 0.02,
    threshold: float = DIP_THRESHOLD,
    minimum_collapse: float = MINIMUM_COLLAPSE,
) -> RunReport:
    """Smooth one run's evaluation returns [num_rows] and report its dips and collapse.

    Args:
      random_return: the random policy's mean return.
      smoothing: window of the moving average over the run's length.
      threshold: of a dip, as a fraction of the running maximum.
      minimum_collapse: shortest collapse, as a fraction of the run's length.
    """
    values = checked(returns, "returns", (1,))
    steps = checked_steps(env_steps, values.size)
    smoothed = smooth(steps, values, fraction=smoothing)
    dips = find_dips(steps, smoothed, random_return=random_return, threshold=threshold)
    length = float(steps[-1])
    shortest = fraction_of_run(minimum_collapse, "minimum_collapse") * length * (1 - 1e-9)
    collapsed = bool(dips) and dips[-1].end is None and dips[-1].lasted >= shortest
    return RunReport(
        dips=dips,
        collapsed=collapsed,
        collapse_time=dips[-1].start if collapsed else None,
        drawdown=deepest_drawdown(smoothed, random_return=random_return),
        run_length=length,
    )


def collapse_reports(
    env_steps: ArrayLike, returns: ArrayLike, *, random_return: float, smoothing: float = 0.02
) -> list[RunReport]:
    """`collapse_report` of every seed; returns [num_seeds, num_rows]."""
    return [
        collapse_report(env_steps, run, random_return=random_return, smoothing=smoothing)
        for run in checked(returns, "returns", (2,))
    ]


def summarise_collapses(
    reports: Sequence[RunReport], *, rng: np.random.Generator, level: float = 0.95
) -> CollapseSummary:
    """Collapse rate, dip depth, dips left and recovery time of one arm over its seeds."""
    if not reports:
        raise LoptrlError("expected the report of at least one run, got none; run the arm first")
    seeds = len(reports)
    dips = [dip for report in reports for dip in report.dips]
    recovery = [
        np.mean([dip.recovery_time for dip in report.dips if dip.end is not None])
        for report in reports
        if report.left_a_dip
    ]

    def interval(values: Sequence[float]) -> Estimate:
        return stratified_bootstrap_ci(values, mean, rng=rng, level=level)

    return CollapseSummary(
        collapse_rate=wilson_interval(sum(r.collapsed for r in reports), seeds, level=level),
        dip_rate=wilson_interval(sum(bool(r.dips) for r in reports), seeds, level=level),
        dip_depth=interval([r.dip_depth for r in reports]),
        drawdown=interval([r.drawdown for r in reports]),
        recovery_time=interval(recovery) if recovery else None,
        collapse_times=tuple(r.collapse_time for r in reports if r.collapse_time is not None),
        dips=len(dips),
        dips_left=sum(dip.end is not None for dip in dips),
    )
