"""Study 8's small meta-trainings, through the physics and not, evaluated on the changing Ant."""

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
            "small_critic",
            "Optim4RL (as data, no policy in the meta-loss)",
            "optim4rl:second",
            "optim4rl/small_critic",
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
"""Three meta-trainings at a size where all fit: two that differ in `through_dynamics` alone, and
one whose meta-loss is data's without the part that the path through the physics does without."""
