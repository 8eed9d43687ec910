"""The two policies' distributions, as functions of the actor's output."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Categorical", "DiagonalGaussian", "distribution"]


class DiagonalGaussian:
    """Parameters: (mean `[..., d]`, log standard deviation `[d]`)."""

    @staticmethod
    def sample(key: jax.Array, parameters: Any) -> jax.Array:
        """mu + sigma z with z standard normal, `[..., d]`."""
        mean, log_std = parameters
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)

    @staticmethod
    def mode(parameters: Any) -> jax.Array:
        """mu, `[..., d]`."""
        return parameters[0]

    @staticmethod
    def log_prob(parameters: Any, action: jax.Array) -> jax.Array:
        """log N(a; mu, sigma^2) summed over the dimensions, `[...]`."""
        mean, log_std = parameters
        z = (action - mean) * jnp.exp(-log_std)
        return -0.5 * jnp.sum(z**2, axis=-1) - jnp.sum(log_std + 0.5 * jnp.log(2 * jnp.pi))

    @staticmethod
    def entropy(parameters: Any) -> jax.Array:
        """0.5 log(2 pi e sigma^2), summed over the dimensions; the same for every observation."""
        mean, log_std = parameters
        total = jnp.sum(log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e))
        return jnp.broadcast_to(total, mean.shape[:-1])


class Categorical:
    """Parameters: logits `[..., actions]`."""

    @staticmethod
    def sample(key: jax.Array, parameters: jax.Array) -> jax.Array:
        """An action of each distribution, int `[...]`."""
        return jax.random.categorical(key, parameters)

    @staticmethod
    def mode(parameters: jax.Array) -> jax.Array:
        """The most probable action, int `[...]`."""
        return jnp.argmax(parameters, axis=-1)

    @staticmethod
    def log_prob(parameters: jax.Array, action: jax.Array) -> jax.Array:
        """log p(a), `[...]`."""
        log_p = jax.nn.log_softmax(parameters)
        return jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0]

    @staticmethod
    def entropy(parameters: jax.Array) -> jax.Array:
        """-sum p log p, `[...]`."""
        log_p = jax.nn.log_softmax(parameters)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def distribution(discrete: bool) -> type[DiagonalGaussian] | type[Categorical]:
    """The distribution for a world's kind of action."""
    return Categorical if discrete else DiagonalGaussian
