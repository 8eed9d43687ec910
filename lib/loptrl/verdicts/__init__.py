"""Verdicts on the source's claims, decided by code from stored runs.

Each function is one row of the table of claims, fixed before the runs. A verdict is *supported*,
*contradicted* or *undecided*: the intervals do not settle it, or the runs are too few. Fewer than
three seeds in an arm decide nothing where a bootstrap interval is asked for.
"""

from loptrl.verdicts.base import MINIMUM_SEEDS, Status, Verdict
from loptrl.verdicts.change import SMALL_HALF_WIDTH, c1, c2, c3, c4
from loptrl.verdicts.comparison import c9, c10, c11, c12
from loptrl.verdicts.gradients import c15, c16, h1
from loptrl.verdicts.meta import QUARTER, c5, c6, c7, c8, c14
from loptrl.verdicts.sensitivity import c13

__all__ = [
    "MINIMUM_SEEDS",
    "QUARTER",
    "SMALL_HALF_WIDTH",
    "Status",
    "Verdict",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "c6",
    "c7",
    "c8",
    "c9",
    "c10",
    "c11",
    "c12",
    "c13",
    "c14",
    "c15",
    "c16",
    "h1",
]
