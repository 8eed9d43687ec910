"""Study 8 in words: the verdicts on C15, C16 and H1, and every sentence that holds a number."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from loptrl import stats, verdicts
from loptrl.stats import Estimate
from loptrl.studies import (
    adam_collapse,
    changing_ant_evidence,
    cost_report,
    gradient_evidence,
    physics_path,
)
from loptrl.studies import changing_ant_report as shared
from loptrl.studies import gradient_agreement as agreement
from loptrl.studies.changing_ant_evidence import JointEvidence
from loptrl.studies.evidence import Compute, StudyEvidence
from loptrl.studies.gradient_evidence import GradientEvidence
from loptrl.studies.gradient_statistics import INNER_UPDATES, PATHS, arm_name
from loptrl.studies.words import estimate, listed, paragraphs
from loptrl.verdicts import Verdict

__all__ = [
    "ENDS",
    "SAID",
    "Both",
    "claims",
    "headline",
    "load",
    "on_ages",
    "on_agreement",
    "on_ends",
    "on_whole",
]

ENDS = ("small_data", "small_critic", "small_physics", "adam")
"""The arms of the last graph."""

OFFICIAL_UPDATES = 4

SAID = {
    "C15": "The report: meta-gradients under change are extremely noisy.",
    "C16": "The report: pipeline training brings the agents' gradients closer to IID.",
    "H1": (
        "Ours, from before the runs: the path of the official meta-gradient through the physics "
        "causes the need for memory and the noise, and meta-training ends better without it."
    ),
}
_SHORT = {
    "C15": "meta-gradients under change are extremely noisy",
    "C16": "pipeline training brings gradients closer to IID",
    "H1": "the path through the physics costs memory, brings noise, and makes the end worse",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Both:
    """The gradients, the evaluations of the small meta-trainings, and the memory.

    Attributes:
        gradients: the runs of study 8.
        ends: the evaluations, with default Adam's beside them.
        costs: the measurements of study 7.
    """

    gradients: GradientEvidence
    ends: JointEvidence
    costs: StudyEvidence

    @property
    def memory_ratio(self) -> float | None:
        """Of two meta-trainings that differ in `through_dynamics` alone."""
        return cost_report.memory_ratio(self.costs, "physics", "updates")

    @property
    def incomplete(self) -> bool:
        """Whether any run is missing."""
        return self.gradients.incomplete or self.ends.incomplete


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> Both:
    """The runs of study 8, of the meta-trainings both ways, and the memory from study 7.

    Args:
        budget: "smoke" or "laptop".
        env_steps: length of the runs of study 8; the evaluations keep the budget's own.
        seeds: seeds of every arm; 0 for the budget's own.
        compute: see `evidence.gather`.
        **options: `store` and `progress` of `gradient_evidence.load`.

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: the computation was stopped; the same call goes on.
    """
    gradients = gradient_evidence.load(budget, env_steps, seeds, compute, **options)
    borrowed = [(adam_collapse.STUDY, ("adam",))]
    ends = changing_ant_evidence.load(
        physics_path.STUDY, borrowed, budget, 0, seeds, compute, **options
    )
    costs = cost_report.load(budget, "never", store=options.get("store"))
    return Both(gradients, ends, costs)


@functools.lru_cache(maxsize=4)
def claims(both: Both) -> Mapping[str, Verdict]:
    """The verdicts of C15, twice, C16, twice, and H1, by name."""
    found = {
        "C15 (through the physics)": _c15(both, "small", "physics"),
        "C15 (rollouts as data)": _c15(both, "full", "data"),
    }
    for words, world in (("under change", "changing"), ("nothing changes", "still")):
        staggered, alike = both.gradients.distances(world)
        few = _too_few("C16", staggered)
        found[f"C16 ({words})"] = few or verdicts.c16(staggered, alike, rng=shared.rng()).noting(
            "It could not have been contradicted: a mixture of ages lies nearer by its making."
        )
    return {**found, "H1": _h1(both)}


def _c15(both: Both, size: str, path: str) -> Verdict:
    changing, still = (_agreement(both, size, path, world) for world in ("changing", "still"))
    few = _too_few("C15", changing) or _too_few("C15", still)
    if few:
        return few
    verdict = verdicts.c15(changing, still, rng=shared.rng())
    return verdict if size == "small" else verdict.noting(_whole_length(both))


def _h1(both: Both) -> Verdict:
    agreements = [_agreement(both, "small", path, "changing") for path in ("physics", "data")]
    finals = [_finals(both, arm) for arm in ("small_physics", "small_data")]
    for values in (*agreements, *finals):
        few = _too_few("H1", values)
        if few:
            return few
    verdict = verdicts.h1(both.memory_ratio, *agreements, *finals, rng=shared.rng())
    return verdict.noting(_fewer_updates(both)).noting(
        "Through the physics the policy's part of the meta-loss has no derivative (see *Meta-"
        f"trained both ways*), so that the two differ in more than the path. {_path_alone(both)}"
    )


def _path_alone(both: Both) -> str:
    """Through the physics against rollouts as data where both are without the policy's part."""
    parts = [
        f"agreement {apart} with {k} inner update{'s' if k > 1 else ''}"
        for k in INNER_UPDATES["small"]
        if (apart := _path_in_agreement(both, k)) is not None
    ]
    finals = [_finals(both, arm) for arm in ("small_physics", "small_critic")]
    if min(v.size for v in finals) >= verdicts.MINIMUM_SEEDS:
        apart = stats.difference_ci(*finals, stats.iqm, rng=shared.rng())
        parts.append(f"final return {apart}")
    if not parts:
        return "What the path does alone is not stored yet."
    return (
        "Against rollouts as data without that part too, which leaves the path alone, through the "
        f"physics minus not: {', '.join(parts)}."
    )


