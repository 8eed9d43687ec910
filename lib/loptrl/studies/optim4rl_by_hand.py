"""Optim4RL written out by hand in numpy, for one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loptrl.optimizers import optim4rl
from loptrl.studies.by_hand import (
    UNTRAINED,
    Example,
    Tree,
    as_float64,
    by_library,
    gru,
    mlp,
    weights_of,
)

__all__ = ["Memory", "library", "run", "step", "weights"]

Memory = tuple[np.ndarray, np.ndarray]
"""The states of the two GRUs for one tensor, each `[entries, hidden]`."""


def weights(name: str | Path = UNTRAINED, seed: int = 0) -> Any:
    """Untrained weights of the published size, or those of that name or path."""
    return weights_of(optim4rl, name, seed)


def step(
    theta: Any, gradient: np.ndarray, memory: Memory, learning_rate: float
) -> tuple[np.ndarray, Memory]:
    """One update of one tensor: what is added to it, and the new memory.

    h1 = GRU1(h1, g), h2 = GRU2(h2, g^2), m = sign(g) exp(o1), v = exp(o2),
    u = -alpha m / sqrt(v + 1e-8), with o the heads' outputs and g clipped to [-1, 1].

    Args:
        theta: the rule's weights, in 64 bits.
        gradient: `[*shape]`.
        memory: `[entries, hidden]` each.
        learning_rate: alpha.

    References:
        Lan, Mahmood, Yan & Xu (2024), as in the authors' components/optim.py at 523d42e.
    """
    g = np.clip(gradient.reshape(-1, 1), -1.0, 1.0)
    h1 = gru(theta["rnn1"], memory[0], g)
    h2 = gru(theta["rnn2"], memory[1], g**2)
    m = np.sign(g) * np.exp(mlp(theta["mlp1"], h1))
    v = np.exp(mlp(theta["mlp2"], h2))
    update = -learning_rate * m / np.sqrt(v + 1e-8)
    return update.reshape(gradient.shape), (h1, h2)


def run(theta: Any, given: Example, learning_rate: float = 3e-4) -> list[Tree]:
    """The updates by hand; the memory starts at zero."""
    theta = as_float64(theta)
    sizes = [theta[cell]["hn"]["bias"].size for cell in ("rnn1", "rnn2")]
    memory = {
        path: tuple(np.zeros((value.size, size)) for size in sizes)
        for path, value in given.params.items()
    }
    found = []
    for gradients in given.gradients:
        tree: Tree = {}
        for path, gradient in gradients.items():
            g = gradient.astype(np.float64)
            tree[path], memory[path] = step(theta, g, memory[path], learning_rate)
        found.append(tree)
    return found


def library(theta: Any, given: Example, learning_rate: float = 3e-4) -> list[Tree]:
    """The same from the library's transformation."""
    return by_library(optim4rl.build(theta, learning_rate=learning_rate), given)
