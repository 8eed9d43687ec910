"""What a verdict is, and the pieces that decide one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats
from loptrl.errors import LoptrlError
from loptrl.stats import Estimate, RunReport

__all__ = [
    "MINIMUM_SEEDS",
    "Status",
    "Verdict",
    "collapse_rate",
    "final_difference",
    "limits",
    "sign",
    "too_few",
]

Status = Literal["supported", "contradicted", "undecided"]

MINIMUM_SEEDS = 3


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim.

    Attributes:
      claim: its id, such as "C1".
      status: "supported", "contradicted" or "undecided".
      reason: one sentence with the numbers that decided.
      estimates: name -> Estimate, everything the decision looked at.
    """

    claim: str
    status: Status
    reason: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def noting(self, words: str) -> Verdict:
        """The same verdict, with words added to its reason."""
        return dataclasses.replace(self, reason=f"{self.reason} {words}".strip())

    def __post_init__(self) -> None:
        if self.status not in ("supported", "contradicted", "undecided"):
            raise LoptrlError(
                f"expected status 'supported', 'contradicted' or 'undecided', got {self.status!r}"
            )

    def __str__(self) -> str:
        numbers = "; ".join(f"{name} {e} (n = {e.n})" for name, e in self.estimates.items())
        return f"{self.claim} {self.status}: {self.reason}" + (f" [{numbers}]" if numbers else "")


def too_few(claim: str, estimates: Mapping[str, Estimate], **arms: ArrayLike) -> Verdict | None:
    """An undecided verdict when an arm has fewer than three seeds, else None."""
    for name, values in arms.items():
        seeds = len(np.atleast_2d(values)) if np.size(values) else 0
        if seeds < MINIMUM_SEEDS:
            reason = (
                f"{seeds} seeds of the {name.replace('_', ' ')} arm are too few, "
                f"at least {MINIMUM_SEEDS} are needed."
            )
            return Verdict(claim, "undecided", reason, estimates)
    return None


def collapse_rate(reports: Sequence[RunReport]) -> Estimate:
    """Share of runs that collapse, with its Wilson interval."""
    return stats.wilson_interval(sum(r.collapsed for r in reports), len(reports))


def final_difference(
    env_steps: ArrayLike, first: ArrayLike, second: ArrayLike, *, rng: np.random.Generator
) -> Estimate:
    """IQM of final(first) minus that of final(second), with its interval over seeds.

    Args:
      env_steps: [num_rows].
      first, second: [num_seeds, num_rows].
      rng: numpy Generator.
    """
    x, y = (stats.final(env_steps, np.atleast_2d(v)) for v in (first, second))
    return stats.difference_ci(x, y, stats.iqm, rng=stats.fresh(rng))


def sign(estimate: Estimate) -> int:
    """1 when the interval lies above 0, -1 when below, 0 when it touches 0."""
    return 1 if estimate.low > 0 else -1 if estimate.high < 0 else 0


def limits(estimate: Estimate) -> str:
    """The interval in words: "[0.10, 0.20]"."""
    return f"[{estimate.low:.2f}, {estimate.high:.2f}]"
