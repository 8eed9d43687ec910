"""Recorded inputs and outputs of the official optimizers, and how far ours may be from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree_util

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "golden"
SHARED = ROOT.parent / "shared" / "golden"


def files(family: str, names: list[str]) -> list[Any]:
    """One test parameter per recorded file; the uncommitted ones skip where they are not."""
    out = []
    for name in names:
        committed, shared = FIXTURES / f"{name}.npz", SHARED / family / f"{name}.npz"
        path = committed if committed.is_file() else shared
        reason = f"{name}.npz is not committed, and {SHARED} is not there"
        marks = pytest.mark.skipif(not path.is_file(), reason=reason)
        out.append(pytest.param(path, id=name, marks=marks))
    return out


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def under(data: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Arrays by path as a tree of dictionaries."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = jnp.asarray(value)
    return tree


def flat(tree: Any) -> dict[str, np.ndarray]:
    """A tree of dictionaries as arrays by path."""
    leaves, _ = tree_util.tree_flatten_with_path(tree)
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}


def scaled_error(
    ours: np.ndarray, recorded: np.ndarray, *, by: np.ndarray | None = None, last_axis: bool = False
) -> float:
    """Largest error over steps: max|a - b| / max|b over steps 0..t|.

    Args:
        ours, recorded: `[steps, ...]`.
        by: scale of each step `[steps]` in place of the running maximum.
        last_axis: judge each entry of the last axis by itself.
    """
    assert ours.shape == recorded.shape, (ours.shape, recorded.shape)
    if recorded.size == 0:
        return 0.0
    if last_axis:
        many = range(recorded.shape[-1])
        return max(scaled_error(ours[..., i], recorded[..., i], by=by) for i in many)
    # In this order NaN on either side fails.
    assert np.isfinite(ours).all() and np.isfinite(recorded).all()
    steps = recorded.shape[0]
    error = np.abs(ours.astype(np.float64) - recorded).reshape(steps, -1).max(axis=1)
    if by is None:
        by = np.maximum.accumulate(np.abs(recorded).reshape(steps, -1).max(axis=1))
    by = by.astype(np.float64)
    return float(np.max(np.where(error == 0, 0.0, error / np.where(by == 0, 1e-300, by))))


def worst(ours: dict[str, np.ndarray], recorded: dict[str, np.ndarray], **how: Any) -> float:
    """The largest scaled error over leaves."""
    assert ours.keys() == recorded.keys()
    return max(scaled_error(ours[name], recorded[name], **how) for name in recorded)
