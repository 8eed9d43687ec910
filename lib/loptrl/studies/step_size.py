"""Study 11: other step sizes on the changing Ant, and gradients that are not clipped."""

from __future__ import annotations

from loptrl.studies import adam_collapse
from loptrl.studies.adam_collapse import DRIFT
from loptrl.studies.base import Arm
from loptrl.studies.changing_ant import learned_arm, of
from loptrl.studies.meta_recipes import RAW

__all__ = ["STUDY"]

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
        learned_arm(
            "published_unclipped",
            "Optim4RL (authors', reset 512), no gradient clip",
            "optim4rl:no_gradient_clip",
            "optim4rl/ant",
            seeds={},
            # The rule clips each entry of a gradient to [-1, 1] itself.
            agent={"max_grad_norm": None},
        ),
        *(
            learned_arm(
                name,
                f"Optim4RL ({words}), raw agent",
                look,
                f"optim4rl/{weights}",
                seeds={},
                agent=RAW,
            )
            for name, words, look, weights in (
                ("published_raw", "authors', reset 512", "optim4rl:published", "ant"),
                ("untrained_raw", "untrained", "optim4rl:untrained", "untrained"),
                ("drift_raw", "trained there", "optim4rl", "drift_raw"),
                (
                    "drift_raw_1e-3",
                    "trained there, meta learning rate 1e-3",
                    "optim4rl:transferred",
                    "drift_raw_1e-3",
                ),
            )
        ),
        # Its steps are as long as those of "drift_raw_1e-3".
        learned_arm(
            "untrained_raw_1.5e-3",
            "Optim4RL (untrained, five times the step), raw agent",
            "optim4rl:long_step",
            "optim4rl/untrained",
            learning_rate=1.5e-3,
            seeds={},
            agent=RAW,
        ),
        Arm(
            "adam_raw",
            "Adam, raw agent",
            "adam:no_clip",
            {**adam_collapse.STUDY.arms["adam"].settings, **RAW},
        ),
        *(
            Arm(
                f"adam_raw_{rate}",
                f"Adam, {rate}, raw agent",
                look,
                {
                    "optimizer": {"name": "adam", "learning_rate": float(rate)},
                    "drift": DRIFT,
                    **RAW,
                },
            )
            for rate, look in (("1e-3", "adam:second"), ("3e-3", "adam:long_step"))
        ),
    ],
)
"""Beside runs of other studies: Adam and Optim4RL at 3e-4, and Adam without the gradient clip."""
