"""Study 4: learned and hand-designed optimizers on four MinAtar games."""

from __future__ import annotations

from loptrl.ppo.config import HAND_DESIGNED
from loptrl.studies.base import Budget
from loptrl.studies.comparison import Comparison
from loptrl.studies.open_agent import LOOKS, MINATAR, WEIGHTS, learned, tuned

__all__ = ["COMPARISON", "STUDY"]

_GAMES = {
    "asterix": "Asterix",
    "freeway": "Freeway",
    "breakout": "Breakout",
    "space_invaders": "SpaceInvaders",
}
_OPTIMIZERS = {
    "adam": "Adam (tuned)",
    "rmsprop": "RMSProp (tuned)",
    "open": "OPEN (this game's)",
    "open_multi": "OPEN (multi-task)",
    "optim4rl": "Optim4RL (from Ant)",
    "velo": "VeLO",
    "optim4rl_own": "Optim4RL (ours, from Ant)",
    "open_own": "OPEN (ours, Breakout)",
    "open_own_two": "OPEN (ours, two games)",
}
_TEN = {"laptop": 10, "paper": 16}


def _settings(game: str, optimizer: str) -> dict:
    if optimizer in HAND_DESIGNED:
        return tuned(optimizer, game)
    if optimizer == "open":
        return learned(f"open/{game.replace('_', '')}")
    return learned(WEIGHTS[optimizer])


COMPARISON = Comparison.of(
    "open_multitask",
    "Learned optimizers on four MinAtar games",
    1,
    base=MINATAR,
    tasks=_GAMES,
    optimizers=_OPTIMIZERS,
    settings=_settings,
    looks=LOOKS,
    seeds={"adam": _TEN, "open_multi": _TEN},
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
STUDY = COMPARISON.study
