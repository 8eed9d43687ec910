"""Studies that compare optimizers on several tasks: one arm for each pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loptrl.studies.base import Arm, Budget, Study

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """A study whose arms are optimizers on tasks.

    Attributes:
        study: the study.
        tasks: worlds, with their names in words.
        optimizers: names in words.
        looks: optimizer -> its look.
    """

    study: Study
    tasks: Mapping[str, str]
    optimizers: Mapping[str, str]
    looks: Mapping[str, str]

    @staticmethod
    def arm_name(task: str, optimizer: str) -> str:
        """The arm of an optimizer on a task."""
        return f"{task}.{optimizer}"

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        version: int,
        *,
        base: Mapping[str, Any],
        tasks: Mapping[str, str],
        optimizers: Mapping[str, str],
        settings: Callable[[str, str], Mapping[str, Any]],
        looks: Mapping[str, str],
        budgets: Mapping[str, Budget],
        seeds: Mapping[str, Mapping[str, int]] | None = None,
        env_steps: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Comparison:
        """A comparison with an arm for every optimizer on every task.

        Args:
            name, title, version, base, budgets: of the study.
            tasks, optimizers: as above.
            looks: of optimizers whose names are not those of looks.
            settings: task and optimizer to what differs from the base.
            seeds: optimizer -> seeds at a budget, where they are not the budget's own.
            env_steps: task -> length at a budget, where it is not the budget's own.
        """
        looks = {optimizer: looks.get(optimizer, optimizer) for optimizer in optimizers}
        arms = [
            Arm(
                cls.arm_name(task, optimizer),
                f"{words}: {label}",
                looks[optimizer],
                {"world": task, **settings(task, optimizer)},
                (seeds or {}).get(optimizer, {}),
                (env_steps or {}).get(task, {}),
            )
            for optimizer, label in optimizers.items()
            for task, words in tasks.items()
        ]
        study = Study(name, title, version, base, {arm.name: arm for arm in arms}, budgets)
        return cls(study, tasks, optimizers, looks)
