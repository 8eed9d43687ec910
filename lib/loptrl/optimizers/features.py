"""The small networks inside the learned optimizers, with features on the first axis.

Weights are stored as flax stores them (`kernel [inputs, outputs]`), so that official files load
without a change; arrays of entries are `[features, entries]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

__all__ = [
    "dense",
    "gru",
    "init_dense",
    "init_gru",
    "init_mlp",
    "layer_norm",
    "mlp",
]

_PRECISION = jax.lax.Precision.HIGHEST


def dense(theta: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """W^T x + b for `x [inputs, entries]`; gives `[outputs, entries]`."""
    out = jnp.dot(theta["kernel"].T, x, precision=_PRECISION)
    return out + theta["bias"][:, None] if "bias" in theta else out


def mlp(theta: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Dense layers with a ReLU between them; `layers_0, layers_2, ...` as flax numbers them."""
    names = sorted(theta, key=lambda name: int(name.rpartition("_")[2]))
    for i, name in enumerate(names):
        x = dense(theta[name], x if i == 0 else jax.nn.relu(x))
    return x


def gru(theta: Mapping[str, Any], h: jax.Array, x: jax.Array) -> jax.Array:
    """One step of a gated recurrent unit (Cho et al. 2014), as flax's `GRUCell`.

    r = sigm(W_ir x + b_ir + W_hr h), z = sigm(W_iz x + b_iz + W_hz h),
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h.

    The gates are computed apart: stacked into one product and cut up again, XLA's CPU code is up
    to six times slower.

    Args:
        theta: the weights `ir, iz, in, hr, hz, hn`; hr and hz have no bias.
        h: state `[hidden, entries]`.
        x: input `[inputs, entries]`.

    Returns:
        The new state, which is also the output.
    """
    r = jax.nn.sigmoid(dense(theta["ir"], x) + dense(theta["hr"], h))
    z = jax.nn.sigmoid(dense(theta["iz"], x) + dense(theta["hz"], h))
    n = jnp.tanh(dense(theta["in"], x) + r * dense(theta["hn"], h))
    return (1.0 - z) * n + z * h


def layer_norm(theta: Mapping[str, jax.Array], x: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Layer normalisation over the units of `x [units, entries]`, population variance."""
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    variance = jnp.mean(centred**2, axis=0, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + eps)
    return normal * theta["scale"][:, None] + theta["bias"][:, None]


def init_dense(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
    """LeCun normal kernel, zero bias."""
    return {
        "bias": jnp.zeros(outputs),
        "kernel": initializers.lecun_normal()(key, (inputs, outputs)),
    }


def init_mlp(key: jax.Array, sizes: Sequence[int]) -> dict[str, Any]:
    """Dense layers between the given sizes, named as `mlp` reads them."""
    keys = jax.random.split(key, len(sizes) - 1)
    return {
        f"layers_{2 * i}": init_dense(k, a, b)
        for i, (k, a, b) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True))
    }


def init_gru(key: jax.Array, inputs: int, hidden: int) -> dict[str, Any]:
    """LeCun normal input kernels, orthogonal recurrent kernels, zero biases."""
    keys = jax.random.split(key, 6)
    theta: dict[str, Any] = {
        name: init_dense(k, inputs, hidden) for name, k in zip(("ir", "iz", "in"), keys[:3])
    }
    for name, k in zip(("hr", "hz", "hn"), keys[3:]):
        theta[name] = {"kernel": initializers.orthogonal()(k, (hidden, hidden))}
    theta["hn"]["bias"] = jnp.zeros(hidden)
    return theta
