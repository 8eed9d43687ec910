"""How many agents or members a device computes at once: as many as its memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["at_once", "compiled_bytes", "memory_limit"]

_SHARE = 0.9
"""Of a device's memory that one program may take: the states of others wait there too."""


def memory_limit() -> float:
    """The bytes of a device that JAX may use; infinite where it does not say.

    0 on a CPU, so that nothing is computed at once there: one agent fills its cache.
    """
    if jax.default_backend() == "cpu":
        return 0.0
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)


def compiled_bytes(compiled: Any) -> int:
    """Peak memory of a compiled program on a device, in bytes; it is not run.

    Temporaries + arguments + results - what results share with arguments, from XLA's memory
    analysis.
    """
    found = compiled.memory_analysis()
    return int(
        found.temp_size_in_bytes
        + found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
    )


def at_once(count: int, jitted: Callable[[int], Any], *arguments: Any) -> int:
    """How many of `count` a device computes at once, the others waiting.

    All of them, or a half, a quarter and so on: the first for which the compiled program takes at
    most nine tenths of `memory_limit`, of which other processes may have taken a part, or 1.

    Args:
        count: how many each device has.
        jitted: how many at once -> the jitted function.
        arguments: of that function, or their shapes.
    """
    limit = memory_limit()
    if limit in (0.0, math.inf):
        return count if limit else 1
    while count > 1 and _peak(jitted(count), arguments) > _SHARE * limit:
        count = -(-count // 2)
    return count


def _peak(function: Any, arguments: tuple[Any, ...]) -> float:
    """`compiled_bytes` of a jitted function; infinite where XLA finds no way to fit it."""
    try:
        return compiled_bytes(function.lower(*arguments).compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
