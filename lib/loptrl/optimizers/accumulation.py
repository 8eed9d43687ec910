"""Average gradients over several calls and let the optimizer move at the last of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["AveragedState", "averaged_over"]


class AveragedState(NamedTuple):
    """State of `averaged_over`.

    Attributes:
        grads: sum of the gradients since the last move, like the parameters.
        loss: sum of the losses since then, float `[]`.
        count: int32 `[]`, calls made.
        inner: the optimizer's own state.
    """

    grads: Any
    loss: jax.Array
    count: jax.Array
    inner: Any


def averaged_over(
    optimizer: optax.GradientTransformation, calls: int
) -> optax.GradientTransformationExtraArgs:
    """The optimizer on the mean gradient and the mean loss of `calls` calls; zero in between.

    Unlike `optax.MultiSteps` it averages the loss too, if one is given; the other extra inputs are
    the last call's. Updates have the parameters' dtypes.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> AveragedState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        zero = jnp.zeros([], jnp.float32)
        return AveragedState(zeros, zero, jnp.zeros([], jnp.int32), optimizer.init(params))

    def update(
        grads: Any, state: AveragedState, params: Any = None, *, loss: Any = None, **extra: Any
    ) -> tuple[Any, AveragedState]:
        total = jax.tree.map(lambda sum_, g: sum_ + g.astype(sum_.dtype), state.grads, grads)
        given = 0.0 if loss is None else loss
        total_loss = (state.loss + given).astype(state.loss.dtype)
        count = state.count + 1

        def move(_: None) -> tuple[Any, AveragedState]:
            mean = jax.tree.map(lambda g: g / calls, total)
            mean_loss = None if loss is None else total_loss / calls
            updates, inner = optimizer.update(mean, state.inner, params, loss=mean_loss, **extra)
            updates = jax.tree.map(lambda u, g: u.astype(g.dtype), updates, total)
            zeros = jax.tree.map(jnp.zeros_like, total)
            return updates, AveragedState(zeros, jnp.zeros_like(total_loss), count, inner)

        def wait(_: None) -> tuple[Any, AveragedState]:
            zeros = jax.tree.map(jnp.zeros_like, total)
            return zeros, AveragedState(total, total_loss, count, state.inner)

        return jax.lax.cond(count % calls == 0, move, wait, None)

    return optax.GradientTransformationExtraArgs(init, update)
