"""Study 2: Optim4RL meta-trained on the changing Ant, with and without L2, evaluated there."""

from __future__ import annotations

from loptrl.studies.changing_ant import learned_arm, of

__all__ = ["STUDY"]

STUDY = of(
    "optim4rl_l2",
    "Optim4RL meta-trained on the changing Ant",
    1,
    [
        learned_arm("drift", "Optim4RL (direct)", "optim4rl", "optim4rl/drift"),
        learned_arm("drift_l2", "Optim4RL (direct, L2)", "optim4rl:l2", "optim4rl/drift_l2"),
        learned_arm(
            "no_pipeline",
            "Optim4RL (direct, no pipeline)",
            "optim4rl:no_pipeline",
            "optim4rl/no_pipeline",
        ),
        learned_arm(
            "reduced", "Optim4RL (direct, reduced)", "optim4rl:reduced", "optim4rl/reduced"
        ),
        learned_arm("drift_long", "Optim4RL (direct, 1e8)", "optim4rl:long", "optim4rl/drift_long"),
        # Its steps are as long as Adam's, of which those of "drift" are six times.
        learned_arm(
            "small_step",
            "Optim4RL (direct, a sixth of the step)",
            "optim4rl:small_step",
            "optim4rl/drift",
            learning_rate=5e-5,
            seeds={},
        ),
    ],
)
"""*Direct* is meta-training under change from the beginning; study 1 holds the runs of Adam."""
