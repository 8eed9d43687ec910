"""The figures and the computed sentences of study 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loptrl import style
from loptrl.studies.two_state_mdp import (
    Arm,
    Disturbance,
    Histories,
    Summary,
    adam_ratios,
    largest_ratio,
    largest_step,
    single_spike_bound,
    train,
)

__all__ = [
    "LargestSteps",
    "bounds_sentence",
    "disturbance_figure",
    "disturbance_sentences",
    "largest_steps",
    "lasting_change_figure",
    "lasting_change_sentences",
    "quiet_length_figure",
    "quiet_length_sentence",
    "step_figure",
]

LargestSteps = Mapping[str, np.ndarray]
"""By arm: the largest step after each quiet length, [lengths, seeds], in learning rates."""


def step_figure(
    gradients: np.ndarray,
    quiet_updates: int,
    arms: Mapping[str, Arm],
    by_optax: Mapping[str, np.ndarray],
) -> Figure:
    """Steps around the moment the gradient grows: by hand (lines) and by optax (dots).

    Args:
        gradients: the sequence of gradients, [updates].
        quiet_updates: how many of them are quiet.
        arms: the arms to draw.
        by_optax: by arm, optax's steps in units of the learning rate, [updates].
    """
    after = np.arange(len(gradients)) - quiet_updates + 1
    shown = slice(max(0, quiet_updates - 40), None)
    with style.context():
        figure = style.new_figure("normal")
        axes = figure.subplots()
        for name, arm in arms.items():
            look = style.look(arm.color_key)
            steps = adam_ratios(gradients, arm.beta1, arm.beta2)
            axes.plot(after[shown], steps[shown], color=look.color, label=arm.label)
            every = slice(shown.start, None, 12)
            axes.plot(
                after[every], by_optax[name][every], "o", ms=4.5, mfc="white", color=look.color
            )
        first = next(iter(arms.values()))
        _level(axes, 1.0, "the learning rate")
        spike = single_spike_bound(first.beta1, first.beta2)
        limit = largest_ratio(first.beta1, first.beta2)
        if spike > 1:
            _level(axes, spike, f"one spike: {spike:.2f}")
        if math.isfinite(limit) and limit > 1:
            _level(axes, limit, f"any gradients: {limit:.2f}")
        axes.axvline(0, color=style.GREY, lw=1)
        axes.set_xlabel("updates since the gradient grew")
        axes.set_ylabel("step / learning rate")
        axes.set_ylim(-0.4 if math.isfinite(limit) else None, None)
        axes.margins(x=0.01)
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, 1.16), ncols=2, borderaxespad=0)
    return figure


def disturbance_figure(histories: Mapping[str, Histories], shown: int = 300) -> Figure:
    """Step, policy and critic around a disturbance: mean over seeds in front of the seeds.

    Args:
        histories: by arm; all with the same disturbance.
        shown: updates drawn after the change.
    """
    first = next(iter(histories.values()))
    start = first.disturbance.quiet_updates
    window = slice(max(0, start - 50), start + shown)
    with style.context():
        figure = style.new_figure(7.2)
        steps, policy, critic = figure.subplots(3, 1, sharex=True)
        for history in histories.values():
            after = np.arange(len(history.paying)) - start + 1
            share = history.share_of_best(first.disturbance.final_paying)
            for axes, values in (
                (steps, np.abs(history.ratios).max(axis=2)),
                (policy, share),
                (critic, history.values[..., 0]),
            ):
                _seeds(axes, after[window], values[window], history.arm)
        steps.axhline(1, color=style.GREY, lw=1, ls=":")
        steps.set_title("largest step / learning rate")
        policy.set_title("policy: share of the best return on the usual task")
        policy.set_ylim(0, 1.05)
        critic.set_title("critic: value of the state that usually pays")
        critic.set_xlabel("updates since the change")
        for axes in (steps, policy, critic):
            _shade(axes, first.disturbance, shown)
            axes.margins(x=0.01)
        _legend(figure, steps)
    return figure


def lasting_change_figure(histories: Mapping[str, Histories], shown: int = 800) -> Figure:
    """The policy after a change that stays, as a share of the best return on the new task."""
    first = next(iter(histories.values()))
    start = first.disturbance.quiet_updates
    window = slice(max(0, start - 50), start + shown)
    with style.context():
        figure = style.new_figure(3.6)
        axes = figure.subplots()
        for history in histories.values():
            after = np.arange(len(history.paying)) - start + 1
            share = history.share_of_best(first.disturbance.final_paying)
            _seeds(axes, after[window], share[window], history.arm)
        axes.axvline(0, color=style.GREY, lw=1)
        axes.set_ylim(0, 1.05)
        axes.set_title("policy: share of the best return on the new task")
        axes.set_xlabel("updates since the change")
        axes.margins(x=0.01)
        _legend(figure, axes)
    return figure


def largest_steps(
    arms: Mapping[str, Arm], quiet_lengths: Sequence[int], *, seeds: int, **settings: float
) -> LargestSteps:
    """Train every arm to every quiet length and measure the largest step after the change."""
    return {
        name: np.stack(
            [
                largest_step(
                    train(arm, Disturbance(length, None), seeds=seeds, after=200, **settings)
                )
                for length in quiet_lengths
            ]
        )
        for name, arm in arms.items()
    }


def quiet_length_figure(
    arms: Mapping[str, Arm], quiet_lengths: Sequence[int], steps: LargestSteps
) -> Figure:
    """The largest step against the length of the quiet period, and the bound at that age."""
    with style.context():
        figure = style.new_figure("normal")
        axes = figure.subplots()
        for name, arm in arms.items():
            look = style.look(arm.color_key)
            axes.plot(quiet_lengths, steps[name], ".", ms=4, alpha=0.5, color=look.color)
            mean = steps[name].mean(axis=1)
            axes.plot(
                quiet_lengths, mean, "o", ls=look.linestyle, color=look.color, label=arm.label
            )
        first = next(iter(arms.values()))
        ages = np.unique(np.geomspace(quiet_lengths[0], quiet_lengths[-1], 80).astype(int))
        # The largest step comes some updates after the change; this is the bound at its latest.
        bound = [largest_ratio(first.beta1, first.beta2, int(age) + 200) for age in ages]
        axes.plot(ages, bound, color=style.INK, lw=1.4, label="bound for any gradients")
        axes.axhline(1, color=style.GREY, lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_ylim(0, None)
        axes.set_xlabel("quiet updates before the change")
        axes.set_ylabel("largest step / learning rate")
        _legend(figure, axes)
    return figure


def bounds_sentence(gradients: np.ndarray, quiet_updates: int, arm: Arm, optax: np.ndarray) -> str:
    """What the first figure shows, in numbers."""
    steps = adam_ratios(gradients, arm.beta1, arm.beta2)
    at = int(np.argmax(np.abs(steps[quiet_updates:])))
    worst = float(np.abs(steps - optax).max())
    limit = largest_ratio(arm.beta1, arm.beta2)
    return (
        f"With betas {arm.beta1:g} and {arm.beta2:g} the largest step after the quiet period is "
        f"**{abs(steps[quiet_updates + at]):.2f} learning rates**, {at + 1} updates after the "
        f"gradient grew. One spike after endless zeros would give at most "
        f"{single_spike_bound(arm.beta1, arm.beta2):.2f}, and no sequence of gradients more than "
        f"{_number(limit)}. The computation by hand (64-bit) and optax (32-bit) differ by at most "
        f"{worst:.0e}."
    )


def disturbance_sentences(arms: Mapping[str, Arm], summaries: Mapping[str, Summary]) -> str:
    """One line per arm on what a passing disturbance did, as a Markdown list."""
    lines = []
    for name, summary in summaries.items():
        lost = 100 * (1 - summary.lowest / summary.before)
        lines.append(
            f"- **{arms[name].label}**: largest step {summary.largest_step:.2f} learning rates; "
            f"the policy falls from {summary.before:.2f} to {summary.lowest:.2f} of the best "
            f"return ({lost:.0f} % lost); {_recovery(summary)}."
        )
    return "\n".join(lines)


def lasting_change_sentences(arms: Mapping[str, Arm], summaries: Mapping[str, Summary]) -> str:
    """One line on who is back first after a lasting change, slowest last."""
    order = sorted(summaries, key=lambda name: summaries[name].recovery)
    parts = [f"{arms[name].label} after {summaries[name].recovery:.0f}" for name in order]
    return f"Updates from the change until 90 % of the best return is held: {'; '.join(parts)}."


def quiet_length_sentence(
    arms: Mapping[str, Arm], quiet_lengths: Sequence[int], steps: LargestSteps
) -> str:
    """The largest step after the shortest and after the longest quiet period, by arm."""
    parts = [
        f"{arm.label}: {steps[name][0].mean():.2f} after {quiet_lengths[0]:,} quiet updates, "
        f"{steps[name][-1].mean():.2f} after {quiet_lengths[-1]:,}"
        for name, arm in arms.items()
    ]
    return f"Largest step in learning rates, mean over seeds. {'; '.join(parts)}."


def _recovery(summary: Summary) -> str:
    if summary.recovery == 0:
        return "it never leaves 90 %"
    return f"{summary.recovery:.0f} updates from the change until it holds 90 % again"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "any number (there is no bound)"


def _level(axes: Axes, height: float, words: str) -> None:
    axes.axhline(height, color=style.GREY, lw=1, ls=":")
    axes.annotate(
        words,
        (1.0, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=style.GREY,
        fontsize=12,
    )


def _seeds(axes: Axes, x: np.ndarray, values: np.ndarray, arm: Arm) -> None:
    look = style.look(arm.color_key)
    axes.plot(x, values, color=look.color, lw=0.6, alpha=0.25)
    axes.plot(x, values.mean(axis=1), color=look.color, ls=look.linestyle, label=arm.label)


def _shade(axes: Axes, disturbance: Disturbance, shown: int) -> None:
    length = shown if disturbance.length is None else disturbance.length
    axes.axvspan(0.5, length + 0.5, color=style.FRICTION, alpha=0.13, lw=0)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
