"""Searches by evolution: their fitness by generation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loptrl import style
from loptrl.plots.axes import legend
from loptrl.runs import Run
from loptrl.studies.meta_runs import small_print
from loptrl.studies.signed import in_print, note

__all__ = ["fitness_figure", "fitness_words"]

_PART = 0.1
"""Share of a search's generations that count as its beginning, and as its end."""


def fitness_words(run: Run) -> str:
    """The members' mean fitness at the beginning and at the end of a search."""
    fitness = run.frame["fitness_mean"].to_numpy(np.float64)
    part = max(1, round(_PART * fitness.size))
    return (
        f"{fitness[:part].mean():.2f} over the first {part} of {fitness.size} generations, "
        f"{fitness[-part:].mean():.2f} over the last {part}"
    )


def fitness_figure(
    searches: Mapping[str, tuple[Run, str]], *, env_steps: bool = True, lowest: float | None = None
) -> Figure:
    """Fitness of members and of the search mean by generation, a panel for each search.

    Args:
        searches: title -> the run, and the key of its look.
        env_steps: whether the searches train agents, so that env steps are their length.
        lowest: fitness below which the axis is cut; None: it is not.
    """
    if not searches:
        return note("Not drawn: no search is stored.")
    with style.context():
        figure = style.new_figure(1.9 * len(searches) + 0.8)
        panels = figure.subplots(len(searches), 1, squeeze=False)[:, 0]
        for axes, (title, (run, look)) in zip(panels, searches.items(), strict=True):
            color, rows = style.look(look).color, run.frame
            band = rows["generation"], rows["fitness_worst"], rows["fitness_best"]
            axes.fill_between(*band, color=color, alpha=0.18, lw=0, label="worst to best member")
            axes.plot(band[0], rows["fitness_mean"], color=color, lw=1.8, label="members' mean")
            size = 4 if len(rows) <= 100 else 1.5
            axes.plot(
                band[0], rows["fitness_center"], ".", color=style.INK, ms=size, label="search mean"
            )
            if lowest is not None:
                axes.set_ylim(lowest, rows["fitness_best"].max() + 0.2)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_title(title)
        panels[-1].set_xlabel("generation")
        legend(figure, panels[0].get_legend_handles_labels()[0])
    return in_print(figure, small_print([run for run, _ in searches.values()], env_steps=env_steps))
