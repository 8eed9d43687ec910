"""The format of a stored run: a Parquet table and a JSON manifest, checked to the last byte."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from loptrl.errors import DamagedRun, LoptrlError, StoreError
from loptrl.files import sha256
from loptrl.specs import RunSpec, canonical_json

__all__ = [
    "SCHEMA",
    "damage",
    "load_manifest",
    "manifest_bytes",
    "parquet_bytes",
    "parse_parquet",
]

SCHEMA = 1
FIELDS = {  # what every manifest holds, and of which type
    "schema": int,
    "key": str,
    "study": str,
    "arm": str,
    "budget": str,
    "version": int,
    "seed": int,
    "config": dict,
    "env_steps": int,
    "versions": dict,
    "device": str,
    "wall_time_s": (int, float),
    "peak_memory_bytes": int,
    "env_steps_per_s": (int, float),
    "created": str,
    "resumed": int,
    "parquet_sha256": str,
    "rows": int,
    "manifest_sha256": str,
}
_NULLABLE = ("commit", "diverged_at")


def parquet_bytes(spec: RunSpec, frame: pd.DataFrame) -> bytes:
    """A run's rows as Parquet: int64 and float64 columns, ``seed`` and ``env_steps`` first.

    Raises:
        StoreError: the rows are not numbers, or their env steps do not increase.
    """
    sink = io.BytesIO()
    pq.write_table(_to_table(spec, frame), sink, compression="zstd")
    return sink.getvalue()


def manifest_bytes(spec: RunSpec, facts: Mapping[str, Any], parquet: bytes, rows: int) -> bytes:
    """A run's manifest as JSON, complete and with its own checksum.

    Raises:
        StoreError: a fact is missing or not JSON.
    """
    content: dict[str, Any] = {"schema": SCHEMA, "key": spec.key, **spec.as_dict()}
    content |= {name: value for name, value in facts.items() if name not in content}
    content |= {"parquet_sha256": sha256(parquet), "rows": rows}
    try:
        content["manifest_sha256"] = sha256(canonical_json(content, "manifest").encode())
        problem = _problem(content)
    except LoptrlError as error:
        raise StoreError(str(error)) from error
    if problem:
        raise StoreError(f"Expected a complete manifest for {spec.label}: {problem}; add it.")
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _to_table(spec: RunSpec, frame: pd.DataFrame) -> pa.Table:
    def refuse(what: str) -> StoreError:
        return StoreError(
            f"Expected rows of numbers for {spec.label}, but {what}; correct the program."
        )

    if len(frame) == 0:
        raise refuse("there is not one row")
    if "env_steps" not in frame.columns:
        raise refuse("the column env_steps is missing")
    if not frame.columns.is_unique:
        raise refuse("a column is there twice")
    columns: dict[str, np.ndarray] = {"seed": np.full(len(frame), spec.seed, np.int64)}
    for name in ["env_steps", *(c for c in frame.columns if c not in ("seed", "env_steps"))]:
        values = frame[name].to_numpy()
        if values.dtype.kind in "biu":
            columns[str(name)] = values.astype(np.int64)
        elif values.dtype.kind == "f":
            columns[str(name)] = values.astype(np.float64)
        else:
            raise refuse(f"the column {name} holds {values.dtype}")
    steps = columns["env_steps"]
    if steps.dtype != np.int64:
        if not np.all(steps == np.floor(steps)):
            raise refuse("env_steps are not whole numbers")
        columns["env_steps"] = steps = steps.astype(np.int64)
    if np.any(np.diff(steps) <= 0):
        raise refuse("env_steps do not increase from row to row")
    metadata = {"loptrl_schema": str(SCHEMA), "loptrl_key": spec.key}
    return pa.table({n: pa.array(v) for n, v in columns.items()}, metadata=metadata)


def parse_parquet(path: Path, data: bytes, spec: RunSpec, rows: int) -> pd.DataFrame:
    """The rows of a stored run, their schema verified; raises DamagedRun."""
    try:
        table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise damage(path, f"it is not Parquet ({str(error).splitlines()[0]})") from error
    metadata = table.schema.metadata or {}
    if metadata.get(b"loptrl_key") != spec.key.encode():
        raise damage(path, "it belongs to another run")
    if table.column_names[:2] != ["seed", "env_steps"]:
        raise damage(path, "its first columns are not seed and env_steps")
    for column in table.schema:
        exact = column.name in ("seed", "env_steps")
        fits = column.type == pa.int64() or (column.type == pa.float64() and not exact)
        if not fits or table.column(column.name).null_count:
            raise damage(path, f"its column {column.name} holds {column.type} or gaps")
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in table.column_names})
    if len(frame) != rows or not (frame["seed"] == spec.seed).all():
        raise damage(path, "its rows or its seed differ from the manifest's")
    return frame


def load_manifest(path: Path) -> dict[str, Any]:
    """A manifest whose checksum, fields and key are right; raises DamagedRun."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise damage(path, os.strerror(error.errno or 0)) from error
    except ValueError as error:
        raise damage(path, "it is not JSON") from error
    problem = "it is not a mapping" if not isinstance(content, dict) else _problem(content)
    if problem is None:
        body = {name: item for name, item in content.items() if name != "manifest_sha256"}
        try:
            right = sha256(canonical_json(body).encode()) == content["manifest_sha256"]
            problem = None if right else "its checksum is wrong"
            if right and RunSpec.from_dict(content).key != content["key"]:
                problem = "its key is not that of its configuration"
        except LoptrlError as error:
            problem = f"its content is wrong ({error})"
    if problem is None and path.stem != content["key"]:
        problem = f"it describes the run {content['key']}"
    if problem:
        raise damage(path, problem)
    return content


def _problem(content: Mapping[str, Any]) -> str | None:
    if content.get("schema") != SCHEMA:
        return f"its schema is {content.get('schema')!r} and not {SCHEMA}"
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind) or isinstance(content[name], bool):
            return f"{name} is missing or of a wrong type"
    for name in _NULLABLE:
        if name not in content:
            return f"{name} is missing"
    return None


def damage(path: Path, what: str) -> DamagedRun:
    """The error that names a damaged file."""
    return DamagedRun(f"{path} is damaged: {what}; restore it, or delete it to compute it again.")
