"""What a meta-iteration costs: memory by the compiler's analysis, memory and time as measured."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from loptrl import provenance
from loptrl.meta.fitting import compiled_bytes
from loptrl.meta.program import MetaProgram

__all__ = ["CostProgram"]


class CostProgram:
    """Meta-iterations that are timed, one a slice; the first one, which compiles, tells the memory.

    Its row has "compiled_bytes"; the others "seconds" and "process_bytes", the largest resident
    memory of the whole process during the meta-iteration. The first one after a resumption, which
    compiles again, has neither.

    Args:
        program: the meta-training.
        timed: meta-iterations after the first; 0 runs none at all, and is for sizes that do not
            fit: the one row then stands at 1 env step.
    """

    def __init__(self, program: MetaProgram, timed: int) -> None:
        self._program, self._timed, self._compiled = program, timed, False
        self.num_slices = 1 + timed
        self.env_steps_per_slice = program.env_steps_per_slice if timed else 1

    def init(self) -> Any:
        """The state before the first slice."""
        return self._program.init() if self._timed else {"analysed": jnp.int32(0)}

    def advance(self, state: Any) -> tuple[Any, list[dict[str, float]]]:
        """One meta-iteration and its row."""
        if not self._timed:
            row = {"env_steps": 1, "compiled_bytes": compiled_bytes(self._program.compiled())}
            return {"analysed": state["analysed"] + 1}, [row]
        first, compiled = int(state.iteration) == 0, self._compiled
        self._compiled = True
        provenance.reset_peak_memory()
        started = time.monotonic()
        state, rows = self._program.advance(state)
        jax.block_until_ready(state)
        row = {name: rows[0][name] for name in ("env_steps", "skipped")}
        if first:
            row["compiled_bytes"] = compiled_bytes(self._program.compiled())
        elif compiled:
            row["seconds"] = time.monotonic() - started
            row["process_bytes"] = provenance.peak_memory_bytes()
        return state, [row]