def _path_in_agreement(both: Both, inner_updates: int) -> Estimate | None:
    """Agreement under change through the physics minus that of data without the policy's part."""
    arms = [arm_name("small", path, "changing", inner_updates) for path in ("physics", "critic")]
    return agreement.apart(both.gradients, *arms)


def _without_policy(both: Both) -> str:
    """What the lower agreement through the physics comes from, in a sentence for the first screen.

    Nothing where it is not stored.
    """
    apart = _path_in_agreement(both, OFFICIAL_UPDATES)
    if apart is None:
        return ""
    own = estimate(_agreement(both, "small", "critic", "changing"), stats.mean)
    lower, clear = apart.value < 0, apart.low > 0 or apart.high < 0
    came = "the path itself lowers it" if lower else "the path does not lower it"
    fewer = [
        f"{found} with {k}"
        for k in INNER_UPDATES["small"]
        if k < OFFICIAL_UPDATES and (found := _path_in_agreement(both, k)) is not None
    ]
    rest = f"; its part is {' and '.join(fewer)}" if fewer else ""
    return (
        "Through the physics the part of the meta-loss that judges the policy has no derivative; "
        f"with rollouts as data and without that part, too, the agreement under change is {own}: "
        f"{came if clear else 'whether the path lowers it is not settled'} ({apart}, with "
        f"{OFFICIAL_UPDATES} inner updates{rest})."
    )


def _fewer_updates(both: Both) -> str:
    """The agreement both ways under change with fewer inner updates than the official ones."""
    parts = []
    for k in INNER_UPDATES["small"]:
        arms = [arm_name("small", path, "changing", k) for path in ("physics", "data")]
        values = [both.gradients.per_seed(arm, "meta_agreement") for arm in arms]
        if k < OFFICIAL_UPDATES and all(v.size for v in values):
            physics, data = (estimate(v, stats.mean) for v in values)
            parts.append(f"with {k} it is {physics} through the physics and {data} not")
    if not parts:
        return ""
    return f"The agreement is that with {OFFICIAL_UPDATES} inner updates; {', '.join(parts)}."


def _too_few(claim: str, values: np.ndarray) -> Verdict | None:
    if values.size >= verdicts.MINIMUM_SEEDS:
        return None
    reason = f"Too few runs: {values.size} of at least {verdicts.MINIMUM_SEEDS} are stored."
    return Verdict(claim, "undecided", reason)


def _agreement(both: Both, size: str, path: str, world: str) -> np.ndarray:
    arm = arm_name(size, path, world, OFFICIAL_UPDATES)
    return both.gradients.per_seed(arm, "meta_agreement")


def _finals(both: Both, arm: str) -> np.ndarray:
    if not both.ends.has(arm):
        return np.empty(0)
    return np.asarray(stats.final(*both.ends.returns(arm)))


def headline(both: Both) -> str:
    """The answer in one bold sentence, the verdicts in a list, and whether runs are missing."""
    few, many = (agreement.environments(both.gradients, size) for size in ("small", "full"))
    under_change, without = [], []
    for size, path, words in (
        ("full", "data", "with experience as data"),
        ("small", "data", f"the same with {few} environments instead of {many}"),
        ("small", "physics", f"taken back through the physics too, with {few}"),
    ):
        changing, still = (_agreement(both, size, path, w) for w in ("changing", "still"))
        if changing.size and still.size:
            under_change.append(f"{estimate(changing, stats.mean)} {words}")
            without.append(estimate(still, stats.mean))
    if under_change:
        answer = (
            "**The meta-gradients of agents under change have a mean cosine (1: all agree, 0: they "
            f"have nothing in common) of {listed(under_change)}; where nothing changes, of "
            f"{listed(without)}.**"
        )
    else:
        answer = "**No arm of this study is stored in both worlds: nothing can be said yet.**"
    decided = shared.statuses(claims(both), _SHORT, incomplete=both.incomplete)
    said = (_as_written(both), _other_length(both), _without_policy(both))
    return paragraphs([answer, decided, " ".join(words for words in said if words)])


