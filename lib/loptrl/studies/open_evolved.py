"""Study 9: OPEN as it was evolved here, on the horizon and the networks of its evolution."""

from __future__ import annotations

from loptrl.studies import meta_recipes
from loptrl.studies.base import Budget
from loptrl.studies.comparison import Comparison
from loptrl.studies.open_agent import learned, tuned

__all__ = ["COMPARISON", "EVOLUTIONS", "RECIPES", "STUDY"]

EVOLUTIONS = {
    "one": "evolved_breakout",
    "slow": "evolved_breakout_slow",
    "two": "evolved_breakout_asterix",
}
"""Optimizer -> the search that it ends."""

RECIPES = {"early": "evolved_breakout_early", **EVOLUTIONS}
"""Optimizer -> its recipe."""

_WEIGHTS = {"start": "untrained", **RECIPES}

_RECIPE = meta_recipes.recipe("open", EVOLUTIONS["one"]).config
_MEMBER = _RECIPE.ppo("breakout")
_HORIZON = _MEMBER.num_slices * _MEMBER.env_steps_per_slice

COMPARISON = Comparison.of(
    "open_evolved",
    "OPEN evolved here, at the horizon of its evolution",
    1,
    base=_RECIPE.agent,
    tasks={"breakout": "Breakout", "asterix": "Asterix"},
    optimizers={
        "adam": "Adam (tuned)",
        "start": "OPEN, untrained",
        "early": "OPEN, early (Breakout)",
        "one": "OPEN (Breakout)",
        "slow": "OPEN (Breakout, slower)",
        "two": "OPEN (both games)",
    },
    settings=lambda task, optimizer: (
        learned(f"open/{_WEIGHTS[optimizer]}") if optimizer in _WEIGHTS else tuned(optimizer, task)
    ),
    looks={
        "start": "open:random",
        "early": "open:first_generations",
        "one": "open:evolved",
        "slow": "open:second",
        "two": "open:evolved_two",
    },
    budgets={
        "smoke": Budget(
            env_steps=2_048,
            seeds=2,
            settings={"num_envs": 8, "rollout_length": 16, "eval_every": 512, "eval_envs": 2},
        ),
        "laptop": Budget(
            env_steps=_HORIZON, seeds=20, settings={"eval_every": 40_960, "eval_envs": 64}
        ),
        "paper": Budget(
            env_steps=_HORIZON, seeds=64, settings={"eval_every": 40_960, "eval_envs": 64}
        ),
    },
)
STUDY = COMPARISON.study
