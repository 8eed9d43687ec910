"""Throughput of any arm of a study, of both kinds of meta-training, and of others' trainers.

Each measurement has a process of its own, so that neither warms the other's caches or takes its
memory; the first is measured again at the end, since machines are noisy.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loptrl import provenance
from loptrl.bench_measure import NAMED, floor_spec_of, spec_of
from loptrl.bench_ratios import FLOOR, THEIRS, ratios
from loptrl.errors import LoptrlError, StoreError
from loptrl.files import write_together

__all__ = ["Checkouts", "report"]


@dataclasses.dataclass(frozen=True)
class Checkouts:
    """Where other people's trainers are.

    Attributes:
        official: a checkout of github.com/AlexGoldie/rl-learned-optimization.
        purejaxrl: a checkout of github.com/luchris429/purejaxrl.
        python: the interpreter that has what they import, which ours has not.
    """

    official: Path | None = None
    purejaxrl: Path | None = None
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
        file = "purejaxrl/ppo.py" if field == "purejaxrl" else "rl_optimizer/train.py"
        folder = getattr(self, field)
        if folder is None:
            raise LoptrlError(f"{name} needs a checkout of that code; name it with --{field} DIR")
        if not (folder / file).is_file():
            raise LoptrlError(
                f"expected {file} in {folder}, found none; --{field} takes a checkout"
            )
        if self.python is None:
            raise LoptrlError(
                f"{name} needs an interpreter that has what that code imports, older versions than "
                "ours; name it with --their-python PATH"
            )
        return folder


def _field(name: str) -> str:
    """The field of `Checkouts` that one of `THEIRS` is in."""
    return name.partition(":")[0]


def _in_process(name: str, seconds: float, checkouts: Checkouts) -> dict[str, float]:
    command, folder = (
        [sys.executable, "-m", "loptrl.bench_measure", name, "--seconds", str(seconds)],
        None,
    )
    if name in THEIRS:
        script = Path(__file__).with_name("bench_others.py").read_text(encoding="utf-8")
        folder = checkouts.folder(name)
        # Absolute, for it starts in the checkout, and not resolved: a venv is found by its link.
        command = [os.path.abspath(str(checkouts.python)), "-c", script, name, str(seconds)]
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
) -> str:
    """The table that `loptrl bench` prints, with each rate's ratio to the first one's mean.

    Beneath stand the ratios of `bench_ratios.PAIRS` of which both were measured, and of arms to
    their floors.

    Args:
        seconds: about how long each measurement takes.
        names: arms as STUDY/ARM, their floors, `BRAX`, `EVOLUTION` and the like, and of `THEIRS`;
            the first is measured again at the end.
        checkouts: of the others' code, which their names need.
        to: a file that gets the table too, as `status_page.speed` reads it.

    Raises:
        StoreError: the file cannot be written; the measurements are in its words.
        LoptrlError: `seconds` is not above 0, an arm is unknown or has no floor, a checkout is
            none, or a measurement failed.
    """
    checkouts = Checkouts() if checkouts is None else checkouts
    if not seconds > 0:
        raise LoptrlError(f"seconds must be above 0, got {seconds}")
    for name in names:
        if name in THEIRS:
            checkouts.folder(name)
        elif name not in NAMED:
            (floor_spec_of if name.startswith(FLOOR) else spec_of)(name)
    order = [*names, names[0]] if len(names) > 1 else list(names)
    results = [(name, _in_process(name, seconds, checkouts)) for name in order]
    first = [r["env_steps_per_s"] for name, r in results if name == names[0]]
    level = sum(first) / len(first)
    width = max(len(name) for name in names)
    lines = []
    for name, r in results:
        rate = r["env_steps_per_s"]
        lines.append(
            f"{name:<{width}} {rate:>10,.0f} env steps/s on {r['devices']:.0f} devices, "
            f"peak {r['peak_memory_gib']:.2f} GiB, {rate / level:.2f} of {names[0]}"
        )
    rates = {name: r["env_steps_per_s"] for name, r in results} | {names[0]: level}
    lines += [
        f"{ours} makes {value:.2f} times the env steps/s of {by}"
        + ("" if wanted is None else f" ({wanted:g} wanted)")
        for ours, by, value, wanted in ratios(rates)
    ]
    told = "\n".join(lines)
    if to is not None:
        try:
            _keep(to, seconds, results, level)
        except StoreError as error:
            raise StoreError(f"{error}; what was measured:\n{told}") from error
    return told


def _keep(
    to: Path, seconds: float, results: Sequence[tuple[str, Mapping[str, float]]], level: float
) -> None:
    """The measurements as a CSV file, whose first line says when and on what they were made."""
    rows = [
        f"{name},{r['env_steps_per_s']:.0f},{r['env_steps_per_s'] / level:.3f},"
        f"{r['devices']:.0f},{r['peak_memory_gib']:.2f}"
        for name, r in results
    ]
    made = datetime.date.today().isoformat()
    head = (
        f"# {made}, {provenance.processor()}, jax {provenance.versions()['jax']}, "
        f"{seconds:g} s each, one after another"
    )
    columns = "what,env_steps_per_s,of_first,devices,peak_memory_gib"
    write_together({to: "\n".join([head, columns, *rows, ""]).encode()})
