"""Dips, collapses and recovery against runs drawn by hand.

Fifty rows at 2, 4, ..., 100 env steps: rows are further apart than half the smoothing window, so
that smoothing changes nothing and every number below can be checked by eye.
"""

from __future__ import annotations

import numpy as np
import pytest

from loptrl import stats
from loptrl.errors import LoptrlError

STEPS = np.arange(2, 101, 2)


def run(*pieces: tuple[float, float, float], base: float = 1000.0) -> np.ndarray:
    """A return of `base`, except `level` for the rows with start <= env_steps < end."""
    values = np.full(STEPS.size, base)
    for start, end, level in pieces:
        values[(start <= STEPS) & (end > STEPS)] = level
    return values


def report(values: np.ndarray, random_return: float = 0.0) -> stats.RunReport:
    return stats.collapse_report(STEPS, values, random_return=random_return)


def test_a_steady_run_has_no_dip():
    result = report(run())
    assert (result.dips, result.collapsed, result.collapse_time) == ((), False, None)
    assert (result.dip_depth, result.drawdown, result.run_length) == (0.0, 0.0, 100.0)


def test_a_dip_that_is_left():
    result = report(run((40, 46, 300.0)))
    # Below 500 at 40, 42, 44; back at 46.
    assert result.dips == (stats.Dip(start=40, end=46, depth=0.7, lasted=6),)
    assert result.dips[0].recovery_time == 6
    assert not result.collapsed
    assert result.left_a_dip
    assert result.dip_depth == pytest.approx(0.7)


def test_exactly_half_is_no_dip_and_ends_one():
    assert report(run((40, 46, 500.0))).dips == ()
    (dip,) = report(run((40, 44, 499.0), (44, 60, 500.0))).dips
    assert (dip.start, dip.end) == (40, 44)


def test_depth_is_that_of_the_lowest_row():
    (dip,) = report(run((40, 42, 400.0), (42, 44, 100.0), (44, 46, 300.0))).dips
    assert dip.depth == pytest.approx(0.9)


def test_depth_passes_one_below_zero():
    assert report(run((40, 42, -200.0))).dip_depth == pytest.approx(1.2)


def test_the_threshold_follows_the_running_maximum():
    # 700 is no dip against 1000, but is one after the run has reached 2000.
    (dip,) = report(run((20, 30, 700.0), (40, 50, 2000.0), (60, 70, 700.0))).dips
    assert dip.start == 60
    assert dip.depth == pytest.approx(0.65)


def test_two_dips_and_their_mean_depth():
    result = report(run((20, 24, 400.0), (60, 66, 200.0)))
    assert [(d.start, d.end) for d in result.dips] == [(20, 24), (60, 66)]
    assert result.dip_depth == pytest.approx((0.6 + 0.8) / 2)
    assert result.drawdown == pytest.approx(0.8)


def test_a_dip_to_the_end_is_a_collapse_from_a_tenth_of_the_run_on():
    collapse = report(run((90, 101, 100.0)))
    assert collapse.collapsed
    assert collapse.collapse_time == 90
    assert collapse.dips == (stats.Dip(start=90, end=None, depth=0.9, lasted=10),)
    assert collapse.dips[0].recovery_time is None
    short = report(run((92, 101, 100.0)))
    assert not short.collapsed
    assert short.dips[0].end is None
    assert not short.left_a_dip


def test_a_long_dip_that_is_left_is_no_collapse():
    assert not report(run((20, 100, 100.0))).collapsed


def test_a_dip_left_for_one_row_starts_anew():
    result = report(run((50, 94, 100.0), (96, 101, 100.0)))
    assert [(d.start, d.end) for d in result.dips] == [(50, 94), (96, None)]
    assert not result.collapsed  # the last one lasts 4 % of the run


def test_nothing_counts_before_the_random_return_is_passed():
    # A start at 100 that falls to 10, with a random policy at 120: not learned yet, no dip.
    values = run((0, 20, 100.0), (20, 40, 10.0))
    assert report(values, random_return=120.0).dips == ()
    assert len(report(values, random_return=50.0).dips) == 1


