"""Figures of the studies on the Ant: what is not stored is left out, small print names the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from loptrl import plots, style
from loptrl.plots.axes import draw, draw_references, legend, step_axis, value_axis
from loptrl.plots.drift import mark_changes
from loptrl.studies.adam_collapse import DRIFT, PERIOD
from loptrl.studies.changing_ant_evidence import AntEvidence
from loptrl.studies.evidence import Curve
from loptrl.studies.signed import note, signed

__all__ = [
    "INSIDE",
    "diagnostics_figure",
    "dips_figure",
    "finals_figure",
    "learning_figure",
    "panels_figure",
]

INSIDE = (
    "update_norm",
    "implied_step",
    "largest_update",
    "weight_norm",
    "feature_rank_actor",
    "dormant_fraction_actor",
    "value_error",
    "approx_kl",
)
"""The metrics that tell why a learned optimizer fares as it does."""

_NOTHING = "Not drawn: no run of these arms is stored."


def learning_figure(
    evidence: AntEvidence,
    wanted: Sequence[str],
    *,
    words: Mapping[str, str] | None = None,
    curve: Callable[[str], Curve] | None = None,
    title: str = "evaluation return",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Curves with the friction of every seed and the strength of the motors beneath.

    Args:
        evidence: the runs.
        wanted: arms.
        words: arm -> what it is called here, where that is not its label.
        curve: arm -> what is drawn of it; its returns by default.
        title: of the curves.
        references: horizontal lines, words -> value.
    """
    arms = evidence.present(*wanted)
    if not arms:
        return note(_NOTHING)
    names = {arm: (words or {}).get(arm, _label(evidence, arm)) for arm in arms}
    curves = {names[arm]: (curve or evidence.returns)(arm) for arm in arms}
    looks = {names[arm]: evidence.all_arms[arm].look for arm in arms}
    # All arms share each seed's drift: the one with most seeds shows it.
    drifting = max(filter(evidence.drifts, arms), key=evidence.seeds, default=None)
    rows = [] if drifting is None else [0.30 + 0.13 * evidence.seeds(drifting), 0.45]
    rng = np.random.default_rng(0)
    with style.context():
        figure = style.new_figure(3.9 + sum(rows) + 0.3 * len(rows))
        panels = figure.subplots(
            1 + len(rows), 1, sharex=True, squeeze=False, height_ratios=[3.3, *rows]
        )[:, 0]
        lines, drawn, end = draw(panels[0], curves, looks, "iqm", rng, 0.95)
        draw_references(panels[0], references)
        panels[0].set_title(title)
        value_axis(panels[0], "linear", drawn)
        if drifting is not None:
            mark_changes(panels[0], _changes(evidence, arms))
            _friction_rows(panels[1], evidence, drifting)
            _strength(panels[2], evidence, drifting)
        step_axis(panels[-1], end)
        panels[-1].set_xlabel("env steps")
        legend(figure, lines)
    return signed(figure, evidence, arms)


def panels_figure(evidence: AntEvidence, wanted: Sequence[str], behind: Sequence[str]) -> Figure:
    """One panel of returns for each arm, with those arms `behind` it that meet the same world."""
    arms = evidence.present(*wanted)
    if not arms:
        return note(_NOTHING)
    base = {
        arm: [
            one for one in evidence.present(*behind) if evidence.drifts(one) == evidence.drifts(arm)
        ]
        for arm in arms
    }
    panels = {
        _label(evidence, arm): {
            _label(evidence, one): evidence.returns(one) for one in (*base[arm], arm)
        }
        for arm in arms
    }
    figure = plots.diagnostics(panels, looks=_looks(evidence), columns=1, sharey=True)
    for axes, arm in zip(figure.axes, arms, strict=True):
        mark_changes(axes, _changes(evidence, [arm]))
    drawn = dict.fromkeys(one for ones in base.values() for one in ones)
    return signed(figure, evidence, (*drawn, *arms))


