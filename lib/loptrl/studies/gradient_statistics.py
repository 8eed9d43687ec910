"""Study 8: agents' gradients by age, and how far the meta-gradients of different agents agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loptrl.studies.base import Arm, Budget
from loptrl.studies.meta_recipes import changing
from loptrl.studies.meta_study import MetaStudy

__all__ = ["INNER_UPDATES", "LIFE", "PATHS", "STUDY", "WORLDS", "arm_name"]

LIFE = 64
"""Meta-iterations with 4 inner updates in an agent's life, over which gradients are looked at."""

INNER_UPDATES = {"full": (1, 2, 4, 8), "small": (1, 2, 4)}
"""By size: 256 environments an agent, and 32, at which the path through the physics fits."""

PATHS = {"full": ("data",), "small": ("data", "critic", "physics")}
"""By size: rollouts are data; the same without the policy's part of the meta-loss, which the path
through the physics leaves without a derivative; the meta-gradient flows through the physics, too.
"""

WORLDS = ("still", "changing")

_WORDS = {
    "data": "rollouts as data",
    "critic": "rollouts as data, no policy in the meta-loss",
    "physics": "through the physics",
}
_LOOKS = {"data": "optim4rl", "critic": "optim4rl:second", "physics": "optim4rl:published"}
_LONG, _SHORT, _SMALL = 11_141_120, 2_785_280, 261_120
_AGENTS = 8


def arm_name(size: str, path: str, world: str, inner_updates: int) -> str:
    """Such as "full.data.still.4"."""
    return f"{size}.{path}.{world}.{inner_updates}"


def _arm(size: str, path: str, world: str, inner_updates: int) -> Arm:
    full = size == "full"
    steps = _SMALL if not full else _LONG if inner_updates == 4 else _SHORT
    settings: dict[str, Any] = {
        "inner_updates": inner_updates,
        "num_envs": 256 if full else 32,
        # Five regimes in the time that is looked at, as in the meta-trainings.
        "drift": changing((_LONG if full else _SMALL) // _AGENTS) if world == "changing" else {},
    }
    if path == "physics":
        settings["through_dynamics"] = True
    elif path == "critic":
        settings["policy_in_meta_loss"] = False
    elif not full:
        settings["compare_whole"] = True
    what = "the changing Ant" if world == "changing" else "the Ant, nothing changes"
    updates = f"{inner_updates} inner update{'s' if inner_updates > 1 else ''}"
    label = f"{what}: {_WORDS[path]}, {updates}, {settings['num_envs']} environments"
    name = arm_name(size, path, world, inner_updates)
    return Arm(name, label, _LOOKS[path], settings, env_steps={"laptop": steps})


_ARMS = [
    _arm(size, path, world, inner_updates)
    for size, paths in PATHS.items()
    for inner_updates in INNER_UPDATES[size]
    for path in paths
    for world in WORLDS
]

_BASE: Mapping[str, Any] = {
    "rule": "optim4rl",
    "init": "optim4rl/untrained",
    "world": "ant",
    "agents": _AGENTS,
    # All agents have one age, and theta stays as it is.
    "reset_interval": None,
    "meta_learning_rate": 0.0,
}

_TINY = {
    "world": "probe_reach",
    "num_envs": 2,
    "agents": 2,
    "agent": {"rollout_length": 4, "minibatches": 2, "epochs": 1, "hidden": [3]},
}

STUDY = MetaStudy(
    "gradient_statistics",
    "Gradients of agents and of meta-training",
    1,
    _BASE,
    {arm.name: arm for arm in _ARMS},
    {"smoke": Budget(600, 3, _TINY), "laptop": Budget(_SHORT, 3)},
)
"""All at the weights from which every meta-training here starts."""
