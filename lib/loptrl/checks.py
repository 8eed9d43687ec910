"""Checks of settings: what was expected, what came."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loptrl.errors import LoptrlError

__all__ = ["check_flag", "check_mapping", "check_number", "checked_fields", "plain_scalars"]


def checked_fields(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` if all its names are fields of the dataclass.

    Raises:
        LoptrlError: it is no mapping, or a name is unknown; the sentence lists the fields.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(data, Mapping):
        raise LoptrlError(f"{cls.__name__} expects names with values, got {data!r}")
    unknown = sorted(set(data) - known)
    if unknown:
        raise LoptrlError(f"unknown setting {unknown[0]!r}: {cls.__name__} has {sorted(known)}")
    return dict(data)


def plain_scalars(config: Any) -> None:
    """Replace numpy scalars among the fields of a dataclass by Python's, which JSON knows."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(config, field.name, value.item())


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    whole: bool = False,
) -> None:
    """See to it that a setting is a finite number in [low, high]; with `open_low` in (low, high].

    Raises:
        LoptrlError: it is not; or, with `whole`, it has a fraction.
    """
    kinds = (int, float, np.integer, np.floating)
    ok = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    ok = ok and (not whole or float(value).is_integer())
    if ok and low <= value <= high and not (open_low and value == low):
        return
    kind = "a whole number" if whole else "a number"
    bound = f"above {low:g}" if open_low else f"of at least {low:g}"
    if high < math.inf:
        bound += f" and at most {high:g}"
    raise LoptrlError(f"{name} must be {kind} {bound}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """See to it that a setting is a bool.

    Raises:
        LoptrlError: it is not.
    """
    if not isinstance(value, bool):
        raise LoptrlError(f"{name} must be true or false, got {value!r}")


def check_mapping(name: str, value: Any) -> None:
    """See to it that a setting maps names to values.

    Raises:
        LoptrlError: it does not.
    """
    if not isinstance(value, Mapping):
        raise LoptrlError(f"{name} must map names to values, got {value!r}")
