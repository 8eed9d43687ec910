"""One run, or several that are computed together, slice by slice with checkpoints."""

from __future__ import annotations

import contextlib
import datetime
import operator
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loptrl import provenance
from loptrl.errors import LoptrlError, Stopped, StoreError
from loptrl.files import remove_folder
from loptrl.progress import Progress, count
from loptrl.rows import Row, clean, divergence, frame
from loptrl.runs import Run, RunSpec, Store
from loptrl.stopping import StopSignals

if TYPE_CHECKING:
    from loptrl.checkpoints import Checkpoint

__all__ = ["Job", "Program", "Watch"]

Watch = Callable[[RunSpec, Sequence[Row]], None]


class Program(Protocol):
    """A computation in slices, deterministic: the same state gives the same next state.

    Programs that can be computed together have a method `beside` too: given those of other runs, it
    gives one whose `advance` gives a list of rows for each, its own first.

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


class Job:
    """Runs to compute together, most often one, with everything around them.

    Args:
        specs: the runs; several differ in their seeds only. Some may be stored already, where a
            checkpoint is of all of them together.
        make_program: builds the program of a run.
        store: where they go.
        checkpoint_every_s: seconds between checkpoints.
        deadline: on ``time.monotonic()``; the slice that passes it is the last.
        stop: the signals.
        view: where progress is shown.
        command: the shell command that computes these runs, for messages, where there is one.
        watch: given each run and all its rows so far after every slice.

    Raises:
        LoptrlError: checkpoint_every_s is negative.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        make_program: Callable[[RunSpec], Program],
        store: Store,
        checkpoint_every_s: float,
        deadline: float | None,
        stop: StopSignals,
        view: Progress,
        command: str | None = None,
        watch: Watch | None = None,
    ) -> None:
        if not checkpoint_every_s >= 0:
            raise LoptrlError(
                f"Expected checkpoint_every_s >= 0, got {checkpoint_every_s}; give seconds."
            )
        self.specs, self.make_program, self.store = list(specs), make_program, store
        self._folders = {store.checkpoint_dir(*self.specs)}
        self.checkpoint_every_s, self.deadline = checkpoint_every_s, deadline
        self.stop, self.view = stop, view
        self.command, self.watch = command, watch

    @property
    def label(self) -> str:
        """The runs as people name them, such as ``study/arm seed 3``, or with all their seeds."""
        first, *others = self.specs
        return ", ".join([first.label, *(str(spec.seed) for spec in others)])

    @contextlib.contextmanager
    def locks(self) -> Iterator[None]:
        """Hold all the runs against other processes.

        Raises:
            RunLocked: another process is computing one of them.
        """
        with contextlib.ExitStack() as held:
            for spec in self.specs:
                held.enter_context(self.store.lock(spec, wait=False))
            yield

    def check_time(self, done: int, total: int) -> None:
        """Raise Stopped when a signal came or the deadline has passed, between runs."""
        if self.stop.signum is None and not self._late():
            return
        raise self._stopped(f"{done} of {total} runs")

    def compute(self, position: int, total: int, stored: Collection[str] = ()) -> list[Run] | None:
        """Compute the runs, whose locks are held, and store them, but for those of these keys.

        None when the deadline came first.
        """
        if stored and not any(self.store.checkpoint_dir(*self.specs).glob("*/step-*")):
            return self._without(stored).compute(position, total)
        started = time.monotonic()
        provenance.reset_peak_memory()
        program = self._program()
        # Only now: the program's own modules may have to prepare the devices before jax starts.
        from loptrl import checkpoints

        slices, per_slice = _sizes(program)
        device = checkpoints.device()
        folder = self.store.checkpoint_dir(*self.specs) / checkpoints.fingerprint(device)
        commit = provenance.commit()
        state = checkpoints.settle(program.init())
        kept = self._resume(folder, state, slices, per_slice, commit)
        if stored and kept is None:
            return self._without(stored).compute(position, total)
        step, before = 0, {"wall_time_s": 0.0, "peak_memory_bytes": 0, "resumed": 0}
        rows: list[list[Row]] = [[] for _ in self.specs]
        if kept is not None:
            step, state, rows = kept.step, kept.state, kept.rows
            before = {**kept.meta, "resumed": kept.meta["resumed"] + 1}
        del kept
        form = checkpoints.signature(state)

        def facts(env_steps: int) -> dict[str, Any]:
            # Of runs together each has its share.
            wall = before["wall_time_s"] + (time.monotonic() - started) / len(self.specs)
            return {
                "env_steps": env_steps,
                "planned_env_steps": slices * per_slice,
                "versions": provenance.versions(),
                "device": device,
                "together": len(self.specs),
                "wall_time_s": round(wall, 3),
                "peak_memory_bytes": max(
                    before["peak_memory_bytes"], provenance.peak_memory_bytes()
                ),
                "env_steps_per_s": round(env_steps / max(wall, 1e-9), 1),
                "resumed": before["resumed"],
            }

        def save() -> None:
            if saved != step:
                meta = {
                    "keys": [spec.key for spec in self.specs],
                    "commit": commit,
                    **facts(step * per_slice),
                }
                checkpoints.save(folder, step, state, rows, meta)

        def over() -> bool:
            return step == slices or all(divergence(own) is not None for own in rows)

        saved, saved_at = step, time.monotonic()
        self.view.start(self.label, position, total, step * per_slice, slices * per_slice)
        try:
            while not over():
                state, new = program.advance(state)
                state = checkpoints.settle(state)
                if form is not None:
                    self._check_form(checkpoints.difference(form, checkpoints.signature(state)))
                    form = None
                step += 1
                for spec, own, more in zip(
                    self.specs, rows, new if len(self.specs) > 1 else [new], strict=True
                ):
                    if divergence(own) is None:
                        own += clean(more, own, spec)
                    if self.watch is not None:
                        self.watch(spec, own)
                self.view.update(step * per_slice)
                if over():
                    break
                if self.stop.signum is not None:
                    save()
                    raise self._stopped(
                        f"{count(step * per_slice)} of {count(slices * per_slice)} env steps of "
                        f"{self.label}"
                    )
                if self._late():
                    save()
                    return None
                if time.monotonic() - saved_at >= self.checkpoint_every_s:
                    save()
                    saved, saved_at = step, time.monotonic()
        finally:
            self.view.finish()
        ends = [divergence(own) for own in rows]
        known = [facts(step * per_slice if end is None else end) for end in ends]
        try:
            made = self._store(rows, known, ends, stored, commit)
        except StoreError:
            save()  # perhaps on another disk: the work is done and need not be done again
            raise
        spent = (self.store.spent_checkpoints(spec) for spec in self.specs)
        for old in self._folders.union(map(self.store.checkpoint_dir, self.specs), *spent):
            remove_folder(old)
        return made

    def _without(self, stored: Collection[str]) -> Job:
        """The same job without these runs, which need not be computed again."""
        self.specs = [spec for spec in self.specs if spec.key not in stored]
        self._folders.add(self.store.checkpoint_dir(*self.specs))
        return self

    def _store(
        self,
        rows: Sequence[list[Row]],
        facts: Sequence[Mapping[str, Any]],
        ends: Sequence[int | None],
        stored: Collection[str],
        commit: str | None,
    ) -> list[Run]:
        made = {
            "commit": commit,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return [
            self.store.write(spec, frame(own), {**known, **made, "diverged_at": end})
            for spec, own, known, end in zip(self.specs, rows, facts, ends, strict=True)
            if spec.key not in stored
        ]

    def _program(self) -> Program:
        first = self.make_program(self.specs[0])
        if len(self.specs) == 1:
            return first
        if not hasattr(first, "beside"):
            raise LoptrlError(
                f"Expected runs that can be computed together, got those of {self.specs[0].study}; "
                "compute them one by one (together 1)."
            )
        return first.beside([self.make_program(spec) for spec in self.specs[1:]])

    def _check_form(self, differs: str | None) -> None:
        # Found after one slice, not when a run of hours cannot be resumed.
        if differs:
            raise LoptrlError(
                f"Expected the state of {self.label} to keep its shapes and dtypes, got "
                f"{differs}; correct the program."
            )

    def _resume(
        self, folder: Path, template: Any, slices: int, per_slice: int, commit: str | None
    ) -> Checkpoint | None:
        from loptrl import checkpoints

        keys = [spec.key for spec in self.specs]

        def accept(meta: Mapping[str, Any]) -> str | None:
            theirs = meta.get("keys")
            if theirs is None:
                return "an earlier version of loptrl made it"
            return None if theirs == keys else f"it belongs to {', '.join(theirs)}"

        kept = checkpoints.load(folder, template, accept=accept, notice=self.view.notice)
        if kept is not None:
            if kept.step <= slices and kept.meta["env_steps"] == kept.step * per_slice:
                theirs = kept.meta.get("commit")
                if None not in (theirs, commit) and theirs != commit:
                    self.view.notice(
                        f"{self.label} goes on from a checkpoint that the code of commit {theirs} "
                        f"made; this is {commit}."
                    )
                return kept
            self.view.notice(
                f"{self.label} has a checkpoint that counts slices of other lengths; it starts "
                "from zero."
            )
        others = folder.parent.glob("*/step-*") if folder.parent.is_dir() else ()
        if any(path.parent != folder for path in others):
            self.view.notice(
                f"{self.label} has a checkpoint made with other versions of "
                f"{', '.join(checkpoints.DECISIVE)} or on another device; it starts from zero, "
                "since its numbers could differ from an uninterrupted run's, and the checkpoint "
                "is kept until the run is complete."
            )
            return None
        groups = (group for spec in self.specs for group in self.store.groups(spec))
        for group in groups if len(self._folders) == 1 else ():
            usable = self.store.checkpoints_of(group, self.specs[0].study) / folder.name
            if group != keys and any(usable.glob("step-*")):
                self.view.notice(
                    f"{self.label} starts from zero, though a checkpoint holds it that was made "
                    f"with together={len(group)}, with which the same runs go on from there."
                )
                break
        return None

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _stopped(self, where: str) -> Stopped:
        number = self.stop.signum
        cause = "the time limit" if number is None else signal.Signals(number).name
        again = f"`{self.command}`" if self.command else "the same call"
        return Stopped(
            f"Stopped by {cause} after {where}; what is done is kept, {again} goes on from there.",
            number,
        )


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
