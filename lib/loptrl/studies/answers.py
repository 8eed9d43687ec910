"""What the book has found so far: each page's answer, and its claims with their verdicts."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

from loptrl import stats
from loptrl.runs import Store
from loptrl.studies import (
    NAMES,
    adam_collapse_report,
    beside_adam,
    brax_ant,
    comparison_report,
    cost_report,
    get,
    gradient_report,
    meta_sensitivity_report,
    open_change_report,
    open_evolved_longer,
    open_evolved_report,
    open_multitask,
    optim4rl_l2_report,
    step_size_report,
    transfer_report,
)
from loptrl.studies.changing_ant_evidence import JointEvidence
from loptrl.studies.changing_ant_report import gain, multiples, pairs, rng, statuses_of
from loptrl.studies.comparison import Comparison
from loptrl.studies.words import listed, paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = ["PAGES", "answer", "beside_others", "count", "lead", "load", "not_yet"]


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
        "14_step_size": step_size_report,
        "04_open_multitask": _of(open_multitask.COMPARISON),
        "05_brax_ant": _of(brax_ant.COMPARISON),
        "06_meta_sensitivity": meta_sensitivity_report,
        "07_meta_cost": cost_report,
        "08_gradient_statistics": gradient_report,
        "09_open_evolved": _evolved(),
    }
)
"""Page of evidence -> what says its words."""


def load(store: Store | None = None) -> Mapping[str, Any]:
    """The evidence of every page in `PAGES`; nothing is trained.

    Args:
        store: default the committed results.

    Raises:
        DamagedRun: a stored run is damaged.
    """
    return {page: report.load(compute="never", store=store) for page, report in PAGES.items()}


def lead(evidence: Mapping[str, Any]) -> str:
    """What the book's own question comes to: trained rules beside default Adam, seed by seed.

    Args:
        evidence: from `load`.
    """
    sets = {name: beside_adam.found(evidence, name) for name in beside_adam.TRAINED}
    differences = [pair.difference() for pairs in sets.values() for pair in pairs]
    better = sum(difference.low > 0 for difference in differences)
    first = (
        f"Of {len(differences)} sets of trained weights {better or 'none'} "
        f"{'is' if better < 2 else 'are'} shown to end above default Adam on the changing Ant. "
        if differences
        else ""
    )
    said = " ".join(_told(name, pairs) for name, pairs in sets.items())
    runs = [
        f"{sum(pair.below for pair in own)} of {sum(pair.seeds for pair in own)} of {name}"
        for name, own in sets.items()
        if own
    ]
    counted = (
        f" Runs that end below Adam's with the same seed: {listed(runs)}, beside the same few "
        f"runs of Adam.{_over_whole_runs(sets)}"
        if runs
        else ""
    )
    return f"**{first}{said} VeLO was not run under change.**{counted}{_elsewhere(evidence)}"


def _over_whole_runs(sets: Mapping[str, Sequence[beside_adam.Pair]]) -> str:
    """How many sets lie above and below by the mean return over the run, not by its end."""
    found = [pair.difference(beside_adam.whole) for own in sets.values() for pair in own]
    above, below = sum(d.low > 0 for d in found), sum(d.high < 0 for d in found)
    return (
        f" By the mean return over the whole run {above or 'none'} "
        f"{'is' if above < 2 else 'are'} above and {below or 'none'} below ({{doc}}`under_change`)."
    )


def _elsewhere(evidence: Mapping[str, Any]) -> str:
    """How rules end that were trained in, and for, an agent with larger gradients."""
    own, arms = evidence["14_step_size"], step_size_report.RAW
    others = {
        "Adam there": arms["adam"],
        "Adam with ten times the step size": arms["adam_3e-3"],
        "untrained weights with steps as long": arms["untrained_long"],
        "default Adam in the first agent": "adam",
    }
    fast = [
        f"{stands} {words} ({numbers})"
        for words, other in others.items()
        for stands, numbers in _stands(own, arms["fast"], other, stats.final)
    ]
    if not fast:
        return ""
    said = (
        " In another agent, without the gradient clip and on raw rewards, Optim4RL that was "
        f"trained in such an agent with a meta learning rate of 1e-3 ends {listed(fast)}"
    )
    for stands, numbers in _stands(own, arms["fast"], arms["adam"], beside_adam.whole):
        said += f"; by the mean return over the whole run it is {stands} Adam there ({numbers})"
    for stands, numbers in _stands(own, arms["drift"], arms["adam"], stats.final):
        said += f". Trained so with 1e-4 it ends {stands} Adam there ({numbers})"
    return f"{said} ({{doc}}`14_step_size`)."


def _stands(
    evidence: JointEvidence, arm: str, other: str, measure: beside_adam.Measure
) -> list[tuple[str, str]]:
    """Above another arm, below or not apart from it, and the numbers; none of too few seeds."""
    mine, theirs = pairs(evidence, arm, other, measure)
    if mine.size < MINIMUM_SEEDS:
        return []
    gained = stats.difference_ci(mine, theirs, rng=rng(), paired=True)
    stands = "above" if gained.low > 0 else "below" if gained.high < 0 else "not apart from"
    return [(stands, f"difference {gained}, {mine.size} seeds")]


def beside_others(evidence: Mapping[str, Any]) -> str:
    """OPEN beside its authors' own Adam, and Optim4RL with updates as long as default Adam's.

    Args:
        evidence: from `load`.
    """
    said = []
    if annealed := gain(evidence["13_open_change"], "open", "adam_annealed"):
        said.append(
            "The final return of OPEN from the stationary Ant minus that of its authors' annealed "
            f"Adam {annealed}."
        )
    direct = evidence["02_optim4rl_l2"]
    if shorter := gain(direct, "small_step", "adam"):
        said.append(
            "With a sixth of its step size the final return of the Optim4RL that was trained "
            f"directly minus Adam's {shorter}. "
            + multiples(direct, ["small_step"], "adam", "Adam's")
            + " "
            + multiples(direct, ["drift", "small_step"], "adam", "Adam's", "approx_kl")
        )
    return " ".join(said)


def _told(optimizer: str, sets: Sequence[beside_adam.Pair]) -> str:
    """How many of an optimizer's sets end above default Adam, and below it, and by how much."""
    if not sets:
        return f"{optimizer} has fewer than {MINIMUM_SEEDS} seeds there beside default Adam's."
    differences = [pair.difference() for pair in sets]
    better = sum(difference.low > 0 for difference in differences)
    worse = sum(difference.high < 0 for difference in differences)
    if not better and not worse:
        return f"{optimizer}: {len(sets)} {plural('set', len(sets))}, not told apart from it."
    parts = [pair.difference().value / stats.iqm(pair.both()[1]) for pair in sets]
    sizes = dict.fromkeys(_percent(part) for part in (min(parts), max(parts)))
    return (
        f"{optimizer}: {len(sets)} {plural('set', len(sets))}, {' to '.join(sizes)} in final "
        f"return, {better or 'none'} above, {worse or 'none'} below, "
        f"{len(sets) - better - worse or 'none'} undecided."
    )


def _percent(part: float) -> str:
    return f"{100 * part:+.0f} %".replace("-", "−")


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
        "test in two ways it has a verdict for each, C12 on two pages, and C16 could by its making "
        "not have been contradicted. Read each with its reason: a claim can be contradicted "
        "because what it asks for is not shown, for which too few seeds suffice. Runs under change "
        "are a fiftieth as long as the report's: *never* and *later* hold within 20 million env "
        "steps."
    )


def not_yet(store: Store | None = None) -> str:
    """How many of the planned runs of each study are missing.

    Args:
        store: default the committed results.
    """
    store, parts = store or Store(), []
    for study in map(get, NAMES):
        planned = study.specs("laptop")
        absent = sum(not store.path(spec).is_file() for spec in planned)
        if absent:
            parts.append(f"*{study.title}* {absent} of {len(planned)}")
    if not parts:
        return "Every planned run is stored."
    return f"Planned runs that are not stored yet: {'; '.join(parts)}."


def _claims(evidence: Mapping[str, Any], page: str) -> Mapping[str, Verdict]:
    report = PAGES[page]
    return report.claims(evidence[page]) if hasattr(report, "claims") else {}
