"""Every number of a meta-training by evolution on supervised tasks, validated; no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from loptrl.checks import check_number
from loptrl.errors import LoptrlError
from loptrl.meta.es_config import SearchConfig

__all__ = ["TASKS", "SupervisedConfig"]

TASKS = ("digits", "wine", "breast_cancer", "iris")
"""Classification tasks that come with scikit-learn."""


@dataclasses.dataclass(frozen=True)
class SupervisedConfig(SearchConfig):
    """One meta-training of VeLO by OpenAI's evolution strategy on small supervised tasks.

    One generation is as in `EvolutionConfig`; members train networks, as `SupervisedEvaluation`
    says, instead of agents. The start is untrained weights: at zeros all derivatives of VeLO's
    step by its weights vanish.

    Attributes:
        lstm_hidden_size: width of VeLO's LSTM, 512 in the released weights.
        param_inits: networks per entry that it mixes, 256 in the released weights.
        tasks: names in `TASKS`, each once.
        normalisers: by task, what a member's result is divided by, such as Adam's; None: 1.
        updates: length of each training.
        batch_size: examples of each update, drawn with replacement.
        hidden: widths of the networks' hidden layers.
        population, generations, sigma, sigma_decay, meta_learning_rate, lr_decay, rollouts,
            members_at_once: as in `EvolutionConfig`.
    """

    rule: ClassVar[str] = "velo"
    learning_rate: ClassVar[None] = None

    lstm_hidden_size: int = 32
    param_inits: int = 8
    tasks: Sequence[str] = TASKS
    normalisers: Sequence[float] | None = None
    updates: int = 200
    batch_size: int = 32
    hidden: Sequence[int] = (16,)
    population: int = 32
    generations: int = 1000
    sigma: float = 0.01
    sigma_decay: float = 0.999
    meta_learning_rate: float = 0.003
    lr_decay: float = 0.998
    rollouts: int = 1
    members_at_once: int | None = None

    def __post_init__(self) -> None:
        whole = ("lstm_hidden_size", "param_inits", "updates", "batch_size")
        self._check_search("task", whole)
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise LoptrlError(f"unknown task {unknown[0]!r}: expected one of {', '.join(TASKS)}")
        if not isinstance(self.hidden, (list, tuple)):
            raise LoptrlError(f"hidden must list the widths of layers, got {self.hidden!r}")
        for width in self.hidden:
            check_number("a width in hidden", width, 1, whole=True)
        object.__setattr__(self, "hidden", tuple(int(width) for width in self.hidden))

    @property
    def env_steps_per_slice(self) -> int:
        """Examples that one generation's members learn from; the store's measure of length."""
        trainings = self.population * self.rollouts * len(self.tasks)
        return trainings * self.updates * self.batch_size
