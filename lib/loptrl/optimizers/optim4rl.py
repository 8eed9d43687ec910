"""Optim4RL (Lan, Mahmood, Yan & Xu, RLC 2024) and the two rules its authors compare with.

Each parameter has its own recurrent state; the weights theta are shared by all. The gradient is
clipped entry by entry and is data to the rule: no derivative flows through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from loptrl.errors import LoptrlError
from loptrl.optimizers.features import gru, init_gru, init_mlp, mlp
from loptrl.optimizers.flat import Layout, Split

__all__ = [
    "GRUState",
    "build",
    "build_l2lgd2",
    "build_linear",
    "init_theta",
    "init_theta_l2lgd2",
    "init_theta_linear",
]


class GRUState(NamedTuple):
    """State of the rules of this file.

    Attributes:
        hidden: `[chunks, cells * hidden_size, lanes, blocks]`, float; see `flat.Layout`.
        count: int32 `[]`, updates made.
    """

    hidden: jax.Array
    count: jax.Array


# A rule: (theta, hidden [units, entries], gradient [1, entries], eps) -> (hidden, direction).
Rule = Callable[[Any, jax.Array, jax.Array, float], tuple[jax.Array, jax.Array]]


def _optim4rl(theta: Any, h: jax.Array, g: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    h1, h2 = jnp.split(h, 2, axis=0)
    h1 = gru(theta["rnn1"], h1, g)
    h2 = gru(theta["rnn2"], h2, g * g)
    o1, o2 = mlp(theta["mlp1"], h1), mlp(theta["mlp2"], h2)
    direction = jnp.sign(g) * jnp.exp(o1) / jnp.sqrt(jnp.exp(o2) + eps)
    return jnp.concatenate([h1, h2], axis=0), direction


def _linear(theta: Any, h: jax.Array, g: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    h = gru(theta["rnn"], h, g)
    o1, o2, o3 = jnp.split(mlp(theta["mlp"], h), 3, axis=0)
    return h, jnp.exp(o1) * g + jnp.exp(o2) * o3


def _l2lgd2(
    theta: Any, h: jax.Array, g: jax.Array, eps: float, *, p: float
) -> tuple[jax.Array, jax.Array]:
    size = jnp.log(jnp.abs(g) + eps) / p
    large = size >= -1.0
    first = jnp.where(large, size, -1.0)
    second = jnp.where(large, jnp.sign(g), jnp.exp(jnp.asarray(p, g.dtype)) * g)
    h = gru(theta["rnn"], h, jnp.concatenate([first, second], axis=0))
    return h, jnp.exp(mlp(theta["mlp"], h)) * g


def init_theta(
    key: jax.Array, *, hidden_size: int = 8, mlp_dims: Sequence[int] = ()
) -> dict[str, Any]:
    """Untrained weights of Optim4RL: two GRUs and two heads (514 numbers by default)."""
    keys = jax.random.split(key, 4)
    return {
        "mlp1": init_mlp(keys[0], (hidden_size, *mlp_dims, 1)),
        "mlp2": init_mlp(keys[1], (hidden_size, *mlp_dims, 1)),
        "rnn1": init_gru(keys[2], 1, hidden_size),
        "rnn2": init_gru(keys[3], 1, hidden_size),
    }


def init_theta_linear(
    key: jax.Array, *, hidden_size: int = 8, mlp_dims: Sequence[int] = (16, 16)
) -> dict[str, Any]:
    """Untrained weights of LinearOptim: one GRU and a head of three outputs."""
    keys = jax.random.split(key)
    return {
        "mlp": init_mlp(keys[0], (hidden_size, *mlp_dims, 3)),
        "rnn": init_gru(keys[1], 1, hidden_size),
    }


def init_theta_l2lgd2(
    key: jax.Array, *, hidden_size: int = 8, mlp_dims: Sequence[int] = (16, 16)
) -> dict[str, Any]:
    """Untrained weights of L2LGD2: one GRU with two inputs and a head of one output."""
    keys = jax.random.split(key)
    return {
        "mlp": init_mlp(keys[0], (hidden_size, *mlp_dims, 1)),
        "rnn": init_gru(keys[1], 2, hidden_size),
    }


def build(
    theta: Any,
    *,
    learning_rate: float = 3e-4,
    grad_clip: float | None = 1.0,
    eps: float = 1e-8,
    stop_inputs: bool = True,
    split: Split | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Optim4RL: a learned ratio of two moments, in the direction of the gradient's sign.

    h1 = GRU1(h1, g), h2 = GRU2(h2, g^2),
    u = -alpha sign(g) exp(MLP1(h1)) / sqrt(exp(MLP2(h2)) + eps).

    Args:
        theta: weights as `init_theta` makes them; may be traced.
        learning_rate: alpha; may be traced.
        grad_clip: every entry of the gradient is clipped to [-grad_clip, grad_clip]; None: not.
        eps: added to the second moment.
        stop_inputs: no derivative flows through the gradients that come in, as in the official
            code; off, a meta-gradient through several updates is the whole one. The values are the
            same.
        split: over which devices the work is split, inside `jax.shard_map`; the stack of the state
            is then split along its first axis.

    Returns:
        The transformation; extra inputs are ignored.

    References:
        Lan, Mahmood, Yan & Xu, "Learning to Optimize for Reinforcement Learning", RLC 2024.
    """
    cells = ("rnn1", "rnn2")
    rest = theta, learning_rate, grad_clip, eps, split
    return _build(_optim4rl, cells, ("mlp1", "mlp2"), *rest, stop_inputs=stop_inputs)


