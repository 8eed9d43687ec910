"""Generalised advantage estimation with terminations and time limits kept apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["generalized_advantages"]


def generalized_advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Advantages (Schulman et al. 2016, eq. 16).

    delta_t = r_t + gamma (1 - terminated_t) V(final_observation_t) - V(o_t);
    A_t = delta_t + gamma lambda (1 - terminated_t)(1 - truncated_t) A_{t+1}.
    A termination has no future value; a time limit has one, but no advantage flows across it.

    Args:
        rewards, values, next_values: `[T, n]`; `next_values` at the observation before any reset.
        terminated, truncated: bool `[T, n]`.
        discount, gae_lambda: in [0, 1].

    Returns:
        `[T, n]`.
    """
    alive = 1.0 - terminated.astype(rewards.dtype)
    deltas = rewards + discount * alive * next_values - values
    carry_on = discount * gae_lambda * alive * (1.0 - truncated.astype(rewards.dtype))

    def step(advantage: jax.Array, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, keep = x
        advantage = delta + keep * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(deltas[0]), (deltas, carry_on), reverse=True)
    return advantages
