"""Step sizes on the changing Ant in words: every sentence that holds a number; no claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from loptrl import stats, status_page
from loptrl.studies import (
    adam_collapse,
    open_change,
    optim4rl_l2,
    optim4rl_steps,
    physics_path,
    transfer,
)
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.step_size import STUDY
from loptrl.studies.words import estimate, listed, paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS

__all__ = [
    "ADAM",
    "AGENTS",
    "ARMS",
    "CLIPS",
    "OPEN",
    "OPTIM4RL",
    "headline",
    "load",
    "on_clip",
    "on_steps",
    "overview",
    "placed",
]

ADAM = {"adam_1e-4": "1e-4", "adam": "3e-4", "adam_1e-3": "1e-3"}
"""Arms of Adam with its default betas -> their step size."""

OPTIM4RL = (*transfer.STILL, "curriculum", *optim4rl_l2.STUDY.arms, *physics_path.STUDY.arms)
"""Arms of Optim4RL with the agent of the other studies."""

OPEN = ("open", "adam_annealed")
AGENTS = {
    "with the clip": ("published", "adam"),
    "without the clip": ("published_unclipped", "no_gradient_clip"),
    "without the clip, raw rewards": ("published_raw", "adam_raw"),
}
"""What the agent does with its gradients -> Optim4RL and Adam in it."""

CLIPS = tuple(arm for arms in AGENTS.values() for arm in arms)
ARMS = (*ADAM, *OPTIM4RL, *OPEN, *CLIPS[2:])


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and those of the other studies under change beside them.

    These are default Adam, with and without the gradient clip, every set of weights of Optim4RL,
    OPEN and its authors' Adam (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    borrowed = [
        (adam_collapse.STUDY, ("adam", "no_gradient_clip")),
        (transfer.STUDY, (*transfer.STILL, "curriculum")),
        (optim4rl_l2.STUDY, tuple(optim4rl_l2.STUDY.arms)),
        (physics_path.STUDY, tuple(physics_path.STUDY.arms)),
        (open_change.STUDY, OPEN),
    ]
    return load_joint(STUDY, borrowed, budget, env_steps, seeds, compute, **options)


def placed(evidence: JointEvidence, *arms: str) -> list[tuple[str, float, stats.Estimate]]:
    """Where arms stand: the change of a weight in an update, and the end beside default Adam's.

    Args:
        evidence: the runs.
        arms: those without `MINIMUM_SEEDS` beside default Adam's are left out, and those whose
            runs all diverged.

    Returns:
        The arm, the root mean square change of a weight in an update (`optim4rl_steps.moved`, IQM
        over seeds), and the IQM of the paired differences of final returns with its 95 % interval.
    """
    found = []
    for arm in arms:
        mine, adam = shared.pairs(evidence, arm, "adam")
        if mine.size < MINIMUM_SEEDS or not evidence.whole(arm).runs:
            continue
        difference = stats.difference_ci(mine, adam, rng=shared.rng(), paired=True)
        found.append((arm, float(stats.iqm(optim4rl_steps.moved(evidence, arm))), difference))
    return found


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, and whether runs are missing."""
    adams = [
        f"{estimate(stats.final(*evidence.returns(arm)))} with a step size of {rate}"
        f"{', the default' if arm == 'adam' else ''}"
        for arm, rate in ADAM.items()
        if evidence.has(arm)
    ]
    answer = (
        f"**On the changing Ant Adam ends at {listed(adams)}{_beside(evidence)}.**"
        if adams
        else "**No run of Adam on the changing Ant is stored: nothing can be said yet.**"
    )
    missing = shared.statuses({}, {}, incomplete=evidence.incomplete)
    return paragraphs([answer, f"No claim of the report is decided here. {missing}".rstrip()])


def _beside(evidence: JointEvidence) -> str:
    """How many of Optim4RL's weights and step sizes end above default Adam, and below it."""
    known = placed(evidence, *OPTIM4RL)
    if not known:
        return ""
    above = sum(difference.low > 0 for _, _, difference in known)
    below = sum(difference.high < 0 for _, _, difference in known)
    lengths = [length for _, length, _ in known]
    return (
        f"; of {len(known)} {plural('way', len(known))} of Optim4RL, which move a weight by "
        f"{min(lengths):.1e} to {max(lengths):.1e} in an update, {above or 'none'} "
        f"{'is' if above < 2 else 'are'} shown to end above default Adam, seed against seed, and "
        f"{below or 'none'} below"
    )


def on_steps(evidence: JointEvidence) -> str:
    """Adam's final returns by step size, and one row for every arm with the gradient clip."""
    others = [arm for arm in ADAM if arm != "adam"]
    return paragraphs(
        [
            shared.finals(evidence, list(ADAM)),
            shared.gains(evidence, others, "adam", "with default Adam"),
            _table(evidence),
        ]
    )


def _table(evidence: JointEvidence) -> str:
    found = sorted(placed(evidence, *ADAM, *OPTIM4RL, *OPEN), key=lambda one: one[1])
    rows = [
        (
            evidence.all_arms[arm].label,
            str(shared.pairs(evidence, arm, "adam")[0].size),
            f"{length:.1e}",
            f"{np.mean(evidence.metric(arm, 'approx_kl')[1]):.2g}",
            "0" if arm == "adam" else str(difference),
        )
        for arm, length, difference in found
    ]
    columns = ["arm", "seeds", "change of a weight", "approximate KL", "end minus default Adam's"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def on_clip(evidence: JointEvidence) -> str:
    """What Optim4RL does beside Adam in agents whose gradients are larger, and to its own steps."""
    names = {
        arm: f"{optimizer} {words}"
        for words, arms in AGENTS.items()
        for optimizer, arm in zip(("Optim4RL", "Adam"), arms, strict=True)
    }
    beside = {
        words: gain
        for words, (rule, adam) in AGENTS.items()
        if (gain := shared.gain(evidence, rule, adam))
    }
    return paragraphs(
        [
            shared.finals(evidence, CLIPS, names),
            "Optim4RL's final return minus Adam's in the same agent, on the same seed:"
            if beside
            else "",
            "\n".join(f"- {words} {gain}." for words, gain in beside.items()),
            _read(evidence),
        ]
    )


def _read(evidence: JointEvidence) -> str:
    """How large the gradients are that Optim4RL reads in each agent, and how its steps answer."""
    rows = []
    for words, (rule, _) in AGENTS.items():
        if not evidence.whole(rule).runs:
            continue
        gradients, updates = (
            evidence.metric(rule, name)[1] / sum(optim4rl_steps.network_weights()) ** 0.5
            for name in ("grad_norm", "update_norm")
        )
        rows.append(
            (
                words,
                f"{gradients.min():.2g} to {gradients.max():.2g}",
                f"{np.mean(updates) / optim4rl_steps.ALPHA:.2f}",
                f"{updates.min() / optim4rl_steps.ALPHA:.2f} to "
                f"{updates.max() / optim4rl_steps.ALPHA:.2f}",
            )
        )
    columns = ["agent", "gradient before the clip", "change of a weight, in α", "least to most"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)