def _as_written(both: Both) -> str:
    """What a verdict's one word leaves out."""
    found = claims(both)
    parts = []
    if found["H1"].status == "contradicted":
        told = found["H1"].estimates
        parts.append(
            f"Of H1: {found['H1'].reason.partition(' (')[0].lower()}; through the physics minus "
            f"with rollouts as data the agreement is {told['difference in agreement']} and the "
            f"final return {told['difference in final return']}."
        )
    if any(v.status == "supported" for v in found.values() if v.claim == "C16"):
        parts.append("C16 holds by its making; how much closer is what is measured.")
    return " ".join(parts)


def _other_length(both: Both) -> str:
    """That C15 would be decided otherwise over the whole length of the long runs."""
    verdict, part = _over_whole_length(both), claims(both)["C15 (rollouts as data)"]
    if verdict is None or verdict.status == part.status:
        return ""
    return (
        "C15 with rollouts as data is decided on the part of a life that all arms have; over the "
        f"whole length of its own runs it would be {verdict.status}."
    )


def on_agreement(both: Both) -> str:
    """The agreement at every setting in a table, and the verdicts of C15."""
    gradients = both.gradients
    words = [agreement.with_more_updates(gradients, size) for size in PATHS]
    words.append(agreement.machines(gradients))
    said = " ".join(part for part in words if part)
    decided = shared.decided(claims(both), SAID, "C15")
    return paragraphs([agreement.table(gradients), said, agreement.by_age(gradients), *decided])


def _long_agreements(both: Both) -> list[np.ndarray]:
    """The agreement over all meta-iterations of the long runs, under change and without."""
    arms = [arm_name("full", "data", world, OFFICIAL_UPDATES) for world in ("changing", "still")]
    return [both.gradients.per_seed(arm, "meta_agreement", shared=False) for arm in arms]


def _over_whole_length(both: Both) -> Verdict | None:
    """C15 over all meta-iterations of the long runs; None with too few of them."""
    values = _long_agreements(both)
    if any(v.size < verdicts.MINIMUM_SEEDS for v in values):
        return None
    return verdicts.c15(*values, rng=shared.rng())


def _whole_length(both: Both) -> str:
    """What C15 would be over all meta-iterations of the long runs."""
    verdict = _over_whole_length(both)
    if verdict is None:
        return ""
    changing, still = (estimate(v, stats.mean) for v in _long_agreements(both))
    return (
        "That is the part of the runs that all arms with as many environments have; over their "
        f"whole length the agreement is {changing} under change and {still} where nothing changes, "
        f"by which C15 would be {verdict.status}."
    )


def on_whole(both: Both) -> str:
    """How far the official choice is from the whole meta-gradient."""
    parts = []
    for k in INNER_UPDATES["small"]:
        arm = arm_name("small", "data", "changing", k)
        if both.gradients.per_seed(arm, "whole_cosine").size:
            parts.append(
                f"with {k} inner update{'s' if k > 1 else ''} "
                f"{agreement.cell(both.gradients, arm, 'whole_angle')} degrees apart, ratio of the "
                f"norms {agreement.cell(both.gradients, arm, 'whole_norm_ratio')}"
            )
    return f"Under change: {'; '.join(parts)}." if parts else "No run compares the two."


def on_ages(both: Both) -> str:
    """The distances to IID, and the verdicts of C16."""
    parts = []
    for world, words in (("changing", "under change"), ("still", "nothing changes")):
        staggered, alike = both.gradients.distances(world)
        if staggered.size:
            parts.append(
                f"{words}, with eight agents of staggered ages, computed from those of one age, "
                f"{estimate(staggered, stats.mean)}, "
                f"with agents of one age {estimate(alike, stats.mean)}"
            )
    distances = f"Distance to IID, in decades: {'; '.join(parts)}." if parts else ""
    return paragraphs([distances, *shared.decided(claims(both), SAID, "C16")])


def on_ends(both: Both) -> str:
    """What the small meta-trainings end with, the verdict of H1, and what is missing."""
    decided = shared.decided(claims(both), SAID, "H1")
    return paragraphs([shared.finals(both.ends, ENDS), *decided, _overview(both)])


def _overview(both: Both) -> str:
    """What is missing, and where the weights come from."""
    gradients = both.gradients
    missing = gradients.missing()
    words = ""
    if missing:
        words = (
            f"Missing runs: {sum(missing.values())} of {len(gradients.asked)} of this study. They "
            f"are neither drawn nor guessed; `{gradients.command()}` computes them."
        )
    return paragraphs([words, shared.overview(both.ends, ENDS)])
