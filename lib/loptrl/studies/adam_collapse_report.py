"""Study 1 in words: the claims and their verdicts, and every sentence that holds a number."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from loptrl import stats, verdicts
from loptrl.stats import Estimate
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.adam_collapse import PERIOD, STUDY
from loptrl.studies.adam_collapse_evidence import CONTROLS, WINDOW, Evidence, load
from loptrl.studies.words import estimate, listed, paragraphs, plural
from loptrl.style import format_steps
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = [
    "CHANGE",
    "EQUAL_BETAS",
    "LEVEL",
    "SAID",
    "Evidence",
    "claims",
    "headline",
    "load",
    "on_betas",
    "on_change",
    "on_clipping",
    "overview",
]

LEVEL = 3000.0
"""A return that an agent which walks has passed."""

CHANGE = {"stationary": "stationary Ant", "adam": "changing Ant"}
"""The arms of graph 1 by what tells them apart: their optimizer is the same."""

EQUAL_BETAS = ("equal_99", "equal_997")
CLIPPING = ("adam", "no_ratio_clip", "no_gradient_clip", "no_clip")
UNCHANGING = ("stationary", "stationary_no_ratio_clip")

SAID = {
    "C1": "The report: on a changing Ant, default Adam dips, recovers, and never collapses.",
    "C2": "The report: it does worse there than on the stationary Ant.",
    "C3": "The report: PPO's clipping acts as a brake that prevents the collapse.",
    "C4": "The literature: equal betas protect better than the default.",
}
_SHORT = {
    "C1": "no permanent collapse",
    "C2": "worse than on the stationary Ant",
    "C3": "agents collapse without the ratio clip",
    "C4": "equal betas bring shallower dips or smaller updates",
}


@functools.lru_cache(maxsize=4)
def claims(evidence: Evidence) -> Mapping[str, Verdict]:
    """The verdicts of C1 to C4, by claim; C4 once for each pair of equal betas."""
    found = {"C1": _c1(evidence), "C2": _c2(evidence), "C3": _c3(evidence)}
    for arm in EQUAL_BETAS:
        found[f"C4 ({_betas(arm)})"] = _c4(evidence, arm)
    return found


def _c1(evidence: Evidence) -> Verdict:
    few = shared.too_few(evidence, "C1", "adam", least=1)
    steps, returns = (None, None) if few else evidence.returns("adam")
    return few or verdicts.c1(steps, returns, random_return=evidence.random_return)


def _c2(evidence: Evidence) -> Verdict:
    few = shared.too_few(evidence, "C2", "stationary", "adam")
    if few:
        return few
    problem = evidence.no_relative()
    if problem:
        difference = _difference(evidence, "stationary", "adam")
        reason = (
            f"The comparison relative to the regime controls cannot be made: {problem}. "
            f"Of returns alone the difference is {difference}."
        )
        return Verdict("C2", "undecided", reason, {"difference in final return": difference})
    steps, stationary = evidence.returns("stationary")
    return verdicts.c2(
        steps,
        stationary,
        evidence.returns("adam")[1],
        evidence.relative("stationary")[1],
        evidence.relative("adam")[1],
        rng=shared.rng(),
    )


def _c3(evidence: Evidence) -> Verdict:
    few = shared.too_few(evidence, "C3", "adam", "no_ratio_clip")
    if few:
        return few
    steps, clipped = evidence.returns("adam")
    verdict = verdicts.c3(
        steps,
        clipped,
        evidence.returns("no_ratio_clip")[1],
        random_return=evidence.random_return,
        rng=shared.rng(),
    )
    counts = {_name(arm): _collapses(evidence, arm) for arm in evidence.present(*CLIPPING)}
    words = [f"{name} {n or 'none'} of {seeds}" for name, (n, seeds) in counts.items()]
    verdict = verdict.noting(f"Runs that collapse: {'; '.join(words)}.")
    return verdict.noting(_collapses_unchanging(evidence))


def _c4(evidence: Evidence, arm: str) -> Verdict:
    few = shared.too_few(evidence, "C4", "adam", arm)
    if few:
        return few
    changes = evidence.changes()
    if not changes.size:
        return Verdict("C4", "undecided", "The friction never changes within runs this short.")
    steps, default = evidence.returns("adam")
    verdict = verdicts.c4(
        steps,
        default,
        evidence.returns(arm)[1],
        evidence.update_norms("adam")[1],
        evidence.update_norms(arm)[1],
        changes,
        window=WINDOW,
        random_return=evidence.random_return,
        rng=shared.rng(),
    )
    gain = shared.gain(evidence, arm, "adam")
    return verdict.noting(f"Final return minus that with default betas {gain}." if gain else "")


def headline(evidence: Evidence) -> str:
    """The answer in one bold sentence, the verdicts in a list, and whether runs are missing."""
    if not evidence.has("adam"):
        answer = (
            "**No run of default Adam on the changing Ant is stored: nothing can be said yet.**"
        )
    else:
        reports = evidence.reports("adam")
        seeds, left = len(reports), sum(r.left_a_dip for r in reports)
        collapsed = sum(r.collapsed for r in reports)
        answer = (
            f"**Of {seeds} {plural('seed', seeds)} of PPO with default Adam on the changing Ant, "
            f"{collapsed or 'none'} {'collapses' if collapsed < 2 else 'collapse'}, and "
            f"{left or 'none'} {'dips and leaves the dip' if left < 2 else 'dip and leave the dip'}"
        )
        if evidence.has("stationary"):
            still = evidence.reports("stationary")
            left = sum(r.left_a_dip for r in still)
            answer += f", as do {left or 'none'} of {len(still)} on the stationary Ant"
            ends = [estimate(stats.final(*evidence.returns(arm))) for arm in ("adam", "stationary")]
            answer += f". The return ends at {ends[0]}; on the stationary Ant at {ends[1]}"
        answer += ".**"
    decided = shared.statuses(claims(evidence), _SHORT, incomplete=bool(evidence.missing()))
    return paragraphs([answer, decided, _collapses_unchanging(evidence)])


def on_change(evidence: Evidence) -> str:
    """What graph 1 shows, and the verdicts of C1 and C2."""
    lines = [shared.finals(evidence, ("stationary", "adam"), CHANGE)]
    passed = _passes(evidence, "stationary")
    if passed:
        lines[0] += f" On the stationary Ant {passed}."
    lines.append(_early_dips(evidence))
    return paragraphs([*lines, *shared.decided(claims(evidence), SAID, "C1", "C2")])


def on_betas(evidence: Evidence) -> str:
    """What graph 2 shows, and the verdicts of C4."""
    lines = [shared.finals(evidence, ("adam", *EQUAL_BETAS))]
    changes = evidence.changes()
    if changes.size:
        norms = []
        for arm in evidence.present("adam", *EQUAL_BETAS):
            largest = stats.largest_after_changes(
                *evidence.update_norms(arm), changes, window=WINDOW
            )
            norms.append(f"{estimate(largest, stats.mean)} ({_name(arm)})")
        if norms:
            lines.append(
                f"Largest update norm within {format_steps(WINDOW)} env steps of a change of "
                f"friction, mean over {changes.size} changes: {'; '.join(norms)}."
            )
    return paragraphs([*lines, *shared.decided(claims(evidence), SAID, "C4")])


def on_clipping(evidence: Evidence) -> str:
    """What the ablation shows, and the verdict of C3."""
    lines = [shared.finals(evidence, CLIPPING)]
    if evidence.whole("adam").runs:
        _, fraction = evidence.metric("adam", "clip_fraction")
        lines.append(
            f"With both clips on, {100 * fraction.mean():.1f} % of the samples lie outside the "
            "ratio clip's band (mean over updates and seeds)."
        )
    diverged = [
        f"{evidence.diverged(arm)} of {_name(arm)}" for arm in CLIPPING if evidence.diverged(arm)
    ]
    if diverged:
        lines.append(f"Runs that diverged to NaN: {listed(diverged)}.")
    return paragraphs(
        [
            *lines,
            *shared.decided(claims(evidence), SAID, "C3"),
            _where_nothing_changes(evidence),
            _without_both(evidence),
        ]
    )


def _where_nothing_changes(evidence: Evidence) -> str:
    """Whether the ratio clip's absence hurts without any change too, which C3 does not ask."""
    lines = [f"Where nothing changes. {shared.finals(evidence, UNCHANGING)}"]
    clipped, unclipped = UNCHANGING
    gain = shared.gain(evidence, unclipped, clipped)
    if gain:
        lines.append(f"Final return without the ratio clip minus that with it there {gain}.")
    if min(map(evidence.seeds, ("no_ratio_clip", unclipped))) >= MINIMUM_SEEDS:
        difference = stats.rate_difference_interval(
            *_collapses(evidence, "no_ratio_clip"), *_collapses(evidence, unclipped)
        )
        lines.append(
            "The rate of collapses without the ratio clip on the changing Ant minus that on the "
            f"stationary one: {difference} (score interval)."
        )
    return " ".join(lines)


