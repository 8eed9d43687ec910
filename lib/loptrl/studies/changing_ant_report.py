"""Sentences and tables of the studies on the Ant: what their reports say alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from loptrl import stats, status_page, weights
from loptrl.errors import WeightsError
from loptrl.studies.changing_ant_evidence import AntEvidence, JointEvidence
from loptrl.studies.words import change, estimate, interval, listed, paragraphs, plural
from loptrl.style import METRICS, format_steps
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = [
    "decided",
    "dips_table",
    "ends",
    "final",
    "finals",
    "gain",
    "gains",
    "inside_table",
    "lacking",
    "multiples",
    "overview",
    "pairs",
    "rng",
    "statuses",
    "too_few",
    "weights_table",
]

_AT_THE_END = {
    "update_norm": "update norm",
    "implied_step": "implied step",
    "weight_norm": "weight norm",
    "dormant_fraction_actor": "dormant",
    "feature_rank_actor": "rank",
}


def rng() -> np.random.Generator:
    """A fresh generator for every interval: none depends on which others were computed."""
    return np.random.default_rng(0)


def too_few(
    evidence: AntEvidence, claim: str, *arms: str, least: int = MINIMUM_SEEDS
) -> Verdict | None:
    """An undecided verdict that names the arms with too few stored seeds, or None."""
    short = [
        f"{evidence.seeds(arm) or 'no'} {plural('seed', evidence.seeds(arm))} of "
        f"{_label(evidence, arm)}"
        for arm in arms
        if evidence.seeds(arm) < least
    ]
    if not short:
        return None
    reason = f"Too few runs: {listed(short)} stored, at least {least} needed."
    return Verdict(claim, "undecided", reason)


def statuses(claims: Mapping[str, Verdict], short: Mapping[str, str], *, incomplete: bool) -> str:
    """The verdicts by status in one line, and whether runs are missing.

    Args:
        claims: verdicts by name, such as "C2" or "C4 (betas 0.99)".
        short: claim -> what it says, in a few words.
        incomplete: whether runs are missing.
    """
    by_status: dict[str, list[str]] = {}
    for name, verdict in claims.items():
        said = f"{short[verdict.claim]} ({name.replace(' (', ', ').rstrip(')')})"
        by_status.setdefault(verdict.status, []).append(said)
    lines = [
        f"*{status.capitalize()}*: {'; '.join(by_status[status])}."
        for status in ("supported", "contradicted", "undecided")
        if status in by_status
    ]
    if incomplete:
        lines.append("Not every planned run is stored; beneath the tables stands what is missing.")
    return " ".join(lines)


def decided(claims: Mapping[str, Verdict], said: Mapping[str, str], *wanted: str) -> list[str]:
    """A paragraph for each wanted claim: what the source says, the verdict, and why.

    Args:
        claims: verdicts by name, such as "C2" or "C4 (betas 0.99)".
        said: claim -> a sentence.
        wanted: claims.
    """
    return [f"**{c}.** {said[c]} {statuses_of(claims, c, reasons=True)}" for c in wanted]


def statuses_of(claims: Mapping[str, Verdict], claim: str, *, reasons: bool = False) -> str:
    """The verdict or verdicts of one claim, with or without the reasons.

    Args:
        claims: verdicts by name, such as "C2" or "C4 (betas 0.99)".
        claim: such as "C4".
        reasons: whether to say why.
    """
    mine = {name: v for name, v in claims.items() if v.claim == claim}
    return " ".join(
        f"Here{'' if len(mine) == 1 else f', {_inside(name)}'}: **{v.status}**."
        + (f" {v.reason}" if reasons else "")
        for name, v in mine.items()
    )


def finals(
    evidence: AntEvidence, arms: Sequence[str], words: Mapping[str, str] | None = None
) -> str:
    """The arms' final returns with intervals and seeds, and which arms have no run."""
    names = {arm: (words or {}).get(arm, _label(evidence, arm)) for arm in arms}
    parts = []
    for arm in evidence.present(*arms):
        seeds = evidence.seeds(arm)
        number = estimate(stats.final(*evidence.returns(arm)), stats.iqm)
        parts.append(f"{names[arm]} {number}, {seeds} {plural('seed', seeds)}")
    absent = [names[arm] for arm in arms if not evidence.has(arm)]
    lines = [f"Final return: {'; '.join(parts)}."] if parts else []
    lines += [f"No run is stored of {listed(absent)}."] if absent else []
    return " ".join(lines)


def final(evidence: AntEvidence, arm: str) -> stats.Estimate:
    """An arm's final return, IQM over seeds."""
    return interval(stats.final(*evidence.returns(arm)))


