"""Study 9 beyond its horizon: OPEN as it was evolved here in study 4's longer trainings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loptrl import plots, stats, status_page, style
from loptrl.plots.axes import log_ticks
from loptrl.runs import Store
from loptrl.studies import comparison_evidence, open_multitask
from loptrl.studies.comparison_evidence import ComparisonEvidence
from loptrl.studies.signed import note, signed
from loptrl.studies.words import estimate, listed

__all__ = ["headline", "load", "longer_figure", "longer_table"]

_OWN = ("open_own", "open_own_two")
_NO_RUN = "No run with these weights over study 4's length is stored."
_METRICS = ("entropy", "update_norm", "dormant_fraction_actor")


def load(budget: str = "laptop", *, store: Store | None = None) -> ComparisonEvidence:
    """Study 4's stored runs with the weights of study 9; nothing is trained.

    Args:
        budget: "smoke", "laptop" or "paper".
        store: default the committed results.

    Raises:
        LoptrlError: an unknown budget.
        DamagedRun: a stored run is damaged.
    """
    everything = open_multitask.COMPARISON
    optimizers = {name: everything.optimizers[name] for name in _OWN}
    own = dataclasses.replace(everything, optimizers=optimizers)
    return comparison_evidence.load(own, "all", budget, compute="never", store=store)


def headline(evidence: ComparisonEvidence) -> str:
    """How many of the runs collapse, in one sentence."""
    parts = []
    for name, words in evidence.optimizers.items():
        arms = [arm for task in evidence.tasks if (arm := evidence.arms(task).get(name))]
        reports = [report for arm in arms for report in evidence.reports(arm)]
        if reports:
            collapsed = sum(report.collapsed for report in reports)
            games = [evidence.tasks[task] for task in evidence.scores[name]]
            parts.append(
                f"{collapsed} of {len(reports)} runs with {words} on {listed(games)} collapse in "
                f"trainings of {evidence.length(arms[0]):,} env steps"
            )
    return f"{'; '.join(parts)}." if parts else _NO_RUN


def longer_table(evidence: ComparisonEvidence) -> str:
    """Where the returns are highest on each game and where they end, as a markdown table."""
    rows = []
    for name, words in evidence.optimizers.items():
        for task, game in evidence.tasks.items():
            arm = evidence.arms(task).get(name)
            if arm is None:
                continue
            steps, returns = evidence.training_returns(arm)
            best = int(np.argmax([stats.iqm(row) for row in returns.T]))
            rows.append(
                (
                    words,
                    game,
                    estimate(returns[:, best]),
                    f"{int(steps[best]):,}",
                    estimate(evidence.scores[name][task]),
                    f"{sum(r.collapsed for r in evidence.reports(arm))} of {evidence.seeds(arm)}",
                )
            )
    if not rows:
        return _NO_RUN
    columns = ["optimizer", "game", "highest", "after env steps", "at the end", "runs collapsed"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def longer_figure(evidence: ComparisonEvidence) -> Figure:
    """Breakout from the first row on: returns, and what tells why."""
    arms = evidence.arms("breakout")
    if not arms:
        return note(f"Not drawn. {_NO_RUN}")
    names = {evidence.optimizers[one]: arm for one, arm in arms.items()}
    panels = {"training return": {n: evidence.training_returns(arm) for n, arm in names.items()}}
    for metric in _METRICS:
        panels[metric] = {
            n: evidence.metric(arm, metric) for n, arm in names.items() if evidence.whole(arm).runs
        }
    looks = {evidence.optimizers[one]: evidence.comparison.looks[one] for one in arms}
    figure = plots.diagnostics({k: v for k, v in panels.items() if v}, looks=looks)
    first = min(int(evidence.grid(arm)[1]) for arm in arms.values())
    end = max(evidence.length(arm) for arm in arms.values())
    for axes in figure.axes:
        axes.set_xscale("log")
        axes.set_xlim(first, end)
        log_ticks(axes.xaxis, first, end)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.format_steps(x)))
    return signed(figure, evidence, list(arms.values()))
