"""The tables of the status page, drawn from the manifests of stored runs. Never imports jax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from loptrl import speed_sessions
from loptrl.bench_ratios import WANTED_RATES, quotients, ratios
from loptrl.errors import DamagedRun
from loptrl.runs import Store
from loptrl.style import format_steps

__all__ = [
    "arms_table",
    "as_markdown",
    "manifests",
    "overview",
    "software_table",
    "speed",
    "speed_ratios",
]

Manifest = dict[str, Any]


def manifests(store: Store | None = None) -> tuple[list[Manifest], list[DamagedRun]]:
    """All manifests that can be read, by study, arm and seed, and the damage that was found."""
    damaged: list[DamagedRun] = []
    found = list((store or Store()).iter_manifests(damaged=damaged))
    order = sorted(found, key=lambda m: (m["study"], m["arm"], m["seed"], m["key"]))
    return order, damaged


def overview(found: Sequence[Manifest], damaged: Sequence[DamagedRun] = ()) -> str:
    """One paragraph: how much is stored and what it took."""
    if not found:
        words = ["**No runs are stored yet.**"]
    else:
        hours: dict[str, float] = {}
        for manifest in found:
            device = manifest["device"]
            hours[device] = hours.get(device, 0.0) + manifest["wall_time_s"] / 3600
        steps = sum(manifest["env_steps"] for manifest in found)
        diverged = sum(manifest["diverged_at"] is not None for manifest in found)
        took = [f"{hours[device]:.1f} hours on {device}" for device in sorted(hours)]
        words = [
            f"**{len(found)} runs are stored, {format_steps(steps)} environment steps in all. "
            f"They took {' and '.join(took)}.**",
            f"{diverged or 'None'} of them diverged." if diverged != 1 else "One of them diverged.",
        ]
    words += [f"Damaged and not shown: {error}" for error in damaged]
    return " ".join(words)


def arms_table(found: Iterable[Manifest]) -> pd.DataFrame:
    """One row per study, arm, budget and length: seeds, speed, time, memory."""
    columns = ["study", "arm", "budget", "env steps", "seeds", "steps/s", "min/run", "GiB", "last"]
    groups: dict[tuple[str, str, str, int], list[Manifest]] = {}
    for manifest in found:
        name = tuple(manifest[key] for key in ("study", "arm", "budget", "env_steps"))
        groups.setdefault(name, []).append(manifest)
    rows = []
    for (study, arm, budget, steps), runs in groups.items():
        rows.append(
            (
                study,
                arm,
                budget,
                format_steps(steps),
                len(runs),
                f"{_mean(runs, 'env_steps_per_s'):,.0f}",
                f"{_mean(runs, 'wall_time_s') / 60:.1f}",
                f"{max(run['peak_memory_bytes'] for run in runs) / 2**30:.2f}",
                max(run["created"] for run in runs)[:10],
            )
        )
    return pd.DataFrame(rows, columns=columns)


def software_table(found: Iterable[Manifest]) -> pd.DataFrame:
    """One row per set of versions and commit: how many runs were made with it."""
    counts: dict[tuple[str, str], int] = {}
    for manifest in found:
        versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
        name = (versions, (manifest["commit"] or "not recorded")[:12])
        counts[name] = counts.get(name, 0) + 1
    rows = [(count, commit, versions) for (versions, commit), count in counts.items()]
    return pd.DataFrame(rows, columns=["runs", "commit", "versions"])


def speed(folder: Path | None = None) -> str:
    """What `loptrl bench` measured, a table for each session; or that nothing is stored.

    Args:
        folder: of the sessions' files; default `data/speed`.

    Raises:
        LoptrlError: a file is not one that `loptrl bench --to` writes.
    """
    found = speed_sessions.sessions(folder)
    if not found:
        return "No measurement is stored; `loptrl bench --to data/speed/NAME.csv` makes one."
    return "\n\n".join(f"Measured on {session.made}:\n\n{_rates(session)}" for session in found)


def _rates(session: speed_sessions.Session) -> str:
    """A session's medians over its rounds, in the order they were measured in."""
    names = session.table.groupby("what", sort=False)
    rates = names["env_steps_per_s"].median()
    rounds = session.rates()
    of_first = [median(quotients(found, rounds[rates.index[0]])) for found in rounds.values()]
    rows = pd.DataFrame(
        {
            "what": [
                f"{name} ({packages})" if (packages := session.packages(name)) else name
                for name in rounds
            ],
            "env steps/s": rates.map("{:,.0f}".format),
            "least to most": [_range(found, ",.0f") for found in rounds.values()],
            "wanted": [
                f"at least {WANTED_RATES[name]:,.0f}" if name in WANTED_RATES else ""
                for name in rounds
            ],
            "in multiples of the first": [f"{ratio:.2f}" for ratio in of_first],
            "devices": names["devices"].first(),
            "GiB": names["peak_memory_gib"].max().map("{:.2f}".format),
        }
    )
    return as_markdown(rows)


def _range(rounds: Sequence[float], form: str) -> str:
    """Least to most of several rounds; one has no range."""
    return "" if len(rounds) < 2 else f"{min(rounds):{form}} to {max(rounds):{form}}"


def speed_ratios(folder: Path | None = None) -> str:
    """The ratios of `bench_ratios` of which one session measured both sides, as a table.

    Args:
        folder: of the sessions' files; default `data/speed`.

    Raises:
        LoptrlError: a file is not one that `loptrl bench --to` writes.
    """
    rows = [
        {
            "env steps/s of": ratio.ours,
            "in multiples of": ratio.by,
            "which ran with": session.packages(ratio.by),
            "ratio": f"{ratio.value:.2f}",
            "least to most": _range(ratio.rounds, ".2f"),
            "rounds": len(ratio.rounds),
            "wanted": "" if ratio.wanted is None else f"at least {ratio.wanted:g}",
        }
        for session in speed_sessions.sessions(folder)
        for ratio in ratios(session.rates())
    ]
    return as_markdown(pd.DataFrame(rows))


def as_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, or a sentence when it has no rows."""
    if table.empty:
        return "Nothing yet."
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("_", "\\_")


def _mean(runs: Sequence[Manifest], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)
