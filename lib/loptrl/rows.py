"""The metric rows that a program hands to its driver."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from loptrl.errors import LoptrlError
from loptrl.specs import RunSpec

__all__ = ["Row", "clean", "divergence", "frame"]

Row = dict[str, float]


def clean(new: Sequence[Mapping[str, Any]], rows: Sequence[Row], spec: RunSpec) -> list[Row]:
    """New rows as Python numbers, exact in JSON; those after a divergence are dropped.

    Args:
        new: rows of one slice; values may be numbers or scalar arrays.
        rows: the rows before them.
        spec: the run, for messages.

    Raises:
        LoptrlError: a value is not a number, or env_steps are missing or do not increase.
    """
    cleaned: list[Row] = []
    last = rows[-1]["env_steps"] if rows else -1
    for row in new:
        try:
            numbers = {str(name): _number(value) for name, value in row.items()}
            steps = numbers["env_steps"]
        except (KeyError, TypeError, ValueError) as error:
            raise LoptrlError(
                f"Expected rows of numbers with env_steps from {spec.label}, got {dict(row)!r}; "
                "correct the program."
            ) from error
        if not steps > last:
            raise LoptrlError(
                f"Expected env_steps to increase in {spec.label}, got {steps} after {last}; "
                "correct the program."
            )
        last = steps
        cleaned.append(numbers)
        if numbers.get("diverged"):
            break
    return cleaned


def _number(value: Any) -> int | float:
    item = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(item, (bool, int)):
        return int(item)
    if isinstance(item, float):
        # 0/0 is NaN with a sign, which JSON drops: a resumed run would differ in that bit.
        return math.nan if math.isnan(item) else float(item)
    raise TypeError(f"{type(value).__name__} is not a number")


def divergence(rows: Sequence[Row]) -> int | None:
    """Env steps at which the run diverged, or None."""
    return int(rows[-1]["env_steps"]) if rows and rows[-1].get("diverged") else None


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table; a metric that a row has not is NaN there."""
    # Every seed's file has the same columns: that a run diverged stands in its manifest.
    return pd.DataFrame.from_records(list(rows)).drop(columns="diverged", errors="ignore")
