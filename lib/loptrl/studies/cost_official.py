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
    words = []
    for session in sessions(folder):
        found = [ratio for ratio in ratios(session.rates()) if ratio.by == _NAME]
        if not found:
            continue
        (ratio,) = found
        of = session.table.groupby("what")
        rate, memory = of["env_steps_per_s"].median(), of["peak_memory_gib"].max()
        several = len(ratio.rounds) > 1
        span = f" [{min(ratio.rounds):.1f} to {max(ratio.rounds):.1f}]" if several else ""
        rounds = f", in {len(ratio.rounds)} rounds" if several else ""
        words.append(
            "The authors' own program, with one agent of 128 environments and batches to match, "
            f"made {rate[_NAME]:,.0f} env steps/s with {memory[_NAME]:.1f} GiB for its process; "
            f"this project's default at the same size made {ratio.value:.1f}{span} times as many "
            f"with {memory[THEIRS[_NAME]]:.1f} GiB ({session.made}{rounds})."
        )
    if not words:
        return "The authors' own program was not measured here."
    return " ".join(words)