def finals_figure(evidence: AntEvidence, wanted: Sequence[str]) -> Figure:
    """Final returns: a dot with its interval, the seeds as rings."""
    arms = evidence.present(*wanted)
    if not arms:
        return note(_NOTHING)
    figure = plots.final_returns(
        {_label(evidence, arm): evidence.returns(arm) for arm in arms}, looks=_looks(evidence)
    )
    return signed(figure, evidence, arms)


def dips_figure(evidence: AntEvidence, wanted: Sequence[str]) -> Figure:
    """Every seed's dips and collapses, arm by arm."""
    arms = evidence.present(*wanted)
    if not arms:
        return note(_NOTHING)
    reports = {_label(evidence, arm): evidence.reports(arm) for arm in arms}
    return signed(plots.collapse_chart(reports, looks=_looks(evidence)), evidence, arms)


def diagnostics_figure(
    evidence: AntEvidence, wanted: Sequence[str], metrics: Sequence[str] = INSIDE
) -> Figure:
    """What happened inside the agents; diverged runs are left out."""
    arms = [arm for arm in wanted if evidence.whole(arm).runs]
    if not arms:
        return note(_NOTHING)
    panels = {
        metric: {_label(evidence, arm): evidence.metric(arm, metric) for arm in arms}
        for metric in metrics
    }
    figure = plots.diagnostics(panels, looks=_looks(evidence), changes=_changes(evidence, arms))
    for axes, metric in zip(figure.axes, metrics, strict=True):
        if metric in ("dormant_fraction_actor", "clip_fraction"):
            axes.set_ylim(bottom=0)
    return signed(figure, evidence, arms)


def _friction_rows(axes: Axes, evidence: AntEvidence, arm: str) -> None:
    """One row a seed, pale where the floor is slippery and dark where it is rough."""
    steps, friction = evidence.grid(arm), evidence.friction(arm)
    ramp = LinearSegmentedColormap.from_list(
        "friction", [style.mixed(style.FRICTION, amount) for amount in (0.9, 0.3, -0.6)]
    )
    edges = np.arange(len(friction) + 1)
    low, high = DRIFT["friction"]["low"], DRIFT["friction"]["high"]
    # A row's friction is that of the time since the row before it.
    axes.pcolormesh(
        steps, edges, friction[:, 1:], cmap=ramp, norm=LogNorm(low, high), rasterized=True
    )
    axes.hlines(edges[1:-1], 0, steps[-1], color="white", lw=1.5)
    axes.set_ylim(len(friction), 0)
    axes.set_yticks(edges[:-1] + 0.5, [str(run.spec.seed) for run in evidence.runs.of(arm)])
    axes.tick_params(axis="y", labelsize=9 if len(friction) > 1 else 11)
    axes.set_title(
        f"friction, a row a seed: pale {low:g} (slippery), dark {high:g} (rough)",
        fontsize=11.5,
        color=style.FRICTION,
        pad=3,
    )
    axes.grid(visible=False)


def _strength(axes: Axes, evidence: AntEvidence, arm: str) -> None:
    """The mean strength of the motors, a line a seed."""
    axes.plot(evidence.grid(arm), evidence.strength(arm).T, color=style.STRENGTH, lw=0.9)
    axes.set_ylim(0, 1.15)
    axes.set_yticks([0, 1], ["0", "1"])
    axes.tick_params(axis="y", labelsize=11)
    axes.set_title(
        "motor strength, mean of the joints, a line a seed",
        fontsize=11.5,
        color=style.STRENGTH,
        pad=3,
    )
    axes.grid(visible=False)


def _changes(evidence: AntEvidence, arms: Iterable[str]) -> np.ndarray:
    """Env steps at which the friction changes, for figures of an arm that drifts."""
    drifting = [arm for arm in arms if evidence.drifts(arm)]
    return np.arange(PERIOD, evidence.length(drifting[0]), PERIOD) if drifting else np.empty(0)


def _label(evidence: AntEvidence, arm: str) -> str:
    return evidence.all_arms[arm].label


def _looks(evidence: AntEvidence) -> dict[str, str]:
    return {arm.label: arm.look for arm in evidence.all_arms.values()}
