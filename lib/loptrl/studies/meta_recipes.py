"""The meta-trainings of this project by name, and the drifts that they meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from loptrl.errors import LoptrlError
from loptrl.meta.config import MetaConfig

__all__ = ["DRIFTS", "RECIPES", "Recipe", "drift_of", "recipe"]

_LIFE = 2_800_000
"""About the env steps of one agent's life of 128 meta-iterations."""

DRIFTS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "changing": {
        "friction": {"form": "Steps", "low": 0.02, "high": 2.0, "period": _LIFE // 5, "log": True},
        "strength": {"form": "Wear", "least": 0.0, "most": 0.4, "period": _LIFE},
    },
}
"""Study 1's drift with five regimes to a life; with its own period few lives would see a change."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A meta-training: what it is trained on, in words, and its numbers."""

    trained_on: str
    config: MetaConfig


def _optim4rl(**settings: Any) -> MetaConfig:
    # The middle of the official search in both directions (1e-5 to 1e-3, 32 to 512).
    return MetaConfig(**{"meta_learning_rate": 1e-4, "reset_interval": 128, **settings})


_STILL = {"world": "ant"}
_CHANGING = {"world": "ant", "drift": DRIFTS["changing"]}

RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "optim4rl": {
        "stationary": Recipe("the Ant, nothing changes", _optim4rl(phases=[_STILL])),
        "drift": Recipe("the Ant, friction and wear change", _optim4rl(phases=[_CHANGING])),
        "drift_l2": Recipe(
            "the Ant, friction and wear change, L2 of 1e-4 in the agents' loss",
            _optim4rl(phases=[_CHANGING], agent_l2=1e-4),
        ),
        "curriculum": Recipe(
            "the Ant, one half of the training without change, one half with it",
            _optim4rl(phases=[_STILL, _CHANGING]),
        ),
        "no_pipeline": Recipe(
            "the Ant, friction and wear change, agents that never start anew",
            _optim4rl(phases=[_CHANGING], reset_interval=None),
        ),
        "reduced": Recipe(
            "the Ant, friction and wear change, 2 inner updates on half the batch",
            _optim4rl(phases=[_CHANGING], inner_updates=2, agent={"rollout_length": 10}),
        ),
    },
}
"""Rule -> name -> recipe. `reduced` has the source report's sizes for want of memory."""


def recipe(rule: str, name: str) -> Recipe:
    """The recipe of that name for a rule.

    Raises:
        LoptrlError: there is none.
    """
    known = RECIPES.get(rule, {})
    if name not in known:
        raise LoptrlError(f"unknown recipe {name!r} for {rule}: expected one of {', '.join(known)}")
    return known[name]


def drift_of(name: str) -> Mapping[str, Any]:
    """The drift of that name.

    Raises:
        LoptrlError: there is none.
    """
    if name not in DRIFTS:
        raise LoptrlError(f"unknown drift {name!r}: expected one of {', '.join(DRIFTS)}")
    return DRIFTS[name]
