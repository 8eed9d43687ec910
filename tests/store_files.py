"""Small helpers of the tests of the store and the driver."""

from __future__ import annotations

from pathlib import Path

from loptrl.runs import RunSpec, Store


def content(store: Store, spec: RunSpec) -> bytes:
    return store.path(spec).read_bytes()


def files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
