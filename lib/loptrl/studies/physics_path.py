"""Study 8's meta-training both ways: through the physics and not, evaluated on the changing Ant."""

from __future__ import annotations

from loptrl.studies.changing_ant import learned_arm, of

__all__ = ["STUDY"]

STUDY = of(
    "physics_path",
    "Optim4RL meta-trained through the physics and not",
    1,
    [
        learned_arm(
            "small_data",
            "Optim4RL (rollouts as data)",
            "optim4rl",
            "optim4rl/small_data",
            seeds={},
        ),
        learned_arm(
            "small_physics",
            "Optim4RL (through the physics)",
            "optim4rl:published",
            "optim4rl/small_physics",
            seeds={},
        ),
    ],
)
"""Two meta-trainings at a size where both fit, that differ in `through_dynamics` alone."""
