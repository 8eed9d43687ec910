"""Study 6: how far Optim4RL's result on the stationary Ant hangs on two meta-settings."""

from __future__ import annotations

import dataclasses

from loptrl.studies import adam_collapse, meta_recipes, transfer
from loptrl.studies.base import ALPHA, Study
from loptrl.studies.changing_ant import learned_arm, of

__all__ = ["AUTHORS", "BORROWED", "GRID", "LONG", "STUDY"]

_CENTRE = transfer.STILL["transferred"]

GRID = {
    _CENTRE if recipe == "stationary" else recipe: point
    for recipe, point in meta_recipes.GRID.items()
}
"""Arm -> meta learning rate and reset interval; study 3 has the runs of the centre."""

AUTHORS = {
    transfer.STILL["published"]: ("1e-5", 512),
    transfer.STILL["published_1"]: ("1e-5", 32),
    transfer.STILL["published_22"]: ("1e-3", 64),
}
"""The weights of the source's authors, arms of study 3, and where on the grid's axes they are."""

_LONG_ALPHA = 2.53e-3
LONG = "untrained_long"
"""Untrained weights whose steps are as long as those of the grid's longest."""


def _label(who: str, rate: str, interval: int) -> str:
    return f"{who} ({rate}, reset {interval})"


def _renamed() -> Study:
    """Study 3 with its arms here called by their places on the grid's axes."""
    arms = dict(transfer.STUDY.arms)
    label = _label("Optim4RL", *GRID[_CENTRE])
    arms[_CENTRE] = dataclasses.replace(arms[_CENTRE], label=label, look="optim4rl")
    for name, point in AUTHORS.items():
        arms[name] = dataclasses.replace(arms[name], label=_label("authors'", *point))
    return dataclasses.replace(transfer.STUDY, arms=arms)


STUDY = of(
    "meta_sensitivity",
    "Optim4RL by meta learning rate and reset interval",
    1,
    [
        *(
            learned_arm(
                name,
                _label("Optim4RL", *point),
                "optim4rl",
                f"optim4rl/{name}",
                changing=False,
                seeds={},
            )
            for name, point in GRID.items()
            if name != _CENTRE
        ),
        # The cell of 1e-3 and 32 moves a weight by 8.44 times its alpha of 3e-4.
        learned_arm(
            LONG,
            f"Optim4RL (untrained, {_LONG_ALPHA / ALPHA:.1f} times the step)",
            "optim4rl:long_step",
            "optim4rl/untrained",
            changing=False,
            learning_rate=_LONG_ALPHA,
            seeds={},
        ),
    ],
)

BORROWED = ((_renamed(), (_CENTRE, *AUTHORS)), (adam_collapse.STUDY, ("stationary",)))
"""What stands beside the study's own runs."""
