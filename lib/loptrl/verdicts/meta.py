"""C5 to C8 and C14: what an optimizer that was meta-trained on the Ant does on the changing Ant.

Reading of the rows where they leave a choice, dated 2026-11-24, before any of these runs existed:
  - returns are aggregated over seeds by their IQM; an arm with fewer than three seeds decides
    nothing; arms are compared as independent although their seeds meet the same drift;
  - where a row names a share of Adam's return without an interval (C6, C7, C14), it is that share
    of Adam's IQM, and where that is not above 0 the share says nothing;
  - C6, "more dips are left": the number of dips left in a run, mean over seeds; "final CIs": the
    intervals of the final returns with and without L2, which overlap, or both lie below half of
    Adam's; "within Adam's CI": the IQM with L2 is not below the lower limit of Adam's interval, and
    this contradicts the claim whatever the dips say;
  - C7, "return after 25 % of the run": the mean over the 5 % of the run around that place;
  - C14, "full-size" and "reduced": meta-trained under change at the official sizes, and with the
    source's (2 inner updates, half the batch).

Arrays are `[num_seeds, num_rows]` evaluation returns on the changing Ant, one row per entry of
`env_steps`, diverged runs already filled (`stats.fill_diverged`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats
from loptrl.stats import Estimate
from loptrl.verdicts.base import (
    Verdict,
    collapse_rate,
    final_difference,
    limits,
    sign,
    too_few,
)

__all__ = ["QUARTER", "c5", "c6", "c7", "c8", "c14"]

QUARTER = 0.25
"""Where in a run C7 looks for a good start."""

HALF = 0.5


def c5(
    env_steps: ArrayLike,
    adam: ArrayLike,
    direct: ArrayLike,
    *,
    random_return: float,
    rng: np.random.Generator,
) -> Verdict:
    """C5: Optim4RL meta-trained under change performs poorly and collapses.

    Supported: the interval of final(direct) - final(adam) lies below 0 and the collapse rate's
    lower Wilson limit lies above Adam's upper limit. Contradicted: the interval of the difference
    does not lie below 0.

    Args:
      env_steps: [num_rows].
      adam: [num_seeds, num_rows], default Adam.
      direct: [num_seeds, num_rows], Optim4RL meta-trained under change.
      random_return: the random policy's mean return.
      rng: numpy Generator.
    """
    difference = final_difference(env_steps, direct, adam, rng=rng)
    own, other = (
        collapse_rate(stats.collapse_reports(env_steps, v, random_return=random_return))
        for v in (direct, adam)
    )
    estimates = {
        "difference in final return": difference,
        "collapse rate": own,
        "Adam's collapse rate": other,
    }
    few = too_few("C5", estimates, adam=adam, direct=direct)
    if few:
        return few
    numbers = f"final minus Adam's {difference}, collapse rate {own}, Adam's {other}"
    if sign(difference) >= 0:
        reason = f"The final return is not shown to lie below Adam's ({numbers})."
        return Verdict("C5", "contradicted", reason, estimates)
    if own.low > other.high:
        reason = f"It ends lower and collapses more often ({numbers})."
        return Verdict("C5", "supported", reason, estimates)
    reason = f"It ends lower, but the collapse rates' intervals overlap ({numbers})."
    return Verdict("C5", "undecided", reason, estimates)


def c6(
    env_steps: ArrayLike,
    adam: ArrayLike,
    direct: ArrayLike,
    with_l2: ArrayLike,
    *,
    random_return: float,
    rng: np.random.Generator,
) -> Verdict:
    """C6: L2 in meta-training gives temporary recovery only.

    Supported: the interval of the difference in dips left, with minus without L2, lies above 0,
    and the intervals of the two final returns overlap or both lie below half of Adam's.
    Contradicted: the final return with L2 lies within Adam's interval, or above it.

    Args:
      env_steps: [num_rows].
      adam, direct: as in `c5`.
      with_l2: [num_seeds, num_rows], as `direct`, meta-trained with L2.
      random_return: the random policy's mean return.
      rng: numpy Generator.
    """

    def left(values: ArrayLike) -> list[int]:
        reports = stats.collapse_reports(env_steps, values, random_return=random_return)
        return [sum(dip.end is not None for dip in report.dips) for report in reports]

    more = stats.difference_ci(left(with_l2), left(direct), stats.mean, rng=stats.fresh(rng))
    level, without, own = (_final(env_steps, v, rng) for v in (adam, direct, with_l2))
    estimates = {
        "difference in dips left": more,
        "final return with L2": own,
        "final return without": without,
        "Adam's final return": level,
    }
    few = too_few("C6", estimates, adam=adam, direct=direct, with_L2=with_l2)
    if few:
        return few
    numbers = (
        f"dips left in a run, with minus without L2, {more}; final return with L2 {own}, without "
        f"{without}, Adam {level}"
    )
    if own.value >= level.low:
        reason = f"With L2 it ends within Adam's interval or above it ({numbers})."
        return Verdict("C6", "contradicted", reason, estimates)
    overlap = own.low <= without.high and without.low <= own.high
    poor = level.value > 0 and max(own.high, without.high) < HALF * level.value
    if sign(more) > 0 and (overlap or poor):
        why = "the finals overlap" if overlap else "both finals stay below half of Adam's"
        reason = f"With L2 more dips are left, and {why} ({numbers})."
        return Verdict("C6", "supported", reason, estimates)
    if sign(more) > 0:
        reason = f"With L2 more dips are left, but the finals lie apart ({numbers})."
    else:
        reason = f"That more dips are left with L2 is not settled ({numbers})."
    return Verdict("C6", "undecided", reason, estimates)


def c7(
    env_steps: ArrayLike,
    adam: ArrayLike,
    transferred: ArrayLike,
    *,
    random_return: float,
    rng: np.random.Generator,
) -> Verdict:
    """C7: transferred from a stationary Ant it is good at first and collapses later.

    Supported: the return after a quarter of the run is at least half of Adam's there, and the
    collapse rate's lower Wilson limit lies above 0.5. Contradicted: no seed collapses and the
    upper limit lies below 0.5.

    Args:
      env_steps: [num_rows].
      adam: as in `c5`.
      transferred: [num_seeds, num_rows], Optim4RL meta-trained where nothing changes.
      random_return: the random policy's mean return.
      rng: numpy Generator.
    """
    reports = stats.collapse_reports(env_steps, transferred, random_return=random_return)
    rate = collapse_rate(reports)
    early, level = (
        stats.stratified_bootstrap_ci(
            stats.around(env_steps, np.atleast_2d(v), QUARTER), stats.iqm, rng=stats.fresh(rng)
        )
        for v in (transferred, adam)
    )
    estimates = {
        "return after a quarter": early,
        "Adam's return after a quarter": level,
        "collapse rate": rate,
    }
    few = too_few("C7", estimates, adam=adam, transferred=transferred)
    if few:
        return few
    collapsed = sum(r.collapsed for r in reports)
    counted = f"{collapsed} of {rate.n} seeds collapse (Wilson {limits(rate)})"
    start = f"after a quarter of the run the return is {early}, Adam's {level}"
    if not collapsed and rate.high < HALF:
        return Verdict("C7", "contradicted", f"No seed collapses: {counted}; {start}.", estimates)
    if rate.low <= HALF:
        reason = f"{counted}: the interval does not lie above one half; {start}."
    elif level.value <= 0:
        reason = f"{counted}; Adam's return is not above 0 after a quarter ({start})."
    elif early.value < HALF * level.value:
        reason = f"{counted}, but the start is not good: {start}."
    else:
        return Verdict("C7", "supported", f"{counted}, and {start}.", estimates)
    return Verdict("C7", "undecided", reason, estimates)


def c8(
    env_steps: ArrayLike,
    curriculum: ArrayLike,
    direct: ArrayLike,
    transferred: ArrayLike,
    *,
    rng: np.random.Generator,
) -> Verdict:
    """C8: a curriculum, first stationary and then changing, is essential.

    With D the difference in final return, curriculum minus direct and curriculum minus
    transferred. Supported: the intervals of both D lie above 0. Contradicted: either lies below 0.

    Args:
      env_steps: [num_rows].
      curriculum: [num_seeds, num_rows], Optim4RL meta-trained first without, then under change.
      direct: as in `c5`.
      transferred: as in `c7`.
      rng: numpy Generator.
    """
    to_direct = final_difference(env_steps, curriculum, direct, rng=rng)
    to_transferred = final_difference(env_steps, curriculum, transferred, rng=rng)
    estimates = {"difference to direct": to_direct, "difference to transferred": to_transferred}
    few = too_few("C8", estimates, curriculum=curriculum, direct=direct, transferred=transferred)
    if few:
        return few
    signs = (sign(to_direct), sign(to_transferred))
    numbers = f"curriculum minus direct {to_direct}, minus transferred {to_transferred}"
    if min(signs) > 0:
        reason = f"The curriculum ends above both ({numbers})."
        return Verdict("C8", "supported", reason, estimates)
    if min(signs) < 0:
        below = [n for n, s in zip(("direct", "transferred"), signs, strict=True) if s < 0]
        reason = f"The curriculum ends below {' and '.join(below)} ({numbers})."
        return Verdict("C8", "contradicted", reason, estimates)
    return Verdict("C8", "undecided", f"An interval includes 0 ({numbers}).", estimates)


def c14(
    env_steps: ArrayLike,
    adam: ArrayLike,
    full_size: ArrayLike,
    reduced: ArrayLike,
    *,
    rng: np.random.Generator,
) -> Verdict:
    """C14: lack of memory, hence smaller batches and fewer inner updates, explains the result.

    Supported: the interval of final(full size) - final(reduced) lies above 0, and the full-size
    final return lies above half of Adam's. Contradicted: the interval does not lie above 0.

    Args:
      env_steps: [num_rows].
      adam: as in `c5`.
      full_size: [num_seeds, num_rows], Optim4RL meta-trained under change at the official sizes.
      reduced: the same at the source's sizes.
      rng: numpy Generator.
    """
    difference = final_difference(env_steps, full_size, reduced, rng=rng)
    own, level = (_final(env_steps, v, rng) for v in (full_size, adam))
    estimates = {
        "difference in final return": difference,
        "final return at full size": own,
        "Adam's final return": level,
    }
    few = too_few("C14", estimates, adam=adam, full_size=full_size, reduced=reduced)
    if few:
        return few
    numbers = f"full size minus reduced {difference}; full size {own}, Adam {level}"
    if sign(difference) <= 0:
        reason = f"Full size is not shown to end above the reduced one ({numbers})."
        return Verdict("C14", "contradicted", reason, estimates)
    if level.value > 0 and own.value > HALF * level.value:
        reason = f"Full size ends above the reduced one and above half of Adam's ({numbers})."
        return Verdict("C14", "supported", reason, estimates)
    reason = (
        f"Full size ends above the reduced one, but not above half of a positive return of Adam's "
        f"({numbers})."
    )
    return Verdict("C14", "undecided", reason, estimates)


def _final(env_steps: ArrayLike, values: ArrayLike, rng: np.random.Generator) -> Estimate:
    finals = stats.final(env_steps, np.atleast_2d(values))
    return stats.stratified_bootstrap_ci(finals, stats.iqm, rng=stats.fresh(rng))
