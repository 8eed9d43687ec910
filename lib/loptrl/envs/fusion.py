"""A barrier to fusion that XLA respects on CPUs."""

from __future__ import annotations

import jax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["keep"]


@jax.jit
def _same(array: jax.Array) -> jax.Array:
    return array


def keep(array: jax.Array) -> jax.Array:
    """The same array, computed once whatever uses it; on other devices than CPUs left to XLA.

    On CPUs XLA drops `jax.lax.optimization_barrier` before it fuses. It cannot fuse across a call
    that it may not inline.
    """
    if jax.default_backend() != "cpu":
        return array
    with set_xla_metadata(inlineable="false"):
        return _same(array)
