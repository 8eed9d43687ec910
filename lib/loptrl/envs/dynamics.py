"""The physical parameters of a body that may change while an agent learns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Dynamics", "nominal"]


class Dynamics(NamedTuple):
    """Physical parameters, traced: a new value never recompiles anything.

    Attributes:
        friction: sliding friction coefficient between the body and the ground, `[]`.
        strength: factor on each actuator's gear, 1 as built, 0 without force, `[actuators]`.
        damping: rate at which every link loses velocity, in 1/s on top of the body's own, `[]`.
    """

    friction: Any
    strength: Any
    damping: Any


def nominal(num_actuators: int) -> Dynamics:
    """The dynamics of the stationary task: friction 1, full strength, no added damping."""
    return Dynamics(np.float32(1.0), np.ones(num_actuators, np.float32), np.float32(0.0))
