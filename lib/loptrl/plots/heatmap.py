"""Two settings against each other: coloured cells with their numbers written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from loptrl import style
from loptrl.plots.axes import PAPER, not_empty
from loptrl.stats import Estimate

__all__ = ["HeatPanel", "heat_map"]

Place = tuple[str, str]
"""Column and row, each a number in words, such as "1e-4" and "128"."""

_CELL_INCHES = 0.84
_SMALL = 11


@dataclass(frozen=True)
class HeatPanel:
    """One number everywhere on the grid.

    Attributes:
        title: what the number is.
        cells: place -> the number; a place that is left out is drawn as one without runs.
        points: other places, also between the cells -> the number there, None without runs.
        color: the ramp goes from near white over this colour to a dark shade of it.
        limits: the numbers at the ramp's ends; by default 0, or the smallest if that is below,
            and the largest.
    """

    title: str
    cells: Mapping[Place, Estimate]
    points: Mapping[Place, Estimate | None]
    color: str
    limits: tuple[float, float] | None = None


def heat_map(
    panels: Sequence[HeatPanel],
    columns: Sequence[str],
    rows: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    points_label: str = "",
) -> Figure:
    """Panels one above the other, a cell for each column and row, evenly spaced.

    Args:
      panels: what is drawn.
      columns, rows: the settings, numbers above 0 in words, ascending.
      xlabel, ylabel: what the settings are.
      points_label: whose the points are.
    """
    for what, given in (("panels", panels), ("columns", columns), ("rows", rows)):
        not_empty(given, what)
    with style.context():
        figure = style.new_figure(len(panels) * (len(rows) * _CELL_INCHES + 0.75))
        for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False).flat, panels):
            _draw(axes, panel, columns, rows, points_label)
            axes.set_xlabel(xlabel)
            axes.set_ylabel(ylabel)
    return figure


def _draw(
    axes: Axes, panel: HeatPanel, columns: Sequence[str], rows: Sequence[str], points_label: str
) -> None:
    ramp = LinearSegmentedColormap.from_list(
        "heat", [style.mixed(panel.color, amount) for amount in (0.93, 0.35, -0.45)]
    )
    norm = Normalize(*(panel.limits or _limits(panel)))
    for x, column in enumerate(columns):
        for y, row in enumerate(rows):
            found = panel.cells.get((column, row))
            if found is None:
                _empty_cell(axes, x, y)
            else:
                _cell(axes, x, y, found, ramp(norm(found.value)))
    for (column, row), found in panel.points.items():
        x, y = _position(column, columns), _position(row, rows)
        # Beneath the numbers of a cell, and just so where the point lies between cells.
        y -= 0.31 if y == round(y) else 0.0
        color = "white" if found is None else ramp(norm(found.value))
        number = "no runs" if found is None else _parts(found)[0]
        axes.plot([x - 0.33], [y], "D", ms=8, mfc=color, mec=style.INK, mew=1.4, zorder=6)
        axes.text(
            x - 0.26,
            y,
            f"{points_label} {number}".strip(),
            va="center_baseline",
            fontsize=_SMALL,
            bbox={**PAPER, "alpha": 1.0},
            zorder=5,
        )
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="both", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    axes.set_title(panel.title)


def _cell(axes: Axes, x: int, y: int, found: Estimate, color: tuple[float, ...]) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=color, ec="white", lw=2))
    ink = _readable(color)
    value, interval = _parts(found)
    axes.text(x, y + 0.2, value, ha="center", va="center_baseline", color=ink)
    axes.text(x, y - 0.04, interval, ha="center", va="center_baseline", color=ink, fontsize=_SMALL)


def _empty_cell(axes: Axes, x: int, y: int) -> None:
    axes.add_patch(
        Rectangle((x - 0.5, y - 0.5), 1, 1, fc="white", ec="#cfcfcf", hatch="//", lw=0, zorder=0)
    )
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec="white", lw=2))
    axes.text(
        x,
        y + 0.08,
        "no runs",
        ha="center",
        va="center_baseline",
        color=style.GREY,
        fontsize=_SMALL,
        bbox={**PAPER, "alpha": 1.0},
    )


def _limits(panel: HeatPanel) -> tuple[float, float]:
    found = [*panel.cells.values(), *panel.points.values()]
    values = [estimate.value for estimate in found if estimate is not None]
    return min(0.0, *values), max(0.0, *values)


def _parts(estimate: Estimate) -> tuple[str, str]:
    """The number and its interval in words; one seed has no interval."""
    value, _, interval = str(estimate).partition(" ")
    return value, interval if estimate.n > 1 else "one seed"


def _position(number: str, ticks: Sequence[str]) -> float:
    """Where a number is on an axis of evenly spaced ticks, by its logarithm between them."""
    return float(
        np.interp(np.log(float(number)), np.log([float(t) for t in ticks]), range(len(ticks)))
    )


def _readable(color: tuple[float, ...]) -> str:
    """Black or white, whichever has the greater contrast (WCAG 2): always at least 4.5 to 1."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"
