"""Study 9 in figures and words: what evolution made of OPEN here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

from loptrl import plots, stats
from loptrl.runs import Run, Store
from loptrl.studies import comparison_evidence, meta_recipes, meta_runs, searches
from loptrl.studies.comparison_evidence import ComparisonEvidence
from loptrl.studies.evidence import Compute
from loptrl.studies.open_evolved import COMPARISON, EVOLUTIONS, RECIPES
from loptrl.studies.signed import note, signed
from loptrl.studies.words import change, estimate, paragraphs

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


@dataclasses.dataclass(frozen=True, eq=False)
class Evolved:
    """The searches, and what agents reach with their ends.

    Attributes:
        evidence: runs of agents.
        searches: optimizer -> its search, a row for each generation; only those that are stored.
    """

    evidence: ComparisonEvidence
    searches: Mapping[str, Run]


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
    made = meta_runs.stored("open", EVOLUTIONS.values(), store)
    found = {one: made[name] for one, name in EVOLUTIONS.items() if name in made}
    return Evolved(evidence, found)


def headline(found: Evolved) -> str:
    """The answer in one bold sentence."""
    evidence = found.evidence
    scores = {name: own["breakout"] for name, own in evidence.scores.items() if "breakout" in own}
    if "one" not in scores:
        return "**No run with an optimizer that was evolved here is stored: nothing can be said.**"
    parts = [
        f"{estimate(scores['one'])} with OPEN after {_generations('one')} generations on that game"
    ]
    if "early" in scores:
        parts.append(f"{estimate(scores['early'])} after the first {_generations('early')}")
    if "start" in scores:
        parts.append(f"{estimate(scores['start'])} with the random weights of its start")
    if "adam" in scores:
        parts.append(f"{estimate(scores['adam'])} with Adam as tuned for 10 million")
    untrained = estimate(_untrained(evidence, "breakout"))
    return (
        f"**In {evidence.length('breakout.one'):,} env steps on Breakout agents reach a return of "
        f"{', '.join(parts)}; untrained agents score {untrained}.**"
    )


def on_fitness(found: Evolved) -> str:
    """The members' mean fitness at the beginning and at the end of each search."""
    lines = [
        f"- {found.evidence.optimizers[optimizer]}: {searches.fitness_words(run)}."
        for optimizer, run in found.searches.items()
    ]
    if not lines:
        return "No search is stored."
    return paragraphs(
        [
            "Mean fitness of all members:",
            "\n".join(lines),
            "The generations of a search follow from each other, so that no interval stands here; "
            "whether the end is better than the beginning is tested below, on agents.",
        ]
    )


def on_start(found: Evolved) -> str:
    """How two searches end beside how they began: the first on Breakout, and that on two games."""
    tasks = found.evidence.tasks
    early = {"early": f"its own first {_generations('early')} generations"}
    parts = [_on_start(found, "one", "breakout", early)]
    parts += [_on_start(found, "two", task) for task in tasks]
    return paragraphs(parts)


def _on_start(
    found: Evolved, optimizer: str, task: str, more: Mapping[str, str] = MappingProxyType({})
) -> str:
    """One optimizer on one game minus what it began with, and minus `more`, optimizer -> words."""
    scores = found.evidence.scores
    if task not in scores.get(optimizer, {}):
        return ""
    others = {
        "agents that stay as they were made, which is what OPEN does with all weights 0": (
            _untrained(found.evidence, task)
        )
    }
    known = {"start": "the random weights that the search starts from", **more}
    others |= {
        words: scores[other][task]
        for other, words in known.items()
        if task in scores.get(other, {})
    }
    final = scores[optimizer][task]
    lines = [f"- {words}: {change(final, other)}." for words, other in others.items()]
    names = found.evidence.optimizers[optimizer], found.evidence.tasks[task]
    return paragraphs(["Agents with {} on {} minus".format(*names), "\n".join(lines)])


def on_adam(found: Evolved) -> str:
    """How the optimizers that were evolved here stand to tuned Adam, by game and on the average."""
    evidence = found.evidence
    sets = {
        words: {name: own[task] for name, own in evidence.scores.items() if task in own}
        for task, words in evidence.tasks.items()
    }
    if len(evidence.tasks) == len(evidence.started) > 1:
        sets["Both games, each score divided by Adam's mean there"] = evidence.normalised()
    return "\n".join(
        f"- {where}, {evidence.optimizers[optimizer]} minus Adam: "
        f"{change(scores[optimizer], scores['adam'])}."
        for where, scores in sets.items()
        for optimizer in EVOLUTIONS
        if optimizer in scores and "adam" in scores
    )


def fitness_figure(found: Evolved) -> Figure:
    """Fitness of members and of the search mean by generation, a panel for each search."""
    names = found.evidence.optimizers
    return searches.fitness_figure(
        {
            f"fitness: {names[optimizer]}": (run, COMPARISON.looks[optimizer])
            for optimizer, run in found.searches.items()
        }
    )


def finals_figure(found: Evolved) -> Figure:
    """Final training returns on Breakout, and the untrained policy's."""
    evidence = found.evidence
    arms = evidence.arms("breakout")
    if not arms:
        return note("Not drawn: no run is stored.")
    figure = plots.interval_dots(
        {evidence.optimizers[one]: evidence.scores[one]["breakout"] for one in arms},
        looks={evidence.optimizers[one]: COMPARISON.looks[one] for one in arms},
        xlabel="final training return on Breakout",
        references={"untrained agents": float(stats.iqm(_untrained(evidence, "breakout")))},
    )
    return signed(figure, evidence, list(arms.values()))


def _generations(optimizer: str) -> int:
    return meta_recipes.recipe("open", RECIPES[optimizer]).config.generations


def _untrained(evidence: ComparisonEvidence, task: str) -> np.ndarray:
    """Returns of untrained policies, actions sampled: `[num_seeds]`."""
    arm = next(iter(evidence.arms(task).values()))
    return evidence.rows(arm, "eval_return")[:, 0]
