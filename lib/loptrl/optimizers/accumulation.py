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

    Unlike `optax.MultiSteps` it averages the loss too; the other extra inputs are the last call's.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> AveragedState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        zero = jnp.zeros([], jnp.float32)
        return AveragedState(zeros, zero, jnp.zeros([], jnp.int32), optimizer.init(params))

    def update(
        grads: Any, state: AveragedState, params: Any = None, *, loss: Any = 0.0, **extra: Any
    ) -> tuple[Any, AveragedState]:
        total = jax.tree.map(jnp.add, state.grads, grads)
        total_loss = (state.loss + loss).astype(state.loss.dtype)
        count = state.count + 1

        def move(_: None) -> tuple[Any, AveragedState]:
            mean = jax.tree.map(lambda g: g / calls, total)
            updates, inner = optimizer.update(
                mean, state.inner, params, loss=total_loss / calls, **extra
            )
            zeros = jax.tree.map(jnp.zeros_like, total)
            return updates, AveragedState(zeros, jnp.zeros_like(total_loss), count, inner)

        def wait(_: None) -> tuple[Any, AveragedState]:
            zeros = jax.tree.map(jnp.zeros_like, grads)
            return zeros, AveragedState(total, total_loss, count, state.inner)

        return jax.lax.cond(count % calls == 0, move, wait, None)

    return optax.GradientTransformationExtraArgs(init, update)
