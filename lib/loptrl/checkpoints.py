"""Checkpoints of a run or of several together: atomic, checksummed, the last two kept, by orbax.

Layout: ``folder/step-0000000012/{state/, rows.json, meta.json, checksums.json}``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loptrl import provenance
from loptrl.errors import LoptrlError
from loptrl.files import (
    hidden_name,
    remove_folder,
    sha256,
    sync_file,
    sync_folder,
    write_error,
    write_synced,
)

__all__ = [
    "DECISIVE",
    "Checkpoint",
    "device",
    "difference",
    "fingerprint",
    "load",
    "save",
    "settle",
    "signature",
    "steps",
]

KEEP = 2
# What decides a run's bits, beside the device: a checkpoint is used only where these are the same.
DECISIVE = ("jax", "jaxlib", "flax", "optax", "brax", "gymnax", "evosax", "mujoco", "numpy")
_FULL = ("highest", "float32", "F32_F32_F32")
_STEP = re.compile(r"step-(\d{10})")


@dataclass(frozen=True)
class Checkpoint:
    """A run as it was after ``step`` slices.

    Args:
        step: slices done.
        state: the program's state, a pytree like the template's.
        rows: the metric rows so far, those of each run.
        meta: what the driver keeps beside them (JSON).
    """

    step: int
    state: Any
    rows: list[list[dict[str, Any]]]
    meta: dict[str, Any]


def device() -> str:
    """The devices that compute, in words: how many, of which platform, which make.

    The words say so where an accelerator may multiply float32 matrices at less than full precision.
    """
    devices = jax.devices()
    platform, kind = devices[0].platform, devices[0].device_kind
    if platform == "cpu":
        kind = provenance.processor()
    elif jax.config.jax_default_matmul_precision not in _FULL:
        kind += provenance.REDUCED
    return f"{len(devices)} x {platform} ({kind})"


def fingerprint(device_text: str) -> str:
    """Twelve hex digits that differ wherever a run's numbers could: device and versions."""
    have = provenance.versions()
    decisive = {name: have.get(name) for name in DECISIVE} | {"device": device_text}
    return sha256(json.dumps(decisive, sort_keys=True).encode())[:12]


def settle(state: Any) -> Any:
    """Every leaf as a strongly typed JAX array.

    Neither numbers of the host nor weak types come back from a file as they went. Done after
    ``init`` and after every slice, this makes a resumed run promote its dtypes exactly as one that
    was never stopped.

    Raises:
        TypeError: a leaf is neither an array nor a number.
    """

    def settled(path: Any, leaf: Any) -> jax.Array:
        if not isinstance(leaf, jax.Array):
            try:
                leaf = jnp.asarray(leaf)
            except TypeError as error:
                raise _not_an_array(path, leaf) from error
        weak = not _is_key(leaf) and leaf.weak_type
        return jax.lax.convert_element_type(leaf, leaf.dtype) if weak else leaf

    return jax.tree_util.tree_map_with_path(settled, state)


def signature(state: Any) -> list[dict[str, Any]]:
    """Name, dtype, shape and kind of key of every leaf, without reading a value."""
    return [_describe(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)]


def difference(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> str | None:
    """The first difference of two signatures, in words."""
    for old, new in zip(one, two, strict=False):
        if old != new:
            return f"{_short(old)} against {_short(new)}"
    return None if len(one) == len(two) else f"{len(one)} arrays against {len(two)}"


def save(
    folder: Path,
    step: int,
    state: Any,
    rows: Sequence[Sequence[Mapping[str, Any]]],
    meta: Mapping[str, Any],
) -> Path:
    """Write one checkpoint, then drop all but the newest two.

    Args:
        folder: the folder of the run's checkpoints, made if needed.
        step: slices done; >= 0.
        state: pytree of JAX arrays (see ``settle``); typed keys are allowed.
        rows: the metric rows of each run, kept exactly (NaN and infinities included).
        meta: JSON.

    Raises:
        StoreError: it could not be written; earlier checkpoints are untouched.
    """
    final = folder / f"step-{step:010d}"
    temporary = hidden_name(final)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".step-*.tmp"):
            remove_folder(stale)
        temporary.mkdir()
        described, arrays = signature(state), _disassemble(state)
        with _quiet():
            _orbax().save(temporary / "state", arrays or {"nothing": np.zeros(1, np.int8)})
        write_synced(temporary / "rows.json", json.dumps(list(rows)).encode())
        facts = {"step": step, "leaves": described, "meta": dict(meta)}
        write_synced(temporary / "meta.json", json.dumps(facts).encode())
        sums = {}
        for path in _files(temporary):
            sync_file(path)
            sums[path.relative_to(temporary).as_posix()] = sha256(path.read_bytes())
        write_synced(temporary / "checksums.json", json.dumps(sums).encode())
        remove_folder(final)
        os.rename(temporary, final)
        sync_folder(folder)
    except Exception as error:
        # Orbax wraps a refused write in exceptions of its own.
        if isinstance(error, OSError):
            raise write_error(final, error) from error
        cause = _os_error_within(error)
        if cause is None:
            raise
        raise write_error(final, cause) from error
    finally:
        remove_folder(temporary)
    # Later ones can only be those that were passed over when the run went on from here.
    present = steps(folder)
    kept = [old for old in present if old <= step][:KEEP]
    for old in set(present) - set(kept):
        remove_folder(folder / f"step-{old:010d}")
    return final


