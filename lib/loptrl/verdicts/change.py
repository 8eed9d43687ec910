"""C1 to C4: what Adam does on a changing task.

Reading of the rows, also fixed before the runs:
  - a return is aggregated over seeds by its IQM, a dip depth or an update norm by its mean;
  - "and" in a criterion means that its opposite in either part contradicts the claim;
  - "or" with parts that point in opposite directions is undecided;
  - a difference of collapse rates must hold under the bootstrap and under Newcombe's score
    interval: with no collapse in either arm the bootstrap interval has length 0 at any number of
    seeds, and says nothing about how few they are.

Arrays are `[num_seeds, num_rows]` evaluation returns, one row per entry of `env_steps`, diverged
runs already filled (`stats.fill_diverged`).
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

__all__ = ["SMALL_HALF_WIDTH", "c1", "c2", "c3", "c4"]

SMALL_HALF_WIDTH = 0.15


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def c1(env_steps: ArrayLike, changing: ArrayLike, *, random_return: float) -> Verdict:
    """C1: on a changing Ant, PPO with default Adam dips but does not collapse for good.

    Supported: the collapse rate's upper Wilson limit is below 0.5 and at least one seed dips and
    leaves the dip. Contradicted: the lower limit is above 0.5.

    Args:
      env_steps: [num_rows].
      changing: [num_seeds, num_rows], default Adam under drift.
      random_return: the random policy's mean return.
    """
    reports = stats.collapse_reports(env_steps, changing, random_return=random_return)
    rate = collapse_rate(reports)
    seeds = len(reports)
    recovered = sum(r.left_a_dip for r in reports)
    estimates = {
        "collapse rate": rate,
        "seeds that leave a dip": stats.wilson_interval(recovered, seeds),
    }
    collapsed = sum(r.collapsed for r in reports)
    counted = f"{collapsed} of {seeds} seeds collapse (Wilson {limits(rate)})"
    if rate.low > 0.5:
        return Verdict("C1", "contradicted", f"{counted}: more than half do.", estimates)
    if rate.high < 0.5 and recovered:
        reason = f"{counted} and {recovered} dip and leave the dip."
        return Verdict("C1", "supported", reason, estimates)
    if rate.high < 0.5:
        reason = f"{counted}, but no seed dips and leaves the dip."
    else:
        reason = f"{counted}: the interval does not exclude one half."
    return Verdict("C1", "undecided", reason, estimates)


def c2(
    env_steps: ArrayLike,
    stationary: ArrayLike,
    changing: ArrayLike,
    stationary_relative: ArrayLike,
    changing_relative: ArrayLike,
    *,
    rng: np.random.Generator,
) -> Verdict:
    """C2: default Adam does worse on the changing Ant than on the stationary one.

    With D the difference final(stationary) - final(changing), once of returns and once of returns
    relative to the regime controls. Supported: the intervals of both D lie above 0.
    Contradicted: either lies below 0.

    Args:
      env_steps: [num_rows].
      stationary, changing: [num_seeds, num_rows] returns.
      stationary_relative, changing_relative: the same divided by the regime controls
        (`stats.regime_relative`).
      rng: numpy Generator.
    """
    returns = final_difference(env_steps, stationary, changing, rng=rng)
    relative = final_difference(env_steps, stationary_relative, changing_relative, rng=rng)
    estimates = {"difference in final return": returns, "relative to the controls": relative}
    few = too_few(
        "C2",
        estimates,
        stationary=stationary,
        changing=changing,
        stationary_relative=stationary_relative,
        changing_relative=changing_relative,
    )
    if few:
        return few
    signs = (sign(returns), sign(relative))
    numbers = f"stationary minus changing: {returns}, relative to the regime controls {relative}"
    if min(signs) > 0:
        return Verdict("C2", "supported", f"Both differences lie above 0 ({numbers}).", estimates)
    if min(signs) < 0:
        which = "both differences lie" if max(signs) < 0 else "one difference lies"
        reason = f"{which.capitalize()} below 0 ({numbers})."
        return Verdict("C2", "contradicted", reason, estimates)
    return Verdict("C2", "undecided", f"An interval includes 0 ({numbers}).", estimates)


def c3(
    env_steps: ArrayLike,
    with_clip: ArrayLike,
    without_clip: ArrayLike,
    *,
    random_return: float,
    rng: np.random.Generator,
) -> Verdict:
    """C3: PPO's ratio clip is what prevents the collapse.

    With D the difference without - with, once of collapse rates and once of mean dip depths.
    Supported: the interval of either D lies above 0. Contradicted: of both D, each either
    includes 0 with a half-width below 0.15 or lies below 0.

    Args:
      env_steps: [num_rows].
      with_clip, without_clip: [num_seeds, num_rows], default Adam under drift.
      random_return: the random policy's mean return.
      rng: numpy Generator.
    """
    clipped = stats.collapse_reports(env_steps, with_clip, random_return=random_return)
    free = stats.collapse_reports(env_steps, without_clip, random_return=random_return)
    rate = stats.difference_ci(
        [r.collapsed for r in free],
        [r.collapsed for r in clipped],
        stats.mean,
        rng=stats.fresh(rng),
    )
    score = stats.rate_difference_interval(
        sum(r.collapsed for r in free), len(free), sum(r.collapsed for r in clipped), len(clipped)
    )
    depth = stats.difference_ci(
        [r.dip_depth for r in free],
        [r.dip_depth for r in clipped],
        stats.mean,
        rng=stats.fresh(rng),
    )
    drawdown = stats.difference_ci(
        [r.drawdown for r in free], [r.drawdown for r in clipped], stats.mean, rng=stats.fresh(rng)
    )
    estimates = {
        "difference in collapse rate (bootstrap)": rate,
        "difference in collapse rate (score)": score,
        "difference in mean dip depth": depth,
        "difference in deepest drawdown (not decisive)": drawdown,
    }
    few = too_few("C3", estimates, with_clip=with_clip, without_clip=without_clip)
    if few:
        return few
    # A statement about the rates holds only where both intervals make it.
    hull = Estimate(rate.value, min(rate.low, score.low), max(rate.high, score.high), rate.n)

    def settled(estimate: Estimate) -> bool:
        small = estimate.includes_zero and estimate.half_width < SMALL_HALF_WIDTH
        return small or sign(estimate) < 0

    numbers = f"without minus with the clip: collapse rate {hull}, mean dip depth {depth}"
    above = [n for n, e in (("collapse rate", hull), ("dip depth", depth)) if sign(e) > 0]
    if above:
        reason = f"The {' and the '.join(above)} without the clip {_is(above)} higher ({numbers})."
        return Verdict("C3", "supported", reason, estimates)
    if settled(hull) and settled(depth):
        reason = f"Neither difference can be large ({numbers})."
        return Verdict("C3", "contradicted", reason, estimates)
    reason = f"The intervals leave room for a difference ({numbers})."
    if settled(rate) and settled(depth):
        reason = (
            f"Too few seeds: {numbers}; the bootstrap alone, {limits(rate)} for the rate, "
            "would call it contradicted, but has no width to tell few seeds from many."
        )
    return Verdict("C3", "undecided", reason, estimates)


def c4(
    env_steps: ArrayLike,
    default: ArrayLike,
    equal_betas: ArrayLike,
    default_update_norm: ArrayLike,
    equal_betas_update_norm: ArrayLike,
    change_steps: ArrayLike,
    *,
    window: float,
    random_return: float,
    rng: np.random.Generator,
) -> Verdict:
    """C4: equal betas protect better than Adam's default.

    With D the difference equal - default, once of mean dip depths and once of the largest update
    norm after a change (`stats.largest_after_changes`). Supported: the interval of either D lies
    below 0. Contradicted: of either above 0. Undecided when they point in opposite directions.

    Args:
      env_steps: [num_rows].
      default, equal_betas: [num_seeds, num_rows] returns under drift.
      default_update_norm, equal_betas_update_norm: [num_seeds, num_rows], the largest update norm
        since the last row.
      change_steps: [num_changes] env steps at which the friction changed.
      window: env steps after a change that count as "after a change".
      random_return: the random policy's mean return.
      rng: numpy Generator.
    """

    def depths(values: ArrayLike) -> list[float]:
        reports = stats.collapse_reports(env_steps, values, random_return=random_return)
        return [r.dip_depth for r in reports]

    def norms(values: ArrayLike) -> ArrayLike:
        return stats.largest_after_changes(
            env_steps, np.atleast_2d(values), change_steps, window=window
        )

    depth = stats.difference_ci(
        depths(equal_betas), depths(default), stats.mean, rng=stats.fresh(rng)
    )
    norm = stats.difference_ci(
        norms(equal_betas_update_norm), norms(default_update_norm), stats.mean, rng=stats.fresh(rng)
    )
    estimates = {"difference in mean dip depth": depth, "difference in largest update norm": norm}
    few = too_few(
        "C4",
        estimates,
        default=default,
        equal_betas=equal_betas,
        default_update_norm=default_update_norm,
        equal_betas_update_norm=equal_betas_update_norm,
    )
    if few:
        return few
    signs = (sign(depth), sign(norm))
    numbers = f"equal minus default: mean dip depth {depth}, largest update norm {norm}"
    if min(signs) < 0 < max(signs):
        return Verdict("C4", "undecided", f"The two measures disagree ({numbers}).", estimates)
    if min(signs) < 0:
        lower = [n for n, s in zip(("dip depth", "update norm"), signs, strict=True) if s < 0]
        reason = f"The {' and the '.join(lower)} {_is(lower)} lower with equal betas ({numbers})."
        return Verdict("C4", "supported", reason, estimates)
    if max(signs) > 0:
        higher = [n for n, s in zip(("dip depth", "update norm"), signs, strict=True) if s > 0]
        reason = (
            f"The {' and the '.join(higher)} {_is(higher)} higher with equal betas ({numbers})."
        )
        return Verdict("C4", "contradicted", reason, estimates)
    return Verdict("C4", "undecided", f"Both intervals include 0 ({numbers}).", estimates)