def _without_both(evidence: Evidence) -> str:
    """What it means when two clips off are better than one.

    C3 looks at the ratio clip alone: an agent without either clip tells whether it says it all.
    """
    if not evidence.has("no_ratio_clip", "no_clip"):
        return ""
    counts = {arm: _collapses(evidence, arm) for arm in ("no_ratio_clip", "no_clip")}
    difference = stats.rate_difference_interval(*counts["no_ratio_clip"], *counts["no_clip"])
    if difference.low <= 0:
        return ""
    return (
        f"Without the gradient clip as well the rate of collapses is lower, by {difference} (score "
        "interval): lacking the ratio clip does not by itself make a collapse. A candidate reason, "
        "not tested here: an unclipped gradient can be large, then stays in Adam's second moment "
        "for about a thousand updates and makes them small, which is a brake too."
    )


def _collapses_unchanging(evidence: Evidence) -> str:
    """How many agents without the ratio clip collapse where nothing changes; with enough of them.

    Where agents collapse under change too, that is what C3 does not tell.
    """
    _, unclipped = UNCHANGING
    arms = ("no_ratio_clip", unclipped)
    if min(map(evidence.seeds, arms)) < MINIMUM_SEEDS:
        return ""
    (under_change, _), (number, seeds) = (_collapses(evidence, arm) for arm in arms)
    words = (
        f"Without the ratio clip {number or 'none'} of {seeds} {plural('seed', seeds)} "
        f"{'collapses' if number < 2 else 'collapse'} where nothing changes"
    )
    return f"{words}, too: it does not take a change." if number and under_change else f"{words}."


