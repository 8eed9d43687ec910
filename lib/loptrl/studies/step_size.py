"""Study 11: other step sizes than the usual ones on the changing Ant, and no gradient clip."""

from __future__ import annotations

from loptrl.studies.adam_collapse import DRIFT
from loptrl.studies.base import Arm
from loptrl.studies.changing_ant import learned_arm, of

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
            "untrained_1e-4",
            "Optim4RL (untrained), 1e-4",
            "optim4rl:untrained",
            "optim4rl/untrained",
            learning_rate=1e-4,
            seeds={},
        ),
        # The rule clips each entry of a gradient to [-1, 1] itself.
        learned_arm(
            "published_unclipped",
            "Optim4RL (authors', reset 512), no gradient clip",
            "optim4rl:no_gradient_clip",
            "optim4rl/ant",
            max_grad_norm=None,
            seeds={},
        ),
    ],
)
"""Beside runs of other studies: Adam and Optim4RL at 3e-4, and Adam without the gradient clip."""
