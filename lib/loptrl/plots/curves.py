"""Learning curves, regime-relative curves and diagnostics panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from loptrl import style
from loptrl.errors import LoptrlError
from loptrl.plots.axes import (
    Aggregate,
    Curves,
    draw,
    draw_references,
    legend,
    not_empty,
    step_axis,
    value_axis,
)
from loptrl.plots.drift import STRIP_INCHES, DriftTrace, drift_strips, mark_changes

__all__ = ["diagnostics", "learning_curves"]


def learning_curves(
    curves: Curves,
    *,
    drift: DriftTrace | tuple | None = None,
    looks: Mapping[str, str] | None = None,
    statistic: Aggregate = "iqm",
    ylabel: str = "evaluation return",
    references: Mapping[str, float] | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    height: str | float = "normal",
) -> Figure:
    """Return against env steps, with interval, seeds and the drift in strips beneath.

    Args:
      curves: name -> (env_steps [num_rows], values [num_seeds, num_rows]).
      drift: the dynamics in force; a friction that jumps also marks its changes in the graph.
      looks: name -> style key.
      statistic: over seeds, "iqm" or "mean".
      ylabel: written above the axis.
      references: horizontal lines, words -> value, such as the random policy's return.
      level: of the interval.
      rng: for the bootstrap; a fixed seed when left out.
      height: of the graph without strips, inches or a name of style.HEIGHTS.
    """
    not_empty(curves, "curves")
    rng = np.random.default_rng(0) if rng is None else rng
    trace = None if drift is None else DriftTrace(*drift)
    strips = 0 if trace is None else 1 if trace.strength is None else 2
    with style.context():
        main = style.inches(height)
        figure = style.new_figure(main + strips * STRIP_INCHES)
        panels = figure.subplots(
            1 + strips,
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[main, *[STRIP_INCHES * 0.6] * strips],
        )[:, 0]
        lines, drawn, end = draw(panels[0], curves, looks, statistic, rng, level)
        draw_references(panels[0], references)
        value_axis(panels[0], "linear", drawn)
        panels[0].set_title(ylabel)
        if trace is not None:
            mark_changes(panels[0], drift_strips(panels[1:], trace))
        step_axis(panels[-1], end)
        panels[-1].set_xlabel("env steps")
        legend(figure, lines)
    return figure


def diagnostics(
    panels: Mapping[str, Curves],
    *,
    looks: Mapping[str, str] | None = None,
    changes: ArrayLike = (),
    columns: int = 2,
    sharey: bool = False,
    others: Sequence[Line2D] = (),
    statistic: Aggregate = "iqm",
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Figure:
    """Small multiples, one panel a metric (or one an arm), one legend for what no title names.

    Args:
      panels: metric column (its words and scale come from style.METRICS) or other words -> curves.
      looks: name -> style key.
      changes: env steps at which the task changed, marked in every panel.
      columns: panels side by side; 2 stays readable on a phone.
      sharey: one y axis for all, for panels that show the same metric.
      others: lines that the caller adds, for the legend.
    """
    not_empty(panels, "panels")
    if not isinstance(columns, int) or columns < 1:
        raise LoptrlError(f"expected at least one column of panels, got {columns!r}")
    rng = np.random.default_rng(0) if rng is None else rng
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with style.context():
        tall = 1.75 if len(panels) > 1 else 2.75
        figure = style.new_figure(rows * tall + 0.75)
        grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
        handles: dict[str, Line2D] = {}
        last = 0.0
        for axes, (metric, curves) in zip(grid.flat, panels.items(), strict=False):
            not_empty(curves, f"the panel {metric!r}")
            known = style.METRICS.get(metric, style.Metric(metric))
            lines, drawn, end = draw(axes, curves, looks, statistic, rng, level)
            mark_changes(axes, changes)
            value_axis(axes, known.scale, drawn)
            log = " (log)" if axes.get_yscale() in ("log", "symlog") else ""
            axes.set_title(f"{known.title}{log}")
            last = max(last, end)
            step_axis(axes, last, ticks=3 if columns > 1 else 6)
            # A line that its panel's title names needs no legend.
            named = {str(line.get_label()): line for line in lines}
            handles.update({name: line for name, line in named.items() if name != known.title})
        for axes in grid.flat[max(len(panels) - columns, 0) : len(panels)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("env steps")
            # Above an empty place the labels need no room of their own.
            axes.xaxis.set_in_layout(axes in grid[-1])
        for axes in grid.flat[len(panels) :]:
            axes.remove()
            # Room for the last tick of the labels that the layout does not see.
            figure.get_layout_engine().set(rect=(0, 0, 0.975, 1))
        if handles or others:
            legend(figure, [*handles.values(), *others])
    return figure
