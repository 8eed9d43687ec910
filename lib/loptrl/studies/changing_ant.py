"""Study 1's agent with a learned optimizer in Adam's place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from loptrl.studies import adam_collapse
from loptrl.studies.adam_collapse import DRIFT, FIVE_SEEDS
from loptrl.studies.base import Arm, Study
from loptrl.studies.open_agent import learned

__all__ = ["learned_arm", "of"]


def learned_arm(
    name: str,
    label: str,
    look: str,
    weights: str,
    *,
    changing: bool = True,
    learning_rate: float | None = None,
    seeds: Mapping[str, int] = FIVE_SEEDS,
    agent: Mapping[str, Any] = MappingProxyType({}),
) -> Arm:
    """An arm whose optimizer has weights.

    Args:
        name, label, look: of the arm.
        weights: such as "optim4rl/drift" or "open/ant".
        changing: whether the Ant meets study 1's changes.
        learning_rate: alpha of Optim4RL; None for the rule's own, 3e-4.
        seeds: at a budget, where they are not the budget's own.
        agent: fields of `PPOConfig` in which the agent differs from study 1's.
    """
    settings = {**learned(weights), **agent}
    if learning_rate is not None:
        settings["optimizer"]["learning_rate"] = learning_rate
    if changing:
        settings["drift"] = DRIFT
    return Arm(name, label, look, settings, seeds)


def of(name: str, title: str, version: int, arms: Iterable[Arm]) -> Study:
    """A study with study 1's agent and budgets, so that its runs of Adam can stand beside it."""
    return Study(
        name,
        title,
        version,
        adam_collapse.STUDY.base,
        {arm.name: arm for arm in arms},
        adam_collapse.STUDY.budgets,
    )
