"""Study 1: does Adam's policy collapse on a changing Ant, and is PPO's clipping the brake?"""

from __future__ import annotations

import dataclasses
from typing import Any

from loptrl.studies.base import Arm, Budget, Study

__all__ = ["CONTROL_FRICTIONS", "DRIFT", "FIVE_SEEDS", "PERIOD", "STUDY"]

PERIOD = 2_000_000
"""Env steps between two frictions, as in SlipperyAnt (Dohare et al. 2024)."""

CONTROL_FRICTIONS = (0.02, 0.0632, 0.2, 0.632, 2.0)
"""Fixed frictions of the regime controls, evenly spaced in their logarithm."""

DRIFT = {
    "friction": {"form": "Steps", "low": 0.02, "high": 2.0, "period": PERIOD, "log": True},
    "strength": {"form": "Wear", "least": 0.0, "most": 0.4, "period": 20_000_000},
}
"""What changes on the changing Ant, in every study: the friction, and the motors that wear."""

FIVE_SEEDS = {"laptop": 5, "paper": 5}
"""Seeds of an arm that the source's graphs show."""


def _adam(b1: float, b2: float) -> dict[str, Any]:
    return {"optimizer": {"name": "adam", "learning_rate": 3e-4, "b1": b1, "b2": b2}}


def _drifting(name: str, label: str, look: str, b1: float, b2: float, **settings: Any) -> Arm:
    return Arm(name, label, look, {**_adam(b1, b2), "drift": DRIFT, **settings})


def _arms() -> list[Arm]:
    default = 0.9, 0.999
    unclipped = {"clip_ratio": None, "max_grad_norm": None}
    arms = [
        Arm("stationary", "Adam, nothing changes", "adam:stationary", _adam(*default)),
        _drifting("adam", "Adam, default betas", "adam", *default),
        _drifting("equal_99", "Adam, both betas 0.99", "adam_equal_betas", 0.99, 0.99),
        _drifting("equal_997", "Adam, both betas 0.997", "adam_equal_betas:second", 0.997, 0.997),
        _drifting(
            "no_ratio_clip", "Adam, no ratio clip", "adam:no_ratio_clip", *default, clip_ratio=None
        ),
        _drifting(
            "no_gradient_clip",
            "Adam, no gradient clip",
            "adam:no_gradient_clip",
            *default,
            max_grad_norm=None,
        ),
        _drifting("no_clip", "Adam, neither clip", "adam:no_clip", *default, **unclipped),
        Arm(
            "stationary_no_ratio_clip",
            "Adam, no ratio clip, nothing changes",
            "adam:no_ratio_clip",
            {**_adam(*default), "clip_ratio": None},
        ),
    ]
    arms[:3] = [dataclasses.replace(arm, seeds=FIVE_SEEDS) for arm in arms[:3]]
    for friction in CONTROL_FRICTIONS:
        fixed = {"friction": {"form": "Linear", "low": friction, "high": friction, "period": 1}}
        arms.append(
            Arm(
                f"control_{friction:g}",
                f"Adam, friction fixed at {friction:g}",
                "adam:stationary",
                {**_adam(*default), "drift": fixed},
                {"laptop": 1},
                {"laptop": 10_000_000, "paper": 50_000_000},
            )
        )
    return arms


STUDY = Study(
    name="adam_collapse",
    title="Adam on a changing Ant",
    version=1,
    base={"world": "ant", "backend": "spring"},
    arms={arm.name: arm for arm in _arms()},
    budgets={
        "smoke": Budget(
            env_steps=4_000,
            seeds=3,
            settings={
                "num_envs": 16,
                "minibatches": 2,
                "epochs": 1,
                "eval_every": 400,
                "eval_envs": 2,
            },
        ),
        "laptop": Budget(env_steps=20_000_000, seeds=3),
        "paper": Budget(env_steps=100_000_000, seeds=5, settings={"num_envs": 4096}),
    },
)
