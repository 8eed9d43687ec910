"""Reads what is stored and computes the rest, run by run or several together, see `loptrl.job`.

Imports jax only when something has to be computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from loptrl.errors import DamagedRun, LoptrlError, MissingRun, RunLocked
from loptrl.job import Job, Program, Watch
from loptrl.progress import Progress, ProgressMode
from loptrl.runs import Results, Run, RunSpec, Store
from loptrl.specs import canonical_json
from loptrl.stopping import StopSignals, parse_duration

__all__ = ["Compute", "Program", "load_or_run", "parse_duration"]

Compute = Literal["missing", "never", "always"]


def load_or_run(
    specs: Iterable[RunSpec],
    make_program: Callable[[RunSpec], Program],
    *,
    compute: Compute = "missing",
    store: Store | None = None,
    time_limit: str | float | None = None,
    progress: ProgressMode = "auto",
    checkpoint_every_s: float = 60.0,
    command: str | None = None,
    watch: Watch | None = None,
    together: int = 1,
) -> Results:
    """Read the runs that are stored and compute the others.

    Several processes may ask for the same runs: they share the work, and each run is computed
    once. Runs that are computed together wait until no other process computes one of them.

    Args:
        specs: the runs, each once.
        make_program: builds the program of a run; called only for runs that are computed.
        compute: "missing" computes what is missing or damaged, "never" only reads, "always"
            computes everything (an unfinished computation goes on from its checkpoint).
        store: default the committed results.
        time_limit: seconds, or text such as "30m"; a run that is under way then is checkpointed.
        progress: see ``progress.Progress``.
        checkpoint_every_s: seconds between checkpoints.
        command: the shell command that computes these runs, for messages, where there is one.
        watch: given the run and all its rows so far after every slice, such as to draw them.
        together: how many runs that differ in their seeds only are computed as one program (see
            `job.Program`). An accelerator takes about as long for several as for one. Stopped, they
            go on when all of them are asked for together, be some of them stored by then.

    Raises:
        MissingRun: a run is missing and compute is "never".
        DamagedRun: a run is damaged and compute is "never".
        Stopped: by the time limit or a signal; the same call goes on.
        LoptrlError: an argument is wrong.
        StoreError: the disk refuses.
    """
    specs = _checked(specs, compute, together)
    limit = parse_duration(time_limit)
    deadline = None if limit is None else time.monotonic() + limit
    view = Progress(progress)
    store = Store() if store is None else store
    found: dict[str, Run] = {}
    if compute != "always":
        for spec in specs:
            done = _read(spec, store, None if compute == "never" else view.notice)
            if done is not None:
                found[spec.key] = done
    pending = [spec for spec in specs if spec.key not in found]
    if pending and compute == "never":
        raise MissingRun(
            f"Expected stored runs, {len(pending)} of {len(specs)} are missing, the first is "
            f"{pending[0].label} ({pending[0].key}); "
            + (f"`{command}` computes them." if command else 'compute="missing" computes them.')
        )
    if pending:
        for spec in pending:
            store.check_writable(spec)
        with StopSignals(view.notice) as stop:
            rest = make_program, store, checkpoint_every_s, deadline, stop, view, command, watch
            groups = _begun(specs, pending, together, store)
            begun = {spec.key for group in groups for spec in group}
            groups += _groups([spec for spec in pending if spec.key not in begun], together)
            groups.sort(key=lambda group: specs.index(group[0]))
            jobs = [Job(group, *rest) for group in groups]
            found = _work(jobs, found, again=compute == "always", total=len(specs))
    return Results([found[spec.key] for spec in specs])


def _begun(
    specs: Sequence[RunSpec], pending: Sequence[RunSpec], most: int, store: Store
) -> list[list[RunSpec]]:
    """The groups of at most `most` runs, all asked for, of which there is a checkpoint.

    Some of a group may be stored already: its checkpoint is of all of them.
    """
    by_key = {spec.key: spec for spec in specs}
    groups: list[list[RunSpec]] = []
    taken: set[str] = set()
    for spec in pending:
        for keys in store.groups(spec):
            if 1 < len(keys) <= most and by_key.keys() >= set(keys) and not taken & set(keys):
                groups.append([by_key[key] for key in keys])
                taken |= set(keys)
    return groups


def _groups(specs: Sequence[RunSpec], most: int) -> list[list[RunSpec]]:
    """The runs in groups of at most `most` that differ in their seeds only."""
    alike: dict[str, list[RunSpec]] = {}
    for spec in specs:
        alike.setdefault(canonical_json({**spec.as_dict(), "seed": 0}), []).append(spec)
    return [same[i : i + most] for same in alike.values() for i in range(0, len(same), most)]


def _work(jobs: list[Job], found: Mapping[str, Run], *, again: bool, total: int) -> dict[str, Run]:
    """What was found, and what the jobs make."""
    found = dict(found)
    told = False
    waited: set[int] = set()
    while jobs:
        left = []
        for job in jobs:
            job.check_time(len(found), total)
            try:
                with job.locks():
                    # Another process may have stored some since, anew where it was waited for.
                    anew = again and id(job) not in waited
                    there = (
                        [] if anew else [_read(s, job.store, None, quiet=True) for s in job.specs]
                    )
                    stored = {run.spec.key: run for run in there if run is not None}
                    missing = len(stored) < len(job.specs)
                    made = job.compute(len(found) + 1, total, stored) if missing else []
            except RunLocked as busy:
                left.append(job)
                waited.add(id(job))
                reason = str(busy)
                continue
            found |= stored | {run.spec.key: run for run in made or []}
            if made is None:
                job.check_time(len(found), total)
                raise AssertionError("a run ended early without a deadline")
        if len(left) == len(jobs):
            if not told:
                left[0].view.notice(reason)
                told = True
            left[0].stop.sleep(0.25)
        jobs = left
    return found


def _checked(specs: Iterable[RunSpec], compute: str, together: int) -> list[RunSpec]:
    specs = list(specs)
    if isinstance(together, bool) or not isinstance(together, int) or together < 1:
        raise LoptrlError(f"Expected together as a whole number >= 1, got {together!r}; give 1.")
    if compute not in ("missing", "never", "always"):
        raise LoptrlError(
            f"Expected compute as 'missing', 'never' or 'always', got {compute!r}; "
            "choose one of them."
        )
    if not specs:
        raise LoptrlError("Expected at least one run, got none; choose arms and seeds.")
    if len({spec.key for spec in specs}) != len(specs):
        raise LoptrlError("Expected every run once, got one twice; leave out the repeated one.")
    return specs


def _read(
    spec: RunSpec, store: Store, notice: Callable[[str], None] | None, *, quiet: bool = False
) -> Run | None:
    """The stored run or None; damage is told to ``notice``, or raised when there is none."""
    try:
        return store.read(spec)
    except MissingRun:
        return None
    except DamagedRun as error:
        if quiet:
            return None
        if notice is None:
            raise
        notice(f"{str(error).partition(';')[0]}; it is computed again.")
        return None