def pairs(
    evidence: AntEvidence,
    arm: str,
    other: str,
    measure: Callable[[np.ndarray, np.ndarray], Any] = stats.final,
) -> tuple[np.ndarray, np.ndarray]:
    """A number of two arms on the seeds that both have, [num_seeds] each, in their order.

    The same seed has the same first networks and meets the same changes in every arm.

    Args:
        evidence: the runs.
        arm, other: which.
        measure: of env steps [num_rows] and returns [num_seeds, num_rows]; the final return.
    """
    found = []
    for one in (arm, other):
        if not evidence.has(one):
            return np.empty(0), np.empty(0)
        seeds = [run.spec.seed for run in evidence.runs.of(one)]
        found.append(dict(zip(seeds, measure(*evidence.returns(one)), strict=True)))
    both = sorted(found[0].keys() & found[1].keys())
    mine, theirs = (np.array([own[seed] for seed in both]) for own in found)
    return mine, theirs


def gain(evidence: AntEvidence, arm: str, other: str) -> str:
    """One arm's final return minus another's, seed against seed, or nothing for too few of them."""
    mine, theirs = pairs(evidence, arm, other)
    if mine.size < MINIMUM_SEEDS:
        return ""
    return f"({mine.size} seeds, seed against seed): {change(mine, theirs, paired=True)}"


def is_below(evidence: AntEvidence, arm: str, other: str) -> bool:
    """Whether one arm is shown to end below another, seed against seed."""
    mine, theirs = pairs(evidence, arm, other)
    if mine.size < MINIMUM_SEEDS:
        return False
    return stats.difference_ci(mine, theirs, rng=rng(), paired=True).high < 0


def gains(evidence: AntEvidence, arms: Iterable[str], other: str, words: str) -> str:
    """`gain` of each arm over another, which `words` name, as a list; nothing without any."""
    found = {arm: gain(evidence, arm, other) for arm in arms}
    lines = [f"- {_label(evidence, arm)} {gain}." for arm, gain in found.items() if gain]
    if not lines:
        return ""
    meets = " and meets the same changes" if evidence.drifts(other) else ""
    return paragraphs(
        [
            f"Final return minus that {words} on the same seed, which has the same first "
            f"networks{meets}; interquartile mean over the seeds. Of three seeds an interval "
            "excludes 0 whenever all point the same way, as chance makes them in one case of four:",
            "\n".join(lines),
        ]
    )


def multiples(
    evidence: AntEvidence, arms: Iterable[str], other: str, words: str, metric: str = "update_norm"
) -> str:
    """How many times another arm's metric each arm has, on the average over its runs.

    Args:
        evidence: the runs.
        arms: those without a run that did not diverge are left out.
        other: the arm to compare with, named by `words`.
        words: such as "Adam's".
        metric: a column of the runs, by default the norm of an update.
    """
    found = [arm for arm in arms if evidence.whole(arm).runs]
    title = METRICS[metric].title
    if not found or not evidence.whole(other).runs:
        return f"No runs that did not diverge are stored, whose {title} can be compared."
    means = {arm: evidence.metric(arm, metric)[1].mean(axis=1) for arm in (other, *found)}
    level = stats.iqm(means[other])
    parts = [f"{_label(evidence, arm)} {estimate(means[arm] / level)}" for arm in found]
    return (
        f"{title[0].upper()}{title[1:]} over the whole run, in multiples of {words}: "
        f"{'; '.join(parts)}."
    )


def ends(evidence: AntEvidence, arm: str, beside: tuple[str, str] | None = None) -> str:
    """An arm's end in words: "ends at 1,000 [900, 1,100], and 3 of 5 seeds collapse".

    Args:
        evidence: the runs.
        arm: which.
        beside: another arm and its name in words, to say on how many of the seeds that both have
            the first ends below it.
    """
    reports = evidence.reports(arm)
    count, seeds = sum(r.collapsed for r in reports), len(reports)
    verb = "collapses" if count < 2 else "collapse"
    end = f"ends at {estimate(stats.final(*evidence.returns(arm)))}"
    if beside and (pair := pairs(evidence, arm, beside[0]))[0].size:
        mine, theirs = pair
        end += (
            f", below {beside[1]} on {int(np.sum(mine < theirs)) or 'none'} of the "
            f"{mine.size} {plural('seed', mine.size)} that both have"
        )
    diverged = evidence.diverged(arm)
    nan = f", of which {diverged} {'has' if diverged == 1 else 'have'} diverged" if diverged else ""
    return f"{end}, and {count or 'none'} of {seeds} {plural('seed', seeds)} {verb}{nan}"


