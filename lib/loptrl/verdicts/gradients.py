"""C15, C16 and H1: what the gradients of agents and of meta-training look like.

Reading of the rows where they leave a choice, dated 2026-11-24, before any of these runs existed:
  - agreement is the mean cosine between the meta-gradients of eight agents of one age that differ
    in their seeds, with 4 inner updates, mean over the meta-iterations that are looked at; one
    number a seed, and means over seeds with their bootstrap intervals;
  - C15 is decided twice: with the meta-gradient of the official code, through the physics, at the
    size at which that fits, and with rollouts as data at the official size;
  - C16: the distribution of the entries of an agent's gradient by log10 of their size; the distance
    to IID is the mean over time of the Wasserstein distance, in decades, between what a
    meta-iteration sees and what all of them see together; seeds are paired, for both pools are made
    of the same agents;
  - H1: the memory is that of two computations that differ in nothing but the path, both with their
    updates rematerialised, at the official size (2026-11-25); agreement under change, at the same
    size, seeds paired as in C16 unless one is missing; the end is the final return (IQM over seeds)
    on the changing Ant of two optimizers that differ in nothing but the path.
Of 2026-11-26, after the runs with rollouts as data had been stored: they have the size of this
book's meta-trainings, 256 environments an agent, where "official size" was written for C15. Of
2026-11-27, after all runs: "nothing but the path" does not hold, since through the physics the
clipped surrogate of the meta-loss has no derivative (`MetaConfig.through_dynamics`).
An arm with fewer than three seeds decides nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from loptrl import stats
from loptrl.stats import Estimate
from loptrl.verdicts.base import Verdict, sign, too_few

__all__ = ["c15", "c16", "h1"]

NOISY, AGREEING = 0.1, 0.5
MANY_TIMES = 10.0


def c15(changing: ArrayLike, still: ArrayLike, *, rng: np.random.Generator) -> Verdict:
    """C15: meta-gradients under change are extremely noisy.

    Supported: the interval of the agreement under change lies below 0.1, and that of its difference
    to the agreement where nothing changes lies below 0. Contradicted: it lies above 0.5.

    Args:
      changing: [num_seeds], agreement between agents on the changing Ant.
      still: [num_seeds], the same where nothing changes.
      rng: numpy Generator.
    """
    own = _mean(changing, rng)
    difference = stats.difference_ci(changing, still, stats.mean, rng=stats.fresh(rng))
    estimates = {
        "agreement under change": own,
        "agreement without change": _mean(still, rng),
        "difference": difference,
    }
    few = too_few("C15", estimates, changing=_column(changing), still=_column(still))
    if few:
        return few
    numbers = f"agreement under change {own}, minus that without change {difference}"
    if own.low > AGREEING:
        return Verdict("C15", "contradicted", f"The agents agree ({numbers}).", estimates)
    if own.high < NOISY and sign(difference) < 0:
        reason = f"The agents hardly agree, and less under change ({numbers})."
        return Verdict("C15", "supported", reason, estimates)
    if own.high < NOISY:
        reason = f"The agents hardly agree, but not less than without change ({numbers})."
    else:
        reason = f"The agreement is not settled to be below {NOISY} ({numbers})."
    return Verdict("C15", "undecided", reason, estimates)


def c16(pipeline: ArrayLike, lockstep: ArrayLike, *, rng: np.random.Generator) -> Verdict:
    """C16: pipeline training brings agents' gradients closer to IID.

    Supported: the interval of the difference in distance to IID, with minus without pipeline
    training, lies below 0. Contradicted: it lies above 0.

    Args:
      pipeline: [num_seeds], distance to IID of agents of staggered ages, in decades.
      lockstep: [num_seeds], of agents of one age; the same seeds.
      rng: numpy Generator.
    """
    difference = stats.difference_ci(
        pipeline, lockstep, stats.mean, rng=stats.fresh(rng), paired=True
    )
    estimates = {
        "difference": difference,
        "distance with pipeline training": _mean(pipeline, rng),
        "distance without": _mean(lockstep, rng),
    }
    few = too_few("C16", estimates, gradient=_column(pipeline))
    if few:
        return few
    numbers = f"distance with minus without pipeline training {difference} decades"
    if sign(difference) < 0:
        return Verdict("C16", "supported", f"It brings them closer ({numbers}).", estimates)
    if sign(difference) > 0:
        return Verdict("C16", "contradicted", f"It takes them further off ({numbers}).", estimates)
    return Verdict("C16", "undecided", f"The interval includes 0 ({numbers}).", estimates)


def h1(
    memory_ratio: float | None,
    physics: ArrayLike,
    data: ArrayLike,
    physics_final: ArrayLike,
    data_final: ArrayLike,
    *,
    rng: np.random.Generator,
) -> Verdict:
    """H1: the path through the physics causes the memory need and the noise.

    Supported: it takes at least 10 times the memory, and the intervals of agreement(physics) -
    agreement(data) and of final(physics) - final(data) lie below 0. Contradicted: the agreement is
    not lower, or the end not worse.

    Args:
      memory_ratio: peak memory through the physics over that with rollouts as data; None: unknown.
      physics, data: [num_seeds], agreement between agents under change.
      physics_final, data_final: [num_seeds], final returns; empty where no run is stored.
      rng: numpy Generator.
    """
    ends = {"through_the_physics": physics_final, "rollouts_as_data": data_final}
    few = too_few("H1", {}, through_the_physics=_column(physics), rollouts_as_data=_column(data))
    few = few or too_few("H1", {}, **{f"trained_{n}": _column(v) for n, v in ends.items()})
    if few:
        return few
    paired = len(physics) == len(data)
    agreement = stats.difference_ci(physics, data, stats.mean, rng=stats.fresh(rng), paired=paired)
    end = stats.difference_ci(physics_final, data_final, stats.iqm, rng=stats.fresh(rng))
    estimates = {"difference in agreement": agreement, "difference in final return": end}
    times = "unknown" if memory_ratio is None else f"{memory_ratio:.1f} times"
    numbers = (
        f"memory {times}; through the physics minus not: agreement {agreement}, final return {end}"
    )
    if sign(agreement) >= 0:
        return Verdict(
            "H1", "contradicted", f"The agreement is not shown to be lower ({numbers}).", estimates
        )
    if sign(end) >= 0:
        reason = "The agreement is lower, but the end is not shown to be worse"
        return Verdict("H1", "contradicted", f"{reason} ({numbers}).", estimates)
    if memory_ratio is None or memory_ratio < MANY_TIMES:
        reason = f"More noise and a worse end, but less than {MANY_TIMES:.0f} times the memory is"
        return Verdict("H1", "undecided", f"{reason} shown ({numbers}).", estimates)
    return Verdict("H1", "supported", f"Memory, noise and end all say so ({numbers}).", estimates)


def _mean(values: ArrayLike, rng: np.random.Generator) -> Estimate:
    return stats.stratified_bootstrap_ci(
        np.asarray(values, float), stats.mean, rng=stats.fresh(rng)
    )


def _column(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, float).reshape(-1, 1)
