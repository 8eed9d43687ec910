"""The meta-trainings of this project by name, and the drifts that they meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from loptrl.errors import LoptrlError
from loptrl.meta.config import MetaConfig, Phase
from loptrl.meta.es_config import EvolutionConfig
from loptrl.meta.supervised_config import SupervisedConfig
from loptrl.studies.open_agent import ADAM_RETURNS, BRAX, MINATAR

__all__ = [
    "DRIFTS",
    "GRID",
    "LICENCE",
    "RAW",
    "RECIPES",
    "Recipe",
    "changing",
    "drift_of",
    "evolution_agent",
    "normalisers",
    "phase_words",
    "recipe",
]

LICENCE = "Apache-2.0"
"""Of the weights that these recipes make, this repository's own."""

_LIFE = 2_800_000
"""About the env steps of one agent's life of 128 meta-iterations."""


def changing(life: int) -> dict[str, Any]:
    """Study 1's drift, sped up so that an agent's life of that many env steps has five regimes."""
    return {
        "friction": {"form": "Steps", "low": 0.02, "high": 2.0, "period": life // 5, "log": True},
        "strength": {"form": "Wear", "least": 0.0, "most": 0.4, "period": life},
    }


_CHANGES = changing(_LIFE)
DRIFTS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "changing": _CHANGES,
    "friction": {"friction": _CHANGES["friction"]},
    "wear": {"strength": _CHANGES["strength"]},
}
"""Study 1's drift and its two parts, sped up for an agent's life; at study 1's own pace few lives
would see a change."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A meta-training: what it is trained on, in words, and its numbers."""

    trained_on: str
    config: MetaConfig | EvolutionConfig | SupervisedConfig


def _optim4rl(**settings: Any) -> MetaConfig:
    # The middle of the official search in both directions (1e-5 to 1e-3, 32 to 512).
    return MetaConfig(**{"meta_learning_rate": 1e-4, "reset_interval": 128, **settings})


RAW: Mapping[str, Any] = {"max_grad_norm": None, "normalize_rewards": False}
"""An agent with gradients as they are, and rewards as the world gives them.

Optim4RL's authors multiply these by ten.
"""

_STILL = {"world": "ant"}
_CHANGING = {"world": "ant", "drift": DRIFTS["changing"]}


GRID: Mapping[str, tuple[str, int]] = {
    f"grid_{rate}_{interval}" if (rate, interval) != ("1e-4", 128) else "stationary": (
        rate,
        interval,
    )
    for rate in ("1e-5", "1e-4", "1e-3")
    for interval in (32, 128, 512)
}
"""Study 6's recipes on the stationary Ant: meta learning rate and reset interval."""


def _on_grid(rate: str, interval: int) -> Recipe:
    return Recipe(
        f"the Ant, nothing changes; meta learning rate {rate}, reset interval {interval}",
        _optim4rl(phases=[_STILL], meta_learning_rate=float(rate), reset_interval=interval),
    )


_SMALL_WORDS = "the Ant, friction and wear change, 32 environments an agent"


def _small(**settings: Any) -> MetaConfig:
    # 100 meta-iterations of a size that fits through the physics too, where one takes about 30 s.
    phase = {"world": "ant", "drift": changing(32 * 2720)}
    size = {"num_envs": 32, "env_steps": 100 * 8 * 2720, "reset_interval": 32}
    return _optim4rl(**size, meta_learning_rate=1e-3, phases=[phase], **settings)


def _open(**settings: Any) -> EvolutionConfig:
    # At the official horizon (1e7 env steps) and networks (2x64) a game takes 3.2e11 env steps. A
    # training of 25 PPO iterations with networks of 2x16 takes 3.9 s of a core on Breakout; there
    # tuned Adam goes from 0.5 to 5.60 on Breakout and from 0.4 to 0.83 on Asterix (means over 20
    # seeds, study 9): with less there would be little to tell members apart by. In so few updates
    # the official start, all weights 0, with the official sigma of 0.03 moves an agent too little
    # to change any of its returns: 12 members were equal. Around untrained weights they differ.
    agent = {**MINATAR, "hidden": [16, 16]}
    size = {"population": 64, "env_steps": 200_000, "zero_start": False}
    return EvolutionConfig(**{**size, "agent": agent, **settings})


RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "optim4rl": {
        "stationary": Recipe("the Ant, nothing changes", _optim4rl(phases=[_STILL])),
        "drift": Recipe("the Ant, friction and wear change", _optim4rl(phases=[_CHANGING])),
        # The official length. It begins as "drift" does: nothing there depends on what follows.
        "drift_long": Recipe(
            "the Ant, friction and wear change, 1e8 env steps",
            _optim4rl(phases=[_CHANGING], env_steps=100_000_000),
        ),
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
        "drift_raw": Recipe(
            "the Ant, friction and wear change, raw rewards, gradients not clipped by norm",
            _optim4rl(phases=[_CHANGING], agent=dict(RAW)),
        ),
        # The top of the official search: 173 steps of 1e-4 can hardly move a weight.
        "drift_raw_1e-3": Recipe(
            "the Ant, friction and wear change, raw rewards, gradients not clipped by norm; meta "
            "learning rate 1e-3",
            _optim4rl(phases=[_CHANGING], agent=dict(RAW), meta_learning_rate=1e-3),
        ),
        "small_data": Recipe(f"{_SMALL_WORDS}, rollouts as data", _small(through_dynamics=False)),
        "small_physics": Recipe(
            f"{_SMALL_WORDS}, the meta-gradient through the physics", _small(through_dynamics=True)
        ),
        "small_critic": Recipe(
            f"{_SMALL_WORDS}, rollouts as data, the meta-loss without the policy's part",
            _small(policy_in_meta_loss=False),
        ),
        **{name: _on_grid(*point) for name, point in GRID.items() if name != "stationary"},
    },
    "open": {
        "evolved_breakout": Recipe(
            "Breakout for 2e5 env steps, by evolution", _open(tasks=["breakout"], generations=100)
        ),
        # The same search, stopped early: nothing in a generation depends on how many will follow.
        "evolved_breakout_early": Recipe(
            "Breakout for 2e5 env steps, by evolution, the first generations",
            _open(tasks=["breakout"], generations=10),
        ),
        "evolved_breakout_slow": Recipe(
            "Breakout for 2e5 env steps, by evolution, a third of the outer step size",
            _open(tasks=["breakout"], generations=100, meta_learning_rate=0.01),
        ),
        "evolved_breakout_asterix": Recipe(
            "Breakout and Asterix for 2e5 env steps each, by evolution",
            # Tuned Adam's returns at this horizon, see above.
            _open(tasks=["breakout", "asterix"], normalisers=[5.6, 0.83], generations=50),
        ),
    },
    "velo": {
        "standin": Recipe(
            "stand-in: VeLO's architecture at a reduced size, meta-trained here by evolution on "
            "four scikit-learn tasks; not the released VeLO",
            # By what Adam reaches with the best of some step sizes for each, over 16 trainings.
            # All members at once: one by one their trainings take 2 to 4 times as long. So a
            # generation takes 1.25 s of a core, and compiling half a minute.
            SupervisedConfig(normalisers=[0.941, 0.99, 0.86, 0.943], members_at_once=33),
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
    if not known:
        raise LoptrlError(f"{rule} has no recipe, got {name!r}; name the world with --task")
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


def phase_words(phase: Phase) -> str:
    """A phase in words, such as "ant (friction and wear change)"."""
    changes = [{"strength": "wear"}.get(name, name) for name in sorted(phase.drift)]
    if not changes:
        return phase.world
    return f"{phase.world} ({' and '.join(changes)} change{'s' if len(changes) == 1 else ''})"


_AGENTS = dict.fromkeys(ADAM_RETURNS, MINATAR) | {"ant": BRAX, "humanoid": BRAX}


def evolution_agent(tasks: Sequence[str]) -> Mapping[str, Any]:
    """OPEN's agent for those worlds: one for games, one for bodies; probes take PPO's defaults.

    Raises:
        LoptrlError: the worlds want different agents.
    """
    agents = [_AGENTS.get(task, {}) for task in tasks]
    if any(agent != agents[0] for agent in agents):
        raise LoptrlError(
            f"expected games, or bodies, or probes, whose agents are alike, got {', '.join(tasks)}"
        )
    return agents[0]


def normalisers(tasks: Sequence[str]) -> list[float]:
    """Adam's published return on each of several tasks; 1 for a single one.

    Raises:
        LoptrlError: none is known for a task.
    """
    if len(tasks) == 1:
        return [1.0]
    unknown = [task for task in tasks if task not in ADAM_RETURNS]
    if unknown:
        raise LoptrlError(
            f"no return of Adam on {unknown[0]} is known, by which tasks could be compared: "
            f"expected some of {', '.join(ADAM_RETURNS)}"
        )
    return [ADAM_RETURNS[task] for task in tasks]
