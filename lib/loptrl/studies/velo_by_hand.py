"""VeLO written out by hand in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loptrl.optimizers import velo
from loptrl.studies.by_hand import (
    UNTRAINED,
    Example,
    Tree,
    as_float64,
    by_library,
    sigmoid,
    weights_of,
)

__all__ = [
    "Memory",
    "TensorMemory",
    "accumulate",
    "entry_inputs",
    "library",
    "loss_features",
    "lstm",
    "run",
    "start",
    "tensor_inputs",
    "tensor_step",
    "update",
    "weights",
]

# Sizes of untrained weights: those of the released ones would only take longer.
_LSTM, _BANK = 16, 8
_DECAYS = np.array([0.9, 0.99, 0.999], np.float32)
_KEPT, _NEW = _DECAYS.astype(float), (np.float32(1.0) - _DECAYS).astype(float)
_RMS_KEPT, _RMS_NEW = float(np.float32(0.999)), float(np.float32(1.0) - np.float32(0.999))
_TIMES = np.array([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1])


class TensorMemory(NamedTuple):
    """Running means for one tensor, three decays on the last axis where there are three.

    Attributes:
        momentum: of the gradient, `[*shape, 3]`.
        rms: of its square, `[*shape]`.
        row, col: of its square, averaged over the largest and over the second largest axis, which
            is kept with size one; with fewer than two axes both are `[*shape, 3]`, not averaged.
    """

    momentum: np.ndarray
    rms: np.ndarray
    row: np.ndarray
    col: np.ndarray


class Memory(NamedTuple):
    """What the rule keeps.

    Attributes:
        tensors: by path.
        hidden, cell: of the LSTM, `[tensors, hidden]`.
        loss_means, loss_minima: at ten time scales, `[10]`.
        count: updates made.
    """

    tensors: dict[str, TensorMemory]
    hidden: np.ndarray
    cell: np.ndarray
    loss_means: np.ndarray
    loss_minima: np.ndarray
    count: int


def weights(name: str | Path = UNTRAINED, seed: int = 0) -> Any:
    """Small untrained weights, or those of that name or path."""
    return weights_of(velo, name, seed, lstm_hidden_size=_LSTM, param_inits=_BANK)


def start(theta: Any, params: Tree) -> Memory:
    """The memory before the first update: zeros, the LSTM at its learned state."""
    tensors = {}
    for path, p in params.items():
        row, col = (*p.shape, 3), (*p.shape, 3)
        if p.ndim >= 2:
            second, largest = np.argsort(p.shape)[-2:]
            row = tuple(1 if i == largest else n for i, n in enumerate(row))
            col = tuple(1 if i == second else n for i, n in enumerate(col))
        shapes = ((*p.shape, 3), p.shape, row, col)
        tensors[path] = TensorMemory(*(np.zeros(shape) for shape in shapes))
    first = theta["lstm_init_state"]
    hidden, cell = (np.repeat(first[name], len(params), axis=0) for name in ("hidden", "cell"))
    return Memory(tensors, hidden, cell, np.zeros(10), np.full(10, 999999999999.0), 0)


def update(
    theta: Any, params: Tree, gradients: Tree, memory: Memory, loss: float, num_steps: int
) -> tuple[Tree, Memory]:
    """One update of all tensors: what is added to each, and the new memory.

    Args:
        theta: the rule's weights, in 64 bits.
        params, gradients: by path, in sorted order.
        memory: as `start` makes it.
        loss: of this update.
        num_steps: updates that the training will make.

    References:
        Metz et al. (2022), as in the authors' research/general_lopt/hyper_v2.py at 32186aa.
    """
    means, minima, features = loss_features(memory, loss, num_steps)
    shared = np.concatenate([np.tanh(10.0 * (memory.count / num_steps - _TIMES)), features])
    x = np.stack([tensor_inputs(p, memory.tensors[path], shared) for path, p in params.items()])
    control, rate, hidden, cell = lstm(theta["rnn_params"], x, memory.hidden, memory.cell)
    bank, updates, tensors = theta["ff_mod_stack"], {}, {}
    for i, (path, p) in enumerate(params.items()):
        g = np.clip(gradients[path], -1000.0, 1000.0)
        tensors[path] = accumulate(memory.tensors[path], g)
        # 100 times the mean over the bank of its weights, each network times its control.
        own = {k: 100.0 * np.tensordot(control[i], w, 1) / len(w) for k, w in bank.items()}
        updates[path] = -rate[i] * tensor_step(own, p, g, tensors[path])
    return updates, Memory(tensors, hidden, cell, means, minima, memory.count + 1)


def tensor_step(own: Any, p: np.ndarray, g: np.ndarray, after: TensorMemory) -> np.ndarray:
    """The MLP of one tensor on each of its entries, before the LSTM's rate.

    o = W2 relu(W1 relu(W0 x + b0) + b1) + b2 with x the 30 inputs, each divided by
    sqrt(1e-5 + its mean square over the tensor);
    1e-3 o0 exp(1e-3 o1) sqrt(mean p^2 + 1e-9).
    """
    x = entry_inputs(p, g, after)
    x = x / np.sqrt(1e-5 + np.mean(x**2, axis=0))
    first = np.concatenate([own[f"w0__{i}"] for i in range(14)])
    x = np.maximum(x @ first + own["b0"], 0.0)
    x = np.maximum(x @ own["w1"] + own["b1"], 0.0)
    o = x @ own["w2"] + own["b2"]
    size = np.sqrt(np.mean(p**2) + 1e-9)
    return (1e-3 * o[:, 0] * np.exp(1e-3 * o[:, 1]) * size).reshape(p.shape)


def entry_inputs(p: np.ndarray, g: np.ndarray, after: TensorMemory) -> np.ndarray:
    """The MLP's 30 inputs for every entry, from the running means after this gradient."""
    m, rms, row, col = after
    root = 1.0 / np.sqrt(rms + 1e-6)
    if p.ndim >= 2:
        second, _ = np.argsort(p.shape)[-2:]
        by_row = _inverse_root(row / (row.mean(axis=second, keepdims=True) + 1e-9))
        scale_g = scale_m = by_row * _inverse_root(col)
    else:
        scale_g, scale_m = _inverse_root(row + 1e-9), row**-0.5
    row, col = np.broadcast_to(row, m.shape), np.broadcast_to(col, m.shape)
    first = [g, np.clip(g, -0.1, 0.1), p, m, rms, m * root[..., None], root]
    factored = [g[..., None] * scale_g, g * root, row, col]
    last = [1.0 / np.sqrt(row + 1e-8), 1.0 / np.sqrt(col + 1e-8), m * scale_m]
    groups = first + factored + last
    return np.hstack([group.reshape(p.size, -1) for group in groups])


