"""The figures of studies 4 and 5; optimizers without stored runs are left out."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

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
_NO_ADAM = "Not drawn: it needs runs of Adam and of one other optimizer on every task."


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
    figure = plots.diagnostics(panels, looks=_looks(evidence), columns=1 if len(tasks) < 3 else 2)
    for axes, task in zip(figure.axes, tasks, strict=True):
        end = axes.get_xlim()[1]
        for optimizer in evidence.arms(task):
            curve = evidence.source_curve(task, optimizer)
            if curve is not None:
                color = style.look(evidence.comparison.looks[optimizer]).color
                axes.plot(*curve, color=color, ls=":", lw=1.6, zorder=3, label="_source report")
        level = evidence.published_normaliser(task)
        if level is not None:
            axes.axhline(level, color=style.GREY, lw=1.1, ls=(0, (2, 2)), zorder=1)
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
    scores = evidence.normalised()
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


def improvement_figure(evidence: ComparisonEvidence) -> Figure:
    """How often a run of each optimizer beats a run of Adam."""
    scores = {name: own for name, own in evidence.normalised().items() if name != "adam"}
    if not scores:
        return note(_NO_ADAM)
    adam = evidence.normalised()["adam"]
    estimates = {
        evidence.optimizers[name]: stats.probability_of_improvement(
            table, adam, rng=np.random.default_rng(0)
        )
        for name, table in scores.items()
    }
    figure = plots.interval_dots(
        estimates,
        looks=_looks(evidence),
        xlabel="P(a run is better than a run of Adam), mean over tasks",
        references={"a toss-up": 0.5},
    )
    return signed(figure, evidence, _arms(evidence, "adam", *scores))


def profiles_figure(evidence: ComparisonEvidence) -> Figure:
    """Share of runs above a multiple of Adam's mean return, tasks pooled."""
    scores = evidence.normalised()
    if len(scores) < 2:
        return note(_NO_ADAM)
    figure = plots.performance_profiles(
        {evidence.optimizers[name]: table for name, table in scores.items()},
        looks=_looks(evidence),
        xlabel="score over Adam's mean",
    )
    return signed(figure, evidence, _arms(evidence, *scores))


def _arms(evidence: ComparisonEvidence, *optimizers: str) -> list[str]:
    return [
        arm
        for task in evidence.tasks
        for one, arm in evidence.arms(task).items()
        if not optimizers or one in optimizers
    ]


def _looks(evidence: ComparisonEvidence) -> dict[str, str]:
    looks = evidence.comparison.looks
    return {words: looks[name] for name, words in evidence.optimizers.items()}
