"""Throughput of any arm of a study, of both kinds of meta-training, and of others' trainers.

Each measurement has a process of its own, so that neither warms the other's caches or takes its
memory. All are made in turn, several rounds of them, since machines are noisy.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from loptrl import provenance
from loptrl.bench_measure import NAMED, floor_spec_of, spec_of
from loptrl.bench_ratios import FLOOR, THEIRS, quotients, ratios
from loptrl.errors import LoptrlError, StoreError
from loptrl.files import write_together

__all__ = ["Checkouts", "report"]

Measurement = dict[str, Any]
"""`env_steps_per_s`, `devices` and `peak_memory_gib`; of others' code also their `packages`."""

_FILES = {
    "official": "rl_optimizer/train.py",
    "purejaxrl": "purejaxrl/ppo.py",
    "optim4rl": "agents/MetaPPO.py",
}
"""What a checkout is known by, for each field of `Checkouts`."""


@dataclasses.dataclass(frozen=True)
class Checkouts:
    """Where other people's trainers are.

    Attributes:
        official: a checkout of github.com/AlexGoldie/rl-learned-optimization.
        purejaxrl: a checkout of github.com/luchris429/purejaxrl.
        optim4rl: a checkout of github.com/sail-sg/optim4rl.
        python: the interpreter that has what they import: older versions than ours for the first
            two; for optim4rl ours, where none is given.
    """

    official: Path | None = None
    purejaxrl: Path | None = None
    optim4rl: Path | None = None
    python: Path | None = None

    def arms(self) -> list[str]:
        """What is measured where nothing is named: each of theirs beside ours."""
        given = [name for name in THEIRS if getattr(self, _field(name)) is not None]
        return [name for theirs in given for name in (THEIRS[theirs], theirs)]

    def folder(self, name: str) -> Path:
        """The checkout that a name is measured in.

        Raises:
            LoptrlError: it was not given, or is none.
        """
        field = _field(name)
        file = _FILES[field]
        folder = getattr(self, field)
        if folder is None:
            raise LoptrlError(f"{name} needs a checkout of that code; name it with --{field} DIR")
        if not (folder / file).is_file():
            raise LoptrlError(
                f"expected {file} in {folder}, found none; --{field} takes a checkout"
            )
        if self.python is None and field != "optim4rl":
            raise LoptrlError(
                f"{name} needs an interpreter that has what that code imports, older versions than "
                "ours; name it with --their-python PATH"
            )
        return folder


def _field(name: str) -> str:
    """The field of `Checkouts` that one of `THEIRS` is in."""
    return name.partition(":")[0]


def _in_process(name: str, seconds: float, checkouts: Checkouts) -> Measurement:
    command, folder = (
        [sys.executable, "-m", "loptrl.bench_measure", name, "--seconds", str(seconds)],
        None,
    )
    if name in THEIRS:
        script = Path(__file__).with_name("bench_others.py").read_text(encoding="utf-8")
        folder = checkouts.folder(name)
        # Absolute, for it starts in the checkout, and not resolved: a venv is found by its link.
        command = [
            os.path.abspath(str(checkouts.python or sys.executable)),
            "-c",
            script,
            name,
            str(seconds),
        ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except OSError as error:
        raise LoptrlError(
            f"could not run {command[0]}: {error.strerror}; check the path"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LoptrlError(f"the measurement of {name} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(
    seconds: float,
    names: Sequence[str],
    checkouts: Checkouts | None = None,
    to: Path | None = None,
    rounds: int = 3,
) -> str:
    """The table that `loptrl bench` prints: medians over rounds, and each one's ratio to the first.

    Beneath stand the ratios of `bench_ratios.PAIRS` of which both were measured, and of arms to
    their floors. Every ratio is the median of those that were taken within a round.

    Args:
        seconds: about how long each measurement takes.
        names: arms as STUDY/ARM, their floors, `BRAX`, `EVOLUTION` and the like, and of `THEIRS`.
        checkouts: of the others' code, which their names need.
        to: a CSV file that gets every measurement, as `speed_sessions` reads it, written anew.
        rounds: how often everything is measured, one name after another.

    Raises:
        StoreError: the file cannot be written; the measurements are in its words.
        LoptrlError: `seconds` or `rounds` is not above 0, `to` is no CSV file, an arm is unknown
            or has no floor, a checkout is none, or a measurement failed; what was measured before
            it is in its words.
    """
    checkouts = Checkouts() if checkouts is None else checkouts
    if not seconds > 0:
        raise LoptrlError(f"seconds must be above 0, got {seconds}")
    if rounds < 1:
        raise LoptrlError(f"rounds must be at least 1, got {rounds}")
    for name in names:
        if name in THEIRS:
            checkouts.folder(name)
        elif name not in NAMED:
            (floor_spec_of if name.startswith(FLOOR) else spec_of)(name)
    if to is not None and to.suffix != ".csv":
        raise LoptrlError(
            f"expected --to with a name that ends in .csv, got {to}; name such a file"
        )
    results: list[tuple[str, Measurement]] = []
    for name in list(dict.fromkeys(names)) * rounds:
        try:
            results.append((name, _in_process(name, seconds, checkouts)))
        except LoptrlError as error:
            if not results:
                raise
            raise LoptrlError(f"{error}; what was measured before:\n{_told(results)}") from error
    told = _told(results)
    if to is not None:
        try:
            _keep(to, seconds, results)
        except StoreError as error:
            raise StoreError(f"{error}; what was measured:\n{told}") from error
    return told


def _told(results: Sequence[tuple[str, Measurement]]) -> str:
    of: dict[str, list[Measurement]] = {}
    for name, measured in results:
        of.setdefault(name, []).append(measured)
    rates = {name: [r["env_steps_per_s"] for r in found] for name, found in of.items()}
    first, width = next(iter(of)), max(map(len, of))
    lines = [
        f"{name:<{width}} {median(rates[name]):>10,.0f} env steps/s{_span(rates[name], ',.0f')} on "
        f"{found[0]['devices']:.0f} devices, peak {max(r['peak_memory_gib'] for r in found):.2f} "
        f"GiB, {median(quotients(rates[name], rates[first])):.2f} of {first}"
        for name, found in of.items()
    ]
    lines += [
        f"{r.ours} makes {r.value:.2f} times the env steps/s of {r.by}{_span(r.rounds, '.2f')}"
        + ("" if r.wanted is None else f" ({r.wanted:g} wanted)")
        for r in ratios(rates)
    ]
    return "\n".join(lines)


def _span(values: Sequence[float], form: str) -> str:
    """Least and most of several rounds, as words behind their median."""
    if len(values) < 2:
        return ""
    return f" [{format(min(values), form)} to {format(max(values), form)} in {len(values)} rounds]"


def _keep(to: Path, seconds: float, results: Sequence[tuple[str, Measurement]]) -> None:
    """The measurements as a CSV file, whose first line says when and on what they were made."""
    rows = [
        f"{name},{r['env_steps_per_s']:.0f},{r['devices']:.0f},{r['peak_memory_gib']:.2f},"
        f"{r.get('packages', '')}"
        for name, r in results
    ]
    made = datetime.date.today().isoformat()
    head = (
        f"# {made}, {provenance.processor()}, jax {provenance.versions()['jax']}, "
        f"{seconds:g} s each, one after another"
    )
    columns = "what,env_steps_per_s,devices,peak_memory_gib,packages"
    write_together({to: "\n".join([head, columns, *rows, ""]).encode()})
