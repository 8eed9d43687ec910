"""The figures of study 1; arms without stored runs are left out, and small print names the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from loptrl import plots, style
from loptrl.plots.axes import draw, draw_references, legend, step_axis, value_axis
from loptrl.plots.drift import mark_changes
from loptrl.studies.adam_collapse import CONTROL_FRICTIONS, PERIOD, STUDY
from loptrl.studies.adam_collapse_evidence import CONTROLS, Evidence
from loptrl.studies.adam_collapse_report import CHANGE
from loptrl.studies.signed import note, signed

__all__ = [
    "betas_figure",
    "change_figure",
    "clipping_figure",
    "diagnostics_figure",
    "dips_figure",
    "relative_figure",
]

DIAGNOSTICS = (
    "largest_update",
    "update_norm_max",
    "weight_norm",
    "feature_rank_actor",
    "dormant_fraction_actor",
    "value_error",
    "approx_kl",
    "clip_fraction",
)
_CHANGING = tuple(name for name in STUDY.arms if name not in CONTROLS and name != "stationary")


def change_figure(evidence: Evidence) -> Figure:
    """Graph 1: the stationary against the changing Ant, both with default Adam."""
    return _learning(evidence, tuple(CHANGE), words=CHANGE)


def betas_figure(evidence: Evidence) -> Figure:
    """Graph 2: Adam's default against equal betas, on the same changes."""
    return _learning(evidence, ("adam", "equal_99", "equal_997"))


def relative_figure(evidence: Evidence) -> Figure:
    """Returns divided by what a control reaches that only ever knew the friction in force."""
    arms = evidence.present("stationary", "adam", "equal_99", "equal_997")
    problem = evidence.no_relative()
    if problem:
        return note(f"Not drawn: {problem}.")
    if not arms:
        return note("Not drawn: no run of these arms is stored.")
    return _learning(evidence, arms, relative=True)


def clipping_figure(evidence: Evidence) -> Figure:
    """One panel for each clip that is off, with the clipped arm behind it."""
    arms = evidence.present("no_ratio_clip", "no_gradient_clip", "no_clip")
    base = evidence.present("adam")
    if not arms:
        return note("Not drawn: no run without a clip is stored.")
    panels = {
        _label(arm): {_label(one): evidence.returns(one) for one in (*base, arm)} for arm in arms
    }
    figure = plots.diagnostics(
        panels,
        looks=_looks(),
        changes=_changes(evidence, arms),
        columns=1,
        sharey=True,
    )
    return signed(figure, evidence, (*base, *arms))


def dips_figure(evidence: Evidence) -> Figure:
    """Every seed's dips and collapses, arm by arm."""
    arms = evidence.present("stationary", *_CHANGING)
    if not arms:
        return note("Not drawn: no run is stored.")
    reports = {_label(arm): evidence.reports(arm) for arm in arms}
    return signed(plots.collapse_chart(reports, looks=_looks()), evidence, arms)


def diagnostics_figure(evidence: Evidence) -> Figure:
    """What happened inside the agents; diverged runs are left out."""
    wanted = ("stationary", "adam", "equal_99", "no_ratio_clip")
    arms = [arm for arm in wanted if evidence.whole(arm).runs]
    if not arms:
        return note("Not drawn: no run is stored.")
    panels = {
        metric: {_label(arm): evidence.metric(arm, metric) for arm in arms}
        for metric in DIAGNOSTICS
    }
    figure = plots.diagnostics(panels, looks=_looks(), changes=_changes(evidence, arms))
    for axes, metric in zip(figure.axes, DIAGNOSTICS, strict=True):
        if metric in ("dormant_fraction_actor", "clip_fraction"):
            axes.set_ylim(bottom=0)
    return signed(figure, evidence, arms)


def _learning(
    evidence: Evidence,
    wanted: Sequence[str],
    *,
    relative: bool = False,
    words: Mapping[str, str] | None = None,
) -> Figure:
    """Curves with the friction of every seed and the strength of the motors beneath."""
    arms = evidence.present(*wanted)
    if not arms:
        return note("Not drawn: no run of these arms is stored.")
    curve = evidence.relative if relative else evidence.returns
    names = {arm: (words or {}).get(arm, _label(arm)) for arm in arms}
    curves = {names[arm]: curve(arm) for arm in arms}
    looks = {names[arm]: STUDY.arms[arm].look for arm in arms}
    # All arms share each seed's drift: the one with most seeds shows it.
    drifting = max((a for a in arms if a in _CHANGING), key=evidence.seeds, default=None)
    rows = [] if drifting is None else [0.30 + 0.13 * evidence.seeds(drifting), 0.45]
    rng = np.random.default_rng(0)
    with style.context():
        figure = style.new_figure(3.9 + sum(rows) + 0.3 * len(rows))
        panels = figure.subplots(
            1 + len(rows), 1, sharex=True, squeeze=False, height_ratios=[3.3, *rows]
        )[:, 0]
        lines, drawn, end = draw(panels[0], curves, looks, "iqm", rng, 0.95)
        if relative:
            draw_references(panels[0], {"control": 1.0})
            panels[0].set_title("return / return of a control on that friction alone")
        else:
            panels[0].set_title("evaluation return")
        value_axis(panels[0], "linear", drawn)
        if drifting is not None:
            mark_changes(panels[0], _changes(evidence, arms))
            _friction_rows(panels[1], evidence, drifting)
            _strength(panels[2], evidence, drifting)
        step_axis(panels[-1], end)
        panels[-1].set_xlabel("env steps")
        legend(figure, lines)
    return signed(figure, evidence, arms)


def _friction_rows(axes: Axes, evidence: Evidence, arm: str) -> None:
    """One row a seed, pale where the floor is slippery and dark where it is rough."""
    steps, friction = evidence.grid(arm), evidence.friction(arm)
    ramp = LinearSegmentedColormap.from_list(
        "friction", [style.mixed(style.FRICTION, amount) for amount in (0.9, 0.3, -0.6)]
    )
    edges = np.arange(len(friction) + 1)
    low, high = CONTROL_FRICTIONS[0], CONTROL_FRICTIONS[-1]
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


def _strength(axes: Axes, evidence: Evidence, arm: str) -> None:
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


def _changes(evidence: Evidence, arms: Iterable[str]) -> np.ndarray:
    """Env steps at which the friction changes, for figures of an arm that drifts."""
    drifting = [arm for arm in arms if arm in _CHANGING]
    return np.arange(PERIOD, evidence.length(drifting[0]), PERIOD) if drifting else np.empty(0)


def _label(arm: str) -> str:
    return STUDY.arms[arm].label


def _looks() -> dict[str, str]:
    return {_label(name): look for name, look in STUDY.looks().items()}
