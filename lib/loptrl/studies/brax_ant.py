"""Study 5: learned and hand-designed optimizers on Brax Ant and Humanoid."""

from __future__ import annotations

from loptrl.studies.base import Arm, Budget, Study
from loptrl.studies.open_agent import BRAX, learned, tuned

__all__ = ["BODIES", "OPTIMIZERS", "STUDY", "arm_name"]

BODIES = {"ant": "Ant", "humanoid": "Humanoid"}
"""The bodies by the name of their world."""

OPTIMIZERS = {
    "adam": "Adam (tuned on Ant)",
    "rmsprop": "RMSProp (tuned on Ant)",
    "open": "OPEN (from Ant)",
    "open_multi": "OPEN (from MinAtar)",
    "optim4rl": "Optim4RL (from Ant)",
    "velo": "VeLO",
}
"""The optimizers by the key of their look, in words."""

_LEARNED = {
    "open": ("open", "open/ant"),
    "open_multi": ("open", "open/multi"),
    "optim4rl": ("optim4rl", "optim4rl/ant"),
    "velo": ("velo", "velo/released"),
}

# As the source report ran it: networks of width 256.
_BODY_SETTINGS = {"ant": {}, "humanoid": {"hidden": [256, 256]}}
_LENGTHS = {"ant": {}, "humanoid": {"laptop": 10_000_000}}


def arm_name(body: str, optimizer: str) -> str:
    """The arm of an optimizer on a body."""
    return f"{body}.{optimizer}"


def _settings(body: str, optimizer: str) -> dict:
    if optimizer in _LEARNED:
        return learned(*_LEARNED[optimizer])
    return tuned(optimizer, body)


STUDY = Study(
    name="brax_ant",
    title="Learned optimizers on Brax Ant and Humanoid",
    version=1,
    base=BRAX,
    arms={
        arm_name(body, optimizer): Arm(
            arm_name(body, optimizer),
            f"{words}: {label}",
            optimizer,
            {"world": body, **_BODY_SETTINGS[body], **_settings(body, optimizer)},
            env_steps=_LENGTHS[body],
        )
        for optimizer, label in OPTIMIZERS.items()
        for body, words in BODIES.items()
    },
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