def accumulate(before: TensorMemory, g: np.ndarray) -> TensorMemory:
    """The running means after gradient `g [*shape]`."""
    square = np.repeat((g**2 + 1e-30)[..., None], 3, axis=-1)
    row = col = square
    if g.ndim >= 2:
        second, largest = np.argsort(g.shape)[-2:]
        row = square.mean(axis=largest, keepdims=True)
        col = square.mean(axis=second, keepdims=True)
    return TensorMemory(
        _KEPT * before.momentum + _NEW * g[..., None],
        _RMS_KEPT * before.rms + _RMS_NEW * g**2,
        _KEPT * before.row + _NEW * row,
        _KEPT * before.col + _NEW * col,
    )


def tensor_inputs(p: np.ndarray, before: TensorMemory, shared: np.ndarray) -> np.ndarray:
    """The LSTM's 30 inputs for one tensor, from the running means before this gradient.

    Nine of progress and nine of the loss (`shared`), one mean, five for the number of axes longer
    than one, and two times three spreads. The second spread is of the squares around the mean of
    the *gradients*, as in the authors' code.
    """
    size = 1.0 / np.sqrt(max(1e-9, np.mean(p**2)))
    m, rms = size * before.momentum.reshape(-1, 3), size * before.rms.reshape(-1, 1)
    centre = m.mean(axis=0)
    axes = np.zeros(5)
    axes[sum(n > 1 for n in p.shape)] = 1.0
    mean, spread = rms.mean(axis=0), np.mean((m - centre) ** 2, axis=0)
    logs = [
        0.5 * np.clip(np.log(1e-8 + abs(10.0 * x)), -5.0, 5.0)
        for x in (mean, spread, np.mean((rms - centre) ** 2, axis=0))
    ]
    return np.concatenate([shared, logs[0], axes, logs[1], logs[2]])


def lstm(
    theta: Any, x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Control `[tensors, bank]` and rate `[tensors]`, then the new hidden state and cell.

    The tensors see each other through the maximum over all of them of one layer's output.
    """
    mix = np.maximum(_linear(theta["linear_1"], x), 0.0).max(axis=0)
    x = _linear(theta["linear_2"], x) + mix
    i, g, f, o = np.split(_linear(theta["rnn"]["linear"], np.hstack([x, h])), 4, axis=1)
    c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return _linear(theta["rnn_to_controls"], h), _linear(theta["step_size"], h)[:, 0], h, c


def loss_features(
    memory: Memory, loss: float, num_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New means and minima of the loss, and nine comparisons of neighbouring time scales."""
    decays = np.exp(-1.0 / np.logspace(1.0, np.log10(num_steps), 10)).astype(np.float32)
    kept, new = decays.astype(float), (np.float32(1.0) - decays).astype(float)
    corrections = 1.0 - kept ** (memory.count + 1)
    # A sudden loss counts as at most twice the largest mean so far.
    cap = loss if memory.count == 0 else np.max(memory.loss_means / corrections)
    means = kept * memory.loss_means + new * min(2.0 * abs(cap), loss)
    level = means / corrections
    minima = np.minimum(memory.loss_minima, level)
    above = np.maximum(1e-8, level[1:] - minima[:-1])
    features = np.clip((level[:-1] - minima[:-1]) / above - 1.0, -1.0, 1.0)
    return means, minima, features if memory.count >= 2 else np.zeros(9)


def run(theta: Any, given: Example, num_steps: int = 100) -> list[Tree]:
    """The updates by hand."""
    theta = as_float64(theta)
    params = {path: p.astype(np.float64) for path, p in sorted(given.params.items())}
    memory = start(theta, params)
    found = []
    for gradients, loss in zip(given.gradients, given.losses, strict=True):
        g = {path: gradients[path].astype(np.float64) for path in params}
        updates, memory = update(theta, params, g, memory, loss, num_steps)
        params = {path: p + updates[path] for path, p in params.items()}
        found.append(updates)
    return found


def library(theta: Any, given: Example, num_steps: int = 100) -> list[Tree]:
    """The same from the library's transformation."""
    extras = [{"loss": np.float32(loss)} for loss in given.losses]
    return by_library(velo.build(theta, num_steps=num_steps), given, extras)


def _linear(theta: Any, x: np.ndarray) -> np.ndarray:
    return x @ theta["w"] + theta["b"]


def _inverse_root(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(np.maximum(x, 1e-9))
