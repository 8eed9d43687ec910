"""The figures of study 11: ends against the length of a step, and curves in three agents."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loptrl import plots, style
from loptrl.studies import step_size_report as report
from loptrl.studies.adam_collapse import PERIOD
from loptrl.studies.changing_ant_evidence import JointEvidence
from loptrl.studies.signed import note, signed

__all__ = ["agents_figure", "raw_steps_figure", "steps_figure"]

_GROUPS = (
    # Words, arms, style key, marker, whether a line joins them.
    ("Adam, by its step size", tuple(report.ADAM), "adam", "o", True),
    ("Optim4RL, each set of weights and step size", report.OPTIM4RL, "optim4rl", "o", False),
    ("OPEN (from Ant)", ("open",), "open", "s", False),
    ("OPEN (multi-task)", ("open_multi",), "open_multi", "s", False),
    ("OPEN authors' annealed Adam", ("adam_annealed",), "adam_equal_betas", "D", False),
)


def _raw(*names: str) -> tuple[str, ...]:
    return tuple(report.RAW[name] for name in names)


_RAW_GROUPS = (
    ("Adam, by its step size", _raw("adam", "adam_1e-3", "adam_3e-3"), "adam", "o", True),
    (
        "Optim4RL, untrained, by its step size",
        _raw("untrained", "untrained_long"),
        "optim4rl:untrained",
        "o",
        True,
    ),
    ("Optim4RL, trained in this agent", _raw("drift"), "optim4rl", "D", False),
    ("the same, meta learning rate 1e-3", _raw("fast"), "optim4rl:transferred", "^", False),
    ("Optim4RL, report's authors' weights", _raw("published"), "optim4rl:published", "s", False),
)

_LOOKS = {
    "adam": "adam",
    "published": "optim4rl:published",
    "untrained": "optim4rl:untrained",
    "drift": "optim4rl",
    "fast": "optim4rl:transferred",
}


def steps_figure(evidence: JointEvidence) -> Figure:
    """Final return minus default Adam's on the same seed, a point an arm, both paired and whole."""
    return _scatter(evidence, _GROUPS, "adam", "final return − Adam's")


def raw_steps_figure(evidence: JointEvidence) -> Figure:
    """The same on raw rewards without the gradient clip, minus Adam's with 3e-4 there."""
    return _scatter(evidence, _RAW_GROUPS, report.RAW["adam"], "final return − Adam's (3e-4)")


def _scatter(evidence: JointEvidence, groups: Sequence[tuple], adam: str, words: str) -> Figure:
    drawn = [
        (group, placed)
        for group in groups
        if (placed := report.placed(evidence, *group[1], adam=adam))
    ]
    if not drawn:
        return note("Not drawn: no arm has seeds enough beside Adam's.")
    with style.context():
        figure = style.new_figure("tall")
        axes = figure.subplots()
        axes.axhline(0.0, color=style.INK, lw=1.0, ls="--")
        for (label, _, key, marker, joined), placed in drawn:
            _draw(axes, label, placed, style.look(key).color, marker, joined)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        plots.axes.log_ticks(axes.xaxis, low, high)
        plots.axes.number_axis(axes.yaxis)
        axes.set_xlabel("root mean square change of a weight in an update (log)")
        axes.set_ylabel(words)
        plots.axes.legend(figure, axes.get_legend_handles_labels()[0])
    return signed(figure, evidence, [arm for _, placed in drawn for arm, *_ in placed])


def _draw(
    axes: Axes,
    words: str,
    placed: Sequence[tuple],
    color: str,
    marker: str,
    joined: bool,
) -> None:
    at = [length for _, length, _ in placed]
    ends = [difference for *_, difference in placed]
    axes.vlines(at, [e.low for e in ends], [e.high for e in ends], color=color, lw=1.0, alpha=0.55)
    axes.plot(
        at,
        [end.value for end in ends],
        marker=marker,
        ls="-" if joined else "none",
        lw=1.2,
        color=color,
        ms=7,
        label=words,
    )


def agents_figure(evidence: JointEvidence) -> Figure:
    """Returns of Optim4RL and of Adam, a panel for what the agent does with its gradients."""
    drawn = {
        agent: {name: own[name] for name in _LOOKS if name in own and evidence.has(own[name])}
        for agent, own in report.AGENTS.items()
    }
    panels = {
        agent: {report.WHO[name]: evidence.returns(arm) for name, arm in own.items()}
        for agent, own in drawn.items()
        if own
    }
    arms = [arm for own in drawn.values() for arm in own.values()]
    if not arms:
        return note("Not drawn: no run of these arms is stored.")
    figure = plots.diagnostics(
        panels,
        looks={report.WHO[name]: look for name, look in _LOOKS.items()},
        changes=range(PERIOD, evidence.length(arms[0]), PERIOD),
        columns=1,
        sharey=True,
    )
    return signed(figure, evidence, arms)
