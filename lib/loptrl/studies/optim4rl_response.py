"""How long Optim4RL's steps are for gradients of one size, as its page draws them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loptrl import style, weights
from loptrl.studies import optim4rl_by_hand
from loptrl.studies.by_hand import UNTRAINED, as_float64
from loptrl.studies.optim4rl_steps import CLIP, CLIPPED, CONSTANT
from loptrl.studies.signed import in_print
from loptrl.studies.words import plural

__all__ = ["figure", "respond", "responses", "words"]

_SIZES = 10.0 ** np.arange(-6, 0.01, 0.25)
_UPDATES = 200
_REPEATS = 64


def respond(theta: Any, sizes: np.ndarray, updates: int = _UPDATES, seed: int = 0) -> np.ndarray:
    """Optim4RL's step for gradients of one size whose sign is drawn anew for each update.

    sqrt(mean u^2) / alpha, over the last half of the updates and 64 parameters a size.

    Args:
        theta: weights as `optim4rl.init_theta` makes them.
        sizes: sizes of the gradient, [num_sizes].
        updates: how many.
        seed: of the signs.

    Returns:
        [num_sizes], in units of the learning rate.
    """
    theta = as_float64(theta)
    entries = np.repeat(sizes, _REPEATS)
    memory = tuple(
        np.zeros((entries.size, theta[cell]["hn"]["bias"].size)) for cell in ("rnn1", "rnn2")
    )
    squares = []
    for signs in _signs(entries.size, updates, seed):
        update, memory = optim4rl_by_hand.step(theta, entries * signs, memory, 1.0)
        squares.append(update**2)
    return _rms(squares, sizes.size)


def _adam(sizes: np.ndarray, updates: int = _UPDATES, seed: int = 0) -> np.ndarray:
    """The same of default Adam."""
    entries = np.repeat(sizes, _REPEATS)
    first, second, squares = np.zeros(entries.size), np.zeros(entries.size), []
    for number, signs in enumerate(_signs(entries.size, updates, seed), 1):
        gradient = entries * signs
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**number))
        squares.append((first / (1 - 0.9**number) / (root + 1e-8)) ** 2)
    return _rms(squares, sizes.size)


def _signs(entries: int, updates: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (updates, entries))


def _rms(squares: list[np.ndarray], sizes: int) -> np.ndarray:
    late = np.array(squares[len(squares) // 2 :])
    return np.sqrt(late.reshape(len(late), sizes, _REPEATS).mean(axis=(0, 2)))


@functools.cache
def responses() -> Mapping[str, np.ndarray]:
    """Weights of Optim4RL that are here, and untrained ones -> `respond` at 25 sizes."""
    family = "optim4rl/"
    here = [name.removeprefix(family) for name in weights.names() if name.startswith(family)]
    here = [name for name in here if name != UNTRAINED and weights.available(name, "optim4rl")]
    names = [UNTRAINED, *here]
    return {name: respond(optim4rl_by_hand.weights(name), _SIZES) for name in names}


def figure() -> Figure:
    """The step against the size of the gradient, a line for each set of weights, and Adam's."""
    sets = responses()
    with style.context():
        figure = style.new_figure("normal")
        axes = figure.subplots()
        axes.axvspan(_SIZES[0], CLIPPED, color=style.GREY, alpha=0.12, lw=0)
        for name, values in sets.items():
            bare = name == UNTRAINED
            color = style.INK if bare else style.COLOURS["optim4rl"]
            axes.loglog(_SIZES, values, color=color, lw=2.2 if bare else 1.0, zorder=3 + bare)
        axes.loglog(_SIZES, _adam(_SIZES), color=style.COLOURS["adam"], lw=2.2)
        far = {n: v for n, v in sets.items() if n != UNTRAINED and not 1 / 1.15 < v[0] < 1.15}
        near = [v[0] for n, v in sets.items() if n not in far]
        # Lines too close for a label each share one, above the first, in the order of the lines.
        groups: list[tuple[list[str], float, float]] = []
        for name, values in sorted(far.items(), key=lambda one: -one[1][0]):
            length = float(values[0])
            if groups and groups[-1][2] / length < 1.3:
                names, first, _ = groups.pop()
                groups.append(([*names, name], first, length))
            else:
                groups.append(([name], length, length))
        own, adam = style.COLOURS["optim4rl"], style.COLOURS["adam"]
        told = [(", ".join(names), first, own, "bottom") for names, first, _ in groups]
        others = f"{len(near)} {plural('set', len(near))}, black: untrained"
        told.append((others, min(near), style.INK, "top"))
        told.append(("Adam", float(_adam(_SIZES[:1])[0]), adam, "bottom"))
        for text, value, color, side in told:
            axes.annotate(
                text,
                (_SIZES[1], value),
                xytext=(0, 3 if side == "bottom" else -3),
                va=side,
                textcoords="offset points",
                fontsize=10.5,
                color=color,
            )
        axes.set_xlabel("size of the gradient's entry (log)")
        axes.set_ylabel("step in units of α (log)")
    return in_print(
        figure,
        f"Computed by hand in numpy, {_UPDATES} updates, root mean square over the last half; "
        "the sign of the gradient is drawn anew for every update.",
    )


def words() -> str:
    """What the graph shows, in numbers."""
    sets = responses()
    small = CLIPPED >= _SIZES
    spread = {name: np.ptp(values[small]) / values[0] for name, values in sets.items()}
    steady = [name for name in sets if 1 + spread[name] < CONSTANT]
    lengths = {name: float(sets[name][0]) for name in steady if name != UNTRAINED}
    near = sum(1 / 1.1 <= length <= 1.1 for length in lengths.values())
    longest = max(lengths, key=lengths.__getitem__, default=None)
    trained = (
        f", within 10 % of α for {near} of the {len(lengths)} trained ones, and "
        f"{lengths[longest]:.2f} times α for the longest (`{longest}`)"
        if longest
        else ""
    )
    return (
        f"PPO shortens the gradient of each network of the Ant's agent to a norm of {CLIP:g} at "
        f"most, so that its entries are at most {CLIPPED:.2g} in root mean square (the grey "
        f"range). There the step of {len(steady)} of the {len(sets)} sets that are here varies by "
        f"less than {math.ceil(100 * max(spread[name] for name in steady))} %, whatever the size "
        "of the gradient and however its sign changes: **such a set of weights is a constant step "
        "against the sign of the gradient.** Its length is "
        f"{sets[UNTRAINED][0]:.2f} times α for untrained weights{trained}. Adam's step for such a "
        f"gradient, whose sign is pure noise, is {_adam(_SIZES[:1])[0]:.2f} times α: its average "
        "over past gradients cancels the noise, which a rule that follows the last sign cannot."
    )
