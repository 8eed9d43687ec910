"""Pickles of plain arrays, read without the power of pickle: nothing that they name is called."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

from loptrl.errors import WeightsError
from loptrl.plain_arrays import Arrays, flat, plain_array, reading

__all__ = ["read_pickle"]

_LARGEST = 2**20


def read_pickle(data: bytes, where: str) -> Arrays:
    """The arrays in a pickle of nested dictionaries of numpy or jax arrays.

    Only the operations that such a pickle needs are admitted, and what it would call in numpy, jax
    or flax is done by stand-ins of this file: nothing is imported and nothing else can be called.

    Raises:
        WeightsError: it asks for anything more, or is damaged.
    """
    if len(data) > _LARGEST:
        raise WeightsError(
            f"expected a pickle of at most {_LARGEST} bytes in {where}, got {len(data)}"
        )
    with reading("a pickle of plain arrays", where, "get it again"):
        operations = list(pickletools.genops(data))
        for operation, argument, _ in operations:
            if operation.name not in _OPERATIONS:
                raise WeightsError(
                    f"expected a pickle of plain arrays in {where}, it uses {operation.name}; "
                    "such a file is not opened"
                )
            # A large index alone would make the memo take gigabytes.
            if operation.name == "LONG_BINPUT" and argument > len(data):
                raise ValueError(f"the memo index {argument}")
        after = len(data) - 1 - operations[-1][2]
        if after:
            raise ValueError(f"{after} bytes after its end")
        tree = _Unpickler(data, where).load()
    return flat(tree, where, lambda node: node.value if isinstance(node, _Array) else node)


_OPERATIONS = frozenset(
    "PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL "
    "REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE "
    "BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_DICT SETITEM SETITEMS "
    "EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3".split()
)


class _DType:
    """Stands for a numpy dtype."""

    __slots__ = ("text",)

    def __init__(self, text: str, *flags: Any) -> None:
        self.text = text

    def __setstate__(self, state: Any) -> None:
        self.text = state[1] + self.text


class _Array:
    """Stands for a numpy array that is about to get its content."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = plain_array(raw, getattr(dtype, "text", None), shape, "F" if fortran else "C")


def _empty(kind: Any, shape: Any, code: Any) -> _Array:
    if not isinstance(kind, _Callable) or kind.name != "ndarray":
        raise ValueError("an array of an unknown class")
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = plain_array(raw, getattr(dtype, "text", None), shape, order)
    return array


def _jax_array(function: Any, arguments: Any, state: Any, aval: Any) -> _Array:
    if not isinstance(function, _Callable) or function.name != "_reconstruct":
        raise ValueError("an array of an unknown class")
    array = function(*arguments)
    array.__setstate__(state)
    return array


_STAND_INS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _empty,
    "_frombuffer": _from_buffer,
    "dtype": _DType,
    "_reconstruct_array": _jax_array,
    "FrozenDict": dict,
}
_ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    # numpy 1 and 2.
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("jax._src.array", "_reconstruct_array"),
    ("flax.core.frozen_dict", "FrozenDict"),
}


class _Callable:
    """Stands for a function or class that a pickle names; it holds nothing that BUILD can reach."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name not in _STAND_INS:
            raise ValueError(f"a call of {self.name}")
        return _STAND_INS[self.name](*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"a change of {self.name}")


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_ADMITTED` and no others."""

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data))
        self._where = where

    def find_class(self, module: str, name: str) -> _Callable:
        if (module, name) not in _ADMITTED:
            asked = f"{module}.{name}"
            raise WeightsError(
                f"expected a pickle of plain arrays in {self._where}, it asks for {asked!r:.80}; "
                "such a file is not opened"
            )
        return _Callable(name)
