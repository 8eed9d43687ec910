"""The claims' criteria on curves drawn by hand: every branch of every row."""

from __future__ import annotations

import numpy as np
import pytest

from loptrl import verdicts
from loptrl.errors import LoptrlError
from loptrl.stats import Estimate
from loptrl.verdicts import Verdict

STEPS = np.arange(2, 101, 2)
CHANGES = [20, 40, 60, 80]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def run(*pieces: tuple[float, float, float], base: float = 1000.0) -> np.ndarray:
    """A return of `base`, except `level` for the rows with start <= env_steps < end."""
    values = np.full(STEPS.size, base)
    for start, end, level in pieces:
        values[(start <= STEPS) & (end > STEPS)] = level
    return values


STEADY = run()
DIPS = run((40, 46, 300.0))
COLLAPSES = run((50, 101, 100.0))


def arm(*runs: np.ndarray) -> np.ndarray:
    return np.stack(runs)


def flat(*levels: float) -> np.ndarray:
    """Runs of constant return."""
    return np.stack([run(base=level) for level in levels])


# --- the type -----------------------------------------------------------------------------------


def test_a_verdict_reads_as_a_line():
    verdict = Verdict("C1", "supported", "Why.", {"rate": Estimate(0.0, 0.0, 0.43448, 5)})
    assert str(verdict) == "C1 supported: Why. [rate 0.00 [0.00, 0.43] (n = 5)]"
    assert str(Verdict("C9", "undecided", "No runs.")) == "C9 undecided: No runs."


def test_a_verdict_has_one_of_three_outcomes():
    with pytest.raises(LoptrlError, match="got 'proved'"):
        Verdict("C1", "proved", "Why.")


# --- C1 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "status", "words"),
    [
        # 0 of 5: upper Wilson limit 0.43, and one seed dips and comes back.
        ([STEADY] * 4 + [DIPS], "supported", "0 of 5 seeds collapse"),
        # 0 of 5 without any dip: the claim says that it dips.
        ([STEADY] * 5, "undecided", "no seed dips"),
        # 0 of 3: upper limit 0.56.
        ([STEADY, DIPS, DIPS], "undecided", "does not exclude one half"),
        # 1 of 5: upper limit 0.62.
        ([DIPS] * 4 + [COLLAPSES], "undecided", "does not exclude one half"),
        # 1 of 12: upper limit 0.35.
        ([DIPS] * 11 + [COLLAPSES], "supported", "11 dip and leave"),
        # 5 of 5: lower limit 0.57.
        ([COLLAPSES] * 5, "contradicted", "more than half"),
        # 4 of 5: lower limit 0.38.
        ([DIPS] + [COLLAPSES] * 4, "undecided", "does not exclude one half"),
    ],
)
def test_c1(runs, status, words):
    verdict = verdicts.c1(STEPS, arm(*runs), random_return=0.0)
    assert verdict.status == status
    assert words in verdict.reason
    assert verdict.estimates["collapse rate"].n == len(runs)


def test_c1_dip_at_the_very_end_is_not_left():
    # Five seeds end inside a dip too short to be a collapse: nothing was recovered from.
    verdict = verdicts.c1(STEPS, arm(*[run((96, 101, 100.0))] * 5), random_return=0.0)
    assert verdict.status == "undecided"


# --- C2 -----------------------------------------------------------------------------------------

HIGH, LOW = flat(1000, 1010, 1020, 1030, 1040), flat(600, 610, 620, 630, 640)
MIXED = flat(300, 700, 1000, 1300, 1700)


@pytest.mark.parametrize(
    ("stationary", "changing", "relative", "status", "words"),
    [
        (HIGH, LOW, (HIGH, LOW), "supported", "Both differences lie above 0"),
        (HIGH, LOW, (HIGH, MIXED), "undecided", "An interval includes 0"),
        (HIGH, MIXED, (HIGH, LOW), "undecided", "An interval includes 0"),
        (LOW, HIGH, (LOW, HIGH), "contradicted", "Both differences lie below 0"),
        (HIGH, LOW, (LOW, HIGH), "contradicted", "One difference lies below 0"),
        (LOW, HIGH, (HIGH, LOW), "contradicted", "One difference lies below 0"),
        (HIGH, MIXED, (HIGH, MIXED), "undecided", "An interval includes 0"),
        (HIGH, LOW[:2], (HIGH, LOW[:2]), "undecided", "2 seeds of the changing arm are too few"),
        (HIGH, LOW, (HIGH[:1], LOW), "undecided", "1 seeds of the stationary relative arm"),
    ],
)
def test_c2(stationary, changing, relative, status, words):
    scaled = [r / 1000 for r in relative]
    verdict = verdicts.c2(STEPS, stationary, changing, *scaled, rng=rng())
    assert verdict.status == status
    assert words in verdict.reason


def test_c2_looks_at_the_end_only():
    # Far ahead until the last 5 %, behind there.
    early = LOW + 5000.0
    early[:, STEPS > 95] = LOW[:, STEPS > 95]
    verdict = verdicts.c2(STEPS, HIGH, early, HIGH / 1000, early / 1000, rng=rng())
    assert verdict.status == "supported"
    assert verdict.estimates["difference in final return"].value == pytest.approx(400.0)


# --- C3 -----------------------------------------------------------------------------------------

SHALLOW = [run((40, 46, 450.0 + i)) for i in range(25)]  # depth 0.53 to 0.55
DEEP = [run((40, 46, 50.0 + i)) for i in range(25)]  # depth 0.93 to 0.95


