"""What `loptrl bench` can measure by name, and which ratios of it are looked at. Without jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

__all__ = [
    "BRAX",
    "BRAX_ALL",
    "EVOLUTION",
    "EVOLUTION_ALL",
    "FLOOR",
    "META",
    "META_SMALL",
    "OURS",
    "PAIRS",
    "THEIRS",
    "WANTED_RATES",
    "Pair",
    "Ratio",
    "quotients",
    "ratios",
]

OURS = "adam_collapse/adam"
"""Study 1's agent: PPO with Adam on the spring Ant."""

BRAX = "brax"
"""Brax's own trainer in the place of an arm, as it comes: a CPU is one device to it."""

BRAX_ALL = "brax:all"
"""The same with one host device per core, which is how our agent runs."""

EVOLUTION = "evolution"
"""Trainings of a generation's members, OPEN's evolution on Breakout, on one device of one core."""

EVOLUTION_ALL = "evolution:all"
"""The same with one host device per core."""

META = "meta"
"""The main meta-training of Optim4RL: eight agents, 2048 environments in all, on all devices."""

META_SMALL = "meta:small"
"""The same of one agent with 128 environments, on one device with all cores."""

FLOOR = "floor:"
"""Before STUDY/ARM: how fast that arm would be, did its rule cost its arithmetic alone."""

THEIRS: Mapping[str, str] = {
    "official:open": "open_multitask/breakout.open",
    "official:open_multi": "open_multitask/breakout.open_multi",
    "purejaxrl": "open_multitask/breakout.adam",
    "optim4rl:meta": META_SMALL,
}
"""Others' code -> the same here: OPEN on Breakout, both sizes of the rule, PPO with Adam there, and
the meta-training of Optim4RL."""


class Pair(NamedTuple):
    """Two measurements of whose ratio this library was to report before anything was measured.

    Attributes:
        ours: the name of the one that is divided.
        by: the name of the other.
        wanted: the least ratio; None where none was asked for.
    """

    ours: str
    by: str
    wanted: float | None


PAIRS = (
    Pair(THEIRS["official:open"], "official:open", 2.5),
    Pair(THEIRS["official:open_multi"], "official:open_multi", 2.0),
    Pair(THEIRS["purejaxrl"], "purejaxrl", 1.0),
    Pair("optim4rl_l2/drift", OURS, 0.75),
    Pair("brax_ant/ant.optim4rl", "brax_ant/ant.adam", 0.75),
    Pair("brax_ant/ant.open", "brax_ant/ant.adam", 0.75),
    Pair(EVOLUTION_ALL, EVOLUTION, 1.7),
    Pair(THEIRS["optim4rl:meta"], "optim4rl:meta", None),
)
"""The ratios of throughput that this library was built for, and what theirs reaches."""


WANTED_RATES: Mapping[str, float] = {META: 15_000.0, THEIRS["official:open"]: 46_000.0}
"""Env steps per second that were asked for on two cores before anything was measured, the second
beside 18,500 of the official code, which is slower on some machines."""


class Ratio(NamedTuple):
    """How many times the env steps per second of `by` are made by `ours`.

    Attributes:
        ours: the name of the one that is divided.
        by: the name of the other.
        rounds: the ratio of each round, in which one was measured soon after the other.
        wanted: the least ratio of `PAIRS`; None where none was asked for, as for one to a floor,
            which is at most 1.
    """

    ours: str
    by: str
    rounds: tuple[float, ...]
    wanted: float | None

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)


def quotients(ours: Sequence[float], by: Sequence[float]) -> tuple[float, ...]:
    """One over the other, round by round, as far as both were measured."""
    return tuple(one / other for one, other in zip(ours, by, strict=False))


def ratios(rates: Mapping[str, Sequence[float]]) -> list[Ratio]:
    """Those of `PAIRS` of which both were measured, and of each arm to its floor.

    Args:
        rates: env steps per second of each round, by name.
    """
    pairs = [*PAIRS, *(Pair(name, f"{FLOOR}{name}", None) for name in rates)]
    return [
        Ratio(
            ours,
            by,
            quotients(rates[ours], rates[by]),
            wanted,
        )
        for ours, by, wanted in pairs
        if ours in rates and by in rates
    ]
