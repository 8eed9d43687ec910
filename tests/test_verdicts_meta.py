"""The criteria on meta-trained optimizers, on curves drawn by hand: every branch of every row."""

from __future__ import annotations

import numpy as np
import pytest

from loptrl import verdicts

STEPS = np.arange(2, 101, 2)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def run(*pieces: tuple[float, float, float], base: float = 1000.0) -> np.ndarray:
    """A return of `base`, except `level` for the rows with start <= env_steps < end."""
    values = np.full(STEPS.size, base)
    for start, end, level in pieces:
        values[(start <= STEPS) & (end > STEPS)] = level
    return values


def arm(curve: np.ndarray, seeds: int = 5) -> np.ndarray:
    """That many seeds of a curve, a little apart."""
    return np.stack([curve + i for i in range(seeds)])


def mixed(*curves: np.ndarray) -> np.ndarray:
    return np.stack(curves)


STEADY = run()
COLLAPSES = run((50, 101, 100.0))
LOW = run(base=500.0)
RISING = np.linspace(-10.0, 400.0, STEPS.size)  # never dips
DIPPING = run((20, 24, 100.0), (40, 44, 100.0), (50, 101, 100.0))  # two dips left, then a collapse


@pytest.mark.parametrize(
    ("adam", "direct", "status", "words"),
    [
        (arm(STEADY), arm(COLLAPSES), "supported", "ends lower and collapses more often"),
        # 4 of 5 collapse: the lower limit, 0.38, does not reach Adam's upper one, 0.43.
        (arm(STEADY), mixed(*[COLLAPSES] * 4, LOW), "undecided", "intervals overlap"),
        (arm(STEADY), arm(LOW), "undecided", "intervals overlap"),
        (arm(STEADY), arm(STEADY), "contradicted", "is not shown to lie below Adam's"),
        (arm(LOW), arm(STEADY), "contradicted", "is not shown to lie below Adam's"),
        # All collapse and Adam does, too, to the same level.
        (arm(COLLAPSES), arm(COLLAPSES), "contradicted", "is not shown to lie below"),
        (arm(STEADY), arm(COLLAPSES, 2), "undecided", "2 seeds of the direct arm are too few"),
        (arm(STEADY, 2), arm(COLLAPSES), "undecided", "2 seeds of the adam arm are too few"),
    ],
)
def test_c5(adam, direct, status, words):
    verdict = verdicts.c5(STEPS, adam, direct, random_return=0.0, rng=rng())
    assert (verdict.claim, verdict.status) == ("C5", status)
    assert words in verdict.reason
    assert verdict.estimates["collapse rate"].n == len(direct)


@pytest.mark.parametrize(
    ("direct", "with_l2", "status", "words"),
    [
        (arm(COLLAPSES), arm(DIPPING), "supported", "the finals overlap"),
        # Apart, and both below half of Adam's.
        (arm(run((50, 101, 300.0))), arm(DIPPING), "supported", "stay below half of Adam's"),
        # Apart, and one of them above half.
        (arm(STEADY * 0.7), arm(DIPPING), "undecided", "the finals lie apart"),
        (arm(COLLAPSES), arm(COLLAPSES), "undecided", "is not settled"),
        (arm(DIPPING), arm(COLLAPSES), "undecided", "is not settled"),
        # Within Adam's interval, dips left or not; above it, too.
        (arm(COLLAPSES), arm(STEADY), "contradicted", "within Adam's interval"),
        (arm(COLLAPSES), arm(run((20, 24, 100.0))), "contradicted", "within Adam's interval"),
        (arm(COLLAPSES), arm(STEADY * 2), "contradicted", "or above it"),
        (arm(COLLAPSES, 1), arm(DIPPING), "undecided", "1 seeds of the direct arm are too few"),
        (arm(COLLAPSES), arm(DIPPING, 2), "undecided", "2 seeds of the with L2 arm"),
    ],
)
def test_c6(direct, with_l2, status, words):
    verdict = verdicts.c6(STEPS, arm(STEADY), direct, with_l2, random_return=0.0, rng=rng())
    assert (verdict.claim, verdict.status) == ("C6", status)
    assert words in verdict.reason


def test_c6_counts_the_dips_left_in_a_run():
    verdict = verdicts.c6(
        STEPS, arm(STEADY), arm(COLLAPSES), arm(DIPPING), random_return=0.0, rng=rng()
    )
    assert verdict.estimates["difference in dips left"].value == 2.0