def build_linear(
    theta: Any,
    *,
    learning_rate: float = 3e-4,
    grad_clip: float | None = 1.0,
    split: Split | None = None,
) -> optax.GradientTransformationExtraArgs:
    """LinearOptim: u = -alpha (exp(o1) g + exp(o2) o3), (o1, o2, o3) = MLP(GRU(h, g)).

    It moves where the gradient is zero, unlike Optim4RL. Arguments as in `build`.
    """
    return _build(_linear, ("rnn",), ("mlp",), theta, learning_rate, grad_clip, 0.0, split)


def build_l2lgd2(
    theta: Any,
    *,
    learning_rate: float = 3e-4,
    grad_clip: float | None = 1.0,
    eps: float = 1e-8,
    p: float = 10.0,
    split: Split | None = None,
) -> optax.GradientTransformationExtraArgs:
    """L2LGD2: u = -alpha exp(MLP(GRU(h, s(g)))) g, with s(g) in Andrychowicz et al. 2016's scale.

    `s(g) = [log(|g| + eps)/p, sign(g)]` for a large gradient, `[-1, e^p g]` for a tiny one, below
    e^-p. Other arguments as in `build`.
    """
    rule = functools.partial(_l2lgd2, p=p)
    return _build(rule, ("rnn",), ("mlp",), theta, learning_rate, grad_clip, eps, split)


def _build(
    rule: Rule,
    cells: tuple[str, ...],
    heads: tuple[str, ...],
    theta: Any,
    learning_rate: float,
    grad_clip: float | None,
    eps: float,
    split: Split | None,
    *,
    stop_inputs: bool = True,
) -> optax.GradientTransformationExtraArgs:
    if set(theta) != {*cells, *heads}:
        raise LoptrlError(
            f"expected theta with the parts {sorted((*cells, *heads))}, got {sorted(theta)}; "
            "make it with this rule's own init_theta"
        )
    if callable(learning_rate):
        raise LoptrlError(
            f"expected learning_rate as a number, got {type(learning_rate).__name__}; for a "
            "schedule call optax.inject_hyperparams(build)(theta, learning_rate=schedule)"
        )
    # A traced bound cannot be looked at.
    if not (grad_clip is None or isinstance(grad_clip, jax.core.Tracer) or grad_clip > 0):
        raise LoptrlError(
            f"expected grad_clip > 0, got {grad_clip}; give None to leave gradients as they are"
        )
    units = sum(theta[cell]["hn"]["bias"].shape[-1] for cell in cells)

    def init(params: Any) -> GRUState:
        layout = Layout.of(params, split)
        chunks, lanes, blocks = layout.stack_shape
        hidden = jnp.zeros((chunks, units, lanes, blocks), layout.dtype)
        return GRUState(hidden, jnp.zeros([], jnp.int32))

    def update(
        grads: Any, state: GRUState, params: Any = None, **extra: Any
    ) -> tuple[Any, GRUState]:
        del extra
        layout = Layout.of(grads if params is None else params, split)
        weights = jax.tree.map(lambda w: jnp.asarray(w, layout.dtype), theta)
        g = layout.pack(grads)
        if stop_inputs:
            g = jax.lax.stop_gradient(g)
        if grad_clip is not None:
            g = jnp.clip(g, -grad_clip, grad_clip)
        step = functools.partial(_one_chunk, rule, weights, eps)
        hidden, direction = layout.map_chunks(step, state.hidden, g)
        updates = layout.unpack(-learning_rate * direction)
        return updates, GRUState(hidden, state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _one_chunk(
    rule: Rule, theta: Any, eps: float, hidden: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    h, direction = rule(theta, hidden.reshape(hidden.shape[0], -1), g.reshape(1, -1), eps)
    return h.reshape(hidden.shape), direction.reshape(g.shape)
