"""The drawings of the learned rules, and what each keeps in memory, computed from its state."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from loptrl import style
from loptrl.errors import LoptrlError
from loptrl.plots.flow import Arrow, Box, flow_figure

__all__ = ["DRAWINGS", "Kept", "drawing", "kept", "memory_table", "weights_count"]

DRAWINGS: dict[str, tuple[list[Box], list[Arrow]]] = {
    "optim4rl": (
        [
            Box(
                "g", "gradient $g$ of one parameter,\nclipped to between −1 and 1", 0, kind="input"
            ),
            Box("gru1", "GRU 1 ↻ reads $g$,\ndense layer: $o_1$", 1, 0.23, 0.42, "learned"),
            Box("gru2", "GRU 2 ↻ reads $g^2$,\ndense layer: $o_2$", 1, 0.77, 0.42, "learned"),
            Box("m", "$m$ = sign($g$) exp($o_1$)", 2, 0.28, 0.52),
            Box("v", "$v$ = exp($o_2$)", 2, 0.77, 0.42),
            Box("u", r"update = $-\alpha \; m \; / \; \sqrt{v}$", 3, kind="update"),
        ],
        [
            Arrow("g", "gru1"),
            Arrow("g", "gru2"),
            Arrow("g", "m", 0.5),
            Arrow("gru1", "m", 0.23),
            Arrow("gru2", "v"),
            Arrow("m", "u"),
            Arrow("v", "u"),
        ],
    ),
    "open": (
        [
            Box("own", "parameter $p$, gradient $g$,\nsix momenta of $g$ ↻", 0, 0.27, 0.5, "input"),
            Box("rest", "progress, epoch,\nlayer, dormancy", 0, 0.77, 0.42, "input"),
            Box("x", "$p$, signs, logarithms,\nscaled over the tensor", 1, 0.27, 0.5),
            Box("gru", "GRU ↻, small network: $o_0, o_1, o_2$", 2, kind="learned"),
            Box("step", "$10^{-3} o_0$ exp($10^{-3} o_1$)", 3, 0.27, 0.5),
            Box("noise", "actor only:\n$10^{-3} o_2$ × noise", 3, 0.77, 0.42),
            Box("u", "$u$ = sum − its mean over all parameters", 4),
            Box("p", r"$p \; \leftarrow \; p - u$", 5, kind="update"),
        ],
        [
            Arrow("own", "x"),
            Arrow("x", "gru"),
            Arrow("rest", "gru"),
            Arrow("gru", "step"),
            Arrow("gru", "noise"),
            Arrow("step", "u"),
            Arrow("noise", "u"),
            Arrow("u", "p"),
        ],
    ),
    "velo": (
        [
            Box("of_tensor", "a tensor's statistics,\nloss ↻, progress", 0, 0.25, 0.46, "input"),
            Box("of_entry", "parameter, gradient,\nrunning means ↻", 0, 0.75, 0.46, "input"),
            Box("lstm", "LSTM ↻, with one\nstate a tensor", 1, 0.25, 0.46, "learned"),
            Box("bank", "bank of small\nnetworks", 2, 0.32, 0.32, "learned"),
            Box("mlp", "the tensor's network,\nentry by entry: $o_0, o_1$", 2, 0.75, 0.46),
            Box(
                "u",
                "update = − rate × size of tensor\n× $10^{-3} o_0$ exp($10^{-3} o_1$)",
                3,
                kind="update",
            ),
        ],
        [
            Arrow("of_tensor", "lstm"),
            Arrow("lstm", "bank", 0.32, "mixture"),
            Arrow("of_entry", "mlp", 0.75),
            Arrow("bank", "mlp"),
            Arrow("mlp", "u"),
            Arrow("lstm", "u", 0.05, "rate"),
        ],
    ),
}
"""By rule: the boxes and the arrows of its data flow, for one update of one parameter."""


def drawing(family: str) -> Figure:
    """The data flow of a learned rule.

    Raises:
        LoptrlError: there is no drawing of it.
    """
    if family not in DRAWINGS:
        raise LoptrlError(f"expected a rule of {', '.join(DRAWINGS)}, got {family!r}")
    return flow_figure(*DRAWINGS[family], style.COLOURS[family])


class Kept(NamedTuple):
    """What an optimizer keeps for the agent of the Ant.

    Attributes:
        label: the optimizer.
        weights: numbers it was trained for, 0 for Adam.
        needed: bytes of state per parameter of the agent.
        stored: the same with the padding of the library's layout.
    """

    label: str
    weights: int
    needed: float
    stored: float


def weights_count(theta: Any) -> int:
    """How many numbers a rule's weights are."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(theta))


