"""Study 11: other step sizes on the changing Ant, and gradients that are not clipped."""

from __future__ import annotations

from loptrl.studies import adam_collapse
from loptrl.studies.adam_collapse import DRIFT
from loptrl.studies.base import Arm
from loptrl.studies.changing_ant import learned_arm, of

__all__ = ["RAW", "STUDY", "UNCLIPPED"]

UNCLIPPED = {"max_grad_norm": None}
"""The agent without the clip of its networks' gradients."""

RAW = {**UNCLIPPED, "normalize_rewards": False}
"""And with rewards as the Ant gives them, so that the critic's gradients are large."""

STUDY = of(
    "step_size",
    "Step sizes on the changing Ant",
    1,
    [
        *(
            Arm(
                f"adam_{rate}",
                f"Adam, {rate}",
                look,
                {"optimizer": {"name": "adam", "learning_rate": float(rate)}, "drift": DRIFT},
            )
            for rate, look in (("1e-4", "adam:small_step"), ("1e-3", "adam:second"))
        ),
        # The rule clips each entry of a gradient to [-1, 1] itself, as its authors' agents do.
        *(
            learned_arm(
                name,
                f"Optim4RL (authors', reset 512), {words}",
                look,
                "optim4rl/ant",
                seeds={},
                agent=agent,
            )
            for name, words, look, agent in (
                ("published_unclipped", "no gradient clip", "optim4rl:no_gradient_clip", UNCLIPPED),
                ("published_raw", "raw rewards", "optim4rl:no_clip", RAW),
            )
        ),
        Arm(
            "adam_raw",
            "Adam, raw rewards",
            "adam:no_clip",
            {**adam_collapse.STUDY.arms["adam"].settings, **RAW},
        ),
    ],
)
"""Beside runs of other studies: Adam and Optim4RL at 3e-4, and Adam without the gradient clip."""
