"""Drives runs in slices: progress, checkpoints, time limits and signals live between slices.

Imports jax only when something has to be computed.
"""

from __future__ import annotations

import datetime
import operator
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from loptrl import provenance
from loptrl.errors import DamagedRun, LoptrlError, MissingRun, RunLocked, Stopped, StoreError
from loptrl.files import remove_folder
from loptrl.progress import Progress, ProgressMode, count
from loptrl.rows import Row, clean, divergence, frame
from loptrl.runs import Results, Run, RunSpec, Store
from loptrl.stopping import StopSignals, parse_duration

if TYPE_CHECKING:
    from loptrl.checkpoints import Checkpoint

__all__ = ["Compute", "Program", "load_or_run", "parse_duration", "run"]

Compute = Literal["missing", "never", "always"]


class Program(Protocol):
    """A computation in slices, deterministic: the same state gives the same next state.

    Attributes:
        num_slices: how many slices make the whole run; >= 1.
        env_steps_per_slice: env steps of one slice; >= 1.
    """

    num_slices: int
    env_steps_per_slice: int

    def init(self) -> Any:
        """The state before the first slice: a pytree of JAX arrays, typed keys allowed.

        Placed on the devices as every later state is; of the same structure, shapes and dtypes.
        """

    def advance(self, state: Any) -> tuple[Any, list[Row]]:
        """One slice: the next state, and metric rows.

        Every row has ``env_steps``, increasing from row to row. A row with ``diverged=True`` ends
        the run there, as a result.
        """


def run(
    spec: RunSpec,
    make_program: Callable[[RunSpec], Program],
    store: Store,
    *,
    checkpoint_every_s: float = 60.0,
    deadline: float | None = None,
    progress: ProgressMode = "auto",
) -> Run | None:
    """Compute one run and store it, going on from its last checkpoint when there is one.

    What is stored already is computed again; ``load_or_run`` is the one that reads first.

    Args:
        spec: the run.
        make_program: builds its program.
        store: where it goes.
        checkpoint_every_s: seconds between checkpoints.
        deadline: on ``time.monotonic()``; the slice that passes it is the last.
        progress: see ``progress.Progress``.

    Returns:
        The stored run; None when the deadline came first (a checkpoint is kept).

    Raises:
        Stopped: a signal came (a checkpoint is kept).
        RunLocked: another process is computing it.
        StoreError: the disk refuses.
    """
    view = Progress(progress)
    store.check_writable(spec)
    with StopSignals(view.notice) as stop, store.lock(spec, wait=False):
        job = _Job(spec, make_program, store, checkpoint_every_s, deadline, stop, view)
        return job.compute(1, 1)


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
    watch: Callable[[RunSpec, Sequence[Row]], None] | None = None,
) -> Results:
    """Read the runs that are stored and compute the others.

    Several processes may ask for the same runs: they share the work, and each run is computed
    once.

    Args:
        specs: the runs, each once.
        make_program: builds the program of a run; called only for runs that are computed.
        compute: "missing" computes what is missing or damaged, "never" only reads, "always"
            computes everything (an unfinished computation goes on from its checkpoint).
        store: default the committed results.
        time_limit: seconds, or text such as "30m"; a run that is under way then is checkpointed.
        progress: see ``progress.Progress``.
        checkpoint_every_s: seconds between checkpoints.
        command: the command that computes these runs, for messages; default made from the specs.
        watch: given the run and all its rows so far after every slice, such as to draw them.

    Raises:
        MissingRun: a run is missing and compute is "never".
        DamagedRun: a run is damaged and compute is "never".
        Stopped: by the time limit or a signal; the same call goes on.
        LoptrlError: an argument is wrong.
        StoreError: the disk refuses.
    """
    specs = _checked(specs, compute)
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
    command = command or _command(pending or specs)
    if pending and compute == "never":
        raise MissingRun(
            f"Expected stored runs, {len(pending)} of {len(specs)} are missing, the first is "
            f"{pending[0].label} ({pending[0].key}); `{command}` computes them."
        )
    if pending:
        for spec in pending:
            store.check_writable(spec)
        with StopSignals(view.notice) as stop:
            rest = make_program, store, checkpoint_every_s, deadline, stop, view, command, watch
            jobs = [_Job(spec, *rest) for spec in pending]
            found |= _work(jobs, again=compute == "always", total=len(specs))
    return Results([found[spec.key] for spec in specs])


