"""What the book has found so far: each page's answer, and its claims with their verdicts."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from loptrl import stats
from loptrl.runs import Store
from loptrl.studies import (
    adam_collapse_report,
    brax_ant,
    comparison_report,
    cost_report,
    gradient_report,
    meta_sensitivity_report,
    open_change,
    open_change_report,
    open_evolved_longer,
    open_evolved_report,
    open_multitask,
    optim4rl_l2,
    optim4rl_l2_report,
    physics_path,
    transfer_report,
)
from loptrl.studies.changing_ant_report import gain, pairs, rng, statuses_of
from loptrl.studies.comparison import Comparison
from loptrl.studies.words import paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = ["PAGES", "answer", "count", "load", "under_change"]


def _of(comparison: Comparison) -> SimpleNamespace:
    """The words of a comparison, for which several studies share one module."""
    return SimpleNamespace(
        load=functools.partial(comparison_report.load, comparison),
        headline=comparison_report.headline,
        claims=comparison_report.claims,
        SAID=comparison_report.SAID,
    )


def _evolved() -> SimpleNamespace:
    """The words on the search's own horizon, and on study 4's longer trainings."""

    def load(**options: Any) -> tuple[Any, Any]:
        return (
            open_evolved_report.load(**options),
            open_evolved_longer.load(store=options.get("store")),
        )

    def headline(found: tuple[Any, Any]) -> str:
        own, longer = found
        sentence = open_evolved_report.headline(own).partition("\n\n")[0]
        return f"{sentence} Beyond the search's horizon: {open_evolved_longer.headline(longer)}"

    return SimpleNamespace(load=load, headline=headline)


PAGES: Mapping[str, Any] = MappingProxyType(
    {
        "01_adam_collapse": adam_collapse_report,
        "02_optim4rl_l2": optim4rl_l2_report,
        "03_transfer": transfer_report,
        "13_open_change": open_change_report,
        "04_open_multitask": _of(open_multitask.COMPARISON),
        "05_brax_ant": _of(brax_ant.COMPARISON),
        "06_meta_sensitivity": meta_sensitivity_report,
        "07_meta_cost": cost_report,
        "08_gradient_statistics": gradient_report,
        "09_open_evolved": _evolved(),
    }
)
"""Page of evidence -> what says its words."""

_TRAINED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Optim4RL": {
        "02_optim4rl_l2": tuple(arm for arm in optim4rl_l2.STUDY.arms if arm != "small_step"),
        "03_transfer": tuple(arm for arm in transfer_report.TRAINED if arm != "drift"),
        "08_gradient_statistics": tuple(physics_path.STUDY.arms),
    },
    "OPEN": {"13_open_change": tuple(open_change.STILL)},
}
"""Learned optimizer -> page -> its arms under change with trained weights, each once."""


def load(store: Store | None = None) -> Mapping[str, Any]:
    """The evidence of every page in `PAGES`; nothing is trained.

    Args:
        store: default the committed results.

    Raises:
        DamagedRun: a stored run is damaged.
    """
    return {page: report.load(compute="never", store=store) for page, report in PAGES.items()}


def under_change(evidence: Mapping[str, Any]) -> str:
    """What the book's own question comes to: trained rules beside default Adam, seed by seed.

    Args:
        evidence: from `load`.
    """
    found = {name: _beside_adam(evidence, name) for name in _TRAINED}
    differences = [one for pairs_of in found.values() for one in pairs_of]
    better = sum(one.difference.low > 0 for one in differences)
    lead = (
        f"Of {len(differences)} sets of trained weights {better or 'none'} "
        f"{'is' if better < 2 else 'are'} shown to end above default Adam on the changing Ant. "
        if differences
        else ""
    )
    said = " ".join(_told(name, pairs_of) for name, pairs_of in found.items())
    shorter = gain(evidence["02_optim4rl_l2"], "small_step", "adam")
    if shorter:
        shorter = (
            " With a sixth of its step size, in steps as long as Adam's, the final return of the "
            f"Optim4RL that was trained directly minus Adam's {shorter}."
        )
    annealed = gain(evidence["13_open_change"], "open", "adam_annealed")
    if annealed:
        annealed = (
            " The final return of OPEN from the stationary Ant minus that of its authors' annealed "
            f"Adam {annealed}."
        )
    return (
        f"**Do learned optimizers help when the problem keeps changing? {lead}{said} VeLO was not "
        f"run under change.**{annealed}{shorter}"
    )


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Trained weights beside default Adam: the paired difference, its seeds, and those below."""

    difference: stats.Estimate
    seeds: int
    below: int


def _beside_adam(evidence: Mapping[str, Any], optimizer: str) -> list[_Pair]:
    """An optimizer's sets of trained weights with seeds enough beside default Adam's."""
    found = []
    for page, arms in _TRAINED[optimizer].items():
        runs = getattr(evidence[page], "ends", evidence[page])
        for arm in arms:
            mine, theirs = pairs(runs, arm, "adam")
            if mine.size >= MINIMUM_SEEDS:
                difference = stats.difference_ci(mine, theirs, rng=rng(), paired=True)
                found.append(_Pair(difference, mine.size, int(np.sum(mine < theirs))))
    return found


def _told(optimizer: str, found: Sequence[_Pair]) -> str:
    """How many of an optimizer's sets end above default Adam, and below it."""
    if not found:
        return f"{optimizer} has fewer than {MINIMUM_SEEDS} seeds there beside default Adam's."
    better = sum(one.difference.low > 0 for one in found)
    worse = sum(one.difference.high < 0 for one in found)
    runs, below = sum(one.seeds for one in found), sum(one.below for one in found)
    return (
        f"{optimizer}: {len(found)} {plural('set', len(found))}, {better or 'none'} above, "
        f"{worse or 'none'} below, {len(found) - better - worse or 'none'} undecided, seed against "
        f"seed; {below or 'none'} of {runs} runs end below, on the same "
        f"{max(one.seeds for one in found)} seeds at most."
    )


def answer(evidence: Mapping[str, Any], page: str) -> str:
    """A page's answer in one bold sentence; for each of its claims the verdicts and their reasons.

    Args:
        evidence: from `load`.
        page: a name in `PAGES`.
    """
    report = PAGES[page]
    sentence = report.headline(evidence[page]).partition("\n\n")[0]
    verdicts = _claims(evidence, page)
    lines = [
        f"- **{claim}.** {report.SAID[claim]} {statuses_of(verdicts, claim, reasons=True)}"
        for claim in dict.fromkeys(verdict.claim for verdict in verdicts.values())
    ]
    return paragraphs([sentence, "\n".join(lines)])


def count(evidence: Mapping[str, Any]) -> str:
    """How many verdicts of all pages are supported, contradicted and undecided.

    Args:
        evidence: from `load`.
    """
    verdicts = [v for page in PAGES for v in _claims(evidence, page).values()]
    found = Counter(verdict.status for verdict in verdicts)
    numbers = ", ".join(f"{found[s]} {s}" for s in ("supported", "contradicted", "undecided"))
    return (
        f"**Of {len(verdicts)} verdicts so far, {numbers}.** They judge claims of the report under "
        "test, one of the literature (C4) and one of ours (H1); where a claim can be put to the "
        "test in two ways it has a verdict for each. Read each with its reason: a claim can be "
        "contradicted because what it asks for is not shown, for which too few seeds suffice."
    )


def _claims(evidence: Mapping[str, Any], page: str) -> Mapping[str, Verdict]:
    report = PAGES[page]
    return report.claims(evidence[page]) if hasattr(report, "claims") else {}
