"""Every number of a meta-training by gradients, validated; no jax."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loptrl.checks import (
    check_flag,
    check_mapping,
    check_number,
    checked_fields,
    plain_scalars,
)
from loptrl.envs.drift import Drift
from loptrl.errors import LoptrlError
from loptrl.ppo.config import PPOConfig

__all__ = [
    "EDGES",
    "RULES",
    "WITH_LEARNING_RATE",
    "CostConfig",
    "MetaConfig",
    "Phase",
    "StatisticsConfig",
    "check_learning_rate",
]

WITH_LEARNING_RATE = ("optim4rl", "linear_optim", "l2lgd2")
RULES = (*WITH_LEARNING_RATE, "open", "velo")

EDGES = np.linspace(-10.0, 1.0, 45)
"""Of the bins of `statistics.log_histogram`, in decades."""

REMATERIALIZE = ("nothing", "updates", "iterations")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One task of a curriculum, and its share of the training.

    Attributes:
        world: a Brax body, a probe, or a name given to `register_world`.
        share: of all meta-iterations; the phases' shares are scaled to a sum of 1.
        drift: JSON form of a `Drift`, a function of an agent's own age in env steps; empty for the
            stationary task. Every life of every agent has random values of its own.
    """

    world: str = "ant"
    share: float = 1.0
    drift: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.world, str):
            raise LoptrlError(f"a phase's world must be a name, got {self.world!r}")
        plain_scalars(self)
        check_number("a phase's share", self.share, 0.0, open_low=True)
        Drift.from_dict(self.drift)


