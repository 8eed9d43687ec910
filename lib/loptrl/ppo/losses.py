"""The PPO objective."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Minibatch", "ppo_loss"]


class Minibatch(NamedTuple):
    """Samples of a rollout: every field has the leading axis `[batch]`."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array


def ppo_loss(
    params: dict[str, Any], batch: Minibatch, actor: Any, critic: Any, policy: Any, hparams: Any
) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, list[jax.Array]]]]:
    """Clipped surrogate + value error - entropy (Schulman et al. 2017, eqs. 7 and 9).

    L = -E[min(rho A, clip(rho, 1 - eps, 1 + eps) A)] + c_v E[(V - target)^2]/2 - c_e E[H].

    Returns:
        The loss, and (metrics, mean absolute activation per hidden unit by layer).
    """
    output, actor_layers = actor.apply({"params": params["actor"]}, batch.observation)
    value, critic_layers = critic.apply({"params": params["critic"]}, batch.observation)
    log_ratio = policy.log_prob(output, batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - hparams.clip_ratio, 1.0 + hparams.clip_ratio)
    surrogate = jnp.mean(jnp.minimum(ratio * batch.advantage, clipped * batch.advantage))
    value_error = jnp.mean((value - batch.target) ** 2)
    entropy = jnp.mean(policy.entropy(output))
    loss = -surrogate + 0.5 * hparams.value_coef * value_error - hparams.entropy_coef * entropy
    metrics = {
        # Schulman's low-variance estimator of KL(old || new).
        "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > hparams.clip_ratio),
        "entropy": entropy,
        "value_error": value_error,
    }
    activity = {
        "actor": [jnp.mean(jnp.abs(layer), axis=0) for layer in actor_layers],
        "critic": [jnp.mean(jnp.abs(layer), axis=0) for layer in critic_layers],
    }
    return loss, (metrics, activity)
