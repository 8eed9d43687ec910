"""Plain arrays by path: what trained weights are kept as, and how foreign bytes become them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loptrl.errors import WeightsError

__all__ = ["Arrays", "check", "flat", "numbers_sha256", "plain_array", "read_bytes", "reading"]

Arrays = dict[str, np.ndarray]
_DTYPE = re.compile(r"[<>=|]?[fiu][248]|(float|u?int)(16|32|64)")
_MOST_NODES = 10_000
_LONGEST_PATH = 500


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise WeightsError(f"could not read {path}: {why}; check the path") from error


def check(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse what is no set of finite floats.

    Raises:
        WeightsError: there are no arrays, or one holds something else.
    """
    if not arrays:
        raise WeightsError(f"expected arrays in {where}, got none")
    for name, value in arrays.items():
        kind = getattr(value, "dtype", type(value).__name__)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise WeightsError(f"expected floats in {where}, {name} holds {kind}")
        if not np.isfinite(value).all():
            raise WeightsError(f"expected finite numbers in {where}, {name} holds NaN or infinity")


def numbers_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and numbers, whatever file they are kept in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<"))
        digest.update(f"{name} {value.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def plain_array(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """An array of numbers from its bytes, its type's name and its shape.

    Raises:
        ValueError: the type is no plain number, or bytes and shape do not fit.
    """
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        # Not shown unless a text: the name of a nested structure may have no end.
        raise ValueError(f"the type {dtype:.40}" if isinstance(dtype, str) else "no type")
    value = np.frombuffer(bytes(memoryview(raw)), np.dtype(dtype))
    return value.reshape(tuple(shape), order="F" if order == "F" else "C").copy()


def flat(tree: Any, where: str, content: Callable[[Any], Any] = lambda node: node) -> Arrays:
    """Arrays by path of nested dictionaries.

    Args:
        tree: the dictionaries.
        where: the file, for errors.
        content: gives what a node stands for.

    Raises:
        WeightsError: there is something else than dictionaries and arrays, or no end of it.
    """
    arrays: Arrays = {}
    waiting, seen = [("", tree)], 0
    while waiting:
        path, node = waiting.pop()
        node = content(node)
        # Counted, since shared or circular dictionaries have no end.
        seen += len(node) if isinstance(node, dict) else 0
        if seen > _MOST_NODES or len(path) > _LONGEST_PATH:
            raise WeightsError(f"expected at most {_MOST_NODES} short names in {where}, got more")
        if isinstance(node, dict) and all(isinstance(key, str) for key in node):
            waiting += [(f"{path}/{key}" if path else key, child) for key, child in node.items()]
        elif isinstance(node, np.ndarray) and path and path not in arrays:
            arrays[path] = node
        else:
            raise WeightsError(
                f"expected dictionaries of arrays in {where}, got a {type(node).__name__} "
                f"at {path!r:.60}"
            )
    return arrays


@contextlib.contextmanager
def reading(what: str, where: str, remedy: str) -> Iterator[None]:
    """One sentence for whatever a damaged or hostile file makes a parser raise."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"expected {what} in {where}, got {said:.200}; {remedy}") from error
