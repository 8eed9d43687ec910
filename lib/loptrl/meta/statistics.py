"""What gradients look like and how far they agree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from loptrl.meta.config import EDGES

__all__ = ["agreement", "cosine", "log_histogram", "sign_agreement", "variance"]

_TINY = 1e-30


def _rows(gradients: Any) -> jax.Array:
    """A tree of arrays `[n, ...]` as `[n, entries]`."""
    leaves = jax.tree.leaves(gradients)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _mean_over_pairs(rows: jax.Array) -> jax.Array:
    """Mean dot product of two different rows: (|sum|^2 - sum of |row|^2) / (n (n - 1)), or NaN."""
    n = rows.shape[0]
    if n == 1:
        return jnp.full((), jnp.nan, rows.dtype)
    both = jnp.sum(jnp.sum(rows, axis=0) ** 2) - jnp.sum(rows**2)
    return both / (n * (n - 1))


def agreement(gradients: Any) -> jax.Array:
    """Mean cosine between the gradients of different agents: 1 all alike, 0 unrelated.

    Args:
        gradients: a tree of arrays `[n, ...]`; NaN for one agent.
    """
    rows = _rows(gradients)
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return _mean_over_pairs(rows / jnp.maximum(norms, _TINY))


def sign_agreement(gradients: Any) -> jax.Array:
    """Mean share of entries whose sign two different agents have in common; 1/2: unrelated.

    An entry that is 0 counts as one half. Arguments as in `agreement`.
    """
    signs = jnp.sign(_rows(gradients))
    return 0.5 + 0.5 * _mean_over_pairs(signs) / signs.shape[1]


def variance(gradients: Any) -> jax.Array:
    """Unbiased variance between agents, summed over the entries; arguments as in `agreement`."""
    rows = _rows(gradients)
    return jnp.sum((rows - jnp.mean(rows, axis=0)) ** 2) / (rows.shape[0] - 1)


def cosine(first: Any, second: Any) -> jax.Array:
    """Cosine between two trees, taken as vectors."""
    norms = optax.tree.norm(first) * optax.tree.norm(second)
    return optax.tree.vdot(first, second) / jnp.maximum(norms, _TINY)


def log_histogram(gradients: Any) -> jax.Array:
    """Shares of the entries by log10 of their size, `[len(EDGES) + 1]`.

    The first share lies below the first edge, zeros included, the last above the last.
    """
    flat = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(gradients)])
    bins = jnp.searchsorted(jnp.asarray(10.0**EDGES, flat.dtype), flat, side="right")
    return jnp.bincount(bins, length=len(EDGES) + 1) / flat.size
