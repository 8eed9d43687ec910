"""Study 9 in figures and words: what evolution made of OPEN here."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loptrl import plots, stats, style
from loptrl.errors import MissingRun
from loptrl.plots.axes import legend
from loptrl.runs import Store
from loptrl.studies import comparison_evidence, meta_recipes, meta_runs
from loptrl.studies.comparison_evidence import ComparisonEvidence
from loptrl.studies.evidence import Compute
from loptrl.studies.open_evolved import COMPARISON, EVOLUTIONS
from loptrl.studies.signed import note, signed
from loptrl.studies.words import estimate, paragraphs

__all__ = [
    "Evolved",
    "finals_figure",
    "fitness_figure",
    "headline",
    "load",
    "on_adam",
    "on_fitness",
    "on_start",
]

_PART = 0.1
"""Share of a search's generations that count as its beginning, and as its end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evolved:
    """The searches, and what agents reach with their ends.

    Attributes:
        evidence: runs of agents.
        searches: optimizer -> a row for each generation; only searches that are stored.
    """

    evidence: ComparisonEvidence
    searches: Mapping[str, pd.DataFrame]


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    *,
    store: Store | None = None,
) -> Evolved:
    """The runs and the searches that they come from; see `comparison_evidence.load`.

    A search takes hours and is never made here.

    Raises:
        DamagedRun: a search is stored and damaged, or as for runs there.
    """
    store = Store() if store is None else store
    evidence = comparison_evidence.load(
        COMPARISON, "all", budget, env_steps, seeds, compute, store=store
    )
    searches = {}
    for optimizer, name in EVOLUTIONS.items():
        spec = meta_runs.meta_spec(name, meta_recipes.recipe("open", name).config)
        with contextlib.suppress(MissingRun):
            searches[optimizer] = store.read(spec).frame
    return Evolved(evidence, searches)


def headline(found: Evolved) -> str:
    """The answer in one bold sentence."""
    scores = {name: own.get("breakout") for name, own in found.evidence.scores.items()}
    if scores.get("one") is None:
        return "**No run with an optimizer that was evolved here is stored: nothing can be said.**"
    parts = [f"An agent that OPEN trains reaches {estimate(scores['one'])} on Breakout"]
    parts += [f"after {len(found.searches['one'])} generations"] if "one" in found.searches else []
    rest = [f"{estimate(_untrained(found.evidence))} without any training"]
    if scores.get("early") is not None:
        rest.append(f"{estimate(scores['early'])} after the first generations")
    if scores.get("adam") is not None:
        rest.append(f"{estimate(scores['adam'])} with tuned Adam")
    steps = f"{found.evidence.length('breakout.one'):,}"
    return f"**{' '.join(parts)}; it reaches {', '.join(rest)}, all in {steps} env steps.**"


def on_fitness(found: Evolved) -> str:
    """Whether the members' mean fitness rises over the generations, search by search."""
    lines = []
    for optimizer, rows in found.searches.items():
        fitness = rows["fitness_mean"].to_numpy(np.float64)
        part = max(2, round(_PART * fitness.size))
        change = _difference(fitness[-part:], fitness[:part], stats.mean)
        lines.append(
            f"- {found.evidence.optimizers[optimizer]}: from {fitness[:part].mean():.2f} in the "
            f"first {part} generations to {fitness[-part:].mean():.2f} in the last {part}, a "
            f"difference of {change}. {_way(change, 'The mean fitness rises', 'It falls')}."
        )
    return "\n".join(lines) or "No search is stored."


def on_start(found: Evolved) -> str:
    """How the end of the search on Breakout stands to its beginning."""
    scores = found.evidence.scores
    if "breakout" not in scores.get("one", {}):
        return ""
    final = scores["one"]["breakout"]
    start = _difference(final, _untrained(found.evidence))
    parts = [
        "With all weights 0, where the search starts, OPEN's update is 0 and an agent stays as it "
        f"was made. The end of the search lies {start} above that "
        f"({_way(start, 'intervals apart', 'below it')})."
    ]
    if "breakout" in scores.get("early", {}):
        early = _difference(final, scores["early"]["breakout"])
        parts.append(
            f"To its own first generations the difference is {early} "
            f"({_way(early, 'intervals apart', 'below them')})."
        )
    return " ".join(parts)


def on_adam(found: Evolved) -> str:
    """How the optimizers that were evolved here stand to tuned Adam, game by game."""
    scores, lines = found.evidence.scores, []
    for task, words in found.evidence.tasks.items():
        for optimizer in EVOLUTIONS:
            if task in scores.get(optimizer, {}) and task in scores.get("adam", {}):
                change = _difference(scores[optimizer][task], scores["adam"][task])
                lines.append(
                    f"- {words}, {found.evidence.optimizers[optimizer]} minus Adam: {change}. "
                    f"{_way(change, 'Above Adam', 'Below Adam')}."
                )
    return paragraphs(["\n".join(lines)])


def fitness_figure(found: Evolved) -> Figure:
    """Fitness of members and of the search mean by generation, a panel for each search."""
    if not found.searches:
        return note("Not drawn: no search is stored.")
    with style.context():
        figure = style.new_figure(1.9 * len(found.searches) + 0.8)
        panels = figure.subplots(len(found.searches), 1, squeeze=False)[:, 0]
        for axes, (optimizer, rows) in zip(panels, found.searches.items(), strict=True):
            look = style.look(COMPARISON.looks[optimizer])
            x = rows["generation"]
            axes.fill_between(
                x,
                rows["fitness_worst"],
                rows["fitness_best"],
                color=look.color,
                alpha=0.18,
                lw=0,
                label="worst to best member",
            )
            axes.plot(x, rows["fitness_mean"], color=look.color, lw=1.8, label="members' mean")
            axes.plot(x, rows["fitness_center"], ".", color=style.INK, ms=4, label="search mean")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_title(f"fitness: {found.evidence.optimizers[optimizer]}")
        panels[-1].set_xlabel("generation")
        legend(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def finals_figure(found: Evolved) -> Figure:
    """Final training returns on Breakout, and the untrained policy's."""
    evidence = found.evidence
    arms = evidence.arms("breakout")
    if "one" not in arms:
        return note("Not drawn: no run is stored.")
    figure = plots.interval_dots(
        {evidence.optimizers[one]: evidence.scores[one]["breakout"] for one in arms},
        looks={evidence.optimizers[one]: COMPARISON.looks[one] for one in arms},
        xlabel="final training return on Breakout",
        references={"untrained": float(stats.iqm(_untrained(evidence)))},
    )
    return signed(figure, evidence, list(arms.values()))


def _untrained(evidence: ComparisonEvidence) -> np.ndarray:
    """Returns on Breakout of the untrained policies, actions sampled: `[num_seeds]`."""
    return evidence.rows("breakout.one", "eval_return")[:, 0]


def _difference(
    x: np.ndarray, y: np.ndarray, statistic: stats.Statistic = stats.iqm
) -> stats.Estimate:
    return stats.difference_ci(x, y, statistic, rng=np.random.default_rng(0))


def _way(change: stats.Estimate, above: str, below: str) -> str:
    if change.low > 0:
        return above
    return below if change.high < 0 else "not apart"
