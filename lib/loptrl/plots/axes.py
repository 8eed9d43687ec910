"""What the figures share: looks, axes with few ticks, lines with bands, the legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from loptrl import stats, style
from loptrl.errors import LoptrlError

__all__ = [
    "PAPER",
    "Aggregate",
    "Curves",
    "draw",
    "draw_references",
    "legend",
    "log_ticks",
    "look_of",
    "not_empty",
    "number_axis",
    "step_axis",
    "value_axis",
]

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
Aggregate = Literal["iqm", "mean"]


# Behind words that a line or a grid would otherwise cross.
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}


def look_of(name: str, looks: Mapping[str, str] | None) -> style.Look:
    """The look of an arm: by its style key in `looks`, or its name as style key without them."""
    if looks is None:
        return style.look(name)
    if name not in looks:
        raise LoptrlError(
            f"expected a style key for every curve, got none for {name!r}; add it to looks"
        )
    found = style.look(looks[name])
    return style.Look(found.color, found.linestyle, name)


def not_empty(arms: Sequence[object] | Mapping[str, object], what: str) -> None:
    """Refuse to draw nothing."""
    if not arms:
        raise LoptrlError(f"expected at least one entry in {what}, got none; select some results")


def number_axis(axis: Axis, ticks: int = 5) -> None:
    """At most `ticks` intervals, at 1, 2 or 5 times a power of ten, in `style.format_number`."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda x, _: style.format_number(x)))


def step_axis(axes: Axes, end: float, ticks: int = 5) -> None:
    """An x axis of env steps from 0 to `end`, labelled 0, 5M, 10M, ..."""
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.format_steps(x)))


def value_axis(axes: Axes, scale: str, values: Sequence[np.ndarray]) -> None:
    """Few ticks; a log axis turns symmetric below the smallest positive value when 0 occurs."""
    if scale == "log":
        everything = np.concatenate([np.ravel(v) for v in values])
        positive = everything[everything > 0]
        if positive.size == everything.size:
            axes.set_yscale("log")
            log_ticks(axes.yaxis, float(positive.min()), float(positive.max()))
            return
        if positive.size:
            axes.set_yscale("symlog", linthresh=float(np.percentile(positive, 2)))
            if everything.min() >= 0:
                axes.set_ylim(bottom=0)
            return
    number_axis(axes.yaxis)


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Enough labels to read a log axis whose numbers lie between `low` and `high`, both above 0."""
    axis.set_minor_formatter(NullFormatter())
    decades = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    if decades > 2:
        axis.set_major_locator(LogLocator(numticks=5))
        return
    subs = (1.0, 3.0) if high > 10 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda y, _: style.format_number(y)))


def draw(
    axes: Axes,
    curves: Curves,
    looks: Mapping[str, str] | None,
    statistic: Aggregate,
    rng: np.random.Generator,
    level: float,
) -> tuple[list[Line2D], list[np.ndarray], float]:
    """Draw every arm: seeds, band, line. Returns the lines, the values and the last env step."""
    lines, drawn, end = [], [], 0.0
    for name, (env_steps, values) in curves.items():
        arm = look_of(name, looks)
        data = stats.checks.checked(values, f"the values of {name}", (2,))
        steps = stats.checks.checked_steps(env_steps, data.shape[1])
        middle, low, high = stats.bootstrap_curve(data, statistic=statistic, rng=rng, level=level)
        if data.shape[0] > 1:
            axes.plot(steps, data.T, color=arm.color, lw=0.7, alpha=0.35, zorder=2, label="_seed")
            axes.fill_between(
                steps, low, high, color=arm.color, alpha=0.20, lw=0, zorder=3, label="_band"
            )
        (line,) = axes.plot(
            steps, middle, color=arm.color, ls=arm.linestyle, zorder=4, label=arm.label
        )
        lines.append(line)
        drawn.append(data)
        end = max(end, float(steps[-1]))
    return lines, drawn, end


def _legend_inches(names: Sequence[str], columns: int) -> float:
    """About 0.1 inch a letter at 12.5 pt; 0.65 for the line before a name and the gap after it."""
    groups = np.array_split(names, columns)
    return sum(0.65 + 0.1 * max(len(name) for name in group) for group in groups)


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend above the axes, in as many columns as fit the width."""
    names = [str(handle.get_label()) for handle in handles]
    columns = len(names)
    while columns > 1 and _legend_inches(names, columns) > style.WIDTH - 0.1:
        columns -= 1
    figure.legend(handles, names, loc="outside upper left", ncols=columns, borderaxespad=0.1)


def draw_references(axes: Axes, references: Mapping[str, float] | None) -> None:
    """Dashed horizontal lines with their words at the right end."""
    for text, value in (references or {}).items():
        axes.axhline(value, color=style.GREY, lw=1.1, ls=(0, (2, 2)), zorder=1)
        axes.annotate(
            text,
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=11,
            color=style.GREY,
            bbox=PAPER,
            zorder=5,
        )