def load(
    folder: Path,
    template: Any,
    *,
    accept: Callable[[Mapping[str, Any]], str | None] = lambda meta: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Checkpoint | None:
    """The newest checkpoint that is whole and fits, or None.

    Args:
        folder: the folder of the run's checkpoints.
        template: a state of the same structure, shapes, dtypes and placement (from ``init``).
        accept: says from the meta data why a checkpoint is not to be used, or None to use it.
        notice: told in one sentence about every checkpoint that is passed over.
    """
    for step in steps(folder):
        path = folder / f"step-{step:010d}"
        try:
            facts = _verified(path)
            reason = accept(facts["meta"])
            if reason is not None:
                raise LoptrlError(reason)
            state = _assemble(path / "state", facts["leaves"], template)
            rows = json.loads((path / "rows.json").read_bytes())
        except (LoptrlError, OSError, ValueError, KeyError, TypeError) as error:
            notice(f"The checkpoint {path} is passed over: {str(error).rstrip('.')}.")
            continue
        return Checkpoint(step, state, rows, facts["meta"])
    return None


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints that are there, the newest first."""
    if not folder.is_dir():
        return []
    found = (_STEP.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(match[1]) for match in found if match), reverse=True)


def _verified(path: Path) -> dict[str, Any]:
    sums = json.loads((path / "checksums.json").read_bytes())
    there = {p.relative_to(path).as_posix() for p in _files(path)} - {"checksums.json"}
    if there != set(sums):
        raise LoptrlError("files are missing or were added")
    for name, expected in sums.items():
        if sha256((path / name).read_bytes()) != expected:
            raise LoptrlError(f"{name} is damaged")
    return json.loads((path / "meta.json").read_bytes())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(path: Any, leaf: Any) -> dict[str, Any]:
    if not isinstance(leaf, jax.Array):
        raise _not_an_array(path, leaf)
    return {
        "name": jax.tree_util.keystr(path),
        "dtype": "key" if _is_key(leaf) else str(leaf.dtype),
        "shape": list(leaf.shape),
        "key": str(jax.random.key_impl(leaf)) if _is_key(leaf) else None,
    }


def _not_an_array(path: Any, leaf: Any) -> TypeError:
    name = jax.tree_util.keystr(path) or "its top"
    return TypeError(
        f"Expected JAX arrays in a program's state, got {type(leaf).__name__} at {name}; "
        "keep it in the program itself."
    )


def _disassemble(state: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for index, leaf in enumerate(jax.tree.leaves(state)):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        if array.size:  # orbax refuses empty arrays; the template knows them
            arrays[f"{index:05d}"] = array
    return arrays


def _assemble(path: Path, stored: list[dict[str, Any]], template: Any) -> Any:
    differs = difference(stored, signature(template))
    if differs:
        raise LoptrlError(f"it does not fit the program, {differs}")
    arrays = _orbax().restore(path)
    leaves = []
    for index, like in enumerate(jax.tree.leaves(template)):
        array = arrays.get(f"{index:05d}")
        leaves.append(like if array is None else _place(array, like))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _place(array: np.ndarray, like: jax.Array) -> jax.Array:
    data = jax.random.key_data(like) if _is_key(like) else like
    placed = jax.device_put(array, data.sharding) if data.committed else jax.device_put(array)
    if _is_key(like):
        return jax.random.wrap_key_data(placed, impl=str(jax.random.key_impl(like)))
    return placed


def _short(facts: Mapping[str, Any]) -> str:
    kind = f"keys of {facts['key']}" if facts["key"] else facts["dtype"]
    return f"{facts['name'] or 'the state'} as {kind}{facts['shape']}"


def _os_error_within(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        text = str(error)
        if "No space left" in text:
            return OSError(28, text)
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Orbax logs the tracebacks of its threads, beside raising what is raised here as a sentence.
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _orbax() -> Any:
    # Importing orbax takes a second, which a run of a few slices need not pay.
    import orbax.checkpoint

    handler = orbax.checkpoint.PyTreeCheckpointHandler()
    return orbax.checkpoint.Checkpointer(handler)
