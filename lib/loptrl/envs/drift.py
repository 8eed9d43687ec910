"""Drifts: pure, seeded functions from the env steps taken so far to the dynamics in force.

A drift is evaluated on the host with numpy and its values are passed to the compiled agent as
traced numbers, so a new drift recompiles nothing and the book can draw one without jax.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loptrl.checks import check_number, plain_scalars
from loptrl.envs.dynamics import Dynamics
from loptrl.errors import LoptrlError

__all__ = ["Drift", "Faults", "Linear", "RandomWalk", "Sinusoid", "Steps", "Wear"]

_CHANNELS = {"friction": 1, "strength": 2, "damping": 3, "faults": 4}


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise LoptrlError(message)


def _check_range(owner: str, low: Any, high: Any, log: bool) -> None:
    check_number(f"{owner}.low", low, 0.0, open_low=log)
    check_number(f"{owner}.high", high, 0.0, open_low=log)
    _check(low <= high, f"{owner} needs low <= high, got low={low!r} and high={high!r}")


def _between(low: float, high: float, fraction: np.ndarray, log: bool) -> np.ndarray:
    if log:
        return np.exp(np.log(low) + fraction * (np.log(high) - np.log(low)))
    return low + fraction * (high - low)


def _uniforms(seed: int, channel: int, index: int, count: int = 1) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend only on (seed, channel, index)."""
    return np.random.default_rng([seed, channel, index]).random(count)


