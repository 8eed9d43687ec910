"""Study 6 in words: the verdict on C13, and every sentence that holds a number."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from loptrl import provenance, stats, style, verdicts
from loptrl.errors import MissingRun
from loptrl.runs import Store
from loptrl.studies import changing_ant_report as shared
from loptrl.studies import meta_recipes, meta_runs, optim4rl_steps
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.meta_sensitivity import AUTHORS, BORROWED, GRID, LONG, STUDY
from loptrl.studies.published import published
from loptrl.studies.words import paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = [
    "ARMS",
    "SAID",
    "claims",
    "headline",
    "load",
    "on_authors",
    "on_grid",
    "on_machines",
    "on_steps",
    "overview",
]

ARMS = ("stationary", *GRID, LONG, *AUTHORS)

SAID = {
    "C13": (
        "The report: on the Ant the performance fluctuates drastically with the meta learning rate "
        "and the reset interval, so that tuning is shifted and not removed."
    )
}
_SHORT = {"C13": "the result swings over the grid"}


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and those of studies 1 and 3 beside them.

    These are default Adam, the grid's centre, and the weights of the source's authors, all on the
    stationary Ant (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    return load_joint(STUDY, BORROWED, budget, env_steps, seeds, compute, **options)


@functools.lru_cache(maxsize=4)
def claims(evidence: JointEvidence) -> Mapping[str, Verdict]:
    """The verdict of C13, by claim."""
    enough = [arm for arm in GRID if evidence.seeds(arm) >= MINIMUM_SEEDS]
    if len(enough) < len(GRID):
        reason = (
            f"Too few runs: {len(enough) or 'none'} of the {len(GRID)} grid points "
            f"{'has' if len(enough) == 1 else 'have'} at least {MINIMUM_SEEDS} stored seeds."
        )
        return {"C13": Verdict("C13", "undecided", reason)}
    points = {_point(arm): evidence.returns(arm)[1] for arm in GRID}
    return {"C13": verdicts.c13(evidence.grid(enough[0]), points, rng=shared.rng())}


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, the verdict, and whether runs are missing."""
    ends = {arm: shared.final(evidence, arm).value for arm in evidence.present(*GRID)}
    if len(ends) < 2:
        stored = f"only {_point(next(iter(ends)))} has runs" if ends else "none has a run"
        answer = f"**Nothing can be said yet: of the {len(GRID)} points of the grid {stored}.**"
    else:
        best, worst = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)
        counted = (
            f"the {len(GRID)}" if len(ends) == len(GRID) else f"{len(ends)} of the {len(GRID)}"
        )
        answer = (
            f"**On the stationary Ant Optim4RL ends at {ends[worst]:,.0f} when it was meta-trained "
            f"with {_settings(worst)} ({_seeds(evidence, worst)}), and at {ends[best]:,.0f} with "
            f"{_settings(best)} ({_seeds(evidence, best)}): the worst and the best of {counted} "
            f"grid points, {ends[best] - ends[worst]:,.0f} or "
            f"{100 * (1 - ends[worst] / ends[best]):.0f} % of the best apart.**"
        )
        if len(ends) > 2:
            second = sorted(ends.values())[1]
            answer += (
                f" Without the worst the others end between {second:,.0f} and the best, "
                f"{100 * (1 - second / ends[best]):.0f} % of it apart."
            )
        if evidence.has("stationary"):
            answer += f" Default Adam ends at {shared.final(evidence, 'stationary')}."
    decided = shared.statuses(claims(evidence), _SHORT, incomplete=evidence.incomplete)
    return f"{answer}\n\n{decided}"


def on_grid(evidence: JointEvidence) -> str:
    """The reference without a learned rule, and the verdict of C13."""
    return paragraphs(
        [shared.finals(evidence, ("stationary",)), *shared.decided(claims(evidence), SAID, "C13")]
    )


