"""How long Optim4RL's steps were in the stored runs on the Ant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np

from loptrl import stats
from loptrl.ppo.config import PPOConfig
from loptrl.studies.base import ALPHA
from loptrl.studies.changing_ant_evidence import JointEvidence

__all__ = [
    "ALPHA",
    "CLIP",
    "CLIPPED",
    "CONSTANT",
    "in_runs",
    "lengths",
    "moved",
    "network_weights",
]

CONSTANT = 1.05
"""Steps whose longest is below so many times the shortest are called constant."""

_OBSERVATION, _ACTION = 27, 8


def network_weights() -> tuple[int, int]:
    """How many weights the actor and the critic of the studies' agent on the Ant have."""
    widths = (_OBSERVATION, *PPOConfig().hidden)
    hidden = sum((wide + 1) * following for wide, following in itertools.pairwise(widths))
    last = widths[-1] + 1
    # The actor has a standard deviation for each action beside the last layer.
    return hidden + (last + 1) * _ACTION, hidden + last


CLIP = 0.5
"""Norm to which the agents of the studies shorten the gradient of each of their networks."""

CLIPPED = CLIP / min(network_weights()) ** 0.5
"""Root mean square entry of a clipped gradient of the Ant agent's smaller network, at most."""


def moved(evidence: JointEvidence, arm: str) -> np.ndarray:
    """Root mean square change of a weight in an update, [num_seeds].

    ||u|| / sqrt(n), with ||u|| the mean norm of an update over the run and n the number of the
    agent's weights.
    """
    return evidence.metric(arm, "update_norm")[1].mean(axis=1) / sum(network_weights()) ** 0.5


def lengths(evidence: JointEvidence, arm: str) -> np.ndarray:
    """`moved` over the learning rate: c if every update moves every weight by c alpha."""
    return moved(evidence, arm) / (evidence.config(arm).optimizer.learning_rate or ALPHA)


def in_runs(evidence: JointEvidence, arms: Iterable[str]) -> str:
    """How long the steps of Optim4RL were in the runs of these arms, and how little they vary."""
    found = [
        arm
        for arm in arms
        if evidence.whole(arm).runs and evidence.config(arm).optimizer.name == "optim4rl"
    ]
    if not found:
        return ""
    parts, steadiest, swings = [], [], []
    for arm in found:
        norms, gradients = (evidence.metric(arm, name)[1] for name in ("update_norm", "grad_norm"))
        steadiest.append(np.max(norms.max(axis=1) / norms.min(axis=1)))
        swings.append(np.min(gradients.max(axis=1) / gradients.min(axis=1)))
        parts.append(f"{evidence.all_arms[arm].label} {stats.iqm(lengths(evidence, arm)):.2f}")
    steady = max(steadiest)
    words = (
        f"Root mean square change of a weight in an update, in units of the rule's α: "
        f"{'; '.join(parts)}. Within a run the length of an update varies by less than "
        f"{math.ceil(1000 * (steady - 1)) / 10:.1f} %, that of the gradient at least "
        f"{min(swings):.0f}-fold"
    )
    if steady > CONSTANT:
        return f"{words}."
    return (
        f"{words}: each rule is **a constant step against the sign of the "
        "gradient**, and what its meta-training changed is the length of that step, which α would "
        "set directly ({doc}`10_optim4rl` shows why)."
    )