@pytest.mark.parametrize(
    ("adam", "transferred", "status", "words"),
    [
        (arm(STEADY), arm(COLLAPSES), "supported", "5 of 5 seeds collapse"),
        (arm(STEADY * 2.1), arm(COLLAPSES), "undecided", "the start is not good"),
        # Exactly half of Adam's is enough.
        (mixed(*[STEADY * 2] * 5), mixed(*[COLLAPSES] * 5), "supported", "5 of 5"),
        (arm(STEADY * 3), arm(COLLAPSES), "undecided", "the start is not good"),
        (arm(STEADY), arm(STEADY), "contradicted", "No seed collapses: 0 of 5"),
        # Three seeds cannot say that fewer than half collapse, nor that more do.
        (arm(STEADY), arm(STEADY, 3), "undecided", "does not lie above one half"),
        (arm(STEADY), arm(COLLAPSES, 3), "undecided", "does not lie above one half"),
        (arm(STEADY), mixed(*[COLLAPSES] * 4, STEADY), "undecided", "4 of 5 seeds collapse"),
        # One collapse does not contradict, however many seeds there are.
        (arm(STEADY), mixed(*[STEADY] * 19, COLLAPSES), "undecided", "1 of 20"),
        (arm(-STEADY), arm(COLLAPSES), "undecided", "is not above 0 after a quarter"),
        (arm(STEADY), arm(COLLAPSES, 2), "undecided", "2 seeds of the transferred arm"),
    ],
)
def test_c7(adam, transferred, status, words):
    verdict = verdicts.c7(STEPS, adam, transferred, random_return=-2000.0, rng=rng())
    assert (verdict.claim, verdict.status) == ("C7", status)
    assert words in verdict.reason


def test_c7_looks_at_a_quarter_of_the_run():
    late = run((0, 22, 10.0), (50, 101, 100.0))
    early = run((0, 22, 10.0), (28, 101, 10.0))
    for curve in (late, early):
        verdict = verdicts.c7(STEPS, arm(STEADY), arm(curve), random_return=0.0, rng=rng())
        assert verdict.estimates["return after a quarter"].value == 1002.0


@pytest.mark.parametrize(
    ("direct", "transferred", "status", "words"),
    [
        (arm(LOW), arm(RISING), "supported", "ends above both"),
        (arm(LOW), arm(STEADY), "undecided", "An interval includes 0"),
        (arm(STEADY), arm(LOW), "undecided", "An interval includes 0"),
        (arm(STEADY * 2), arm(LOW), "contradicted", "ends below direct ("),
        (arm(LOW), arm(STEADY * 2), "contradicted", "ends below transferred ("),
        (arm(STEADY * 2), arm(STEADY * 2), "contradicted", "below direct and transferred"),
        (arm(STEADY * 2), arm(STEADY), "contradicted", "ends below direct ("),
        (arm(LOW, 2), arm(LOW), "undecided", "2 seeds of the direct arm are too few"),
    ],
)
def test_c8(direct, transferred, status, words):
    verdict = verdicts.c8(STEPS, arm(STEADY), direct, transferred, rng=rng())
    assert (verdict.claim, verdict.status) == ("C8", status)
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("adam", "full_size", "reduced", "status", "words"),
    [
        (arm(STEADY), arm(STEADY), arm(LOW), "supported", "above half of Adam's"),
        (arm(STEADY * 3), arm(STEADY), arm(LOW), "undecided", "not above half"),
        (arm(-STEADY), arm(STEADY), arm(LOW), "undecided", "of a positive return"),
        (arm(STEADY), arm(STEADY), arm(STEADY), "contradicted", "is not shown to end above"),
        (arm(STEADY), arm(LOW), arm(STEADY), "contradicted", "is not shown to end above"),
        (arm(STEADY), arm(STEADY), arm(LOW, 2), "undecided", "2 seeds of the reduced arm"),
        (arm(STEADY), arm(STEADY, 1), arm(LOW), "undecided", "1 seeds of the full size arm"),
    ],
)
def test_c14(adam, full_size, reduced, status, words):
    verdict = verdicts.c14(STEPS, adam, full_size, reduced, rng=rng())
    assert (verdict.claim, verdict.status) == ("C14", status)
    assert words in verdict.reason
