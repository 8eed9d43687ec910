"""The OPEN authors' agents and tuned baselines, which studies 4 and 5 compare optimizers with.

Settings of MinAtar and Ant: github.com/AlexGoldie/rl-learned-optimization @ b65037b, `configs.py`
and `train.py`; tuned Adam: github.com/AlexGoldie/learn-rl-algorithms @ 5c52f68; tuned RMSProp: the
transcription in github.com/arseniykan/meta-optim-eval @ bcc9b10.

RMSProp's epsilon is the one of that transcription, 1e-8 under the root; with Adam's 1e-5 there, the
step would shrink wherever a gradient is below 3e-3. The baselines' gradients are clipped for
the actor and the critic apart, as OPEN's are and as that transcription does; the OPEN authors' own
Adam clips one gradient of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ADAM_RETURNS",
    "BRAX",
    "LOOKS",
    "MINATAR",
    "TUNED",
    "WEIGHTS",
    "learned",
    "tuned",
]

_COMMON: Mapping[str, Any] = {
    "epochs": 4,
    "discount": 0.99,
    "gae_lambda": 0.95,
    "clip_ratio": 0.2,
    "value_clip": 0.2,
    "max_grad_norm": 0.5,
    "value_coef": 0.5,
    # They count a time limit as a termination, and their optimizers were trained on that.
    "bootstrap_truncation": False,
    "standardize_minibatches": True,
}

MINATAR: Mapping[str, Any] = {
    **_COMMON,
    "num_envs": 64,
    "rollout_length": 128,
    "minibatches": 8,
    "entropy_coef": 0.01,
    "normalize_observations": False,
    "normalize_rewards": False,
    "hidden": [64, 64],
    "activation": "relu",
}
"""The agent for the four MinAtar games."""

BRAX: Mapping[str, Any] = {
    **_COMMON,
    "backend": "positional",
    "num_envs": 2048,
    "rollout_length": 10,
    "minibatches": 32,
    "entropy_coef": 0.0,
    "hidden": [64, 64],
    "activation": "tanh",
}
"""The agent for Brax Ant and Humanoid."""


def _adam(learning_rate: float, b1: float, b2: float) -> dict[str, Any]:
    numbers = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "eps": 1e-5}
    return {"name": "adam", "anneal": True, **numbers}


def _rmsprop(learning_rate: float, decay: float, anneal: bool) -> dict[str, Any]:
    numbers = {"learning_rate": learning_rate, "b1": 0.0, "b2": decay, "eps": 1e-8}
    return {"name": "rmsprop", "anneal": anneal, **numbers}


TUNED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "adam": {
        "asterix": _adam(3e-3, 0.9, 0.999),
        "freeway": _adam(1e-3, 0.9, 0.99),
        "breakout": _adam(1e-2, 0.9, 0.99),
        "space_invaders": _adam(7e-3, 0.9, 0.99),
        "ant": _adam(3e-4, 0.99, 0.99),
    },
    "rmsprop": {
        "asterix": _rmsprop(2e-3, 0.99, True),
        "freeway": _rmsprop(1e-3, 0.999, True),
        "breakout": _rmsprop(2e-3, 0.99, False),
        "space_invaders": _rmsprop(9e-3, 0.99, True),
        "ant": _rmsprop(8e-4, 0.99, False),
    },
}
"""Optimizer -> world -> its tuned numbers; Humanoid takes the Ant's, as the source report did."""

ADAM_RETURNS: Mapping[str, float] = {
    "asterix": 15.0353,
    "freeway": 61.8369,
    "breakout": 50.0822,
    "space_invaders": 167.0913,
    "ant": 6517.31,
}
"""World -> Adam's return after the full training (1e7 env steps; Ant 5e7), `PPO_TEMP` there."""


def tuned(optimizer: str, world: str) -> dict[str, Any]:
    """Settings of an arm with a tuned hand-designed optimizer."""
    return {"optimizer": dict(TUNED[optimizer]["ant" if world == "humanoid" else world])}


WEIGHTS: Mapping[str, str] = {
    "open_multi": "open/multi",
    "optim4rl": "optim4rl/ant",
    "velo": "velo/released",
    "optim4rl_own": "optim4rl/stationary",
    "open_own": "open/evolved_breakout",
    "open_own_two": "open/evolved_breakout_asterix",
}
"""Learned optimizer -> its weights, whatever the world; OPEN of one world has a name for each."""

LOOKS: Mapping[str, str] = {
    "optim4rl_own": "optim4rl:transferred",
    "open_own": "open:evolved",
    "open_own_two": "open:evolved_two",
}
"""Looks of the optimizers that were meta-trained here."""


def learned(weights: str) -> dict[str, Any]:
    """Settings of an arm with a learned optimizer, such as "open/multi".

    The study adds the weights' checksum.
    """
    return {"optimizer": {"name": weights.partition("/")[0], "weights": weights}}