def dips_table(evidence: AntEvidence, arms: Iterable[str]) -> str:
    """One row an arm: seeds, final return, dips and collapses."""
    columns = [
        "arm",
        "seeds",
        "final return",
        "collapse",
        "dips recovered",
        "dip depth",
        "deepest drop",
        "time to recover",
    ]
    rows = []
    for arm in arms:
        name = _label(evidence, arm)
        stored, planned = evidence.seeds(arm), evidence.planned(arm)
        seeds = str(stored) if stored == planned else f"{stored or 'none'} of {planned}"
        if not stored:
            # Nothing can be planned with weights that nobody here knows.
            rows.append((name, seeds if planned else "-", "missing", *["-"] * 5))
            continue
        reports = evidence.reports(arm)
        summary = stats.summarise_collapses(reports, rng=rng())
        late = sum(not r.collapsed and any(dip.end is None for dip in r.dips) for r in reports)
        collapsed = round(summary.collapse_rate.value * stored)
        back = summary.recovery_time
        rows.append(
            (
                name,
                seeds,
                f"{final(evidence, arm).value:,.0f}",
                f"{collapsed} of {stored}" + (f", {late} too late to tell" if late else ""),
                f"{summary.dips_left} of {summary.dips}" if summary.dips else "no dip",
                f"{100 * summary.dip_depth.value:.0f} %",
                f"{100 * summary.drawdown.value:.0f} %",
                format_steps(back.value) if back else "-",
            )
        )
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def inside_table(evidence: JointEvidence, arms: Sequence[str]) -> str:
    """One row an arm: the diagnostics over the last 5 % of its runs, and how many diverged."""
    rows = []
    for arm in evidence.present(*arms):
        diverged = f"{evidence.diverged(arm)} of {evidence.seeds(arm)}"
        if not evidence.whole(arm).runs:
            rows.append((_label(evidence, arm), *["-"] * len(_AT_THE_END), diverged))
            continue
        values = (stats.final(*evidence.metric(arm, name)) for name in _AT_THE_END)
        numbers = (f"{stats.iqm(value):.3g}" for value in values)
        rows.append((_label(evidence, arm), *numbers, diverged))
    columns = ["arm", *_AT_THE_END.values(), "diverged"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def overview(evidence: JointEvidence, arms: Sequence[str]) -> str:
    """The tables of all arms, what is missing, and where the weights come from."""
    parts = [dips_table(evidence, arms)]
    if evidence.present(*arms):
        parts += [
            "The last 5 % of the runs, interquartile mean over the seeds that did not diverge:",
            inside_table(evidence, arms),
        ]
    parts += [lacking(evidence), "Where the weights come from:", weights_table(evidence, arms)]
    return paragraphs(parts)


def weights_table(evidence: JointEvidence, arms: Sequence[str]) -> str:
    """One row for each set of weights, from its card: what it was meta-trained on, how long."""
    rows = {}
    for arm in arms:
        rule = evidence.all_arms[arm].settings["optimizer"]
        if "weights" not in rule:
            continue
        try:
            card = weights.card(rule["weights"], rule["name"])
        except WeightsError:
            rows[rule["weights"]] = ("not known here", "-")
            continue
        steps = card.get("env_steps")
        length = format_steps(steps) if steps is not None else "not recorded"
        rows[rule["weights"]] = (card.get("trained_on", "not recorded"), length)
    table = [(name, *row) for name, row in rows.items()]
    columns = ["weights", "meta-trained on", "env steps"]
    return status_page.as_markdown(pd.DataFrame(table, columns=columns))


def lacking(evidence: JointEvidence) -> str:
    """Which runs are missing and why, or nothing when none is."""
    absent = evidence.without_weights()
    missing = {arm: n for arm, n in evidence.missing().items() if arm not in absent}
    parts = []
    if missing:
        names = [
            f"{_label(evidence, arm)} ({count} of {evidence.planned(arm)})"
            for arm, count in missing.items()
        ]
        parts.append(
            f"Missing runs: {'; '.join(names)}. They are neither drawn nor guessed; "
            f"`{evidence.command(*missing)}` computes those whose weights are here."
        )
    if absent:
        names = [_label(evidence, arm) for arm in absent]
        parts.append(
            f"No run of these: {'; '.join(names)}. Where this page was made, the weights were not "
            "at hand (`loptrl weights list` says where published ones are, `loptrl meta --help` "
            "how our own are made)."
        )
    if evidence.runs.runs:
        parts.append(f"The untrained policy's return is {evidence.random_return:,.1f}.")
    return paragraphs(parts)


def _label(evidence: AntEvidence, arm: str) -> str:
    return evidence.all_arms[arm].label


def _inside(name: str) -> str:
    return name[name.index("(") + 1 : -1]
