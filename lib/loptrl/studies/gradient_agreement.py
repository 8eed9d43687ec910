"""How far the meta-gradients of different agents agree, setting by setting, in words."""

from __future__ import annotations

import pandas as pd

from loptrl import provenance, stats, status_page, verdicts
from loptrl.stats import Estimate
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.gradient_evidence import GradientEvidence
from loptrl.studies.gradient_statistics import INNER_UPDATES, PATHS, WORLDS, arm_name
from loptrl.studies.words import estimate, listed

__all__ = [
    "apart",
    "by_age",
    "cell",
    "environments",
    "machines",
    "table",
    "with_more_updates",
]

NEWBORN = 0.2
"""Of what is compared, the share in which agents are called newborn."""

_ROLLOUTS = {
    "data": "data",
    "critic": "data, no policy in the meta-loss",
    "physics": "through the physics",
}


def table(gradients: GradientEvidence) -> str:
    """The mean cosine between agents at every setting."""
    rows = []
    for size, paths in PATHS.items():
        for path in paths:
            for k in INNER_UPDATES[size]:
                arms = [arm_name(size, path, world, k) for world in WORLDS]
                cells = [cell(gradients, arm, "meta_agreement") for arm in arms]
                rows.append((environments(gradients, size), _ROLLOUTS[path], k, *cells))
    columns = ["environments", "rollouts", "inner updates", "nothing changes", "under change"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def cell(gradients: GradientEvidence, arm: str, metric: str) -> str:
    """A metric's mean over seeds with its interval, for a table."""
    values = gradients.per_seed(arm, metric)
    return estimate(values, stats.mean) if values.size else "no runs"


def environments(gradients: GradientEvidence, size: str) -> int:
    """Environments of one agent, which the arms of a size share."""
    arm = arm_name(size, "data", "changing", INNER_UPDATES[size][0])
    return gradients.all_arms[arm].settings["num_envs"]


def apart(gradients: GradientEvidence, first: str, second: str) -> Estimate | None:
    """Agreement of the first arm minus that of the second; None with too few seeds.

    Seeds are paired, for arms of one size and world are made of the same agents.
    """
    values = [gradients.per_seed(arm, "meta_agreement") for arm in (first, second)]
    if min(v.size for v in values) < verdicts.MINIMUM_SEEDS:
        return None
    paired = values[0].size == values[1].size
    return stats.difference_ci(*values, stats.mean, rng=shared.rng(), paired=paired)


def with_more_updates(gradients: GradientEvidence, size: str) -> str:
    """What the most inner updates do to the agreement, beside the fewest, with rollouts as data."""
    few, most = INNER_UPDATES[size][0], INNER_UPDATES[size][-1]
    parts = []
    for world, words in (("changing", "under change"), ("still", "where nothing changes")):
        found = apart(gradients, *(arm_name(size, "data", world, k) for k in (most, few)))
        if found is not None:
            parts.append(f"{found} {words}")
    if not parts:
        return ""
    return (
        f"With {environments(gradients, size)} environments and rollouts as data, {most} inner "
        f"updates instead of {few} change the agreement by {' and '.join(parts)}."
    )


def by_age(gradients: GradientEvidence) -> str:
    """The agreement at the full size while agents are newborn and after it, in a table."""
    windows = {"newborn": (0.0, NEWBORN), "later": (NEWBORN, 1.0)}
    worlds = {"nothing changes": "still", "under change": "changing"}
    rows = []
    for k in INNER_UPDATES["full"]:
        found = [
            gradients.per_seed(arm_name("full", "data", world, k), "meta_agreement", window=window)
            for world in worlds.values()
            for window in windows.values()
        ]
        if any(values.size for values in found):
            rows.append((k, *(estimate(v, stats.mean) if v.size else "no runs" for v in found)))
    if not rows:
        return ""
    columns = [f"{words}, {age}" for words in worlds for age in windows]
    table = status_page.as_markdown(pd.DataFrame(rows, columns=["inner updates", *columns]))
    return (
        f"The same with {environments(gradients, 'full')} environments, in the first "
        f"{100 * NEWBORN:.0f} % of what is compared, while agents are *newborn*, and after it:"
        f"\n\n{table}"
    )


def machines(gradients: GradientEvidence) -> str:
    """Where the runs of each number of inner updates were made, if not all on one kind."""
    kinds: dict[str, dict[int, set[str]]] = {size: {} for size in PATHS}
    for run in gradients.runs.runs:
        size, *_, k = run.spec.arm.split(".")
        kinds[size].setdefault(int(k), set()).add(provenance.machine(run.manifest["device"]))
    if len({kind for of_size in kinds.values() for some in of_size.values() for kind in some}) < 2:
        return ""
    parts = []
    for size, of_size in kinds.items():
        if not of_size:
            continue
        where: dict[str, list[str]] = {}
        for k, some in sorted(of_size.items()):
            where.setdefault(listed(sorted(some)), []).append(str(k))
        made = "; ".join(f"{listed(ks)} on {kind}" for kind, ks in where.items())
        parts.append(f"with {environments(gradients, size)} environments, {made}")
    return f"Runs by the number of inner updates and the kind of machine: {', and '.join(parts)}."
