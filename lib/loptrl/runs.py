"""The store of runs: one Parquet file and one JSON manifest each, verified whenever read.

Never imports jax, so that committed results can be drawn without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from loptrl.errors import DamagedRun, LoptrlError, MissingRun, RunLocked
from loptrl.files import Staged, sha256, write_error, write_together
from loptrl.paths import cache_dir, results_dir
from loptrl.records import (
    SCHEMA,
    damage,
    load_manifest,
    manifest_bytes,
    parquet_bytes,
    parse_parquet,
)
from loptrl.results import Results, Run
from loptrl.specs import RunSpec

__all__ = ["SCHEMA", "Results", "Run", "RunSpec", "Store"]


@dataclass(frozen=True)
class Store:
    """Runs under ``root/<study>/<arm>/<key>.parquet``, each with ``<key>.json`` beside it.

    Args:
        root: the folder of results; default ``paths.results_dir()``.
        scratch: locks and checkpoints, not to be kept; default ``paths.cache_dir()``. Processes
            that share a root must share the scratch folder for their locks to meet.
    """

    root: Path | None = None
    scratch: Path | None = None

    def __post_init__(self) -> None:
        root = results_dir() if self.root is None else Path(self.root)
        scratch = cache_dir() if self.scratch is None else Path(self.scratch)
        object.__setattr__(self, "root", root.absolute())
        object.__setattr__(self, "scratch", scratch.absolute())

    def path(self, spec: RunSpec) -> Path:
        """The run's Parquet file, whether it is there or not."""
        return self.root / spec.study / spec.arm / f"{spec.key}.parquet"

    def manifest_path(self, spec: RunSpec) -> Path:
        """The run's manifest, whether it is there or not."""
        return self.path(spec).with_suffix(".json")

    def checkpoint_dir(self, spec: RunSpec, *others: RunSpec) -> Path:
        """The folder of the checkpoints of a run, or of several that are computed together.

        It is deleted when they are stored.
        """
        return self.checkpoints_of([one.key for one in (spec, *others)], spec.study)

    def checkpoints_of(self, keys: Sequence[str], study: str) -> Path:
        """The same for runs of these keys."""
        name = sha256(" ".join(keys).encode())[:16] if len(keys) > 1 else keys[0]
        return self._scratch("checkpoints") / study / name

    def spent_checkpoints(self, spec: RunSpec) -> set[Path]:
        """The folders of checkpoints that hold this run, all of whose runs are stored.

        Where runs are computed again, stored from before counts.
        """
        folder = self.root / spec.study
        return {
            self.checkpoints_of(keys, spec.study)
            for keys in self.groups(spec)
            if all(any(folder.glob(f"*/{key}.json")) for key in keys)
        }

    def state(self, spec: RunSpec) -> str:
        """``done``, ``running``, ``damaged``, ``partial`` (a checkpoint is kept) or ``missing``."""
        try:
            self.read(spec)
            return "done"
        except MissingRun:
            damaged = False
        except DamagedRun:
            damaged = True
        if self.is_locked(spec):
            return "running"
        if damaged:
            return "damaged"
        kept = any(self.checkpoint_dir(spec).glob("*/step-*")) or self.groups(spec)
        return "partial" if kept else "missing"

    def groups(self, spec: RunSpec) -> list[list[str]]:
        """The keys of all runs of each checkpoint that holds this one, the furthest first."""
        metas = self.checkpoint_dir(spec).parent.glob("*/*/step-*/meta.json")
        furthest_first = sorted(metas, key=lambda meta: meta.parent.name, reverse=True)
        return [keys for keys in map(_members, furthest_first) if spec.key in keys]

    def read(self, spec: RunSpec) -> Run:
        """The stored run, its checksums and schema verified.

        Raises:
            MissingRun: it is not stored.
            DamagedRun: a file is damaged; the sentence names it.
        """
        for attempt in range(4):
            try:
                return self._read(self.manifest_path(spec), spec)
            except DamagedRun:
                # Another process may be between putting the two files in place.
                if attempt == 3 or not self.is_locked(spec):
                    raise
                time.sleep(0.05)
        raise AssertionError("unreachable")

    def write(self, spec: RunSpec, frame: pd.DataFrame, manifest: Mapping[str, Any]) -> Run:
        """Store a run: both files whole or neither, the manifest last. Hold the run's lock.

        Args:
            spec: the run.
            frame: ``env_steps`` (strictly increasing) and one numeric column per metric [rows].
            manifest: ``env_steps, versions, device, wall_time_s, peak_memory_bytes,
                env_steps_per_s, commit, created, diverged_at, resumed`` and whatever else is
                worth keeping; the rest is filled in.

        Raises:
            StoreError: the frame or the manifest does not fit, or the disk refuses; what was
                stored before is untouched.
        """
        parquet = parquet_bytes(spec, frame)
        self._put(spec, parquet, manifest_bytes(spec, manifest, parquet, len(frame)))
        return self.read(spec)

    def check_writable(self, spec: RunSpec) -> None:
        """Find out before hours of work that the run could not be stored.

        Raises:
            StoreError: the store or the scratch folder refuses a file.
        """
        for path in (self.path(spec), self._lock_path(spec)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                Staged(path, b"probe").discard()
            except OSError as error:
                raise write_error(path.parent, error) from error

    @contextlib.contextmanager
    def lock(self, spec: RunSpec, *, wait: bool = True) -> Iterator[None]:
        """Hold the run against other processes; the kernel lets go even after kill -9.

        Args:
            spec: the run.
            wait: wait for the other process, else raise at once.

        Raises:
            RunLocked: another process holds it and ``wait`` is false.
            StoreError: the scratch folder cannot be written.
        """
        path = self._lock_path(spec)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            if not _locked(handle, wait):
                raise RunLocked(
                    f"Another process is computing {spec.label} ({spec.key}); wait for it."
                )
            yield
        finally:
            # Closing lets go; the empty file stays, for deleting it would race with a waiter.
            os.close(handle)

    def is_locked(self, spec: RunSpec) -> bool:
        """Whether some process is computing the run at this moment."""
        try:
            handle = os.open(self._lock_path(spec), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(handle)

    def find(self, key_prefix: str) -> Run:
        """The only stored run whose key starts with these hex digits.

        Raises:
            LoptrlError: not hex digits, or several runs match.
            MissingRun: none matches.
            DamagedRun: it is damaged.
        """
        prefix = key_prefix.strip().lower()
        if not prefix or len(prefix) > 16 or set(prefix) - set("0123456789abcdef"):
            raise LoptrlError(
                f"Expected 1 to 16 hex digits of a run's key, got {key_prefix!r}; "
                "`loptrl status` lists the keys."
            )
        matches = sorted(self.root.glob(f"*/*/{prefix}*.json"))
        if not matches:
            raise MissingRun(
                f"Expected a stored run whose key starts with {prefix}, found none in {self.root}; "
                "`loptrl status` lists the keys."
            )
        if len(matches) > 1:
            names = ", ".join(f"{p.parent.name}/{p.stem}" for p in matches[:4])
            raise LoptrlError(
                f"Expected one run whose key starts with {prefix}, found {len(matches)} "
                f"({names}); give more digits."
            )
        return self._read(matches[0], None)

    def iter_manifests(self, *, damaged: list[DamagedRun] | None = None) -> Iterator[dict]:
        """The manifests of all stored runs, each verified by its own checksum.

        Args:
            damaged: a list that collects the damaged ones; without it the first is raised.
        """
        for path in sorted(self.root.glob("*/*/*.json")):
            try:
                yield load_manifest(path)
            except DamagedRun as error:
                if damaged is None:
                    raise
                damaged.append(error)

    def _scratch(self, kind: str) -> Path:
        # One scratch folder may serve several stores; they must not meet in it.
        return self.scratch / kind / sha256(str(self.root.resolve()).encode())[:12]

    def _lock_path(self, spec: RunSpec) -> Path:
        return self._scratch("locks") / f"{spec.study}-{spec.key}.lock"

    def _read(self, manifest_path: Path, spec: RunSpec | None) -> Run:
        # A Parquet file alone is a write that was cut off before its manifest: not a run.
        if not manifest_path.exists() and spec is not None:
            raise MissingRun(
                f"Expected the run {spec.label} ({spec.key}) in {self.root}, found none; "
                "load_or_run computes it."
            )
        manifest = load_manifest(manifest_path)
        stored = RunSpec.from_dict(manifest)
        if spec is not None and (stored.key, stored.arm) != (spec.key, spec.arm):
            raise damage(manifest_path, f"it describes {stored.label}, not {spec.label}")
        path = manifest_path.with_suffix(".parquet")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise damage(path, os.strerror(error.errno or 0)) from error
        if sha256(data) != manifest["parquet_sha256"]:
            raise damage(path, "its checksum differs from the manifest's")
        return Run(stored, parse_parquet(path, data, stored, manifest["rows"]), manifest)

    def _put(self, spec: RunSpec, parquet: bytes, manifest: bytes) -> None:
        path = self.path(spec)
        with contextlib.suppress(OSError):
            for stale in path.parent.glob(f".{spec.key}.*.tmp"):
                stale.unlink(missing_ok=True)
        write_together({path: parquet, self.manifest_path(spec): manifest})


def _locked(handle: int, wait: bool) -> bool:
    """Take a file's lock; one that is only being looked at (`is_locked`) is free in a moment."""
    if wait:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return True
    for pause in (0.0, 0.005, 0.01, 0.02, 0.04):
        time.sleep(pause)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _members(meta: Path) -> list[str]:
    """Keys of the runs that a checkpoint holds; none where it cannot be read."""
    try:
        return list(json.loads(meta.read_bytes())["meta"]["keys"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
