"""How many agents or members a device computes at once: as many as its memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["at_once", "compiled_bytes", "memory_limit"]

_SHARE = 0.9
"""Of a device's memory that one program may take: the states of others wait there too."""


def memory_limit() -> int | None:
    """The bytes that JAX may use on a device; None on a CPU, which names no limit."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("bytes_limit") if stats else None


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


def at_once(count: int, program: Callable[[int], Any], *arguments: Any) -> int:
    """How many of `count` a device computes at once, the others waiting.

    One on a CPU, whose cache holds no more. Elsewhere all of them, or a half, a quarter and so on:
    the first for which the compiled program takes at most nine tenths of the device's memory, or 1.

    Args:
        count: how many each device has.
        program: how many at once -> the jitted function.
        arguments: of that function, or their shapes.
    """
    limit = memory_limit()
    if limit is None:
        return 1
    while count > 1:
        if compiled_bytes(program(count).lower(*arguments).compile()) <= _SHARE * limit:
            break
        count = -(-count // 2)
    return count
