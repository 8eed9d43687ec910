"""Every number of a PPO run, validated; no jax, so that the book can read configurations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from loptrl.checks import (
    check_flag,
    check_mapping,
    check_number,
    checked_fields,
    plain_scalars,
)
from loptrl.errors import LoptrlError

__all__ = ["HAND_DESIGNED", "OptimizerConfig", "PPOConfig"]

HAND_DESIGNED = ("adam", "rmsprop")
"""Optimizers that have numbers and no weights."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer by name: a hand-designed one with its numbers, or a learned one with weights.

    Attributes:
        name: one of `HAND_DESIGNED`, or a learned rule such as "open".
        learning_rate: step size alpha; None for a learned rule's own, and 3e-4 without weights.
        b1: decay of the first moment (Adam, 0.9 by default), or of the trace of updates (RMSProp,
            0 by default, which is none).
        b2: decay of the second moment (Adam, 0.999), or of the squared gradient (RMSProp, 0.9).
        eps: added to the root of the second moment (Adam), or beneath it (RMSProp).
        weight_decay: decoupled weight decay, as a factor on the learning rate; 0 for none.
        anneal: alpha falls linearly over the run, to 0 in its last PPO iteration.
        weights: the name of a learned rule's weights; None for a hand-designed one.
        sha256: of those weights, so that a run is named by the very numbers it used.
    """

    name: str = "adam"
    learning_rate: float | None = None
    b1: float | None = None
    b2: float | None = None
    eps: float = 1e-8
    weight_decay: float = 0.0
    anneal: bool = False
    weights: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        plain_scalars(self)
        for name in ("name", *(n for n in ("weights", "sha256") if getattr(self, n) is not None)):
            if not isinstance(getattr(self, name), str):
                raise LoptrlError(
                    f"an optimizer's {name} must be text, got {getattr(self, name)!r}"
                )
        if (self.weights is None) != (self.name in HAND_DESIGNED):
            given = "none" if self.weights is None else repr(self.weights)
            raise LoptrlError(
                f"an optimizer is {' or '.join(HAND_DESIGNED)} without weights, or a learned rule "
                f"with them, got {self.name!r} and weights {given}; name one of these"
            )
        if self.learning_rate is None and self.weights is None:
            object.__setattr__(self, "learning_rate", 3e-4)
        usual = dict(zip(("b1", "b2"), (0.0, 0.9) if self.name == "rmsprop" else (0.9, 0.999)))
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, 0.0, open_low=True)
        check_number("b1", self.b1, 0.0, 1.0)
        check_number("b2", self.b2, 0.0, 1.0)
        if self.b1 == 1 or self.b2 == 1:
            raise LoptrlError("b1 and b2 must be below 1, or the moments never move; got 1")
        check_number("eps", self.eps, 0.0)
        check_number("weight_decay", self.weight_decay, 0.0)
        check_flag("anneal", self.anneal)
        if self.sha256 is not None and self.weights is None:
            raise LoptrlError("sha256 names an optimizer's weights, got no weights; name them too")
        usual = {field.name: field.default for field in self._numbers()} | usual
        changed = [name for name, value in usual.items() if getattr(self, name) != value]
        if self.weights is not None and changed:
            raise LoptrlError(
                f"{self.name} with weights takes no {changed[0]}, got "
                f"{getattr(self, changed[0])!r}; leave it out"
            )

    @classmethod
    def _numbers(cls) -> list[dataclasses.Field]:
        names = ("b1", "b2", "eps", "weight_decay")
        return [field for field in dataclasses.fields(cls) if field.name in names]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of a hand-designed optimizer that may change without compiling anew."""
        if self.weights is not None:
            return {}
        names = ("learning_rate", *(field.name for field in self._numbers()))
        return {name: getattr(self, name) for name in names}

    @property
    def rule(self) -> OptimizerConfig:
        """The same with default numbers, which is what shapes the compiled update."""
        names = ["name", "anneal", "weights", "sha256"]
        names += ["learning_rate"] if self.weights is not None else []
        return OptimizerConfig(**{name: getattr(self, name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """JSON form: what has an effect, and nothing that would rename runs of earlier editions."""
        data = {"name": self.name, **self.numbers}
        optional = ("learning_rate", "weights", "sha256")
        data |= {n: getattr(self, n) for n in optional if getattr(self, n) is not None}
        return data | ({"anneal": True} if self.anneal else {})


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """One PPO run. Sizes count environments, env steps, epochs or minibatches, as named.

    Attributes:
        world: a Brax body ("ant", "humanoid"), a MinAtar game ("breakout", ...), a probe, or a name
            given to `register_world`.
        backend: Brax's physics pipeline: "spring", "positional" or "generalized"; a world that is
            not a body has none, and names "spring".
        env_steps: length of the run in env steps, rounded up to whole evaluation slices.
        num_envs: environments stepped together.
        rollout_length: env steps per environment and iteration.
        epochs: passes over each rollout.
        minibatches: updates per epoch.
        discount: gamma, per env step.
        gae_lambda: lambda of generalised advantage estimation (Schulman et al. 2016).
        clip_ratio: epsilon of the clipped objective (Schulman et al. 2017, eq. 7); None: no clip.
        value_clip: how far a value may move from the rollout's before its error stops counting as
            improved (the larger of the two errors is taken); None: no clip.
        max_grad_norm: bound on the norms of the actor's and of the critic's gradient; None: none.
        value_coef: weight of half the squared value error.
        entropy_coef: weight of the policy's entropy.
        normalize_observations: subtract the running mean, divide by the running deviation; within
            [-10, 10].
        normalize_rewards: divide rewards by the running deviation of the discounted return; within
            [-10, 10].
        standardize_minibatches: standardise advantages over each minibatch, as the OPEN authors'
            agent does; off, over the whole rollout.
        bootstrap_truncation: a time limit is followed by the value of the final observation; off,
            it counts as a termination (as in the OPEN authors' agent).
        hidden: widths of the hidden layers, of the actor and of the critic each.
        activation: "tanh" or "relu".
        eval_every: env steps between evaluations, rounded up to whole iterations.
        eval_envs: episodes per evaluation, played with the policy's mode.
        optimizer: the optimizer.
        drift: JSON form of a `loptrl.envs.drift.Drift`; empty for the stationary task.
    """

    world: str = "ant"
    backend: str = "spring"
    env_steps: int = 20_000_000
    num_envs: int = 2048
    rollout_length: int = 10
    epochs: int = 4
    minibatches: int = 32
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float | None = 0.2
    value_clip: float | None = None
    max_grad_norm: float | None = 0.5
    value_coef: float = 0.5
    entropy_coef: float = 0.0
    normalize_observations: bool = True
    normalize_rewards: bool = True
    standardize_minibatches: bool = False
    bootstrap_truncation: bool = True
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    eval_every: int = 200_000
    eval_envs: int = 32
    optimizer: OptimizerConfig = OptimizerConfig()
    drift: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        plain_scalars(self)
        if not isinstance(self.optimizer, OptimizerConfig):
            raise LoptrlError(
                f"optimizer must be an OptimizerConfig, got {self.optimizer!r}; "
                "PPOConfig.from_dict takes its JSON form"
            )
        check_mapping("drift", self.drift)
        for name in (
            "env_steps",
            "num_envs",
            "rollout_length",
            "epochs",
            "minibatches",
            "eval_every",
            "eval_envs",
        ):
            value = getattr(self, name)
            check_number(name, value, 1, whole=True)
            object.__setattr__(self, name, int(value))
        if self.batch_size % self.minibatches:
            raise LoptrlError(
                f"minibatches must divide num_envs x rollout_length = {self.batch_size}, "
                f"got {self.minibatches}; choose a divisor"
            )
        check_number("discount", self.discount, 0.0, 1.0)
        check_number("gae_lambda", self.gae_lambda, 0.0, 1.0)
        for name in ("clip_ratio", "value_clip", "max_grad_norm"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, open_low=True)
        check_number("value_coef", self.value_coef, 0.0)
        check_number("entropy_coef", self.entropy_coef, 0.0)
        if not isinstance(self.hidden, (list, tuple)) or not self.hidden:
            raise LoptrlError(
                f"hidden must list the widths of at least one layer, such as [64, 64], "
                f"got {self.hidden!r}"
            )
        for width in self.hidden:
            check_number("a width in hidden", width, 1, whole=True)
        object.__setattr__(self, "hidden", tuple(int(width) for width in self.hidden))
        for name in ("world", "backend"):
            if not isinstance(getattr(self, name), str):
                raise LoptrlError(f"{name} must be a name, got {getattr(self, name)!r}")
        for name in (
            "normalize_observations",
            "normalize_rewards",
            "standardize_minibatches",
            "bootstrap_truncation",
        ):
            check_flag(name, getattr(self, name))
        if self.activation not in ("tanh", "relu"):
            raise LoptrlError(f"activation must be 'tanh' or 'relu', got {self.activation!r}")

    @property
    def batch_size(self) -> int:
        """Env steps per iteration."""
        return self.num_envs * self.rollout_length

    @property
    def iterations_per_slice(self) -> int:
        """Iterations between two evaluations."""
        return max(1, math.ceil(self.eval_every / self.batch_size))

    @property
    def env_steps_per_slice(self) -> int:
        """Env steps between two evaluations."""
        return self.iterations_per_slice * self.batch_size

    @property
    def num_slices(self) -> int:
        """Evaluation slices of the run."""
        return math.ceil(self.env_steps / self.env_steps_per_slice)

    @property
    def num_updates(self) -> int:
        """Optimizer updates of the run."""
        return self.num_slices * self.iterations_per_slice * self.epochs * self.minibatches

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        data = dataclasses.asdict(self)
        data["hidden"] = list(self.hidden)
        data["optimizer"] = self.optimizer.to_dict()
        # As in runs that were stored before there were such settings.
        if self.value_clip is None:
            del data["value_clip"]
        if not self.standardize_minibatches:
            del data["standardize_minibatches"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PPOConfig:
        """Build a configuration from its JSON form; unknown names are refused."""
        fields = checked_fields(cls, data)
        if "optimizer" in fields and not isinstance(fields["optimizer"], OptimizerConfig):
            fields["optimizer"] = OptimizerConfig(
                **checked_fields(OptimizerConfig, fields["optimizer"])
            )
        return cls(**fields)
