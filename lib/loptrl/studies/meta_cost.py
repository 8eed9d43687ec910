"""Study 7: memory and time of meta-training, and what the path through the physics adds."""

from __future__ import annotations

from typing import Any

from loptrl import drive
from loptrl.meta.config import CostConfig
from loptrl.runs import RunSpec
from loptrl.studies.base import Arm, Budget
from loptrl.studies.meta_study import MetaStudy

__all__ = [
    "AGENTS",
    "EIGHT",
    "ENVIRONMENTS",
    "GIB",
    "INNER_UPDATES",
    "OFFICIAL",
    "STUDY",
    "WAYS",
    "arm_name",
]

GIB = 2**30

WAYS = {
    "official": "through the physics, nothing rematerialised",
    "physics": "through the physics, updates rematerialised",
    "nothing": "rollouts as data, nothing rematerialised",
    "updates": "rollouts as data, updates rematerialised",
    "iterations": "rollouts as data, PPO iterations rematerialised",
}
"""How the meta-gradient is computed, in words; "updates" is the default here."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "official": {"through_dynamics": True, "rematerialize": "nothing"},
    "physics": {"through_dynamics": True, "rematerialize": "updates"},
    "nothing": {"rematerialize": "nothing"},
    "updates": {"rematerialize": "updates"},
    "iterations": {"rematerialize": "iterations"},
}

ENVIRONMENTS = (32, 128, 512, 2048)
INNER_UPDATES = (1, 2, 4, 8)
AGENTS = (1, 2, 4, 8)
OFFICIAL = (2048, 4, 1)
"""Environments, inner updates and agents of the official code on one of its devices, were there
only one."""

EIGHT = (2048, 4, 8)
"""Eight agents of the official size on one device; analysed, not run: minutes a meta-iteration."""

_MIDDLE = (128, 4, 1)
_FITS = 4 * 128
"""Environments times inner updates through the physics that are also run: they take 2 GiB."""


def arm_name(way: str, environments: int, inner_updates: int, agents: int) -> str:
    """Such as "updates.2048.4.1"."""
    return f"{way}.{environments}.{inner_updates}.{agents}"


def _arm(way: str, environments: int, inner_updates: int, agents: int) -> Arm:
    too_much = "through_dynamics" in _SETTINGS[way] and environments * inner_updates > _FITS
    settings = {
        **_SETTINGS[way],
        "num_envs": environments,
        "inner_updates": inner_updates,
        "agents": agents,
        "timed": 0 if too_much or (environments, inner_updates, agents) == EIGHT else 2,
    }
    label = f"{WAYS[way]}: {environments} environments, {inner_updates} inner updates, {agents} "
    label += "agents" if agents > 1 else "agent"
    name = arm_name(way, environments, inner_updates, agents)
    return Arm(name, label, "optim4rl", settings)


def _sizes(way: str) -> list[tuple[int, int, int]]:
    _, updates, agents = _MIDDLE
    sizes = [(environments, updates, agents) for environments in ENVIRONMENTS]
    if way in ("physics", "updates"):
        sizes += [(_MIDDLE[0], k, agents) for k in INNER_UPDATES]
    if way == "updates":
        sizes += [(_MIDDLE[0], updates, n) for n in AGENTS] + [EIGHT]
    return list(dict.fromkeys(sizes))


class _CostStudy(MetaStudy):
    config_type = CostConfig

    def make_program(self, spec: RunSpec) -> drive.Program:
        """The meta-iterations that are timed."""
        from loptrl.studies.meta_training import make_cost_program

        return make_cost_program(spec)


_ARMS = [_arm(way, *size) for way in WAYS for size in _sizes(way)]

_TINY = {
    "world": "probe_reach",
    "agent": {"rollout_length": 4, "minibatches": 2, "epochs": 1, "hidden": [3]},
}

STUDY = _CostStudy(
    "meta_cost",
    "Memory and time of meta-training",
    1,
    {"rule": "optim4rl", "world": "ant", "reset_interval": None},
    {arm.name: arm for arm in _ARMS},
    {"smoke": Budget(1, 1, _TINY), "laptop": Budget(1, 1)},
)
"""One seed: what the compiler says is exact, and times are of this machine."""
