"""Weight decay around any optimizer: beside its update, in its gradient, or in its loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from loptrl.optimizers.flat import need_params

__all__ = ["coupled_weight_decay", "decoupled_weight_decay", "l2_in_loss"]


def decoupled_weight_decay(
    optimizer: optax.GradientTransformation, rate: float
) -> optax.GradientTransformationExtraArgs:
    """u - rate theta: every update also shrinks the weights by that fraction.

    The optimizer never sees the decay (Loshchilov & Hutter 2019, with rate = alpha lambda).
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        params = need_params(params, "weight decay")
        updates, state = inner.update(grads, state, params, **extra)
        shrunk = jax.tree.map(lambda u, p: (u - rate * p).astype(u.dtype), updates, params)
        return shrunk, state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def coupled_weight_decay(
    optimizer: optax.GradientTransformation, strength: float
) -> optax.GradientTransformationExtraArgs:
    """g + strength theta: the optimizer sees the decay in its gradient, not in its loss."""
    inner = optax.with_extra_args_support(optimizer)

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        params = need_params(params, "weight decay")
        return inner.update(_with_decay(grads, params, strength), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def l2_in_loss(
    optimizer: optax.GradientTransformation, strength: float
) -> optax.GradientTransformationExtraArgs:
    """`L + strength/2 |theta|^2`: the gradient and, where there is one, the loss that are seen.

    For rules that read the loss (VeLO) this differs from `coupled_weight_decay`, for others not.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        grads: Any, state: Any, params: Any = None, *, loss: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        params = need_params(params, "an L2 penalty")
        if loss is not None:
            squares = [jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params)]
            extra["loss"] = loss + 0.5 * strength * sum(squares)
        return inner.update(_with_decay(grads, params, strength), state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _with_decay(grads: Any, params: Any, strength: float) -> Any:
    return jax.tree.map(lambda g, p: (g + strength * p).astype(g.dtype), grads, params)