def on_steps(evidence: JointEvidence) -> str:
    """How long the steps of each cell's rule are, and what steps as long do untrained."""
    return paragraphs(
        [optim4rl_steps.in_runs(evidence, (*GRID, *AUTHORS)), _untrained_with_long_steps(evidence)]
    )


def _untrained_with_long_steps(evidence: JointEvidence) -> str:
    """Whether the length of its steps is all that the cell with the longest ones learned."""
    found = [arm for arm in evidence.present(*GRID) if evidence.whole(arm).runs]
    if not evidence.whole(LONG).runs or not found:
        return shared.finals(evidence, (LONG,))
    longest = max(found, key=lambda arm: stats.iqm(optim4rl_steps.moved(evidence, arm)))
    length = stats.iqm(optim4rl_steps.moved(evidence, LONG)) / stats.iqm(
        optim4rl_steps.moved(evidence, longest)
    )
    words = (
        f"A control: untrained weights with a larger α, whose steps are {length:.2f} times as long "
        f"as those of {_point(longest)}, the longest of the grid. "
        f"{shared.finals(evidence, (longest, LONG))}"
    )
    others = [shared.final(evidence, arm).low for arm in found if arm != longest]
    enough = min(map(evidence.seeds, (LONG, *found))) >= MINIMUM_SEEDS
    if others and enough and shared.final(evidence, LONG).high < min(others):
        words += " Steps that long end below every other cell with nothing learned."
    gain = shared.gain(evidence, longest, LONG)
    if gain:
        words += (
            f" The trained rule's minus that of the untrained one {gain}. Of three seeds an "
            "interval excludes 0 whenever all point the same way, as chance makes them in one case "
            "of four."
        )
    return words


def on_authors(evidence: JointEvidence) -> str:
    """The authors' weights, ours with the same settings, and the authors' own runs of theirs."""
    same = [arm for arm, point in GRID.items() if point in AUTHORS.values()]
    known = published("optim4rl_single_runs.csv").set_index(
        ["meta_learning_rate", "reset_interval"]
    )
    ends = [
        f"{known['final_return'][float(rate), interval]:,} ({rate}, reset {interval})"
        for rate, interval in AUTHORS.values()
    ]
    theirs = (
        "The authors' three rules differ from ours in more than these two settings: they come from "
        "the official code, with four agents and 1e8 env steps. In the authors' own runs, of "
        f"{style.format_steps(known['env_steps'].max())} env steps with one seed each, they ended "
        f"at {', '.join(ends[:-1])} and {ends[-1]}."
    )
    return paragraphs([shared.finals(evidence, (*AUTHORS, *same)), theirs])


def on_machines(store: Store | None = None) -> str:
    """On what kinds of machine the grid's rules were meta-trained.

    Args:
        store: of the meta-trainings; default the committed results.

    Raises:
        DamagedRun: a meta-training is stored and damaged.
    """
    store = Store() if store is None else store
    found: dict[str, list[str]] = {}
    for name, point in meta_recipes.GRID.items():
        spec = meta_runs.meta_spec(name, meta_recipes.recipe("optim4rl", name).config)
        with contextlib.suppress(MissingRun):
            kind = provenance.machine(store.read(spec).manifest["device"])
            found.setdefault(kind, []).append("{}, reset {}".format(*point))
    if not found:
        return "- **Kinds of machine.** None of these meta-trainings is stored here."
    counts = [
        f"{kind} {len(points)}{f' ({points[0]})' if len(points) == 1 else ''}"
        for kind, points in sorted(found.items())
    ]
    return (
        f"- **Kinds of machine.** The stored meta-trainings come from: {'; '.join(counts)}. What "
        "a machine does to the result of one was not measured."
    )


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)


def _point(arm: str) -> str:
    rate, interval = GRID[arm]
    return f"{rate} and {interval}"


def _seeds(evidence: JointEvidence, arm: str) -> str:
    count = evidence.seeds(arm)
    return f"{count} {plural('seed', count)}"


def _settings(arm: str) -> str:
    rate, interval = GRID[arm]
    return f"a meta learning rate of {rate} and a reset interval of {interval}"