def _collapses(evidence: Evidence, arm: str) -> tuple[int, int]:
    """How many of an arm's seeds collapse, and how many there are."""
    return sum(r.collapsed for r in evidence.reports(arm)), evidence.seeds(arm)


def overview(evidence: Evidence) -> str:
    """One row an arm: seeds, final return, dips and collapses; then the controls and the gaps."""
    main = [arm for arm in STUDY.arms if arm not in CONTROLS]
    parts = [shared.dips_table(evidence, main)]
    controls = [f"{value:,.0f} at {f:g}" for f, value in evidence.controls().items()]
    if controls:
        parts.append(f"Final returns of the regime controls, by friction: {', '.join(controls)}.")
    if evidence.runs.runs:
        parts.append(f"The untrained policy's return is {evidence.random_return:,.1f}.")
    missing = evidence.missing()
    if missing:
        names = [
            f"{_name(arm)} ({count} of {evidence.planned(arm)})"
            for arm, count in missing.items()
            if arm not in CONTROLS
        ]
        lacking = sum(arm in CONTROLS for arm in missing)
        names += [f"regime controls ({lacking} of {len(CONTROLS)})"] if lacking else []
        parts.append(
            f"Missing runs: {'; '.join(names)}. They are neither drawn nor guessed; "
            f"`{evidence.command()}` computes them."
        )
    return paragraphs(parts)


def _passes(evidence: Evidence, arm: str) -> str | None:
    """When the mean over seeds passes `LEVEL`, in words; None without runs."""
    if not evidence.has(arm):
        return None
    steps, returns = evidence.returns(arm)
    above = np.flatnonzero(returns.mean(axis=0) > LEVEL)
    if not above.size:
        return f"the mean over seeds never passes {LEVEL:,.0f}"
    return (
        f"the mean over seeds passes {LEVEL:,.0f} after {format_steps(steps[above[0]])} env steps"
    )


def _early_dips(evidence: Evidence) -> str:
    """Which dips of the changing Ant cannot come from a change, and which can."""
    if not evidence.has("adam") or not evidence.changes().size:
        return ""
    reports = evidence.reports("adam")
    dips = [dip for report in reports for dip in report.dips]
    early = sum(dip.start <= PERIOD for dip in dips)
    left = sum(any(d.end is not None and d.start > PERIOD for d in r.dips) for r in reports)
    if not dips:
        return "No seed dips on the changing Ant."
    return (
        f"On the changing Ant {early} of {len(dips)} {plural('dip', len(dips))} "
        f"{'begins' if early == 1 else 'begin'} before the first change of friction, and "
        f"{left} of {len(reports)} {plural('seed', len(reports))} "
        f"{'leaves' if left == 1 else 'leave'} a dip that begins after it."
    )


def _difference(evidence: Evidence, first: str, second: str) -> Estimate:
    x, y = (stats.final(*evidence.returns(arm)) for arm in (first, second))
    return stats.difference_ci(x, y, stats.iqm, rng=shared.rng())


def _name(arm: str) -> str:
    return STUDY.arms[arm].label


def _betas(arm: str) -> str:
    return STUDY.arms[arm].label.partition("both ")[2]
