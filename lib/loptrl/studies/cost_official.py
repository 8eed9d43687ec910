"""Study 7 beside the official program: what `loptrl bench --optim4rl` measured of it, in words."""

from __future__ import annotations

from pathlib import Path

from loptrl.bench_ratios import THEIRS, ratios
from loptrl.speed_sessions import sessions

__all__ = ["on_official"]

_NAME = "optim4rl:meta"


def on_official(folder: Path | None = None) -> str:
    """Rate and memory of the official meta-training beside ours, both of one session.

    Args:
        folder: of the sessions of `loptrl bench`; default `data/speed`.

    Raises:
        LoptrlError: a file of the folder is not one that `loptrl bench --to` writes.
    """
    found = [
        (session, ratio)
        for session in sessions(folder)
        for ratio in ratios(session.rates())
        if ratio.by == _NAME
    ]
    if not found:
        return "The authors' own program was not measured here."
    session, ratio = found[-1]
    of = session.table.groupby("what")
    rate, memory = of["env_steps_per_s"].median(), of["peak_memory_gib"].max()
    several = len(ratio.rounds) > 1
    span = f" [{min(ratio.rounds):.1f} to {max(ratio.rounds):.1f}]" if several else ""
    rounds = f", {len(ratio.rounds)} rounds" if several else ""
    return (
        f"The authors' own program (on {session.packages(_NAME)}), with one agent of 128 "
        "environments, batches to match, 4 inner updates, one device and all cores, made "
        f"{rate[_NAME]:,.0f} env steps/s, and its process took {memory[_NAME]:.1f} GiB at its "
        "peak. It differentiates through the physics and keeps every intermediate number, and its "
        "agent's networks are larger (four layers of 32 and five of 64 units; here two of 64 "
        "each). This project's default for as "
        f"many environments and updates made {ratio.value:.1f}{span} times as many env steps/s, "
        f"with {memory[THEIRS[_NAME]]:.1f} GiB. Measured on {session.made}{rounds}; "
        "{doc}`../reproduce` has the command."
    )
