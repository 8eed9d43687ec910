"""Study 5: learned and hand-designed optimizers on Brax Ant and Humanoid."""

from __future__ import annotations

from loptrl.studies.base import Budget
from loptrl.studies.comparison import Comparison
from loptrl.studies.open_agent import BRAX, LOOKS, WEIGHTS, learned, tuned

__all__ = ["COMPARISON", "STUDY"]

_BODIES = {"ant": "Ant", "humanoid": "Humanoid"}
_OPTIMIZERS = {
    "adam": "Adam (tuned on Ant)",
    "rmsprop": "RMSProp (tuned on Ant)",
    "open": "OPEN (from Ant)",
    "open_multi": "OPEN (multi-task)",
    "optim4rl": "Optim4RL (from Ant)",
    "velo": "VeLO",
    "optim4rl_own": "Optim4RL (ours, from Ant)",
    "open_own_two": "OPEN (ours, two games)",
}
_WEIGHTS = {**WEIGHTS, "open": "open/ant"}

# As the source report ran it: networks of width 256.
_BODY_SETTINGS = {"ant": {}, "humanoid": {"hidden": [256, 256]}}


def _settings(body: str, optimizer: str) -> dict:
    rule = learned(_WEIGHTS[optimizer]) if optimizer in _WEIGHTS else tuned(optimizer, body)
    return {**_BODY_SETTINGS[body], **rule}


COMPARISON = Comparison.of(
    "brax_ant",
    "Learned optimizers on Brax Ant and Humanoid",
    1,
    base=BRAX,
    tasks=_BODIES,
    optimizers=_OPTIMIZERS,
    settings=_settings,
    looks=LOOKS,
    env_steps={"humanoid": {"laptop": 10_000_000}},
    budgets={
        "smoke": Budget(
            env_steps=4_000,
            seeds=2,
            settings={
                "num_envs": 16,
                "minibatches": 2,
                "epochs": 2,
                "hidden": [8, 8],
                "eval_every": 400,
                "eval_envs": 2,
            },
        ),
        "laptop": Budget(env_steps=20_000_000, seeds=3),
        "paper": Budget(env_steps=50_000_000, seeds=16),
    },
)
STUDY = COMPARISON.study