@dataclasses.dataclass(frozen=True)
class MetaConfig:
    """One meta-training of a learned rule by gradients through its agents' updates.

    One meta-iteration: every agent makes `inner_updates` PPO iterations (a rollout, then epochs x
    minibatches updates by the rule), then plays `meta_rollout_length` more env steps in each
    environment; the PPO loss on these is the meta-loss.

    Attributes:
        rule: a name in `loptrl.optimizers.LEARNED`.
        init: name of the weights to start from; None for untrained ones.
        init_sha256: of those weights' numbers.
        learning_rate: alpha of a rule that has one (Optim4RL and its relatives), else None.
        env_steps: length in env steps of all agents together, rounded up to meta-iterations.
        agents: how many are trained side by side.
        reset_interval: meta-iterations of an agent's life, after which it starts anew; None: one
            life. The agents' ages are spread over it (pipeline training).
        inner_updates: PPO iterations that the meta-gradient goes through.
        meta_rollout_length: env steps per environment for the meta-loss.
        meta_learning_rate: step size of the outer Adam; with 0 the weights stay as they are, and
            the rows tell of their meta-gradients.
        meta_grad_norm: bound on the norm of the meta-gradient; None: none.
        meta_grad_clip: bound on every entry of the meta-gradient; None: none.
        agent_l2: the agents' loss, and so the meta-loss, gets `agent_l2/2 |parameters|^2`; its
            gradient is added after PPO clips the others.
        meta_l2: the meta-loss gets `meta_l2/2 |theta|^2`.
        through_dynamics: the meta-gradient also flows through actions, physics, observations and
            recorded log-probabilities, as in the official PPO code; the ratio of the meta-loss is
            then 1 whatever the rule does, and its clipped surrogate has no derivative. Off,
            rollouts are data.
        policy_in_meta_loss: off, with rollouts as data, the clipped surrogate has no derivative in
            the meta-loss either, and what moves the rule is the critic's error and the entropy.
        rematerialize: what the backward pass computes again instead of keeping it: "nothing",
            "updates", or "iterations" (of them, and of what happens inside, updates).
        max_skipped: meta-gradients in a row that may be non-finite before the training stops.
        num_envs: environments of each agent.
        agent: the other settings of the agents, fields of `PPOConfig`.
        phases: the curriculum.
    """

    rule: str = "optim4rl"
    init: str | None = None
    init_sha256: str | None = None
    learning_rate: float | None = 3e-4
    env_steps: int = 30_000_000
    agents: int = 8
    reset_interval: int | None = 128
    inner_updates: int = 4
    meta_rollout_length: int = 5
    meta_learning_rate: float = 3e-5
    meta_grad_norm: float | None = 0.5
    meta_grad_clip: float | None = None
    agent_l2: float = 0.0
    meta_l2: float = 0.0
    through_dynamics: bool = False
    policy_in_meta_loss: bool = True
    rematerialize: str = "updates"
    max_skipped: int = 10
    num_envs: int = 256
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    phases: Sequence[Phase] = (Phase(),)

    def __post_init__(self) -> None:
        plain_scalars(self)
        check_mapping("agent", self.agent)
        if self.rule not in RULES:
            raise LoptrlError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        if (self.init is None) != (self.init_sha256 is None):
            raise LoptrlError("init and init_sha256 name the same weights: give both or neither")
        whole = ("env_steps", "agents", "inner_updates", "meta_rollout_length", "num_envs")
        for name in (*whole, "max_skipped"):
            check_number(name, getattr(self, name), 1, whole=True)
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.reset_interval is not None:
            check_number("reset_interval", self.reset_interval, 1, whole=True)
            object.__setattr__(self, "reset_interval", int(self.reset_interval))
        check_number("meta_learning_rate", self.meta_learning_rate, 0.0)
        check_learning_rate(self.rule, self.learning_rate)
        for name in ("meta_grad_norm", "meta_grad_clip"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, open_low=True)
        check_number("agent_l2", self.agent_l2, 0.0)
        check_number("meta_l2", self.meta_l2, 0.0)
        check_flag("through_dynamics", self.through_dynamics)
        check_flag("policy_in_meta_loss", self.policy_in_meta_loss)
        if self.through_dynamics and not self.policy_in_meta_loss:
            raise LoptrlError(
                "through_dynamics leaves the meta-loss's surrogate without a derivative, got "
                "policy_in_meta_loss=false with it, which does so for rollouts as data; give one"
            )
        if self.rematerialize not in REMATERIALIZE:
            raise LoptrlError(
                f"rematerialize must be one of {', '.join(REMATERIALIZE)}, "
                f"got {self.rematerialize!r}"
            )
        own = sorted(_OWN & set(self.agent))
        if own:
            raise LoptrlError(
                f"agent holds what is left of PPOConfig, got {own[0]!r}; "
                "meta-training sets it by itself"
            )
        if not isinstance(self.phases, (list, tuple)) or not self.phases:
            raise LoptrlError(f"phases must list at least one phase, got {self.phases!r}")
        phases = [
            p if isinstance(p, Phase) else Phase(**checked_fields(Phase, p)) for p in self.phases
        ]
        object.__setattr__(self, "phases", tuple(phases))
        for world in self.worlds:
            self.ppo(world)
        if self.num_slices < len(self.phases):
            raise LoptrlError(
                f"{len(self.phases)} phases need at least as many meta-iterations, "
                f"{self.env_steps} env steps make {self.num_slices} of "
                f"{self.env_steps_per_slice}; give more"
            )

    @property
    def worlds(self) -> tuple[str, ...]:
        """The phases' worlds, each once, in their order."""
        return tuple(dict.fromkeys(phase.world for phase in self.phases))

    def ppo(self, world: str) -> PPOConfig:
        """An agent's configuration in that world; its length is one life."""
        settings = {**_AGENT, **self.agent, "world": world, "num_envs": self.num_envs}
        config = PPOConfig.from_dict(settings)
        steps = self.life * self.inner_updates * config.batch_size
        return dataclasses.replace(config, env_steps=steps, eval_every=config.batch_size)

    @property
    def life(self) -> int:
        """Meta-iterations of an agent's longest life."""
        return self.num_slices if self.reset_interval is None else self.reset_interval

    @property
    def env_steps_per_slice(self) -> int:
        """Env steps of one meta-iteration, of all agents together."""
        length = {**_AGENT, **self.agent}["rollout_length"]
        own = self.inner_updates * length + self.meta_rollout_length
        return int(self.agents * self.num_envs * own)

    @property
    def num_slices(self) -> int:
        """Meta-iterations of the whole training."""
        return math.ceil(self.env_steps / self.env_steps_per_slice)

    def starts(self) -> list[int]:
        """The first meta-iteration of each phase; each has at least one."""
        total, parts = sum(p.share for p in self.phases), len(self.phases)
        starts, done = [0], 0.0
        for i, phase in enumerate(self.phases[:-1]):
            done += phase.share
            first = round(self.num_slices * done / total)
            latest = self.num_slices - (parts - 1 - i)
            starts.append(min(max(first, starts[-1] + 1), latest))
        return starts

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        data = dataclasses.asdict(self)
        data["phases"] = [dataclasses.asdict(phase) for phase in self.phases]
        if self.policy_in_meta_loss:  # As in runs that were stored before there was the setting.
            del data["policy_in_meta_loss"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MetaConfig:
        """Build a configuration from its JSON form; unknown names are refused."""
        return cls(**checked_fields(cls, data))


@dataclasses.dataclass(frozen=True)
class StatisticsConfig(MetaConfig):
    """Meta-iterations that tell more of their gradients, see `Bilevel.statistics`.

    Attributes:
        compare_whole: the meta-gradient is compared with the whole one, for which no derivative is
            stopped at the rule's inputs; only for Optim4RL.
    """

    compare_whole: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("compare_whole", self.compare_whole)
        if self.compare_whole and self.rule != "optim4rl":
            raise LoptrlError(
                f"compare_whole is for optim4rl, whose inputs are stopped, got {self.rule}"
            )


@dataclasses.dataclass(frozen=True)
class CostConfig(MetaConfig):
    """Meta-iterations that are timed, see `CostProgram`.

    Attributes:
        timed: how many; 0: none is run, and the compiler's analysis is all.
    """

    timed: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("timed", self.timed, 0, whole=True)
        object.__setattr__(self, "timed", int(self.timed))


def check_learning_rate(rule: str, value: Any) -> None:
    """See to it that alpha, if any, is a number above 0 and the rule has one.

    Raises:
        LoptrlError: it is not, or has none.
    """
    if value is None:
        return
    check_number("learning_rate", value, 0.0, open_low=True)
    if rule not in WITH_LEARNING_RATE:
        raise LoptrlError(f"{rule} has no learning rate, got {value}; give None (null in JSON)")


# Optim4RL's published Ant, with this project's networks, rewards and clips of the gradient:
# 4 rollouts of 5 env steps follow one another before each batch of 1024 x 8 of them is used.
_AGENT: dict[str, Any] = {
    "rollout_length": 20,
    "epochs": 4,
    "minibatches": 8,
    "discount": 0.97,
    "gae_lambda": 0.95,
    "clip_ratio": 0.3,
    "entropy_coef": 0.01,
}

_OWN = {"world", "num_envs", "env_steps", "eval_every", "eval_envs", "optimizer", "drift"}
