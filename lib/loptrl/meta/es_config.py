"""Every number of a meta-training by evolution, validated; no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from loptrl.checks import (
    check_flag,
    check_mapping,
    check_number,
    checked_fields,
    plain_scalars,
)
from loptrl.errors import LoptrlError
from loptrl.meta.config import RULES, check_learning_rate
from loptrl.ppo.config import PPOConfig

__all__ = ["EvolutionConfig", "SearchConfig"]


class SearchConfig:
    """What a search asks of its configuration, a dataclass with these fields.

    `EvolutionConfig` says what they are.
    """

    rule: str
    learning_rate: float | None
    tasks: Sequence[str]
    normalisers: Sequence[float] | None
    population: int
    generations: int
    sigma: float
    sigma_decay: float
    meta_learning_rate: float
    lr_decay: float
    rollouts: int
    members_at_once: int | None
    env_steps_per_slice: int

    def _check_search(self, task: str, whole: Sequence[str]) -> None:
        """Check the fields above, and more of them that are whole numbers of at least 1."""
        plain_scalars(self)
        whole = ("population", "generations", "rollouts", *whole)
        for name in (*whole, *(["members_at_once"] if self.members_at_once is not None else [])):
            check_number(name, getattr(self, name), 1, whole=True)
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.population % 2:
            raise LoptrlError(
                f"population must be even, since members come in pairs, got {self.population}"
            )
        for name in ("sigma", "meta_learning_rate"):
            check_number(name, getattr(self, name), 0.0, open_low=True)
        for name in ("sigma_decay", "lr_decay"):
            check_number(name, getattr(self, name), 0.0, 1.0, open_low=True)
        if not isinstance(self.tasks, (list, tuple)) or not self.tasks:
            raise LoptrlError(f"tasks must list at least one {task}, got {self.tasks!r}")
        if len(set(self.tasks)) != len(self.tasks):
            raise LoptrlError(f"tasks must list each {task} once, got {', '.join(self.tasks)}")
        object.__setattr__(self, "tasks", tuple(self.tasks))
        values = self.normalisers
        values = [1.0] * len(self.tasks) if values is None else values
        if not isinstance(values, (list, tuple)) or len(values) != len(self.tasks):
            raise LoptrlError(
                f"normalisers must list one number for each of {len(self.tasks)} tasks, "
                f"got {values!r}"
            )
        for value in values:
            check_number("a normaliser", value, 0.0, open_low=True)
        object.__setattr__(self, "normalisers", tuple(float(value) for value in values))

    @property
    def num_slices(self) -> int:
        """Generations of the whole training."""
        return self.generations

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        data = dataclasses.asdict(self)
        return {name: list(x) if isinstance(x, tuple) else x for name, x in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a configuration from its JSON form; unknown names are refused."""
        return cls(**checked_fields(cls, data))


@dataclasses.dataclass(frozen=True)
class EvolutionConfig(SearchConfig):
    """One meta-training of a learned rule by OpenAI's evolution strategy, as OPEN was made.

    One generation: `population` members theta +- sigma z each train agents from scratch on every
    task; a member's fitness is the mean over the tasks of return / normaliser, and theta follows
    the estimated gradient of the members' centred ranks.

    Attributes:
        rule: a name in `loptrl.optimizers.LEARNED`.
        init: name of the weights to start from; None for others.
        init_sha256: of those weights' numbers.
        zero_start: start with all weights 0, as OPEN did; off, with untrained ones or with `init`.
        size: "small" or "large", of OPEN's untrained weights; None: the rule's own.
        learning_rate: alpha of a rule that has one (Optim4RL and its relatives), else None.
        tasks: worlds, each once.
        normalisers: by task, what its return is divided by, such as Adam's; None: 1 for each.
        population: members of a generation, in pairs theta + sigma z and theta - sigma z.
        generations: how many.
        sigma: deviation of the members' weights in the first generation.
        sigma_decay: its factor from one generation to the next.
        meta_learning_rate: step size of the outer Adam (b1 0.99) in the first generation.
        lr_decay: its factor from one generation to the next.
        rollouts: trainings of a member on each task.
        members_at_once: trained together on a device, the others wait; None for one on a CPU, whose
            cache holds no more, and as many as fit elsewhere.
        env_steps: length of each training in env steps, rounded up to whole PPO iterations.
        agent: the other settings of the agents, fields of `PPOConfig`.
    """

    rule: str = "open"
    init: str | None = None
    init_sha256: str | None = None
    zero_start: bool = True
    size: str | None = None
    learning_rate: float | None = None
    tasks: Sequence[str] = ("breakout",)
    normalisers: Sequence[float] | None = None
    population: int = 64
    generations: int = 500
    sigma: float = 0.03
    sigma_decay: float = 0.999
    meta_learning_rate: float = 0.03
    lr_decay: float = 0.999
    rollouts: int = 1
    members_at_once: int | None = None
    env_steps: int = 10_000_000
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise LoptrlError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        if (self.init is None) != (self.init_sha256 is None):
            raise LoptrlError("init and init_sha256 name the same weights: give both or neither")
        check_flag("zero_start", self.zero_start)
        if self.init is not None and self.zero_start:
            raise LoptrlError(
                f"a start with zeros leaves nothing of the weights {self.init}; set zero_start to "
                "false, or leave init out"
            )
        if self.size is not None and (self.rule != "open" or self.init is not None):
            raise LoptrlError(
                f"size is that of OPEN's untrained weights, got {self.size!r} for "
                f"{self.init or self.rule}; leave it out"
            )
        self._check_search("world", ["env_steps"])
        check_learning_rate(self.rule, self.learning_rate)
        check_mapping("agent", self.agent)
        own = sorted(_OWN & set(self.agent))
        if own:
            raise LoptrlError(
                f"agent holds what is left of PPOConfig, got {own[0]!r}; "
                "meta-training sets it by itself"
            )
        for world in self.tasks:
            self.ppo(world)

    @property
    def worlds(self) -> tuple[str, ...]:
        """The tasks."""
        return tuple(self.tasks)

    def ppo(self, world: str) -> PPOConfig:
        """The configuration of each training in that world."""
        config = PPOConfig.from_dict({**self.agent, "world": world, "env_steps": self.env_steps})
        return dataclasses.replace(config, eval_every=config.batch_size)

    @property
    def env_steps_per_slice(self) -> int:
        """Env steps of one generation's members; those of the search mean are not counted."""
        ppo = self.ppo(self.tasks[0])
        horizon = ppo.num_slices * ppo.env_steps_per_slice
        return self.population * self.rollouts * len(self.tasks) * horizon


_OWN = {"world", "env_steps", "eval_every", "eval_envs", "optimizer", "drift"}
