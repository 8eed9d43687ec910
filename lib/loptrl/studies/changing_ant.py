"""Study 1's agent with Optim4RL in Adam's place, which studies 2 and 3 evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loptrl.studies import adam_collapse
from loptrl.studies.adam_collapse import DRIFT, FIVE_SEEDS
from loptrl.studies.base import Arm, Study
from loptrl.studies.open_agent import learned

__all__ = ["of", "optim4rl"]


def optim4rl(
    name: str,
    label: str,
    look: str,
    weights: str,
    *,
    changing: bool = True,
    learning_rate: float | None = None,
    seeds: Mapping[str, int] = FIVE_SEEDS,
) -> Arm:
    """An arm whose optimizer is Optim4RL.

    Args:
        name, label, look: of the arm.
        weights: their short name, such as "drift" or "ant".
        changing: whether the Ant meets study 1's changes.
        learning_rate: alpha; None for the rule's own, 3e-4.
        seeds: at a budget, where they are not the budget's own.
    """
    settings = learned(f"optim4rl/{weights}")
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
