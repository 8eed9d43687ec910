"""The figures of study 6: the grid as a heat map, and the curves behind its cells."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from loptrl import plots, stats, style
from loptrl.studies import changing_ant_report as shared
from loptrl.studies import optim4rl_steps
from loptrl.studies.changing_ant_evidence import JointEvidence
from loptrl.studies.meta_sensitivity import AUTHORS, GRID, LONG
from loptrl.studies.signed import note, signed
from loptrl.verdicts.base import collapse_rate

__all__ = ["curves_figure", "grid_figure", "steps_figure"]

_RATES = list(dict.fromkeys(rate for rate, _ in GRID.values()))
_INTERVALS = sorted({interval for _, interval in GRID.values()})
_NOTHING = "Not drawn: no run of Optim4RL on the grid is stored."


def grid_figure(evidence: JointEvidence) -> Figure:
    """Final return and collapse rate by meta learning rate and reset interval."""
    if not evidence.present(*GRID):
        return note(_NOTHING)
    title = "final return, darker is higher"
    if evidence.has("stationary"):
        title += f" (default Adam: {shared.final(evidence, 'stationary').value:,.0f})"
    panels = [
        _panel(evidence, title, shared.final, style.COLOURS["optim4rl"]),
        _panel(evidence, "collapse rate, darker is higher", _collapse_rate, style.GREY, (0.0, 1.0)),
    ]
    figure = plots.heat_map(
        panels,
        _RATES,
        [str(interval) for interval in _INTERVALS],
        xlabel="meta learning rate",
        ylabel="reset interval",
        points_label="authors':",
    )
    return signed(figure, evidence, evidence.present(*GRID, *AUTHORS, "stationary"))


def _panel(
    evidence: JointEvidence,
    title: str,
    number: Callable[[JointEvidence, str], stats.Estimate],
    color: str,
    limits: tuple[float, float] | None = None,
) -> plots.HeatPanel:
    cells = {_place(*GRID[arm]): number(evidence, arm) for arm in evidence.present(*GRID)}
    points = {
        _place(*point): number(evidence, arm) if evidence.has(arm) else None
        for arm, point in AUTHORS.items()
    }
    return plots.HeatPanel(title, cells, points, color, limits)


def _place(rate: str, interval: int) -> tuple[str, str]:
    return rate, str(interval)


def _collapse_rate(evidence: JointEvidence, arm: str) -> stats.Estimate:
    return collapse_rate(evidence.reports(arm))


def steps_figure(evidence: JointEvidence) -> Figure:
    """Final return against the length of the rule's step, a point for each cell with runs."""
    arms = [arm for arm in evidence.present(*GRID, *AUTHORS, LONG) if evidence.whole(arm).runs]
    if not evidence.present(*GRID) or not arms:
        return note(_NOTHING)
    with style.context():
        figure = style.new_figure("normal")
        axes = figure.subplots()
        behind = []
        if evidence.has("stationary"):
            adam = shared.final(evidence, "stationary")
            behind = ["stationary"]
            blue = style.COLOURS["adam"]
            axes.axhspan(adam.low, adam.high, color=blue, alpha=0.15, lw=0)
            axes.axhline(adam.value, color=blue, lw=1.5, label="default Adam")
        for marker, wanted, label in (
            ("o", GRID, "a cell of the grid"),
            ("D", AUTHORS, "the report's authors' weights"),
            ("s", (LONG,), evidence.all_arms[LONG].label),
        ):
            mine = [arm for arm in arms if arm in wanted]
            if not mine:
                continue
            at = [
                stats.iqm(optim4rl_steps.moved(evidence, arm)) / optim4rl_steps.ALPHA
                for arm in mine
            ]
            ends = [shared.final(evidence, arm) for arm in mine]
            axes.errorbar(
                at,
                [end.value for end in ends],
                [[end.value - end.low for end in ends], [end.high - end.value for end in ends]],
                fmt=marker,
                color=style.COLOURS["optim4rl"] if marker == "o" else style.INK,
                mfc=None if marker == "o" else "none",
                ms=7,
                lw=1.2,
                label=label,
            )
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        plots.axes.log_ticks(axes.xaxis, low, high)
        plots.axes.number_axis(axes.yaxis)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"change of a weight in an update / {optim4rl_steps.ALPHA:g} (log)")
        axes.set_ylabel("final return")
        axes.legend(loc="lower left")
    return signed(figure, evidence, [*behind, *arms])


def curves_figure(evidence: JointEvidence) -> Figure:
    """The returns of every grid point with runs, in the order of the heat map's cells."""
    order = sorted(GRID, key=lambda arm: (-GRID[arm][1], _RATES.index(GRID[arm][0])))
    arms = evidence.present(*order)
    if not arms:
        return note(_NOTHING)
    behind = {"Adam": "stationary"} if evidence.has("stationary") else {}
    panels = {
        "{}, reset {}".format(*GRID[arm]): {
            name: evidence.returns(one) for name, one in {**behind, "Optim4RL": arm}.items()
        }
        for arm in arms
    }
    figure = plots.diagnostics(
        panels,
        looks={"Adam": "adam:stationary", "Optim4RL": "optim4rl"},
        columns=len(_RATES),
        sharey=True,
    )
    return signed(figure, evidence, (*behind.values(), *arms))
