"""Every set of trained weights on the changing Ant beside default Adam, seed against seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loptrl import plots, stats
from loptrl.studies import open_change, optim4rl_l2, physics_path, transfer_report
from loptrl.studies.changing_ant_report import pairs, rng
from loptrl.studies.signed import in_print, note
from loptrl.studies.words import plural
from loptrl.verdicts import MINIMUM_SEEDS

__all__ = ["TRAINED", "Pair", "differences_figure", "found"]

TRAINED: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Optim4RL": {
            "02_optim4rl_l2": tuple(arm for arm in optim4rl_l2.STUDY.arms if arm != "small_step"),
            "03_transfer": tuple(arm for arm in transfer_report.TRAINED if arm != "drift"),
            "08_gradient_statistics": tuple(physics_path.STUDY.arms),
        },
        "OPEN": {"13_open_change": tuple(open_change.STILL)},
    }
)
"""Learned optimizer -> page -> its arms under change with trained weights, each set once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Final returns with trained weights beside default Adam's on the same seeds.

    Attributes:
        label: the arm in words.
        look: key of its colour in `loptrl.style`.
        mine: final returns with these weights, [num_seeds].
        theirs: default Adam's, [num_seeds].
    """

    label: str
    look: str
    mine: np.ndarray
    theirs: np.ndarray

    @property
    def difference(self) -> stats.Estimate:
        """IQM(mine) - IQM(theirs) with its 95 % interval, seeds drawn in pairs."""
        return stats.difference_ci(self.mine, self.theirs, rng=rng(), paired=True)

    @property
    def below(self) -> int:
        """Seeds that end below default Adam's."""
        return int(np.sum(self.mine < self.theirs))


def found(evidence: Mapping[str, Any], optimizer: str) -> list[Pair]:
    """An optimizer's sets of trained weights with at least `MINIMUM_SEEDS` beside default Adam's.

    Args:
        evidence: page of evidence -> its evidence (`answers.load`).
        optimizer: a name in `TRAINED`.
    """
    sets = []
    for page, arms in TRAINED[optimizer].items():
        runs = getattr(evidence[page], "ends", evidence[page])
        for arm in arms:
            mine, theirs = pairs(runs, arm, "adam")
            if mine.size >= MINIMUM_SEEDS:
                own = runs.all_arms[arm]
                sets.append(Pair(own.label, own.look, mine, theirs))
    return sets


def differences_figure(evidence: Mapping[str, Any]) -> Figure:
    """A row a set of weights, the highest first: the paired difference and each seed's own.

    Args:
        evidence: as in `found`.
    """
    every = [pair for optimizer in TRAINED for pair in found(evidence, optimizer)]
    if not every:
        return note("No trained weights have seeds enough beside default Adam's under change yet.")
    every.sort(key=lambda pair: -pair.difference.value)
    figure = plots.interval_dots(
        {pair.label: pair.difference for pair in every},
        rings={pair.label: pair.mine - pair.theirs for pair in every},
        looks={pair.label: pair.look for pair in every},
        xlabel="final return minus default Adam's on the same seed",
        references={"default Adam": 0.0},
    )
    runs = sum(pair.mine.size for pair in every)
    return in_print(
        figure,
        f"{runs} runs with {len(every)} {plural('set', len(every))} of weights, each beside the "
        "run of default Adam with its seed; the pages of evidence name the runs.",
    )
