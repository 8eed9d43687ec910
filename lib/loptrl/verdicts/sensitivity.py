"""C13: whether Optim4RL's result on the Ant swings with the settings of its meta-training.

Reading of the row where it leaves a choice, dated 2026-11-24, before any of these runs existed:
  - "final" of a grid point is the IQM of the final returns over its seeds; the *range* is the best
    point's final minus the worst point's; its interval comes from drawing the seeds of every point
    anew;
  - the best and the worst of several noisy numbers lie apart even where all points are equally
    good, and the interval of the range does not include 0 then. So the seeds' CI is that of the
    range under chance: each point's draws are moved so that all points end the same, spread by
    sqrt(n / (n - 1)) since n seeds vary less around their own mean, and the range is taken again.
    "Beyond the seeds' CI" is above the 97.5 % quantile of these ranges, "within" is not above it;
  - "50 % of the best" has no interval of its own, and where the best final is not above 0 it says
    nothing;
  - a grid point with fewer than three seeds, or without any, leaves the claim undecided.

With three seeds the quantile is too low, by how much depends on where the noise is: in simulations
of nine equal points with normal seeds the range passed it in about 4 of 100 cases where all points
were equally noisy, and in up to 15 where only one or two were noisy at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats
from loptrl.stats import Estimate
from loptrl.stats.checks import RESAMPLES
from loptrl.verdicts.base import Verdict, too_few

__all__ = ["c13"]

HALF = 0.5


def c13(
    env_steps: ArrayLike, points: Mapping[str, ArrayLike], *, rng: np.random.Generator
) -> Verdict:
    """C13: Optim4RL's result on the Ant swings with meta learning rate and reset interval.

    Supported: the range of the final returns is above 50 % of the best and beyond what chance
    makes of equal points. Contradicted: the range is not beyond that.

    Args:
      env_steps: [num_rows].
      points: name -> [num_seeds, num_rows] evaluation returns of a grid point; no seeds where a
        point has no runs.
      rng: numpy Generator.
    """
    few = too_few("C13", {}, **points)
    if few:
        return few
    finals = {name: stats.final(env_steps, np.atleast_2d(v)) for name, v in points.items()}
    middles = {name: stats.iqm(values) for name, values in finals.items()}
    counts = np.array([values.size for values in finals.values()])
    rng = stats.fresh(rng)
    draws = np.array([_resampled(values, rng) for values in finals.values()])
    noise = (draws.T - [*middles.values()]) * np.sqrt(counts / (counts - 1))
    best, worst = max(middles, key=middles.__getitem__), min(middles, key=middles.__getitem__)
    found = _estimate(middles[best] - middles[worst], np.ptp(draws, axis=0), counts.min())
    equal = np.ptp(noise, axis=1)
    chance = _estimate(equal.mean(), equal, counts.min())
    estimates = {"range of the final returns": found, "range of equal points": chance}
    numbers = (
        f"best {middles[best]:,.0f} at {best}, worst {middles[worst]:,.0f} at {worst}; range "
        f"{found}, of equal points by chance {chance}"
    )
    if found.value <= chance.high:
        reason = f"The range is not beyond what chance makes of equal points ({numbers})."
        return Verdict("C13", "contradicted", reason, estimates)
    if middles[best] <= 0:
        reason = f"The range is beyond chance, but no point ends above 0 ({numbers})."
    elif found.value <= HALF * middles[best]:
        reason = f"The range is beyond chance, but not above half of the best ({numbers})."
    else:
        reason = f"The range is above half of the best, and beyond chance ({numbers})."
        return Verdict("C13", "supported", reason, estimates)
    return Verdict("C13", "undecided", reason, estimates)


def _resampled(finals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The IQM of seeds that are drawn again and again, [resamples]."""
    draws = rng.choice(finals, size=(RESAMPLES, finals.size))
    return np.array([stats.iqm(draw) for draw in draws])


def _estimate(value: float, draws: np.ndarray, seeds: int) -> Estimate:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), int(seeds))