def test_a_run_that_never_passes_the_random_return():
    values = run(base=50.0)
    values[10:] = 1.0
    result = report(values, random_return=60.0)
    assert (result.dips, result.drawdown, result.collapsed) == ((), 0.0, False)


def test_a_negative_maximum_is_no_threshold():
    # Half of -10 is -5: every return up to the maximum would count as a dip.
    assert report(run(base=-10.0), random_return=-100.0).dips == ()


def test_drawdown_without_a_dip():
    result = report(run((40, 42, 800.0)))
    assert result.dips == ()
    assert result.dip_depth == 0.0
    assert result.drawdown == pytest.approx(0.2)
    assert stats.deepest_drawdown([100.0, 50.0, 200.0, 150.0], random_return=0) == 0.5


def test_a_single_bad_evaluation_is_smoothed_away():
    # 400 rows: a window of 2 % holds 9 of them, and one zero in nine leaves 8/9 of the return.
    steps = np.arange(1, 401)
    values = np.full(400, 900.0)
    values[200] = 0.0
    result = stats.collapse_report(steps, values, random_return=0.0)
    assert result.dips == ()
    assert result.drawdown == pytest.approx(1 / 9)
    rough = stats.collapse_report(steps, values, random_return=0.0, smoothing=0.001)
    assert len(rough.dips) == 1


def test_a_diverged_run_collapses():
    values = run()
    values[30:] = np.nan
    assert report(stats.fill_diverged(values, fill=20.0), random_return=20.0).collapse_time == 62


def test_summary_by_hand():
    curves = np.stack(
        [
            run(),  # no dip
            run((20, 30, 400.0)),  # one dip left, 10 env steps, depth 0.6
            run((20, 24, 400.0), (40, 60, 200.0)),  # two left, 4 and 20, depths 0.6 and 0.8
            run((50, 101, 100.0)),  # collapse, depth 0.9
        ]
    )
    reports = stats.collapse_reports(STEPS, curves, random_return=0.0)
    summary = stats.summarise_collapses(reports, rng=np.random.default_rng(0))
    assert summary.collapse_rate == stats.wilson_interval(1, 4)
    assert summary.dip_rate == stats.wilson_interval(3, 4)
    assert (summary.dips_left, summary.dips) == (3, 4)
    assert summary.dip_depth.value == pytest.approx((0 + 0.6 + 0.7 + 0.9) / 4)
    assert summary.drawdown.value == pytest.approx((0 + 0.6 + 0.8 + 0.9) / 4)
    # Mean recovery of the two runs that left dips: 10 and (4 + 20) / 2.
    assert summary.recovery_time is not None
    assert summary.recovery_time.value == pytest.approx(11.0)
    assert (summary.collapse_times, summary.dips) == ((50.0,), 4)
    assert summary.dip_depth.low < summary.dip_depth.value < summary.dip_depth.high


def test_summary_without_any_dip():
    reports = stats.collapse_reports(STEPS, np.stack([run(), run()]), random_return=0.0)
    summary = stats.summarise_collapses(reports, rng=np.random.default_rng(0))
    assert (summary.dips_left, summary.recovery_time, summary.collapse_times) == (0, None, ())
    assert summary.dip_depth.value == 0.0


def test_refusals():
    with pytest.raises(LoptrlError, match="finite random_return"):
        report(run(), random_return=float("nan"))
    with pytest.raises(LoptrlError, match="at least one run"):
        stats.summarise_collapses([], rng=np.random.default_rng(0))
    with pytest.raises(LoptrlError, match="threshold above 0"):
        stats.find_dips(STEPS, run(), random_return=0.0, threshold=1.5)
    with pytest.raises(LoptrlError, match="2 axes"):
        stats.collapse_reports(STEPS, run(), random_return=0.0)
