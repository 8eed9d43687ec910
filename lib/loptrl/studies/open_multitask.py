"""Study 4: learned and hand-designed optimizers on four MinAtar games."""

from __future__ import annotations

from loptrl.studies.base import Arm, Budget, Study
from loptrl.studies.open_agent import MINATAR, learned, tuned

__all__ = ["GAMES", "OPTIMIZERS", "STUDY", "arm_name"]

GAMES = {
    "asterix": "Asterix",
    "freeway": "Freeway",
    "breakout": "Breakout",
    "space_invaders": "SpaceInvaders",
}
"""The games by the name of their world."""

OPTIMIZERS = {
    "adam": "Adam (tuned)",
    "rmsprop": "RMSProp (tuned)",
    "open": "OPEN (this game's)",
    "open_multi": "OPEN (multi-task)",
    "optim4rl": "Optim4RL (from Ant)",
    "velo": "VeLO",
}
"""The optimizers by the key of their look, in words."""

_TEN = {"laptop": 10, "paper": 16}


def arm_name(game: str, optimizer: str) -> str:
    """The arm of an optimizer on a game."""
    return f"{game}.{optimizer}"


def _settings(game: str, optimizer: str) -> dict:
    if optimizer in ("adam", "rmsprop"):
        return tuned(optimizer, game)
    if optimizer == "open":
        return learned("open", f"open/{game.replace('_', '')}")
    if optimizer == "open_multi":
        return learned("open", "open/multi")
    return learned(optimizer, {"optim4rl": "optim4rl/ant", "velo": "velo/released"}[optimizer])


STUDY = Study(
    name="open_multitask",
    title="Learned optimizers on four MinAtar games",
    version=1,
    base=MINATAR,
    arms={
        arm_name(game, optimizer): Arm(
            arm_name(game, optimizer),
            f"{words}: {label}",
            optimizer,
            {"world": game, **_settings(game, optimizer)},
            _TEN if optimizer in ("adam", "open_multi") else {},
        )
        for optimizer, label in OPTIMIZERS.items()
        for game, words in GAMES.items()
    },
    budgets={
        "smoke": Budget(
            env_steps=2_048,
            seeds=2,
            settings={
                "num_envs": 8,
                "rollout_length": 16,
                "minibatches": 2,
                "epochs": 2,
                "hidden": [8, 8],
                "eval_every": 512,
                "eval_envs": 2,
            },
        ),
        "laptop": Budget(
            env_steps=10_000_000, seeds=5, settings={"eval_every": 200_000, "eval_envs": 16}
        ),
        "paper": Budget(
            env_steps=10_000_000, seeds=16, settings={"eval_every": 200_000, "eval_envs": 64}
        ),
    },
)
