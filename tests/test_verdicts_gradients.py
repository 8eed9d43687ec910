"""The verdicts on gradients, C15, C16 and H1, at numbers that decide each way."""

from __future__ import annotations

import numpy as np
import pytest

from loptrl import verdicts

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("changing", "still", "status"),
    [
        ([0.01, 0.02, 0.03], [0.3, 0.31, 0.32], "supported"),
        ([0.3, 0.31, 0.32], [0.01, 0.02, 0.03], "undecided"),
        ([0.01, 0.02, 0.03], [0.01, 0.02, 0.03], "undecided"),
        ([0.6, 0.7, 0.8], [0.9, 0.9, 0.9], "contradicted"),
        ([0.01, 0.02], [0.3, 0.31], "undecided"),
    ],
)
def test_c15(changing, still, status):
    assert verdicts.c15(changing, still, rng=RNG(0)).status == status


@pytest.mark.parametrize(
    ("pipeline", "lockstep", "status"),
    [
        # Seeds differ more than the pools: they are paired.
        ([1.0, 2.0, 3.0], [1.2, 2.2, 3.2], "supported"),
        ([1.2, 2.2, 3.2], [1.0, 2.0, 3.0], "contradicted"),
        ([1.0, 2.2, 3.0], [1.2, 2.0, 3.1], "undecided"),
        ([1.0, 2.0], [1.2, 2.2], "undecided"),
    ],
)
def test_c16(pipeline, lockstep, status):
    assert verdicts.c16(pipeline, lockstep, rng=RNG(0)).status == status


LOW, HIGH = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("ratio", "physics", "data", "physics_final", "data_final", "status"),
    [
        (30.0, LOW, HIGH, LOW, HIGH, "supported"),
        (5.0, LOW, HIGH, LOW, HIGH, "undecided"),
        (None, LOW, HIGH, LOW, HIGH, "undecided"),
        (30.0, HIGH, LOW, LOW, HIGH, "contradicted"),
        (30.0, LOW, LOW, LOW, HIGH, "contradicted"),
        (30.0, LOW, HIGH, HIGH, LOW, "contradicted"),
        (30.0, LOW, HIGH, [], HIGH, "undecided"),
    ],
)
def test_h1(ratio, physics, data, physics_final, data_final, status):
    found = verdicts.h1(ratio, physics, data, physics_final, data_final, rng=RNG(0))
    assert found.status == status
