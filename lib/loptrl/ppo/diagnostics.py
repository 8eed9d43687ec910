"""Signs of a network that can no longer learn: dormant units and low feature rank."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["dormant_fraction", "feature_rank"]


def dormant_fraction(layers: list[jax.Array], activation: str) -> jax.Array:
    """Fraction of hidden units that carry nothing over a batch.

    ReLU: zero for every sample; tanh: standard deviation below 0.001 (Moalla et al. 2024, app. A,
    who call them dead). OPEN reads another, graded measure as dormancy (Sokar et al. 2023).

    Args:
        layers: activations `[batch, units]` of each hidden layer.
        activation: "relu" or "tanh".
    """
    if activation == "relu":
        dead = [jnp.max(layer, axis=0) <= 0.0 for layer in layers]
    else:
        dead = [jnp.std(layer, axis=0) < 1e-3 for layer in layers]
    return jnp.mean(jnp.concatenate(dead).astype(jnp.float32))


def feature_rank(features: jax.Array, threshold: float = 0.99) -> jax.Array:
    """Smallest k whose largest singular values keep `threshold` of the variance.

    min k: sum_{i<=k} s_i^2 / sum_i s_i^2 >= threshold, with s the singular values of the
    uncentred features `[batch, units]` (Moalla et al. 2024, sec. 2). 0 where all are 0, NaN where
    one is not finite.
    """
    eigenvalues = jnp.linalg.eigvalsh(features.T @ features)[::-1]
    eigenvalues = jnp.maximum(eigenvalues, 0.0)
    total = jnp.sum(eigenvalues)
    rank = 1.0 + jnp.sum(jnp.cumsum(eigenvalues) < threshold * total)
    return jnp.where(jnp.isfinite(total), jnp.where(total > 0.0, rank, 0.0), jnp.nan)
