"""A barrier to fusion that XLA respects on CPUs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ["keeper"]


def keeper(unknown: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """A barrier to fusion: the same array, up to the sign of zeros.

    On CPUs XLA drops `jax.lax.optimization_barrier` before it fuses. It cannot fuse across a loop,
    nor drop one whose number of rounds depends on a value it does not know, though it is always 1.

    Args:
        unknown: a float32 array, not empty and no constant of the program; its values decide
            nothing.
    """
    bits = jax.lax.bitcast_convert_type(unknown.ravel()[0], jnp.int32)
    rounds = ((bits | 1) != 0).astype(jnp.int32)
    zero = 1.0 - rounds.astype(jnp.float32)

    def keep(array: jax.Array) -> jax.Array:
        def add_zero(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return carry[0] + 1, carry[1] + zero.astype(array.dtype)

        start = jnp.int32(0), array
        return jax.lax.while_loop(lambda carry: carry[0] < rounds, add_zero, start)[1]

    return keep
