"""OPEN written out by hand in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from loptrl import status_page
from loptrl.optimizers import open_optimizer
from loptrl.studies.by_hand import (
    UNTRAINED,
    Example,
    Tree,
    as_float64,
    by_library,
    dense,
    gru,
    weights_of,
)

__all__ = [
    "DECAYS",
    "Inputs",
    "Memory",
    "inputs_of",
    "library",
    "run",
    "sign_table",
    "tensor",
    "update",
    "weights",
]

DECAYS = np.array([0.1, 0.5, 0.9, 0.99, 0.999, 0.9999], np.float32)
"""Decays of the six momenta, as the numbers that 32 bits hold."""

_NEW = (np.float32(1.0) - DECAYS).astype(np.float64)
_KEPT = DECAYS.astype(np.float64)


class Memory(NamedTuple):
    """What the rule keeps for one tensor.

    Attributes:
        momentum: `[entries, 6]`.
        hidden: state of the GRU, `[entries, hidden]`.
    """

    momentum: np.ndarray
    hidden: np.ndarray


class Inputs(NamedTuple):
    """What the rule reads beside parameters and gradients, by path of a tensor where a dictionary.

    Attributes:
        activity: mean absolute activation of the layer's units, `[units]`.
        layer_fraction: 0 at a network's first layer, 1 at its last.
        noise: normal numbers like the tensor; zero where the rule adds none.
        training_fraction: share of the training that is done.
        epoch_fraction: share of the epochs on this batch that is done.
    """

    activity: Mapping[str, np.ndarray]
    layer_fraction: Mapping[str, float]
    noise: Tree
    training_fraction: float
    epoch_fraction: float


def weights(name: str | Path = UNTRAINED, seed: int = 0) -> Any:
    """Untrained weights of the small size, or those of that name or path."""
    return weights_of(open_optimizer, name, seed)


def update(
    theta: Any, params: Tree, gradients: Tree, memory: Mapping[str, Memory], inputs: Inputs
) -> tuple[Tree, dict[str, Memory]]:
    """One update of all tensors: what is added to each, and the new memory.

    The step of every entry, less the mean step over all entries of actor and critic, is subtracted
    from the parameters.

    References:
        Goldie et al. (2024), section 5.3 and appendix B.1, as in the authors' network.py at
        b65037b.
    """
    raw, after = {}, {}
    for path, p in params.items():
        raw[path], after[path] = tensor(theta, path, p, gradients[path], memory[path], inputs)
    mean = np.concatenate([u.ravel() for u in raw.values()]).mean()
    return {path: mean - u for path, u in raw.items()}, after


def tensor(
    theta: Any, path: str, p: np.ndarray, gradient: np.ndarray, memory: Memory, inputs: Inputs
) -> tuple[np.ndarray, Memory]:
    """The step of one tensor before the mean is taken off, and its new memory.

    m_d <- d m_d + (1 - d) g for six decays d;
    x = (p, sign m_d, log(|m_d| + 1e-13), sign g, log(|g| + 1e-13)), each of the 15 divided by
    sqrt(1e-5 + its mean square over the tensor), then training, layer and epoch fraction, dormancy;
    h <- GRU(h, x), (o0, o1, o2) = head(h), u = 1e-3 o0 exp(1e-3 o1) + 1e-3 o2 noise.
    """
    g = gradient.reshape(-1, 1)
    m = _KEPT * memory.momentum + _NEW * g
    x = np.hstack(
        [p.reshape(-1, 1), np.sign(m), np.log(abs(m) + 1e-13), np.sign(g), np.log(abs(g) + 1e-13)]
    )
    x = x / np.sqrt(1e-5 + np.mean(x**2, axis=0))
    active = np.asarray(inputs.activity[path], np.float64) + 1e-11
    dormancy = np.broadcast_to(active / active.sum() * active.size, p.shape)
    progress = (inputs.training_fraction, inputs.layer_fraction[path], inputs.epoch_fraction)
    x = np.hstack([x, np.tile(progress, (p.size, 1)), dormancy.reshape(-1, 1)])
    h = gru(theta["gru"], memory.hidden, x)
    o = _head(theta["mlp"], h)
    noise = inputs.noise[path].reshape(-1)
    u = 1e-3 * o[:, 0] * np.exp(1e-3 * o[:, 1]) + 1e-3 * o[:, 2] * noise
    return u.reshape(p.shape), Memory(m, h)


def sign_table(first: float = 1e-3, longest: int = 20_000) -> str:
    """How long the sign of each momentum outlives a single gradient, as a markdown table.

    In updates whose gradient is 0 and after which the sign is still there, with 32-bit numbers:
    with subnormal ones, and with these taken for 0 as by XLA's code for CPUs.

    Args:
        first: the gradient.
        longest: where the count ends.
    """
    rows = []
    for decay in DECAYS:
        row = [f"{decay:.4g}"]
        for least in (0.0, np.finfo(np.float32).tiny):
            momentum, count = decay * (np.float32(first) * (np.float32(1.0) - decay)), 0
            while momentum > 0 and momentum >= least and count < longest:
                momentum, count = decay * momentum, count + 1
            row.append(f"{count:,}" if count < longest else f"more than {longest:,}")
        rows.append(row)
    columns = ["decay", "with subnormal numbers", "without"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def _head(theta: Any, x: np.ndarray) -> np.ndarray:
    """Two hidden layers, each with layer normalisation and ReLU, then three outputs."""
    for layer, norm in (("layers_0", "layers_1"), ("layers_3", "layers_4")):
        x = dense(theta[layer], x)
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
        x = np.maximum(x * theta[norm]["scale"] + theta[norm]["bias"], 0.0)
    return dense(theta["layers_6"], x)


def inputs_of(given: Example, i: int) -> Inputs:
    """The further inputs of update `i` of an example, in a training of as many updates."""
    import jax

    activity, fraction, noise = {}, {}, {}
    keys = jax.random.split(jax.random.key(i), len(given.params))
    for key, (path, p) in zip(keys, sorted(given.params.items()), strict=True):
        network, layer, _ = path.split("/")
        index, layers = int(layer[-1]), given.activity[network]
        activity[path] = layers[index]
        fraction[path] = index / (len(layers) - 1)
        drawn = np.asarray(jax.random.normal(key, p.shape), np.float64)
        noise[path] = drawn if network == "actor" else np.zeros(p.shape)
    done = i / max(len(given.gradients) - 1, 1)
    return Inputs(activity, fraction, noise, training_fraction=done, epoch_fraction=1.0 - done)


def run(theta: Any, given: Example) -> list[Tree]:
    """The updates by hand; the memory starts at zero."""
    theta = as_float64(theta)
    hidden = theta["gru"]["hn"]["bias"].size
    params = {path: p.astype(np.float64) for path, p in given.params.items()}
    memory = {
        path: Memory(np.zeros((p.size, DECAYS.size)), np.zeros((p.size, hidden)))
        for path, p in params.items()
    }
    found = []
    for i, gradients in enumerate(given.gradients):
        g = {path: value.astype(np.float64) for path, value in gradients.items()}
        updates, memory = update(theta, params, g, memory, inputs_of(given, i))
        params = {path: p + updates[path] for path, p in params.items()}
        found.append(updates)
    return found


def library(theta: Any, given: Example) -> list[Tree]:
    """The same from the library's transformation."""
    import jax

    extras = []
    for i in range(len(given.gradients)):
        inputs = inputs_of(given, i)
        extras.append(
            {
                "key": jax.random.key(i),
                "activity": given.activity,
                "training_fraction": inputs.training_fraction,
                "epoch_fraction": inputs.epoch_fraction,
            }
        )
    return by_library(open_optimizer.build(theta), given, extras)
