"""One row an arm or a seed: final returns with intervals, dips and collapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from loptrl import stats, style
from loptrl.plots.axes import PAPER, Curves, legend, look_of, not_empty, number_axis, step_axis
from loptrl.stats import Estimate, RunReport

__all__ = ["collapse_chart", "final_returns", "interval_dots"]


def interval_dots(
    arms: Mapping[str, ArrayLike | Estimate],
    *,
    looks: Mapping[str, str] | None = None,
    statistic: stats.Statistic = stats.iqm,
    xlabel: str = "final return",
    references: Mapping[str, float] | None = None,
    limits: tuple[float, float] | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Figure:
    """One row an arm: a dot with its interval, the seeds as small rings, the numbers in words.

    Args:
      arms: name -> one number a seed [num_seeds], or an Estimate that is drawn as it is.
      statistic: over seeds, where seeds are given.
      references: vertical lines, words -> value.
      limits: lowest and highest value that can be, where they are known.
    """
    not_empty(arms, "arms")
    rng = np.random.default_rng(0) if rng is None else rng
    with style.context():
        figure = style.new_figure(0.62 * len(arms) + (1.15 if references else 0.85))
        axes = figure.subplots()
        for row, (name, values) in enumerate(arms.items()):
            arm = look_of(name, looks)
            if isinstance(values, Estimate):
                estimate = values
            else:
                seeds = stats.checks.checked(values, f"the values of {name}", (1,))
                estimate = stats.stratified_bootstrap_ci(
                    seeds, statistic, rng=stats.fresh(rng), level=level
                )
                axes.plot(
                    seeds,
                    np.full(seeds.size, row + 0.22),
                    "o",
                    ms=5,
                    mfc="none",
                    mew=1.1,
                    color=arm.color,
                    alpha=0.7,
                    zorder=3,
                    label="_seeds",
                )
            axes.plot([estimate.low, estimate.high], [row, row], color=arm.color, lw=3, label="_ci")
            axes.plot(
                [estimate.value], [row], "o", ms=9, color=arm.color, zorder=4, label=arm.label
            )
            number = str(estimate)
            if estimate.n == 1:
                number = f"{number.partition(' [')[0]}, one seed"
            for x, text, side in ((0.0, arm.label, "left"), (1.0, number, "right")):
                axes.text(
                    x,
                    row - 0.24,
                    text,
                    transform=axes.get_yaxis_transform(),
                    ha=side,
                    va="bottom",
                    fontsize=12.5 if side == "left" else 11,
                    color=style.INK if side == "left" else style.GREY,
                    bbox=PAPER,
                    zorder=5,
                )
        if limits:
            margin = 0.02 * (limits[1] - limits[0])
            axes.set_xlim(limits[0] - margin, limits[1] + margin)
        for text, value in (references or {}).items():
            axes.axvline(value, color=style.GREY, lw=1.1, ls=(0, (2, 2)), zorder=1)
            left, right = axes.get_xlim()
            place = (value - left) / (right - left)
            axes.annotate(
                text,
                (value, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="left" if place < 0.15 else "right" if place > 0.85 else "center",
                va="bottom",
                fontsize=11,
                color=style.GREY,
            )
        axes.set_ylim(len(arms) - 0.45, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x")
        number_axis(axes.xaxis, ticks=6)
        axes.set_xlabel(xlabel)
    return figure


def final_returns(
    curves: Curves,
    *,
    looks: Mapping[str, str] | None = None,
    fraction: float = 0.05,
    xlabel: str = "final return (mean over the last 5 % of the run)",
    references: Mapping[str, float] | None = None,
    rng: np.random.Generator | None = None,
) -> Figure:
    """`interval_dots` of every arm's final return: IQM over seeds, 95 % bootstrap interval."""
    finals = {
        name: stats.final(s, np.atleast_2d(v), fraction=fraction) for name, (s, v) in curves.items()
    }
    return interval_dots(finals, looks=looks, xlabel=xlabel, references=references, rng=rng)


def collapse_chart(
    arms: Mapping[str, Sequence[RunReport]], *, looks: Mapping[str, str] | None = None
) -> Figure:
    """One line a seed from start to end of the run: dips recovered from, and dips that stay.

    Args:
      arms: name -> one report a seed (`stats.collapse_reports`).
      looks: name -> style key.
    """
    not_empty(arms, "arms")
    rows = sum(len(reports) for reports in arms.values()) + 1.9 * len(arms)
    with style.context():
        figure = style.new_figure(0.21 * rows + 1.15)
        axes = figure.subplots()
        y, end = 0.0, 0.0
        for name, reports in arms.items():
            not_empty(reports, f"the reports of {name}")
            arm = look_of(name, looks)
            dips = [dip for report in reports for dip in report.dips]
            left = sum(dip.end is not None for dip in dips)
            collapsed = sum(report.collapsed for report in reports)
            words = f"{collapsed} of {len(reports)} collapse, {left} of {len(dips)} dips recovered"
            for x, text, side in ((0.0, arm.label, "left"), (1.0, words, "right")):
                axes.text(
                    x,
                    y + 0.55,
                    text,
                    transform=axes.get_yaxis_transform(),
                    ha=side,
                    va="bottom",
                    fontsize=12.5 if side == "left" else 11,
                    color=style.INK if side == "left" else style.GREY,
                    bbox=PAPER,
                    zorder=5,
                )
            y += 1.1
            for report in reports:
                axes.plot([0, report.run_length], [y, y], color="#cfcfcf", lw=1.2, label="_run")
                for dip in report.dips:
                    stays = report.collapsed and dip is report.dips[-1]
                    axes.plot(
                        [dip.start, dip.start + dip.lasted],
                        [y, y],
                        color=arm.color if stays else style.mixed(arm.color, 0.55),
                        lw=7,
                        solid_capstyle="butt",
                        zorder=3,
                        label="_collapse" if stays else "_dip",
                    )
                end = max(end, report.run_length)
                y += 1.0
            y += 0.8
        axes.set_ylim(y - 0.8, -0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        step_axis(axes, end)
        axes.set_xlabel("env steps")
        legend(
            figure,
            [
                Line2D(
                    [],
                    [],
                    color=style.mixed(style.GREY, 0.55),
                    lw=7,
                    label="dip (below half of its best)",
                ),
                Line2D([], [], color=style.GREY, lw=7, solid_capstyle="butt", label="collapse"),
            ],
        )
    return figure
