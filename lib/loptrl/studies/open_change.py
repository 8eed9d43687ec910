"""Study 10: OPEN with its authors' weights on the changing Ant, which they did not meet."""

from __future__ import annotations

from loptrl.studies.adam_collapse import DRIFT, FIVE_SEEDS
from loptrl.studies.base import Arm
from loptrl.studies.changing_ant import learned_arm, of
from loptrl.studies.open_agent import tuned

__all__ = ["STILL", "STUDY"]

_SOURCES = (
    ("open", "OPEN (from Ant)", "open", "open/ant"),
    ("open_multi", "OPEN (multi-task)", "open_multi", "open/multi"),
)

STILL = {name: f"{name}_still" for name, *_ in _SOURCES}
"""Arms on the changing Ant, and those of the same weights on the stationary one."""

STUDY = of(
    "open_change",
    "OPEN on the changing Ant",
    1,
    [
        *(learned_arm(*source) for source in _SOURCES),
        # OPEN sees how much of the training is left. So does an annealed step size.
        Arm(
            "adam_annealed",
            "Adam (OPEN authors', annealed)",
            "adam_equal_betas",
            {**tuned("adam", "ant"), "drift": DRIFT},
            FIVE_SEEDS,
        ),
        *(
            learned_arm(STILL[name], f"{label}, no change", look, weights, changing=False, seeds={})
            for name, label, look, weights in _SOURCES
        ),
    ],
)
"""*From Ant*: trained on a stationary Ant by its authors; *multi-task*: on four games."""
