"""The PPO objective."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Minibatch", "ppo_loss"]


class Minibatch(NamedTuple):
    """Samples of a rollout: every field has the leading axis `[batch]`.

    `value` is the rollout's own estimate, where values are clipped, else None.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    value: jax.Array | None = None


def ppo_loss(
    params: dict[str, Any], batch: Minibatch, actor: Any, critic: Any, policy: Any, hparams: Any
) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, list[jax.Array]]]]:
    """Clipped surrogate + value error - entropy (Schulman et al. 2017, eqs. 7 and 9).

    rho is the probability of an action now over that when it was taken, at most e^80, where a
    sample has no gradient.

    L = -E[min(rho A, clip(rho, 1 - eps, 1 + eps) A)] + c_v E[(V - target)^2]/2 - c_e E[H].
    With clipped values, (V - target)^2 is the larger of itself and of the same with
    V_old + clip(V - V_old, -eps_v, eps_v) (as in the PPO of OpenAI baselines).

    Args:
        params: of the "actor" and of the "critic".
        batch: samples, their advantages standardised where they are to be.
        actor, critic: modules that give their output and the activations of their hidden layers.
        policy: a class of distributions, `log_prob(output, action)` and `entropy(output)`.
        hparams: `HParams`; without a clip its ratio is infinite.

    Returns:
        The loss, and (metrics, mean absolute activation per unit by layer: hidden layers, the
        output, and the standard deviation where the policy has one).
    """
    output, actor_layers = actor.apply({"params": params["actor"]}, batch.observation)
    value, critic_layers = critic.apply({"params": params["critic"]}, batch.observation)
    log_ratio = policy.log_prob(output, batch.action) - batch.log_prob
    # exp overflows float32 above 88, and where the clip makes the objective flat 0 times infinity
    # would be its gradient. 80 leaves room for products.
    ratio = jnp.exp(jnp.minimum(log_ratio, 80.0))
    clipped = jnp.clip(ratio, 1.0 - hparams.clip_ratio, 1.0 + hparams.clip_ratio)
    surrogate = jnp.mean(jnp.minimum(ratio * batch.advantage, clipped * batch.advantage))
    squared = (value - batch.target) ** 2
    if batch.value is not None:
        moved = jnp.clip(value - batch.value, -hparams.value_clip, hparams.value_clip)
        squared = jnp.maximum(squared, (batch.value + moved - batch.target) ** 2)
    value_error = jnp.mean(squared)
    entropy = jnp.mean(policy.entropy(output))
    loss = -surrogate + 0.5 * hparams.value_coef * value_error - hparams.entropy_coef * entropy
    metrics = {
        # Schulman's low-variance estimator of KL(old || new).
        "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > hparams.clip_ratio),
        "entropy": entropy,
        "value_error": value_error,
    }
    outputs = output if isinstance(output, tuple) else (output,)
    activity = {
        "actor": [jnp.mean(jnp.abs(x), axis=0) for x in (*actor_layers, outputs[0])],
        "critic": [jnp.mean(jnp.abs(x), axis=0) for x in (*critic_layers, value[:, None])],
    }
    activity["actor"] += [jnp.mean(jnp.exp(log_std), keepdims=True) for log_std in outputs[1:]]
    return loss, (metrics, activity)