def _work(jobs: list[_Job], *, again: bool, total: int) -> dict[str, Run]:
    found: dict[str, Run] = {}
    position = total - len(jobs)
    told = False
    while jobs:
        left = []
        for job in jobs:
            job.check_time(position, total)
            try:
                with job.store.lock(job.spec, wait=False):
                    # Another process may have stored it since.
                    done = None if again else _read(job.spec, job.store, None, quiet=True)
                    done = done or job.compute(position + 1, total)
            except RunLocked as busy:
                left.append(job)
                reason = str(busy)
                continue
            if done is None:
                job.check_time(position, total)
                raise AssertionError("a run ended early without a deadline")
            found[job.spec.key] = done
            position += 1
        if len(left) == len(jobs):
            if not told:
                left[0].view.notice(reason)
                told = True
            left[0].stop.sleep(0.25)
        jobs = left
    return found


class _Job:
    """One run to compute, with everything around it."""

    def __init__(
        self,
        spec: RunSpec,
        make_program: Callable[[RunSpec], Program],
        store: Store,
        checkpoint_every_s: float,
        deadline: float | None,
        stop: StopSignals,
        view: Progress,
        command: str | None = None,
        watch: Callable[[RunSpec, Sequence[Row]], None] | None = None,
    ) -> None:
        if not checkpoint_every_s >= 0:
            raise LoptrlError(
                f"Expected checkpoint_every_s >= 0, got {checkpoint_every_s}; give seconds."
            )
        self.spec, self.make_program, self.store = spec, make_program, store
        self.checkpoint_every_s, self.deadline = checkpoint_every_s, deadline
        self.stop, self.view = stop, view
        self.command, self.watch = command or spec.command, watch

    def check_time(self, done: int, total: int) -> None:
        """Raise Stopped when a signal came or the deadline has passed, between runs."""
        if self.stop.signum is None and not self._late():
            return
        raise self._stopped(f"{done} of {total} runs")

    def compute(self, position: int, total: int) -> Run | None:
        """Compute and store the run, whose lock is held; None when the deadline came first."""
        started = time.monotonic()
        provenance.reset_peak_memory()
        program = self.make_program(self.spec)
        # Only now: the program's own modules may have to prepare the devices before jax starts.
        from loptrl import checkpoints

        slices, per_slice = _sizes(program)
        device = checkpoints.device()
        folder = self.store.checkpoint_dir(self.spec) / checkpoints.fingerprint(device)
        state = checkpoints.settle(program.init())
        kept = self._resume(folder, state, slices)
        step, rows, before = 0, [], {"wall_time_s": 0.0, "peak_memory_bytes": 0, "resumed": 0}
        if kept is not None:
            step, state, rows = kept.step, kept.state, kept.rows
            before = {**kept.meta, "resumed": kept.meta["resumed"] + 1}
        del kept
        diverged_at = divergence(rows)
        form = checkpoints.signature(state)

        def facts() -> dict[str, Any]:
            wall = before["wall_time_s"] + time.monotonic() - started
            return {
                "env_steps": step * per_slice,
                "planned_env_steps": slices * per_slice,
                "versions": provenance.versions(),
                "device": device,
                "wall_time_s": round(wall, 3),
                "peak_memory_bytes": max(
                    before["peak_memory_bytes"], provenance.peak_memory_bytes()
                ),
                "env_steps_per_s": round(step * per_slice / max(wall, 1e-9), 1),
                "resumed": before["resumed"],
            }

        def save() -> None:
            if saved != step:
                meta = {"key": self.spec.key, **facts()}
                checkpoints.save(folder, step, state, rows, meta)

        saved, saved_at = step, time.monotonic()
        self.view.start(self.spec.label, position, total, step * per_slice, slices * per_slice)
        try:
            while step < slices and diverged_at is None:
                state, new = program.advance(state)
                state = checkpoints.settle(state)
                if form is not None:
                    self._check_form(checkpoints.difference(form, checkpoints.signature(state)))
                    form = None
                step += 1
                rows += clean(new, rows, self.spec)
                diverged_at = divergence(rows)
                self.view.update(step * per_slice)
                if self.watch is not None:
                    self.watch(self.spec, rows)
                if step == slices or diverged_at is not None:
                    break
                if self.stop.signum is not None:
                    save()
                    raise self._stopped(
                        f"{count(step * per_slice)} of {count(slices * per_slice)} env steps of "
                        f"{self.spec.label}"
                    )
                if self._late():
                    save()
                    return None
                if time.monotonic() - saved_at >= self.checkpoint_every_s:
                    save()
                    saved, saved_at = step, time.monotonic()
        finally:
            self.view.finish()
        manifest = {
            **facts(),
            "commit": provenance.commit(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "diverged_at": diverged_at,
        }
        try:
            stored = self.store.write(self.spec, frame(rows), manifest)
        except StoreError:
            save()  # perhaps on another disk: the work is done and need not be done again
            raise
        remove_folder(self.store.checkpoint_dir(self.spec))
        return stored

    def _check_form(self, differs: str | None) -> None:
        # Found after one slice, not when a run of hours cannot be resumed.
        if differs:
            raise LoptrlError(
                f"Expected the state of {self.spec.label} to keep its shapes and dtypes, got "
                f"{differs}; correct the program."
            )

    def _resume(self, folder: Path, template: Any, slices: int) -> Checkpoint | None:
        from loptrl import checkpoints

        def accept(meta: Mapping[str, Any]) -> str | None:
            return None if meta["key"] == self.spec.key else f"it belongs to the run {meta['key']}"

        kept = checkpoints.load(folder, template, accept=accept, notice=self.view.notice)
        if kept is not None and kept.step <= slices:
            return kept
        others = folder.parent.glob("*/step-*") if folder.parent.is_dir() else ()
        if any(path.parent != folder for path in others):
            self.view.notice(
                f"{self.spec.label} has a checkpoint made with other versions of "
                f"{', '.join(checkpoints.DECISIVE)} or on another device; it starts from zero, "
                "since its numbers could differ from an uninterrupted run's, and the checkpoint "
                "is kept until the run is complete."
            )
        return None

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _stopped(self, where: str) -> Stopped:
        number = self.stop.signum
        cause = "the time limit" if number is None else signal.Signals(number).name
        return Stopped(
            f"Stopped by {cause} after {where}; what is done is kept, "
            f"`{self.command}` goes on from there.",
            number,
        )


def _checked(specs: Iterable[RunSpec], compute: str) -> list[RunSpec]:
    specs = list(specs)
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


def _command(specs: Sequence[RunSpec]) -> str:
    first = specs[0]
    arms = {spec.arm for spec in specs if spec.study == first.study}
    arm = f" --arm {first.arm}" if len(arms) == 1 else ""
    seeds = max(spec.seed for spec in specs) + 1
    return f"loptrl run {first.study} --budget {first.budget}{arm} --seeds {seeds}"


def _sizes(program: Program) -> tuple[int, int]:
    sizes = []
    for name in ("num_slices", "env_steps_per_slice"):
        try:
            value = operator.index(getattr(program, name))
        except TypeError:
            value = 0
        if value < 1:
            raise LoptrlError(
                f"Expected a program with {name} >= 1, got {getattr(program, name)!r}; "
                "choose sizes that leave at least one whole slice."
            )
        sizes.append(value)
    return sizes[0], sizes[1]
