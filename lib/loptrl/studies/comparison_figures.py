"""The figures of studies 4 and 5; optimizers without stored runs are left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loptrl import plots, stats, style
from loptrl.studies.comparison_evidence import ComparisonEvidence
from loptrl.studies.signed import note, signed

__all__ = [
    "curves_figure",
    "finals_figure",
    "improvement_figure",
    "normalised_figure",
    "profiles_figure",
]

_NOTHING = "Not drawn: no run is stored."
_DOTTED: Mapping[str, Any] = {"ls": ":", "lw": 1.6}
_DASHED: Mapping[str, Any] = {"ls": (0, (2, 2)), "lw": 1.1}
_NO_ADAM = "Not drawn: it needs two seeds of Adam and of one other optimizer on every task."


def curves_figure(evidence: ComparisonEvidence) -> Figure:
    """One panel a task: training returns; dotted what the source report measured, where it did."""
    tasks = list(evidence.started)
    if not tasks:
        return note(_NOTHING)
    panels = {
        evidence.tasks[task]: {
            evidence.optimizers[one]: evidence.training_returns(arm)
            for one, arm in evidence.arms(task).items()
        }
        for task in tasks
    }
    curves = {
        task: {
            style.look(evidence.comparison.looks[optimizer]).color: curve
            for optimizer in evidence.arms(task)
            if (curve := evidence.source_curve(task, optimizer)) is not None
        }
        for task in tasks
    }
    levels = {task: evidence.published_normaliser(task) for task in tasks}
    others = []
    if any(curves.values()):
        others.append(Line2D([], [], color=style.INK, **_DOTTED, label="the report's mean"))
    if any(level is not None for level in levels.values()):
        others.append(Line2D([], [], color=style.GREY, **_DASHED, label="Adam as published"))
    figure = plots.diagnostics(
        panels, looks=_looks(evidence), columns=1 if len(tasks) < 3 else 2, others=others
    )
    for axes, task in zip(figure.axes, tasks, strict=True):
        end = axes.get_xlim()[1]
        for color, curve in curves[task].items():
            axes.plot(*curve, color=color, **_DOTTED, zorder=3, label="_source report")
        if levels[task] is not None:
            axes.axhline(levels[task], color=style.GREY, **_DASHED, zorder=1)
        axes.set_xlim(0, end)
    return signed(figure, evidence, _arms(evidence))


def finals_figure(evidence: ComparisonEvidence, task: str) -> Figure:
    """Final training returns on one task: a dot with its interval, the seeds as rings."""
    arms = evidence.arms(task)
    if not arms:
        return note(_NOTHING)
    scores = {evidence.optimizers[one]: evidence.scores[one][task] for one in arms}
    level = evidence.published_normaliser(task)
    figure = plots.interval_dots(
        scores,
        looks=_looks(evidence),
        xlabel=f"final training return on {evidence.tasks[task]}",
        references={} if level is None else {"Adam as published": level},
    )
    return signed(figure, evidence, list(arms.values()))


def normalised_figure(evidence: ComparisonEvidence) -> Figure:
    """Score over Adam's mean, IQM over tasks and seeds."""
    scores = _enough(evidence)
    if len(scores) < 2:
        return note(_NO_ADAM)
    estimates = {
        evidence.optimizers[name]: stats.stratified_bootstrap_ci(
            table, stats.iqm, rng=np.random.default_rng(0)
        )
        for name, table in scores.items()
    }
    figure = plots.interval_dots(
        estimates,
        looks=_looks(evidence),
        xlabel="score over Adam's mean, IQM over tasks and seeds",
        references={"Adam": 1.0},
    )
    return signed(figure, evidence, _arms(evidence, *scores))


def improvement_figure(
    evidence: ComparisonEvidence, tasks: Collection[str] | None = None
) -> Figure:
    """How often a run of each optimizer beats a run of Adam, on some tasks or on all."""
    scores = _enough(evidence, tasks)
    if len(scores) < 2:
        return note(_NO_ADAM)
    adam = scores.pop("adam")
    rows = {
        name: f"{evidence.optimizers[name]}, {_won(table, adam)}" for name, table in scores.items()
    }
    figure = plots.interval_dots(
        {
            rows[name]: stats.probability_of_improvement(table, adam, rng=np.random.default_rng(0))
            for name, table in scores.items()
        },
        looks={row: evidence.comparison.looks[name] for name, row in rows.items()},
        xlabel="P(a run is better than a run of Adam)" + _of(tasks, ", mean over tasks"),
        references={"a toss-up": 0.5},
        limits=(0.0, 1.0),
    )
    return signed(figure, evidence, _arms(evidence, "adam", *scores, tasks=tasks))


def _won(own: Mapping[str, np.ndarray], adam: Mapping[str, np.ndarray]) -> str:
    """The pairs of runs that are won, a tie as half: an interval at 0 or 1 hides how few they are.

    Such as "4.5 of 9 pairs".
    """
    differences = [(own[task][:, None] - adam[task][None, :]).ravel() for task in own]
    every = np.concatenate(differences)
    return f"{(every > 0).sum() + 0.5 * (every == 0).sum():g} of {every.size} pairs"


def profiles_figure(evidence: ComparisonEvidence, tasks: Collection[str] | None = None) -> Figure:
    """Share of runs above a multiple of Adam's mean return, on some tasks or on all, pooled."""
    scores = _enough(evidence, tasks)
    if len(scores) < 2:
        return note(_NO_ADAM)
    figure = plots.performance_profiles(
        {evidence.optimizers[name]: table for name, table in scores.items()},
        looks=_looks(evidence),
        xlabel="score over Adam's mean",
    )
    return signed(figure, evidence, _arms(evidence, *scores, tasks=tasks))


def _enough(
    evidence: ComparisonEvidence, tasks: Collection[str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Scores over Adam's mean of the optimizers with two seeds a task; none where Adam has not."""
    if tasks is not None and not set(tasks) <= set(evidence.comparable):
        return {}
    scores = evidence.normalised(tasks)
    enough = {name: own for name, own in scores.items() if min(map(len, own.values())) > 1}
    return enough if "adam" in enough else {}


def _of(tasks: Collection[str] | None, words: str) -> str:
    return words if tasks is None or len(tasks) > 1 else ""


def _arms(
    evidence: ComparisonEvidence, *optimizers: str, tasks: Collection[str] | None = None
) -> list[str]:
    return [
        arm
        for task in (evidence.tasks if tasks is None else tasks)
        for one, arm in evidence.arms(task).items()
        if not optimizers or one in optimizers
    ]


def _looks(evidence: ComparisonEvidence) -> dict[str, str]:
    looks = evidence.comparison.looks
    return {words: looks[name] for name, words in evidence.optimizers.items()}
