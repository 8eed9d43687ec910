"""C9 to C12: how optimizers compare on fixed tasks.

Reading of the rows, fixed before the runs but for the last two lines, of 2026-11-25 and 27:
  - a score is a run's final return; scores are `[num_seeds]` of one task, task by task;
  - "OPEN" is the multi-task optimizer, the one that the source report ran;
  - "all baselines" and "every other learned optimizer" are those with runs; the reason names them;
  - "Adam-normalised" divides by Adam's mean final return here, task by task;
  - "within 10 % of Adam" means that the interval's lower limit lies above -10 %;
  - optimizers meta-trained here count like others' ("every other learned optimizer", and a
    baseline), but OPEN of one game or evolved here is no baseline to OPEN;
  - tasks weigh the same in an IQM where their numbers of seeds differ, and none is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats
from loptrl.stats import Estimate
from loptrl.verdicts.base import MINIMUM_SEEDS, Verdict, limits, sign, too_few

__all__ = ["c9", "c10", "c11", "c12"]

Scores = Mapping[str, Mapping[str, ArrayLike]]
"""Optimizer -> task -> final returns `[num_seeds]`."""

WANTED_GAMES = 3
"""Games on which OPEN has to beat every baseline."""


def c9(scores: Scores, candidate: str, *, rng: np.random.Generator) -> Verdict:
    """C9: OPEN beats all baselines on the discrete games.

    Supported: the interval of P(OPEN > each baseline) lies above 0.5 on at least 3 games.
    Contradicted: it lies below 0.5 against some baseline on at least 2 games.

    Args:
      scores: optimizer -> game -> final returns; every optimizer with the same games.
      candidate: the optimizer that the claim is about.
      rng: numpy Generator.
    """
    others = [name for name in scores if name != candidate]
    few = _too_few("C9", scores, candidate, *others)
    if few:
        return few
    if not others:
        return Verdict("C9", "undecided", f"Too few runs: no baseline beside {candidate}.")
    beaten, lost, estimates = [], [], {}
    for game, own in scores[candidate].items():
        found = {
            name: stats.probability_of_improvement(own, scores[name][game], rng=stats.fresh(rng))
            for name in others
        }
        estimates |= {f"P({candidate} > {name}), {game}": e for name, e in found.items()}
        if all(e.low > 0.5 for e in found.values()):
            beaten.append(game)
        if any(e.high < 0.5 for e in found.values()):
            lost.append(game)
    games = len(scores[candidate])
    reason = (
        f"P(better) lies above 0.5 against every baseline ({', '.join(others)}) on "
        f"{len(beaten)} of {games} games{_named(beaten)}, and below 0.5 against at least one on "
        f"{len(lost)}{_named(lost)}."
    )
    status = "undecided"
    if len(beaten) >= WANTED_GAMES:
        status = "supported"
    elif len(lost) >= 2:
        status = "contradicted"
    return Verdict("C9", status, reason, estimates)


def c10(
    scores: Scores,
    candidate: str,
    learned: list[str],
    *,
    reference: str = "adam",
    rng: np.random.Generator,
) -> Verdict:
    """C10: OPEN is the only learned optimizer above Adam on the average.

    With S the Adam-normalised IQM over games and seeds, Adam's mean taken as exact. Supported:
    S(OPEN) lies above 1 and no other learned optimizer's does. Contradicted: S(OPEN) lies below 1,
    or another's above 1.

    Args:
      scores: as in `c9`.
      candidate: the optimizer that the claim is about.
      learned: the other learned optimizers, those with runs.
      reference: Adam's name there.
      rng: numpy Generator.
    """
    few = _too_few("C10", scores, reference, candidate, *learned)
    few = few or _no_level("C10", scores, reference)
    if few:
        return few
    found = {name: _normalised(scores, name, reference, rng) for name in (candidate, *learned)}
    estimates = {f"Adam-normalised IQM of {name}": e for name, e in found.items()}
    above = [name for name in learned if found[name].low > 1]
    numbers = "; ".join(f"{name} {e}" for name, e in found.items())
    own = found[candidate]
    if own.high < 1 or above:
        what = f"{candidate} lies below Adam" if own.high < 1 else f"{_and(above)} lies above Adam"
        return Verdict("C10", "contradicted", f"On the average {what} ({numbers}).", estimates)
    if own.low <= 1:
        reason = f"The interval of {candidate} includes Adam's level, 1 ({numbers})."
        return Verdict("C10", "undecided", reason, estimates)
    if not learned:
        reason = (
            f"{candidate} lies above Adam; no other learned optimizer has {MINIMUM_SEEDS} seeds on "
            f"every task ({numbers})."
        )
        return Verdict("C10", "undecided", reason, estimates)
    reason = (
        f"{candidate} lies above Adam and no learned optimizer other than OPEN does ({numbers})."
    )
    return Verdict("C10", "supported", reason, estimates)


def c11(
    adam: ArrayLike,
    in_distribution: ArrayLike,
    out_of_distribution: ArrayLike,
    *,
    rng: np.random.Generator,
) -> Verdict:
    """C11: on Ant OPEN is at most level with Adam, and fails out of distribution.

    With D the difference of IQMs to Adam as a fraction of Adam's. Supported: D of the OPEN trained
    on Ant does not lie above 0, and D of the multi-task one lies below -0.25. Contradicted: the
    first lies above 0, or the second above -0.1.

    Args:
      adam, in_distribution, out_of_distribution: `[num_seeds]` final returns.
      rng: numpy Generator.
    """
    few = too_few(
        "C11",
        {},
        adam=_row(adam),
        trained_on_Ant=_row(in_distribution),
        multi_task=_row(out_of_distribution),
    )
    if few:
        return few
    level = stats.iqm(adam)
    if level <= 0:
        reason = f"Adam's final return is {level:.1f}: fractions of it say nothing."
        return Verdict("C11", "undecided", reason)
    own, other = (
        stats.difference_ci(np.divide(x, level), np.divide(adam, level), rng=stats.fresh(rng))
        for x in (in_distribution, out_of_distribution)
    )
    estimates = {"trained on Ant, relative to Adam": own, "multi-task, relative to Adam": other}
    numbers = f"difference to Adam: trained on Ant {own}, multi-task {other}, of Adam's return"
    if sign(own) > 0 or other.low > -0.1:
        parts = ["the OPEN trained on Ant lies above Adam"] if sign(own) > 0 else []
        parts += ["the multi-task OPEN comes within 10 % of Adam"] if other.low > -0.1 else []
        reason = f"{_capital(_and(parts))} ({numbers})."
        return Verdict("C11", "contradicted", reason, estimates)
    if other.high < -0.25:
        reason = f"Not above Adam where it was trained, and far below out of it ({numbers})."
        return Verdict("C11", "supported", reason, estimates)
    reason = f"The multi-task OPEN's interval {limits(other)} does not settle it ({numbers})."
    return Verdict("C11", "undecided", reason, estimates)


def c12(
    scores: Scores, candidate: str, *, reference: str = "adam", rng: np.random.Generator
) -> Verdict:
    """C12: VeLO performs poorly in RL.

    Supported: its Adam-normalised IQM, Adam's mean taken as exact, lies below 1. Contradicted:
    above 1. Only the released weights decide.

    Args:
      scores: as in `c9`.
      candidate: VeLO's name there.
      reference: Adam's.
      rng: numpy Generator.
    """
    if candidate not in scores:
        reason = "No run: the released weights are not available here, and no stand-in decides it."
        return Verdict("C12", "undecided", reason)
    few = _too_few("C12", scores, reference, candidate)
    few = few or _no_level("C12", scores, reference)
    if few:
        return few
    found = _normalised(scores, candidate, reference, rng)
    estimates = {"Adam-normalised IQM": found}
    reason = f"Its Adam-normalised IQM is {found}; Adam's level is 1."
    status = "supported" if found.high < 1 else "contradicted" if found.low > 1 else "undecided"
    return Verdict("C12", status, reason, estimates)


def _normalised(scores: Scores, name: str, reference: str, rng: np.random.Generator) -> Estimate:
    """IQM over tasks and seeds of scores divided by the reference's mean, with its interval."""
    own = {task: np.divide(x, np.mean(scores[reference][task])) for task, x in scores[name].items()}
    return stats.stratified_bootstrap_ci(own, stats.iqm, rng=stats.fresh(rng))


def _no_level(claim: str, scores: Scores, reference: str) -> Verdict | None:
    """Undecided where a reference's mean is no unit to measure in."""
    for task, values in scores[reference].items():
        if not np.mean(values) > 0:
            reason = (
                f"{reference} scores {np.mean(values):.1f} on {task}: no multiple of it counts."
            )
            return Verdict(claim, "undecided", reason)
    return None


def _too_few(claim: str, scores: Scores, *names: str) -> Verdict | None:
    absent = [name for name in names if name not in scores]
    if absent:
        return Verdict(claim, "undecided", f"Too few runs: none of {_and(absent)} on every task.")
    for name in names:
        for task, values in scores[name].items():
            seeds = np.size(values)
            if seeds < MINIMUM_SEEDS:
                few = f"{seeds} of {MINIMUM_SEEDS} seeds of {name} on {task}"
                return Verdict(claim, "undecided", f"Too few runs: {few}.")
    return None


def _row(values: ArrayLike) -> np.ndarray:
    return np.reshape(values, (-1, 1))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(games: list[str]) -> str:
    return f" ({', '.join(games)})" if games else ""
