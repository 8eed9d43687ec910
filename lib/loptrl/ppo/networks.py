"""Actor and critic: separate MLPs that report the activity of their hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Actor", "Critic"]

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def _hidden(
    x: jax.Array, widths: Sequence[int], activation: str
) -> tuple[jax.Array, list[jax.Array]]:
    """Hidden layers inside a compact module; returns the last one and all of them."""
    layers = []
    for width in widths:
        x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(np.sqrt(2.0)))(x)
        x = _ACTIVATIONS[activation](x)
        layers.append(x)
    return x, layers


class Actor(nn.Module):
    """Observation `[..., obs]` to the policy's parameters and the hidden activations.

    Discrete: logits `[..., actions]`. Continuous: the pair (mean `[..., actions]`,
    state-independent log of the standard deviation `[actions]`).
    """

    actions: int
    discrete: bool
    hidden: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[Any, list[jax.Array]]:
        x, layers = _hidden(observation, self.hidden, self.activation)
        out = nn.Dense(self.actions, kernel_init=nn.initializers.orthogonal(0.01))(x)
        if self.discrete:
            return out, layers
        return (out, self.param("log_std", nn.initializers.zeros, (self.actions,))), layers


class Critic(nn.Module):
    """Observation `[..., obs]` to the value `[...]` and the hidden activations."""

    hidden: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        x, layers = _hidden(observation, self.hidden, self.activation)
        return nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(x)[..., 0], layers
