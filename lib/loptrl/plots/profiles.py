"""Performance profiles: how many runs score above each level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from loptrl import stats, style
from loptrl.plots.axes import legend, look_of, not_empty, number_axis

__all__ = ["performance_profiles"]


def performance_profiles(
    scores: Mapping[str, stats.Scores],
    *,
    looks: Mapping[str, str] | None = None,
    xlabel: str = "score",
    highest: float | None = None,
    points: int = 101,
    rng: np.random.Generator | None = None,
) -> Figure:
    """Share of runs above a score, pooled over tasks, with its 95 % interval.

    Args:
      scores: name -> normalised scores, see `stats.Scores`.
      looks: name -> style key.
      xlabel: what a score is.
      highest: right end of the axis, which starts at 0; by default the highest score, at least 1.
      points: thresholds at which the share is computed.
      rng: for the bootstrap; a fixed seed when left out.
    """
    not_empty(scores, "scores")
    rng = np.random.default_rng(0) if rng is None else rng
    if highest is None:
        highest = max(1.0, *map(_highest, scores.values()))
    taus = np.linspace(0.0, highest, points)
    with style.context():
        figure = style.new_figure("normal")
        axes = figure.subplots()
        lines = []
        for name, values in scores.items():
            arm = look_of(name, looks)
            share, low, high = stats.performance_profile(values, taus, rng=rng)
            axes.fill_between(taus, low, high, color=arm.color, alpha=0.2, lw=0, label="_band")
            (line,) = axes.plot(taus, share, color=arm.color, ls=arm.linestyle, label=arm.label)
            lines.append(line)
        axes.set_xlim(0, highest)
        axes.set_ylim(0, 1.02)
        number_axis(axes.xaxis)
        number_axis(axes.yaxis)
        axes.set_title("share of runs above the score")
        axes.set_xlabel(xlabel)
        legend(figure, lines)
    return figure


def _highest(scores: stats.Scores) -> float:
    columns = scores.values() if isinstance(scores, Mapping) else [scores]
    return max(float(np.max(own)) for own in columns)