@dataclasses.dataclass(frozen=True)
class Steps:
    """A new random value in [low, high] after every `period` env steps (log-uniform by default)."""

    low: float
    high: float
    period: float
    log: bool = True

    def __post_init__(self) -> None:
        plain_scalars(self)
        _check_range("Steps", self.low, self.high, self.log)
        check_number("Steps.period", self.period, 0.0, open_low=True)

    def value(self, env_steps: int, seed: int, channel: int) -> float:
        """The value in force after `env_steps` env steps."""
        u = _uniforms(seed, channel, int(env_steps // self.period))[0]
        return float(_between(self.low, self.high, u, self.log))


@dataclasses.dataclass(frozen=True)
class Linear:
    """From `low` at 0 to `high` at `period` env steps, then constant (low may exceed high)."""

    low: float
    high: float
    period: float
    log: bool = False

    def __post_init__(self) -> None:
        plain_scalars(self)
        _check_range("Linear", min(self.low, self.high), max(self.low, self.high), self.log)
        check_number("Linear.period", self.period, 0.0, open_low=True)

    def value(self, env_steps: int, seed: int, channel: int) -> float:
        """The value in force after `env_steps` env steps."""
        del seed, channel
        return float(_between(self.low, self.high, min(env_steps / self.period, 1.0), self.log))


@dataclasses.dataclass(frozen=True)
class Sinusoid:
    """Between `low` and `high` with the given period in env steps, starting in the middle."""

    low: float
    high: float
    period: float
    log: bool = False

    def __post_init__(self) -> None:
        plain_scalars(self)
        _check_range("Sinusoid", self.low, self.high, self.log)
        check_number("Sinusoid.period", self.period, 0.0, open_low=True)

    def value(self, env_steps: int, seed: int, channel: int) -> float:
        """The value in force after `env_steps` env steps."""
        del seed, channel
        phase = 0.5 + 0.5 * math.sin(2 * math.pi * env_steps / self.period)
        return float(_between(self.low, self.high, phase, self.log))


@dataclasses.dataclass(frozen=True)
class RandomWalk:
    """A walk in [low, high] (in log space if `log`), reflected at the bounds.

    One Gaussian step every `period` env steps, of standard deviation `scale` times the range.
    """

    low: float
    high: float
    period: float
    scale: float = 0.2
    log: bool = True

    def __post_init__(self) -> None:
        plain_scalars(self)
        _check_range("RandomWalk", self.low, self.high, self.log)
        check_number("RandomWalk.period", self.period, 0.0, open_low=True)
        check_number("RandomWalk.scale", self.scale, 0.0, open_low=True)

    def value(self, env_steps: int, seed: int, channel: int) -> float:
        """The value in force after `env_steps` env steps."""
        count = int(env_steps // self.period)
        steps = np.random.default_rng([seed, channel]).standard_normal(count)
        position = (0.5 + self.scale * steps.sum()) % 2.0
        return float(_between(self.low, self.high, 1.0 - abs(1.0 - position), self.log))


@dataclasses.dataclass(frozen=True)
class Wear:
    """Each actuator's strength falls linearly from 1 to its own final value, then stays.

    The final values are drawn uniformly from [1 - most, 1 - least]; `period` is the length of
    the fall in env steps.
    """

    most: float
    period: float
    least: float = 0.0

    def __post_init__(self) -> None:
        plain_scalars(self)
        check_number("Wear.least", self.least, 0.0)
        check_number("Wear.most", self.most, self.least)
        _check(
            self.most <= 1, f"Wear.most must be at most 1 (all strength lost), got {self.most!r}"
        )
        check_number("Wear.period", self.period, 0.0, open_low=True)

    def strengths(self, env_steps: int, seed: int, channel: int, actuators: int) -> np.ndarray:
        """The strength of each actuator after `env_steps` env steps, [actuators] in [0, 1]."""
        loss = self.least + (self.most - self.least) * _uniforms(seed, channel, 0, actuators)
        return 1.0 - min(env_steps / self.period, 1.0) * loss


@dataclasses.dataclass(frozen=True)
class Faults:
    """Every `period` env steps, with this probability, one random actuator stops working."""

    probability: float
    period: float

    def __post_init__(self) -> None:
        plain_scalars(self)
        check_number("Faults.probability", self.probability, 0.0)
        _check(
            self.probability <= 1, f"Faults.probability must be at most 1, got {self.probability!r}"
        )
        check_number("Faults.period", self.period, 0.0, open_low=True)

    def working(self, env_steps: int, seed: int, channel: int, actuators: int) -> np.ndarray:
        """1 for each actuator that works after `env_steps` env steps, 0 for one that does not."""
        u, which = _uniforms(seed, channel, int(env_steps // self.period), 2)
        out = np.ones(actuators)
        if u < self.probability:
            out[int(which * actuators)] = 0.0
        return out


_FORMS = {cls.__name__: cls for cls in (Steps, Linear, Sinusoid, RandomWalk, Wear, Faults)}
Schedule = Steps | Linear | Sinusoid | RandomWalk


@dataclasses.dataclass(frozen=True)
class Drift:
    """What changes, and how: `drift.at(env_steps, actuators)` gives the `Dynamics` in force.

    Attributes:
        friction: schedule of the ground friction coefficient; None keeps it at 1.
        strength: a schedule shared by all actuators, or `Wear` for one each; None keeps 1.
        damping: schedule of the added velocity damping in 1/s; None keeps 0.
        faults: intermittent loss of one actuator; None for no faults.
        seed: of every random value above; two drifts with the same seed are the same function.
    """

    friction: Schedule | None = None
    strength: Schedule | Wear | None = None
    damping: Schedule | None = None
    faults: Faults | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "friction": (Steps, Linear, Sinusoid, RandomWalk),
            "strength": (Steps, Linear, Sinusoid, RandomWalk, Wear),
            "damping": (Steps, Linear, Sinusoid, RandomWalk),
            "faults": (Faults,),
        }
        for channel, forms in allowed.items():
            value = getattr(self, channel)
            _check(
                value is None or isinstance(value, forms),
                f"Drift.{channel} must be None or one of {[f.__name__ for f in forms]}, "
                f"got {value!r}",
            )
        _check(
            isinstance(self.seed, int) and not isinstance(self.seed, bool) and self.seed >= 0,
            f"Drift.seed must be a whole number of at least 0, got {self.seed!r}",
        )

    @classmethod
    def none(cls) -> Drift:
        """The stationary task."""
        return cls()

    @classmethod
    def constant_friction(cls, friction: float) -> Drift:
        """A stationary task with another ground friction."""
        check_number("Drift.constant_friction", friction, 0.0, open_low=True)
        return cls(friction=Linear(friction, friction, 1.0))

    @property
    def changes(self) -> tuple[str, ...]:
        """The names of the channels that this drift sets."""
        return tuple(name for name in _CHANNELS if getattr(self, name) is not None)

    def __or__(self, other: Drift) -> Drift:
        """Both drifts at once; they must set different channels. The left one's seed is kept."""
        both = sorted(set(self.changes) & set(other.changes))
        _check(
            not both, f"drifts can be combined when they set different channels, both set {both}"
        )
        return dataclasses.replace(self, **{name: getattr(other, name) for name in other.changes})

    def with_seed(self, seed: int) -> Drift:
        """The same drift with other random values."""
        return dataclasses.replace(self, seed=seed)

    def at(self, env_steps: int, actuators: int) -> Dynamics:
        """The dynamics in force after `env_steps` env steps, as float32 numpy values."""
        check_number("Drift.at.env_steps", env_steps, 0.0)

        def scalar(name: str, default: float) -> float:
            schedule = getattr(self, name)
            return (
                default
                if schedule is None
                else schedule.value(env_steps, self.seed, _CHANNELS[name])
            )

        if isinstance(self.strength, Wear):
            strength = self.strength.strengths(
                env_steps, self.seed, _CHANNELS["strength"], actuators
            )
        else:
            strength = np.full(actuators, scalar("strength", 1.0))
        if self.faults is not None:
            strength = strength * self.faults.working(
                env_steps, self.seed, _CHANNELS["faults"], actuators
            )
        return Dynamics(
            np.float32(scalar("friction", 1.0)),
            strength.astype(np.float32),
            np.float32(scalar("damping", 0.0)),
        )

    def table(self, env_steps: np.ndarray, actuators: int) -> Dynamics:
        """`at` for several moments, stacked on a leading axis."""
        rows = [self.at(int(s), actuators) for s in np.asarray(env_steps)]
        return Dynamics(*(np.stack(column) for column in zip(*rows)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the seed (a run's seed seeds its drift); `from_dict` reads it back."""
        return {
            name: {"form": type(value).__name__, **dataclasses.asdict(value)}
            for name in self.changes
            for value in [getattr(self, name)]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], seed: int = 0) -> Drift:
        """Build a drift from its JSON form; unknown channels, forms and fields are refused."""
        _check(isinstance(data, Mapping), f"a drift must map channels to forms, got {data!r}")
        channels = {}
        for name, fields in data.items():
            _check(
                name in _CHANNELS,
                f"a drift has the channels {sorted(_CHANNELS)}, got {name!r}",
            )
            _check(isinstance(fields, Mapping), f"{name} must map names to values, got {fields!r}")
            fields = dict(fields)
            form = fields.pop("form", None)
            _check(
                isinstance(form, str) and form in _FORMS,
                f"drift forms are {sorted(_FORMS)}, got {form!r} for {name}",
            )
            known = {f.name for f in dataclasses.fields(_FORMS[form])}
            unknown = sorted(set(fields) - known)
            _check(not unknown, f"{form} has the fields {sorted(known)}, got also {unknown}")
            try:
                channels[name] = _FORMS[form](**fields)
            except TypeError as error:
                raise LoptrlError(f"{form} for {name} is incomplete: {error}") from None
        return cls(**channels, seed=seed)

    def __str__(self) -> str:
        if not self.changes:
            return "no drift"
        parts = []
        for name in self.changes:
            value = getattr(self, name)
            fields = ", ".join(f"{k}={v:g}" for k, v in dataclasses.asdict(value).items())
            parts.append(f"{name}: {type(value).__name__}({fields})")
        return "; ".join(parts) + f" [seed {self.seed}]"

    def draw(self, env_steps: int, actuators: int, points: int = 400) -> Any:
        """A figure of friction, mean strength and damping over a run of `env_steps` env steps."""
        from loptrl import plots

        moments = np.linspace(0, env_steps, points)
        table = self.table(moments, actuators)
        return plots.drift_figure(moments, table.friction, table.strength, table.damping)
