"""Study 7: what meta-training costs, by the compiler's own analysis."""

from __future__ import annotations

from loptrl.meta.config import MetaConfig
from loptrl.specs import RunSpec

__all__ = ["GIB", "OFFICIAL_BYTES", "compiled_bytes"]

GIB = 2**30

OFFICIAL_BYTES = 31.4 * GIB
"""The same analysis of the official computation: through the physics over the 85 env steps of 4
inner updates, Ant with 2048 environments (this project's design, section 5)."""


def compiled_bytes(config: MetaConfig) -> int:
    """Peak memory of one meta-iteration on one device, in bytes; nothing is run.

    Temporaries + arguments + results - what results share with arguments, from XLA's memory
    analysis of the compiled program.
    """
    from loptrl.studies.meta_training import make_meta_program

    spec = RunSpec("meta", "memory", "smoke", 1, 0, config.to_dict())
    found = make_meta_program(spec, most_devices=1).compiled().memory_analysis()
    return (
        found.temp_size_in_bytes
        + found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
    )
