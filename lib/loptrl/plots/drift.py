"""The dynamics in force: strips beneath a graph, and a figure of a drift alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from loptrl import stats, style
from loptrl.errors import LoptrlError
from loptrl.plots.axes import number_axis, step_axis

__all__ = ["STRIP_INCHES", "DriftTrace", "drift_figure", "drift_strips", "mark_changes"]

STRIP_INCHES = 0.8
# Beyond this many changes a drift is continuous, and lines for them would be a grey wall.
MOST_CHANGES = 40


class DriftTrace(NamedTuple):
    """The dynamics in force along a run, for the strips beneath a graph.

    Attributes:
      env_steps: [num_rows].
      friction: [num_rows], or [num_seeds, num_rows] when seeds drift apart; > 0.
      strength: actuator strength, shaped alike, 1 is new; None when nothing wears.
    """

    env_steps: ArrayLike
    friction: ArrayLike
    strength: ArrayLike | None = None


def _trace(values: ArrayLike, steps: np.ndarray, name: str) -> np.ndarray:
    """[num_lines, num_rows]: one line when all seeds share the drift."""
    data = np.atleast_2d(stats.checks.checked(values, f"the drift's {name}", (1, 2)))
    if data.shape[1] != steps.size:
        raise LoptrlError(
            f"expected one {name} per row of the drift, got {data.shape[1]} for {steps.size} "
            "rows; take both from the same runs"
        )
    return data[:1] if np.allclose(data, data[:1]) else data


def _changes(steps: np.ndarray, friction: np.ndarray) -> np.ndarray:
    """Env steps at which a friction shared by all seeds jumps; empty for a continuous drift."""
    if friction.shape[0] > 1:
        return np.empty(0)
    jumps = np.flatnonzero(~np.isclose(friction[0, 1:], friction[0, :-1], rtol=1e-5)) + 1
    few = jumps.size <= min(MOST_CHANGES, steps.size // 3)
    return steps[jumps] if few else np.empty(0)


def _strip(axes: Axes, steps: np.ndarray, lines: np.ndarray, title: str, color: str) -> None:
    base = axes.get_ylim()[0]
    if steps[0] > 0:
        steps = np.concatenate([[0.0], steps])
        lines = np.concatenate([lines[:, :1], lines], axis=1)
    # A value logged in a row holds until the next row.
    axes.plot(
        steps, lines.T, color=color, lw=1.6 if len(lines) == 1 else 0.9, drawstyle="steps-post"
    )
    if len(lines) == 1:
        axes.fill_between(steps, base, lines[0], step="post", color=color, alpha=0.28, lw=0)
    axes.set_title(title, fontsize=11.5, color=color, pad=3)
    axes.tick_params(axis="y", labelsize=11)
    axes.grid(visible=False)


def drift_strips(strips: Sequence[Axes], drift: DriftTrace) -> np.ndarray:
    """Friction on a log axis and, when given, actuator strength; returns the changes' steps."""
    steps = stats.checks.checked_steps(drift.env_steps, np.shape(drift.env_steps)[0])
    friction = _trace(drift.friction, steps, "friction")
    if np.any(friction <= 0):
        raise LoptrlError(
            f"expected frictions above 0 (their axis is logarithmic), got {friction.min():g}"
        )
    strips[0].set_yscale("log")
    low, high = friction.min(), friction.max()
    low, high = (low / 2, high * 2) if np.isclose(low, high) else (low, high)
    strips[0].set_ylim(low / 1.6, high * 1.6)
    marks = [t for t in (0.01, 0.1, 1.0, 10.0) if low / 1.6 <= t <= high * 1.6]
    marks = marks if len(marks) > 1 else [float(f"{t:.1g}") for t in (low, high)]
    strips[0].set_yticks(marks, [style.format_number(t) for t in marks])
    strips[0].minorticks_off()
    _strip(strips[0], steps, friction, "friction in force (log scale)", style.FRICTION)
    if drift.strength is not None:
        strength = _trace(drift.strength, steps, "strength")
        strips[1].set_ylim(0, 1.15)
        strips[1].set_yticks([0, 1], ["0", "1"])
        _strip(strips[1], steps, strength, "actuator strength", style.STRENGTH)
    return _changes(steps, friction)


def mark_changes(axes: Axes, changes: ArrayLike) -> None:
    """A faint vertical line at every change."""
    for step in np.atleast_1d(np.asarray(changes, dtype=np.float64)):
        axes.axvline(step, color="#d0cabf", lw=0.9, zorder=0.5, label="_change")


def drift_figure(
    env_steps: ArrayLike,
    friction: ArrayLike,
    strength: ArrayLike | None = None,
    damping: ArrayLike | None = None,
) -> Figure:
    """A drift alone: friction (log scale) and, where they change, strength and damping.

    Args:
      env_steps: [num_moments].
      friction: [num_moments], > 0.
      strength: [num_moments] or [num_moments, num_actuators]: each actuator and their mean.
      damping: [num_moments].
    """
    steps = stats.checks.checked_steps(env_steps, np.shape(env_steps)[0])
    extra: list[tuple[str, np.ndarray, str]] = []
    if strength is not None:
        actuators = stats.checks.checked(strength, "the drift's strength", (1, 2))
        actuators = actuators.reshape(actuators.shape[0], -1).T  # [num_actuators, num_moments]
        if not np.allclose(actuators, 1.0):
            extra.append(("actuator strength", actuators, style.STRENGTH))
    if damping is not None:
        values = np.atleast_2d(stats.checks.checked(damping, "the drift's damping", (1,)))
        if not np.allclose(values, values[0, 0]):
            extra.append(("velocity damping", values, style.GREY))
    for title, values, _ in extra:
        if values.shape[1] != steps.size:
            raise LoptrlError(
                f"expected the {title} at every moment, got {values.shape[1]} for {steps.size}"
            )
    with style.context():
        figure = style.new_figure(1.35 + 1.25 * len(extra) + 0.4)
        panels = figure.subplots(1 + len(extra), 1, sharex=True, squeeze=False)[:, 0]
        drift_strips(panels[:1], DriftTrace(steps, friction))
        for axes, (title, values, color) in zip(panels[1:], extra, strict=True):
            axes.set_ylim(0, 1.12 * values.max())
            if len(values) > 1:
                axes.plot(steps, values.T, color=color, lw=0.8, alpha=0.5, drawstyle="steps-post")
            _strip(axes, steps, values.mean(axis=0, keepdims=True), title, color)
            number_axis(axes.yaxis, ticks=3)
        step_axis(panels[-1], float(steps[-1]))
        panels[-1].set_xlabel("env steps")
    return figure
