"""Small pieces of the sentences that report a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats

__all__ = ["change", "estimate", "interval", "listed", "paragraphs", "plural"]


def listed(words: Sequence[str]) -> str:
    """Words as an enumeration: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plural(word: str, count: int) -> str:
    """The word, with an s unless there is one of it."""
    return word if count == 1 else f"{word}s"


def paragraphs(parts: Iterable[str]) -> str:
    """Those parts that say something, a paragraph each."""
    return "\n\n".join(part for part in parts if part)


def interval(values: ArrayLike, statistic: stats.Statistic = stats.iqm) -> stats.Estimate:
    """A statistic over seeds with its 95 % interval, from a generator of its own.

    A fresh generator for every interval: none depends on which others were computed.
    """
    return stats.stratified_bootstrap_ci(values, statistic, rng=np.random.default_rng(0))


def estimate(values: ArrayLike, statistic: stats.Statistic = stats.iqm) -> str:
    """`interval` in words; one seed has none."""
    found = interval(values, statistic)
    if found.n == 1:
        found = dataclasses.replace(found, low=found.value, high=found.value)
        return str(found).partition(" [")[0]
    return str(found)


def change(x: stats.Scores, y: stats.Scores, *, paired: bool = False) -> str:
    """The IQM of returns x minus that of y, with its 95 % interval and what that says.

    `paired`: the IQM of the differences x - y (`stats.difference_ci`).
    """
    found = stats.difference_ci(x, y, rng=np.random.default_rng(0), paired=paired)
    if found.low > 0 or found.high < 0:
        return f"{found}, {'better' if found.low > 0 else 'worse'}: the interval excludes 0"
    return f"{found}, undecided: the interval includes 0"
