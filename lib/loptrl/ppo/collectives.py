"""Sums, means and stacks over the devices of a mesh axis, left out where it has one.

XLA drops a reduction over a single device only where the program runs on one. Where members or
agents are shared out over devices, each of which trains alone, its code for CPUs goes through the
communication library for every one, several times an update.
"""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["all_gather", "pmean", "psum"]


def psum(x: Any, axis_name: str) -> Any:
    """`jax.lax.psum`."""
    return x if jax.lax.axis_size(axis_name) == 1 else jax.lax.psum(x, axis_name)


def pmean(x: Any, axis_name: str) -> Any:
    """`jax.lax.pmean`."""
    return x if jax.lax.axis_size(axis_name) == 1 else jax.lax.pmean(x, axis_name)


def all_gather(x: jax.Array, axis_name: str) -> jax.Array:
    """`jax.lax.all_gather` along the first axis, which the devices' shares have already."""
    return x if jax.lax.axis_size(axis_name) == 1 else jax.lax.all_gather(x, axis_name, tiled=True)
