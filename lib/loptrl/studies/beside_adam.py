"""Every set of trained weights on the changing Ant beside default Adam, seed against seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from loptrl import plots, stats, status_page
from loptrl.studies import open_change, optim4rl_l2, optim4rl_steps, physics_path, transfer_report
from loptrl.studies.adam_collapse import PERIOD
from loptrl.studies.changing_ant_evidence import JointEvidence
from loptrl.studies.changing_ant_report import pairs, rng
from loptrl.studies.signed import in_print, note
from loptrl.studies.words import estimate, plural
from loptrl.verdicts import MINIMUM_SEEDS, QUARTER

__all__ = [
    "MEASURES",
    "TRAINED",
    "Measure",
    "Pair",
    "differences_figure",
    "found",
    "kept",
    "measures_table",
    "measures_words",
    "steps_words",
    "whole",
]

TRAINED: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Optim4RL": {
            "02_optim4rl_l2": tuple(arm for arm in optim4rl_l2.STUDY.arms if arm != "small_step"),
            "03_transfer": tuple(
                arm for arm in transfer_report.TRAINED if arm not in transfer_report.DIRECT
            ),
            "08_gradient_statistics": tuple(physics_path.STUDY.arms),
        },
        "OPEN": {"13_open_change": tuple(open_change.STILL)},
    }
)
"""Learned optimizer -> page -> its arms under change with trained weights, each set once."""

Measure = Callable[[np.ndarray, np.ndarray], Any]
"""Env steps [num_rows] and returns [num_seeds, num_rows] -> one number a seed."""


def whole(env_steps: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """The mean return over the whole run, [num_seeds]."""
    return returns.mean(axis=1)


def kept(env_steps: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """How much of its return an agent keeps when the friction changes, [num_seeds].

    Mean return of the first two evaluations after a change over that of the last two before it,
    both over all changes after the first quarter of the run.
    """
    last = env_steps[-1]
    changes = np.arange(PERIOD, last, PERIOD)
    first = np.searchsorted(env_steps, changes[changes > QUARTER * last], side="right")
    first = first[first + 1 < env_steps.size]
    after = returns[:, first] + returns[:, first + 1]
    before = returns[:, first - 1] + returns[:, first - 2]
    return after.sum(axis=1) / before.sum(axis=1)


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "final return": stats.final,
        "mean return over the whole run": whole,
        "share of the return kept at a change": kept,
    }
)
"""What can be compared, in words -> one number a seed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A set of trained weights beside default Adam, on the seeds that both have.

    Attributes:
        runs: where both arms are.
        arm: the one with trained weights.
    """

    runs: JointEvidence
    arm: str

    @property
    def label(self) -> str:
        """The arm in words."""
        return self.runs.all_arms[self.arm].label

    def both(self, measure: Measure = stats.final) -> tuple[np.ndarray, np.ndarray]:
        """With these weights, and with default Adam, [num_seeds] each."""
        return pairs(self.runs, self.arm, "adam", measure)

    def difference(self, measure: Measure = stats.final) -> stats.Estimate:
        """IQM over the seeds of the difference from default Adam, with its 95 % interval."""
        return stats.difference_ci(*self.both(measure), rng=rng(), paired=True)

    @property
    def seeds(self) -> int:
        """Seeds that both have."""
        return self.both()[0].size

    @property
    def below(self) -> int:
        """Seeds that end below default Adam's."""
        mine, theirs = self.both()
        return int(np.sum(mine < theirs))


def found(evidence: Mapping[str, Any], optimizer: str) -> list[Pair]:
    """An optimizer's sets of trained weights with at least `MINIMUM_SEEDS` beside default Adam's.

    Args:
        evidence: page of evidence -> its evidence (`answers.load`).
        optimizer: a name in `TRAINED`.
    """
    every = [
        Pair(getattr(evidence[page], "ends", evidence[page]), arm)
        for page, arms in TRAINED[optimizer].items()
        for arm in arms
    ]
    return [pair for pair in every if pair.seeds >= MINIMUM_SEEDS]


def _every(evidence: Mapping[str, Any], measure: Measure = stats.final) -> list[Pair]:
    """All sets of weights, the one that is highest beside Adam first."""
    every = [pair for optimizer in TRAINED for pair in found(evidence, optimizer)]
    return sorted(every, key=lambda pair: -pair.difference(measure).value)


def differences_figure(evidence: Mapping[str, Any], measure: str = "final return") -> Figure:
    """A row a set of weights, the highest first: the paired difference and each seed's own.

    Args:
        evidence: as in `found`.
        measure: a name in `MEASURES`.
    """
    every = _every(evidence, MEASURES[measure])
    if not every:
        return note("No trained weights have seeds enough beside default Adam's under change yet.")
    figure = plots.interval_dots(
        {pair.label: np.subtract(*pair.both(MEASURES[measure])) for pair in every},
        looks={pair.label: pair.runs.all_arms[pair.arm].look for pair in every},
        xlabel=f"{measure}, minus Adam's",
        references={"default Adam": 0.0},
    )
    return in_print(
        figure,
        f"{sum(pair.seeds for pair in every)} runs with {len(every)} {plural('set', len(every))} "
        "of weights, each beside the run of default Adam with its seed; the pages of evidence "
        "name the runs.",
    )


def measures_words(evidence: Mapping[str, Any]) -> str:
    """How many sets lie above default Adam, and below it, by each measure; nothing without any.

    Args:
        evidence: as in `found`.
    """
    every = _every(evidence)
    parts = []
    for words, measure in MEASURES.items():
        differences = [pair.difference(measure) for pair in every]
        above = sum(one.low > 0 for one in differences)
        below = sum(one.high < 0 for one in differences)
        parts.append(f"by the {words} {above or 'none'} above and {below or 'none'} below")
    if not every:
        return ""
    adam = max((pair.both(kept)[1] for pair in every), key=np.size)
    return (
        f"Of {len(every)} {plural('set', len(every))} of trained weights beside default Adam on "
        f"the changing Ant, {'; '.join(parts)}. Default Adam keeps {estimate(adam)} of "
        "its return at a change."
    )


def measures_table(evidence: Mapping[str, Any]) -> str:
    """One row a set of weights: the difference from default Adam by every measure.

    Args:
        evidence: as in `found`.
    """
    rows = [
        (pair.label, str(pair.seeds), *(str(pair.difference(m)) for m in MEASURES.values()))
        for pair in _every(evidence)
    ]
    columns = ["weights", "seeds", *MEASURES]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def steps_words(evidence: Mapping[str, Any]) -> str:
    """How many of Optim4RL's sets step as far as untrained weights do; nothing without any.

    Args:
        evidence: as in `found`.
    """
    lengths = [
        float(stats.iqm(optim4rl_steps.lengths(pair.runs, pair.arm)))
        for pair in found(evidence, "Optim4RL")
        if pair.runs.whole(pair.arm).runs
    ]
    if not lengths:
        return ""
    near = [length for length in lengths if 1 / 1.1 <= length <= 1.1]
    return (
        f"Of the {len(lengths)} {plural('set', len(lengths))} of Optim4RL {len(near) or 'none'} "
        "move a weight by α in every update, to within 10 %, as untrained ones do "
        "({doc}`10_optim4rl` tells why); the "
        f"whole range is {min(lengths):.2f} to {max(lengths):.2f} times α."
    )
