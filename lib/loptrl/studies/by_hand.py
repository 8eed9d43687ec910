"""What the hand computations of the method pages share: numpy networks, an example, a table.

Everything here is numpy in 64 bits, with one row an entry of a tensor (`[entries, features]`), and
written from the equations: the library's rules compute features first and in 32 bits.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loptrl.errors import LoptrlError
from loptrl.studies.adam_by_hand import check_count

__all__ = [
    "UNTRAINED",
    "Example",
    "Tree",
    "as_float64",
    "by_library",
    "code",
    "dense",
    "example",
    "gru",
    "largest_difference",
    "mlp",
    "sigmoid",
    "table",
    "weights_of",
]

Tree = dict[str, np.ndarray]
"""Tensors by path, such as "actor/Dense_0/kernel"; sorted paths are the order of the leaves."""

UNTRAINED = "untrained"
"""In place of a name of weights: random ones, as meta-training would start from."""

_SHAPES = {
    "actor/Dense_0/bias": (3,),
    "actor/Dense_0/kernel": (2, 3),
    "actor/Dense_1/bias": (1,),
    "actor/Dense_1/kernel": (3, 1),
    "critic/Dense_0/bias": (2,),
    "critic/Dense_0/kernel": (2, 2),
    "critic/Dense_1/bias": (1,),
    "critic/Dense_1/kernel": (2, 1),
}


class Example(NamedTuple):
    """A tiny agent and what its optimizer is given.

    Attributes:
        params: the agent's parameters before the first update.
        gradients: one tree an update.
        losses: one number an update.
        activity: mean absolute activation of each unit, by network and layer.
    """

    params: Tree
    gradients: list[Tree]
    losses: list[float]
    activity: dict[str, list[np.ndarray]]


def example(seed: int = 0, updates: int = 3) -> Example:
    """An actor and a critic of two layers, with gradients of many sizes, one entry always zero.

    Args:
        seed: of all its numbers.
        updates: how many gradients there are.
    """
    check_count("seed", seed, least=0)
    check_count("updates", updates)
    rng = np.random.default_rng(seed)
    params = {path: _float32(rng.normal(0.0, 0.5, shape)) for path, shape in _SHAPES.items()}
    gradients = []
    for _ in range(updates):
        tree = {
            path: _float32(rng.normal(size=shape) * 10.0 ** rng.uniform(-4.0, 0.5, shape))
            for path, shape in _SHAPES.items()
        }
        tree["actor/Dense_0/kernel"][0, 0] = 0.0
        gradients.append(tree)
    # Low and high in turn: VeLO compares neighbouring means, which must differ to say anything.
    swings = (-1.0) ** np.arange(1, updates + 1) * rng.uniform(0.8, 1.6, updates)
    losses = [float(np.float32(x)) for x in 2.0 + swings]
    activity = {
        network: [
            _float32(rng.uniform(0.0, 1.0, _SHAPES[f"{network}/Dense_{layer}/bias"]))
            for layer in (0, 1)
        ]
        for network in ("actor", "critic")
    }
    return Example(params, gradients, losses, activity)


def weights_of(rule: Any, name: str | Path, key: int, **sizes: Any) -> Any:
    """Weights of a learned rule: untrained ones, or those of that name or path.

    Args:
        rule: one of `loptrl.optimizers.LEARNED`.
        name: "untrained", or what the rule is called with.
        key: seed of untrained weights.
        sizes: of untrained weights, as the rule's `init_theta` takes them.
    """
    if name != UNTRAINED:
        return rule.theta(name)
    import jax

    return rule.init_theta(jax.random.key(key), **sizes)


def as_float64(theta: Any) -> Any:
    """A tree of dictionaries with numpy arrays in 64 bits for leaves."""
    if isinstance(theta, Mapping):
        return {name: as_float64(value) for name, value in theta.items()}
    return np.asarray(theta, np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def dense(theta: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """x W + b for `x [entries, inputs]`; b where there is one."""
    return x @ theta["kernel"] + theta.get("bias", 0.0)


def mlp(theta: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Dense layers with a ReLU between them; their names end in numbers that order them."""
    names = sorted(theta, key=lambda name: int(name.split("_")[-1]))
    for name in names[:-1]:
        x = np.maximum(dense(theta[name], x), 0.0)
    return dense(theta[names[-1]], x)


