"""Running mean and variance, merged over devices."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from loptrl.ppo.collectives import psum

__all__ = ["Moments", "merge", "new", "standardize"]


class Moments(NamedTuple):
    """Running moments: number of samples `[]`, mean `[d]`, sum of squared deviations `[d]`."""

    count: jax.Array
    mean: jax.Array
    deviations: jax.Array

    @property
    def variance(self) -> jax.Array:
        """Population variance; 1 before the first sample."""
        return jnp.where(self.count > 0, self.deviations / jnp.maximum(self.count, 1.0), 1.0)


def new(shape: tuple[int, ...]) -> Moments:
    """No samples yet."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def merge(moments: Moments, samples: jax.Array, axis_name: str) -> Moments:
    """Moments after `samples` `[..., d]` of every device (Chan et al. 1979, pairwise update)."""
    axes = tuple(range(samples.ndim - moments.mean.ndim))
    local = float(samples.size // max(moments.mean.size, 1))
    count = psum(local, axis_name)
    mean = psum(jnp.sum(samples, axes), axis_name) / count
    deviations = psum(jnp.sum((samples - mean) ** 2, axes), axis_name)
    total = moments.count + count
    delta = mean - moments.mean
    return Moments(
        total,
        moments.mean + delta * count / total,
        moments.deviations + deviations + delta**2 * moments.count * count / total,
    )


def standardize(moments: Moments, x: jax.Array, limit: float = 10.0) -> jax.Array:
    """(x - mean) / sqrt(variance + 1e-8), clipped to [-limit, limit]."""
    scaled = (x - moments.mean) * jax.lax.rsqrt(moments.variance + 1e-8)
    return jnp.clip(scaled, -limit, limit)