@pytest.mark.parametrize(
    ("with_clip", "without_clip", "status", "words"),
    [
        # Both parts, rate alone (same depth: a collapse at the depth of the other arm's dips), and
        # depth alone.
        ([STEADY] * 5, [COLLAPSES] * 5, "supported", "collapse rate and the dip depth"),
        ([run((40, 46, 100.0))] * 5, [COLLAPSES] * 5, "supported", "The collapse rate without"),
        (SHALLOW[:5], DEEP[:3], "supported", "The dip depth without"),
        # Enough seeds to say that neither difference is large: 0 of 25 against 0 of 25.
        (SHALLOW, SHALLOW, "contradicted", "Neither difference can be large"),
        # Without the clip it is better: both differences below 0.
        ([COLLAPSES] * 5, [STEADY] * 5, "contradicted", "Neither difference can be large"),
        # One difference below 0, the other small.
        (DEEP, SHALLOW, "contradicted", "Neither difference can be large"),
        # No dip anywhere, few seeds: the bootstrap interval has no width, the score interval does.
        ([STEADY] * 5, [STEADY] * 3, "undecided", "Too few seeds"),
        # A rate difference that includes 0 widely.
        ([STEADY] * 5, [STEADY, STEADY, COLLAPSES], "undecided", "leave room"),
        ([STEADY] * 2, [COLLAPSES] * 5, "undecided", "2 seeds of the with clip arm"),
        ([STEADY] * 5, [COLLAPSES] * 2, "undecided", "2 seeds of the without clip arm"),
    ],
)
def test_c3(with_clip, without_clip, status, words):
    verdict = verdicts.c3(STEPS, arm(*with_clip), arm(*without_clip), random_return=0.0, rng=rng())
    assert verdict.status == status
    assert words in verdict.reason


def test_c3_small_needs_both_parts():
    # 25 seeds each: the rates agree closely, the depths scatter between 0 and 0.9.
    scattered = [STEADY if i % 2 else run((40, 46, 100.0)) for i in range(25)]
    verdict = verdicts.c3(STEPS, arm(*scattered), arm(*scattered), random_return=0.0, rng=rng())
    assert verdict.estimates["difference in mean dip depth"].half_width > 0.15
    assert verdict.status == "undecided"


# --- C4 -----------------------------------------------------------------------------------------


def norms(size: float, seeds: int = 5) -> np.ndarray:
    """Update norms: 1 throughout, `size` in the row after a change, a little apart by seed."""
    values = np.ones((seeds, STEPS.size))
    values[:, np.isin(STEPS, np.add(CHANGES, 2))] = size
    return values + 0.01 * np.arange(seeds)[:, None]


@pytest.mark.parametrize(
    ("default", "equal", "default_norm", "equal_norm", "status", "words"),
    [
        (DEEP, SHALLOW, 3.0, 2.0, "supported", "The dip depth and the update norm are lower"),
        (DEEP, SHALLOW, 2.0, 2.0, "supported", "The dip depth is lower"),
        (DEEP, DEEP, 3.0, 2.0, "supported", "The update norm is lower"),
        (SHALLOW, DEEP, 2.0, 3.0, "contradicted", "The dip depth and the update norm are higher"),
        (SHALLOW, DEEP, 2.0, 2.0, "contradicted", "The dip depth is higher"),
        (DEEP, DEEP, 2.0, 3.0, "contradicted", "The update norm is higher"),
        (DEEP, SHALLOW, 2.0, 3.0, "undecided", "disagree"),
        (SHALLOW, DEEP, 3.0, 2.0, "undecided", "disagree"),
        (DEEP, DEEP, 2.0, 2.0, "undecided", "Both intervals include 0"),
    ],
)
def test_c4(default, equal, default_norm, equal_norm, status, words):
    verdict = verdicts.c4(
        STEPS,
        arm(*default[:5]),
        arm(*equal[:5]),
        norms(default_norm),
        norms(equal_norm),
        CHANGES,
        window=4,
        random_return=0.0,
        rng=rng(),
    )
    assert verdict.status == status
    assert words in verdict.reason


def test_c4_counts_only_updates_after_a_change():
    # A huge update just before every change, in the default arm only, is not "after a change".
    before = norms(2.0)
    before[:, np.isin(STEPS, CHANGES)] = 100.0
    verdict = verdicts.c4(
        STEPS,
        arm(*DEEP[:5]),
        arm(*DEEP[:5]),
        before,
        norms(2.0),
        CHANGES,
        window=4,
        random_return=0.0,
        rng=rng(),
    )
    assert verdict.status == "undecided"
    assert verdict.estimates["difference in largest update norm"].value == pytest.approx(0.0)


def test_c4_too_few_seeds():
    verdict = verdicts.c4(
        STEPS,
        arm(*DEEP[:2]),
        arm(*SHALLOW[:5]),
        norms(2.0, 2),
        norms(2.0),
        CHANGES,
        window=4,
        random_return=0.0,
        rng=rng(),
    )
    assert verdict.status == "undecided"
    assert "2 seeds of the default arm are too few" in verdict.reason


def test_the_same_generator_gives_the_same_verdict():
    arguments = (STEPS, arm(*DEEP[:5]), arm(*SHALLOW[:5]))
    first, again = (verdicts.c3(*arguments, random_return=0.0, rng=rng()) for _ in range(2))
    assert str(first) == str(again)