@functools.cache
def _rules() -> dict[str, dict[str, tuple[Any, Any]]]:
    """By family: label -> (shapes of its weights, the transformation's init)."""
    import jax
    import optax

    from loptrl.optimizers import open_optimizer, optim4rl, velo

    def shapes(rule: Any, **sizes: Any) -> Any:
        return jax.eval_shape(functools.partial(rule.init_theta, **sizes), jax.random.key(0))

    small, large = (shapes(open_optimizer, size=size) for size in ("small", "large"))
    big = shapes(velo)
    return {
        "adam": {"Adam": ({}, lambda _, p: optax.adam(1.0).init(p))},
        "optim4rl": {
            "Optim4RL": (shapes(optim4rl), lambda theta, p: optim4rl.build(theta).init(p))
        },
        "open": {
            "OPEN, small": (small, lambda theta, p: open_optimizer.build(theta).init(p)),
            "OPEN, large": (large, lambda theta, p: open_optimizer.build(theta).init(p)),
        },
        "velo": {
            "VeLO": (big, lambda theta, p: velo.build(theta, num_steps=1000).init(p)),
        },
    }


@functools.cache
def _agent() -> Any:
    """Shapes of the parameters of the default agent on the Ant: 27 observations, 8 actions."""
    import jax
    import jax.numpy as jnp

    from loptrl.ppo.config import PPOConfig
    from loptrl.ppo.networks import Actor, Critic

    config = PPOConfig()
    actor = Actor(8, False, config.hidden, config.activation)
    critic = Critic(config.hidden, config.activation)

    def init(key: Any) -> Any:
        observation = jnp.zeros(27)
        return {"actor": actor.init(key, observation), "critic": critic.init(key, observation)}

    return jax.eval_shape(init, jax.random.key(0))


def kept(family: str) -> list[Kept]:
    """What a rule of `DRAWINGS`, or "adam", keeps, one line for each of its sizes."""
    import jax

    parameters = sum(leaf.size for leaf in jax.tree.leaves(_agent()))
    found = []
    for label, (theta, init) in _rules()[family].items():
        state = jax.tree.leaves(jax.eval_shape(init, theta, _agent()))
        stored = sum(leaf.size * leaf.dtype.itemsize for leaf in state)
        # A stack [chunks, numbers, lanes, blocks] holds its numbers for every parameter, padded.
        needed = sum(
            (leaf.shape[1] * parameters if leaf.ndim == 4 else leaf.size) * leaf.dtype.itemsize
            for leaf in state
        )
        found.append(Kept(label, weights_count(theta), needed / parameters, stored / parameters))
    return found


def memory_table(family: str) -> str:
    """Adam and a rule: weights, and bytes kept per parameter of the Ant's agent, as Markdown."""
    import jax

    sizes = [leaf.size for leaf in jax.tree.leaves(_agent())]
    rows = [*kept("adam"), *kept(family)]
    padded = any(row.stored > row.needed for row in rows)
    head = ["optimizer", "learned weights", "state, bytes per agent parameter"]
    lines = [head + ["as stored"] * padded, ["---", *["---:"] * (2 + padded)]]
    for row in rows:
        weights = f"{row.weights:,}" if row.weights else "none"
        cells = [row.label, weights, f"{row.needed:.1f}", f"{row.stored:.1f}"]
        lines.append(cells[: 3 + padded])
    said = (
        f"Computed from the state for this book's agent on the Ant: {sum(sizes):,} parameters in "
        f"{len(sizes)} tensors, 4 bytes a number."
    )
    if padded:
        said += (
            " *As stored* counts the padding with which the library cuts all tensors into equal "
            "blocks."
        )
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", said])