def gru(theta: Mapping[str, Any], h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One step of a gated recurrent unit: the new state `[entries, hidden]`, also the output.

    r = sigm(W_ir x + b_ir + W_hr h), z = sigm(W_iz x + b_iz + W_hz h),
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h.

    References:
        Cho et al. (2014), section 2.3, with the reset gate where flax has it.
    """
    r = sigmoid(dense(theta["ir"], x) + dense(theta["hr"], h))
    z = sigmoid(dense(theta["iz"], x) + dense(theta["hz"], h))
    n = np.tanh(dense(theta["in"], x) + r * dense(theta["hn"], h))
    return (1.0 - z) * n + z * h


def by_library(rule: Any, given: Example, extras: Sequence[Mapping[str, Any]] = ()) -> list[Tree]:
    """What the library's transformation returns for the example, update by update.

    Args:
        rule: an optax transformation.
        given: the example.
        extras: the keyword arguments of each update; none by default.
    """
    import jax
    import jax.numpy as jnp
    import optax

    update = jax.jit(rule.update)
    params = _nested({path: jnp.asarray(value) for path, value in given.params.items()})
    state = rule.init(params)
    found = []
    for i, gradients in enumerate(given.gradients):
        grads = _nested({path: jnp.asarray(value) for path, value in gradients.items()})
        updates, state = update(grads, state, params, **(extras[i] if extras else {}))
        params = optax.apply_updates(params, updates)
        found.append(_flat(updates))
    return found


def largest_difference(ours: Sequence[Tree], theirs: Sequence[Tree]) -> tuple[float, float]:
    """(largest difference of two sequences of updates, largest entry of the first)."""
    if [tree.keys() for tree in ours] != [tree.keys() for tree in theirs]:
        raise LoptrlError("expected updates of the same tensors, got different ones")
    pairs = [(a[path], b[path]) for a, b in zip(ours, theirs, strict=True) for path in a]
    worst = max(float(np.abs(a - b).max()) for a, b in pairs)
    return worst, max(float(np.abs(a).max()) for a, _ in pairs)


def table(ours: Sequence[Tree], theirs: Sequence[Tree]) -> str:
    """The last update, by hand beside the library's, as a Markdown table with a sentence.

    One row a tensor: its first entry both ways, and by how much its entries differ at most.
    """
    worst, largest = largest_difference(ours, theirs)
    lines = ["| tensor | by hand | library | differ by |", "|---|---:|---:|---:|"]
    for path, hand in ours[-1].items():
        library = theirs[-1][path]
        difference = float(np.abs(hand - library).max())
        # Plus 0.0: a step of -0 is shown as 0.
        first, second = float(hand.flat[0]) + 0.0, float(library.flat[0]) + 0.0
        lines.append(f"| {path} | {first:.5e} | {second:.5e} | {difference:.0e} |")
    count = "this update" if len(ours) == 1 else f"all {len(ours)} updates"
    share = worst / largest if largest else 0.0
    text = "\n".join(
        [
            *lines,
            "",
            f"Update {len(ours)}; of each tensor, the first entry is shown. Over {count} and all "
            f"entries the largest difference is **{worst:.0e}**, which is {share:.0e} of the "
            f"largest entry of an update, {largest:.1e}. By hand is 64-bit; the library is "
            f"32-bit, where numbers are spaced by {np.finfo(np.float32).eps:.0e} of their size.",
        ]
    )
    # A minus in place of the hyphen, at which a browser may break a line.
    return re.sub(r"(?<=[\s*])-(?=\d)|(?<=e)-(?=\d)", "−", text)


def code(function: Callable[..., Any]) -> str:
    """The source of a function as a Markdown block, without its docstring."""
    lines = textwrap.dedent(inspect.getsource(function))
    if doc := function.__doc__:
        lines = lines.replace(f'    """{doc}"""\n', "", 1)
    return f"```python\n{lines.rstrip()}\n```"


def _float32(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, last = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    found: Tree = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = np.asarray(value)
    return found
