"""Every statistic against cases worked out by hand, and what each refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from loptrl import stats
from loptrl.errors import LoptrlError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- aggregates ---------------------------------------------------------------------------------


def test_a_fresh_generator_leaves_the_given_one_as_it_was():
    rng = np.random.default_rng(3)
    first, second = (stats.fresh(rng).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, rng.random(4))


def test_iqm_by_hand():
    # Eight numbers lose two at each end: (3 + 4 + 5 + 6) / 4.
    assert stats.iqm([8, 1, 7, 2, 6, 3, 5, 4]) == 4.5
    # Five lose one at each end: (2 + 3 + 10) / 3.
    assert stats.iqm([100, 1, 2, 3, 10]) == 5.0
    # Three lose none.
    assert stats.iqm([1, 2, 9]) == 4.0


def test_iqm_pools_runs_and_tasks():
    # Sorted: 1 2 3 4 5 6 7 100, the middle four are 3 4 5 6. A mean of IQMs by task would differ.
    assert stats.iqm([[1, 100], [2, 3], [4, 5], [6, 7]]) == 4.5


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 33])
def test_iqm_is_the_quarter_trimmed_mean(size):
    values = rng(size).normal(size=size)
    assert stats.iqm(values) == pytest.approx(trim_mean(values, 0.25), abs=1e-12)


def test_mean_by_hand():
    assert stats.mean([[1, 2], [3, 6]]) == 3.0


# --- bootstrap ----------------------------------------------------------------------------------


def test_bootstrap_of_two_runs_by_hand():
    # Resampled means of (0, 1): 0 in 1/4, 0.5 in 1/2, 1 in 1/4 of all cases.
    wide = stats.stratified_bootstrap_ci([0, 1], stats.mean, rng=rng())
    assert (wide.value, wide.low, wide.high, wide.n) == (0.5, 0.0, 1.0, 2)
    # The middle 40 % lie within the half that is 0.5.
    narrow = stats.stratified_bootstrap_ci([0, 1], stats.mean, rng=rng(), level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_bootstrap_is_stratified():
    # Every resample within tasks keeps one 0 task and one 10 task; pooled draws would not.
    result = stats.stratified_bootstrap_ci([[0, 10], [0, 10], [0, 10]], stats.mean, rng=rng())
    assert (result.value, result.low, result.high) == (5.0, 5.0, 5.0)


def test_bootstrap_draws_tasks_independently():
    # Task columns (0, 1) and (1, 0): rows drawn whole would give a mean of 0.5 each time.
    result = stats.stratified_bootstrap_ci([[0, 1], [1, 0]], stats.mean, rng=rng())
    assert (result.low, result.high) == (0.0, 1.0)  # each in 1/16 of the cases


def test_bootstrap_width_agrees_with_the_normal_interval():
    values = rng(1).normal(size=400)
    result = stats.stratified_bootstrap_ci(values, stats.mean, rng=rng(2))
    expected = 1.96 * values.std() / 20
    assert result.half_width == pytest.approx(expected, rel=0.06)
    assert result.value == pytest.approx((result.low + result.high) / 2, abs=0.1 * expected)


def test_bootstrap_takes_any_statistic():
    result = stats.stratified_bootstrap_ci([[1], [5]], lambda x: float(x.max()), rng=rng())
    assert (result.value, result.low, result.high) == (5.0, 1.0, 5.0)


def test_same_generator_state_same_interval():
    values = rng(3).normal(size=(6, 2))
    first, again, other = (stats.stratified_bootstrap_ci(values, rng=rng(s)) for s in (5, 5, 6))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_order_of_runs_does_not_matter_to_the_value():
    values = rng(4).normal(size=(7, 3))
    shuffled = values[rng(0).permutation(7)]
    a = stats.stratified_bootstrap_ci(values, rng=rng())
    b = stats.stratified_bootstrap_ci(shuffled, rng=rng())
    assert a.value == b.value
    assert b.low == pytest.approx(a.low, abs=0.1)


def test_difference_paired_and_not_by_hand():
    # A set minus itself: paired 0 in every resample; independent -1 or 1, in 1/16 each.
    paired = stats.difference_ci([0, 1], [0, 1], stats.mean, rng=rng(), paired=True)
    apart = stats.difference_ci([0, 1], [0, 1], stats.mean, rng=rng())
    assert (paired.value, paired.low, paired.high) == (0.0, 0.0, 0.0)
    assert (apart.value, apart.low, apart.high) == (0.0, -1.0, 1.0)
    shifted = stats.difference_ci([3, 5, 9], [1, 3, 7], stats.mean, rng=rng(), paired=True)
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((2.0, 2.0, 2.0))


def test_normalised_scores_take_the_reference_as_uncertain():
    scores = np.array([[4.0, 10.0], [6.0, 30.0], [8.0, 20.0]])
    exact = stats.stratified_bootstrap_ci(scores / [2.0, 10.0], rng=rng())
    assert stats.normalised_ci(scores, {0: [2.0, 2.0], 1: [10.0]}, rng=rng()) == exact
    found = stats.normalised_ci(scores, {0: [1.0, 3.0], 1: [5.0, 15.0, 10.0]}, rng=rng())
    assert found.value == pytest.approx(exact.value)
    assert found.low < exact.low and found.high > exact.high
    one = stats.normalised_ci([1.0, 2.0], [4.0], stats.mean, rng=rng())
    assert one.value == pytest.approx(0.375) and one.n == 2
    for references in ([0.0, 1.0, 2.0], [-1.0, 5.0, 5.0]):
        with pytest.raises(LoptrlError, match="expected references above 0 to divide by, got"):
            stats.normalised_ci([1.0, 2.0, 3.0], references, rng=rng())


def test_difference_sign_and_size():
    result = stats.difference_ci([5, 5, 5, 5], [2, 2, 2], rng=rng())
    assert (result.value, result.low, result.high, result.n) == (3.0, 3.0, 3.0, 3)


def test_probability_of_improvement_by_hand():
    # 1 beats 0; 2 beats 0 and ties 2; 3 beats both: (1 + 1.5 + 2) / 6.
    assert stats.probability_of_improvement([1, 2, 3], [0, 2], rng=rng()).value == 0.75
    sure = stats.probability_of_improvement([3, 4], [1, 2], rng=rng())
    assert (sure.value, sure.low, sure.high) == (1.0, 1.0, 1.0)
    tie = stats.probability_of_improvement([2], [2], rng=rng())
    assert (tie.value, tie.low, tie.high) == (0.5, 0.5, 0.5)
    # Resamples of (0, 1) against a constant 0.5: both zeros in 1/4 of the cases, both ones in 1/4.
    open_ = stats.probability_of_improvement([0, 1], [0.5, 0.5], rng=rng())
    assert (open_.value, open_.low, open_.high) == (0.5, 0.0, 1.0)


def test_probability_of_improvement_averages_over_tasks():
    # x always wins the first task and always loses the second.
    x, y = [[1, 0], [1, 0]], [[0, 1], [0, 1], [0, 1]]
    result = stats.probability_of_improvement(x, y, rng=rng())
    assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)


def test_wilson_by_hand():
    # z^2 = 3.8415. No success in five: high = z^2 / (n + z^2) = 3.8415 / 8.8415.
    none = stats.wilson_interval(0, 5)
    assert (none.value, none.low, none.n) == (0.0, 0.0, 5)
    assert none.high == pytest.approx(0.43448, abs=1e-5)
    every = stats.wilson_interval(5, 5)
    assert every.high == 1.0
    assert every.low == pytest.approx(1 - 0.43448, abs=1e-5)
    # Five of ten: 0.5 -+ 1.95996 / 1.384146 * sqrt(0.025 + 3.8415 / 400) = 0.5 -+ 0.263407.
    half = stats.wilson_interval(5, 10)
    assert (half.low, half.high) == pytest.approx((0.236593, 0.763407), abs=1e-5)


def test_rate_difference_against_the_published_example():
    # Newcombe 1998, table II, 56/70 - 48/80 by method 10: 0.0524 to 0.3339.
    result = stats.rate_difference_interval(56, 70, 48, 80)
    assert result.value == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    # It keeps its width where a bootstrap would have none.
    none = stats.rate_difference_interval(0, 3, 0, 5)
    assert (none.low, none.high) == pytest.approx((-0.43448, 0.56150), abs=1e-4)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (stats.Estimate(5313.4, 5063.0, 5562.6, 5), "5,313 [5,063, 5,563]"),
        (stats.Estimate(0.2, -0.001, 0.43448, 5), "0.20 [0.00, 0.43]"),
        (stats.Estimate(0.2, 0.001, 0.43448, 5), "0.200 [0.001, 0.434]"),
        (stats.Estimate(-40.0, -91.0, -0.2, 5), "-40.0 [-91.0, -0.2]"),
        (stats.Estimate(0.2, 1e-18, 0.43448, 5), "0.20 [0.00, 0.43]"),
        (stats.Estimate(-12.34, -20.0, -3.0, 5), "-12 [-20, -3]"),
        (stats.Estimate(0.0123, 0.01, 0.0151, 5), "0.012 [0.010, 0.015]"),
        (stats.Estimate(2e-5, 1e-5, 3e-5, 5), "2.0e-05 [1.0e-05, 3.0e-05]"),
        (stats.Estimate(0.0, 0.0, 0.0, 5), "0.00 [0.00, 0.00]"),
    ],
)
def test_estimate_in_words(estimate, text):
    assert str(estimate) == text


def test_estimate_properties():
    assert stats.Estimate(1.0, 0.5, 2.5, 3).half_width == 1.0
    assert stats.Estimate(1.0, 0.0, 2.0, 3).includes_zero
    assert not stats.Estimate(1.0, 0.1, 2.0, 3).includes_zero


# --- along a run --------------------------------------------------------------------------------


def test_final_by_hand():
    steps = np.arange(1, 101) * 1000
    values = np.arange(1.0, 101.0)
    # The last 5 % of 100 rows are rows 96 to 100; their mean is 98.
    assert stats.final(steps, values) == 98.0
    assert np.array_equal(stats.final(steps, np.stack([values, 2 * values])), [98.0, 196.0])
    # Ten rows: the border 95 lies after row 90, so only the last row counts.
    assert stats.final(np.arange(10, 101, 10), np.arange(10.0)) == 9.0
    # Rows at 10, 20, 90, 100 with half the run: those above 50.
    assert stats.final([10, 20, 90, 100], [1.0, 2.0, 4.0, 8.0], fraction=0.5) == 6.0


def test_smooth_by_hand():
    # A window of 40 % of 100 env steps reaches 20 to each side and is cut off at the ends.
    steps = [20, 40, 60, 80, 100]
    assert np.allclose(
        stats.smooth(steps, [1, 2, 6, 4, 8], fraction=0.4), [1.5, 3.0, 4.0, 6.0, 6.0]
    )
    # Rows further apart than half a window stay as they are.
    assert np.array_equal(stats.smooth(steps, [1, 2, 6, 4, 8]), [1, 2, 6, 4, 8])
    # Uneven rows: the window counts env steps, not rows.
    assert np.allclose(stats.smooth([10, 15, 100], [2, 4, 9], fraction=0.1), [3.0, 3.0, 9.0])


def test_smooth_two_percent_of_a_hundred_rows_is_three_rows():
    values = rng().normal(size=(2, 100))
    smoothed = stats.smooth(np.linspace(2e5, 2e7, 100), values)
    assert np.allclose(smoothed[:, 50], values[:, 49:52].mean(axis=1))
    assert np.allclose(smoothed[:, 0], values[:, :2].mean(axis=1))


def test_bootstrap_curve_by_hand():
    # Row 0: all seeds agree. Row 1: seeds 0 and 1, as in the two-run bootstrap.
    value, low, high = stats.bootstrap_curve([[7, 0], [7, 1]], rng=rng(), statistic="mean")
    assert (value.tolist(), low.tolist(), high.tolist()) == ([7, 0.5], [7, 0], [7, 1])


def test_bootstrap_curve_agrees_with_the_interval_of_one_row():
    data = rng(5).normal(size=(9, 4))
    value, low, high = stats.bootstrap_curve(data, rng=rng(), resamples=4000)
    for row in range(4):
        one = stats.stratified_bootstrap_ci(data[:, row], stats.iqm, rng=rng(row))
        assert value[row] == pytest.approx(one.value)
        assert (low[row], high[row]) == pytest.approx((one.low, one.high), abs=0.12)


def test_fill_diverged():
    nan, inf = np.nan, np.inf
    filled = stats.fill_diverged([[1, 2, 3], [4, nan, inf]], fill=-1.0)
    assert filled.tolist() == [[1, 2, 3], [4, -1, -1]]
    with pytest.raises(LoptrlError, match="number in row 2"):
        stats.fill_diverged([1.0, nan, 3.0], fill=0.0)
    with pytest.raises(LoptrlError, match="finite fill"):
        stats.fill_diverged([1.0, nan], fill=nan)


def test_fill_diverged_leaves_its_input_alone():
    values = np.array([1.0, np.nan])
    stats.fill_diverged(values, fill=0.0)
    assert np.isnan(values[1])


def test_regime_relative_interpolates_in_the_log():
    # 0.1 is halfway between 0.01 and 1 in the log: the control there is (100 + 300) / 2.
    relative = stats.regime_relative([50, 100, 300], [0.01, 0.1, 1.0], [0.01, 1.0], [100, 300])
    assert np.allclose(relative, [0.5, 0.5, 1.0])
    two = stats.regime_relative([[50, 100], [200, 400]], [0.01, 0.1], [0.01, 1.0], [100, 300])
    assert np.allclose(two, [[0.5, 0.5], [2.0, 2.0]])


def test_regime_relative_outside_the_controls():
    with pytest.raises(LoptrlError, match=r"within the controls' 0.1 to 1, got 0.05"):
        stats.regime_relative([1.0], [0.05], [0.1, 1.0], [1.0, 2.0])
    nearest = stats.regime_relative([1.0], [0.05], [0.1, 1.0], [4.0, 2.0], outside="nearest")
    assert nearest.tolist() == [0.25]
    # The float32 of 0.02 is a little less than 0.02: rounding is not outside.
    stats.regime_relative([1.0], [float(np.float32(0.02))], [0.02, 1.0], [1.0, 2.0])


def test_largest_after_changes_by_hand():
    steps = [10, 20, 30, 40, 50, 60]
    values = [9.0, 1.0, 5.0, 2.0, 8.0, 3.0]
    # After 20: rows 30 and 40 -> 5; after 40: rows 50 and 60 -> 8. The row at 20 itself is before.
    assert stats.largest_after_changes(steps, values, [20, 40], window=20) == 6.5
    two = stats.largest_after_changes(steps, [values, np.zeros(6)], [20], window=10)
    assert two.tolist() == [5.0, 0.0]
    with pytest.raises(LoptrlError, match="got none; widen the window"):
        stats.largest_after_changes(steps, values, [60], window=20)


# --- refusals -----------------------------------------------------------------------------------

NAN = [1.0, float("nan"), 3.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.stratified_bootstrap_ci(NAN, rng=rng()),
        lambda: stats.difference_ci(NAN, [1.0], rng=rng()),
        lambda: stats.difference_ci([1.0], NAN, rng=rng()),
        lambda: stats.probability_of_improvement([1.0], NAN, rng=rng()),
        lambda: stats.final([1, 2, 3], NAN),
        lambda: stats.smooth([1, 2, 3], NAN),
        lambda: stats.bootstrap_curve([NAN], rng=rng()),
        lambda: stats.regime_relative(NAN, [1, 1, 1], [1, 2], [1, 2]),
        lambda: stats.largest_after_changes([1, 2, 3], NAN, [1], window=1),
        lambda: stats.find_dips([1, 2, 3], NAN, random_return=0),
        lambda: stats.collapse_reports([1, 2, 3], [NAN], random_return=0),
    ],
)
def test_nan_is_refused_with_the_remedy(call):
    with pytest.raises(LoptrlError, match=r"1 of 3 that are NaN or infinite; fill a diverged run"):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stats.stratified_bootstrap_ci([1, 2], rng=0), "numpy random Generator"),
        (lambda: stats.stratified_bootstrap_ci([1, 2], rng=rng(), level=95), "level between 0"),
        (lambda: stats.stratified_bootstrap_ci([1, 2], rng=rng(), resamples=5), "at least 100"),
        (lambda: stats.stratified_bootstrap_ci([[[1]]], rng=rng()), r"got shape \(1, 1, 1\)"),
        (lambda: stats.stratified_bootstrap_ci([], rng=rng()), "at least one number"),
        (lambda: stats.stratified_bootstrap_ci("a", rng=rng()), "array of numbers"),
        (lambda: stats.stratified_bootstrap_ci([[1, 2], [3]], rng=rng()), "array of numbers"),
        (lambda: stats.difference_ci([1, 2], [1], rng=rng(), paired=True), "paired sets"),
        (lambda: stats.normalised_ci([[1, 2]], [[1]], rng=rng()), "references, got 2 and 1"),
        (
            lambda: stats.difference_ci([[1, 2]], [1], rng=rng()),
            "same tasks in x and y, got 2 and 1",
        ),
        (
            lambda: stats.probability_of_improvement([[1, 2]], [1], rng=rng()),
            "same tasks in x and y, got 2 and 1",
        ),
        (lambda: stats.wilson_interval(6, 5), "successes <= n"),
        (lambda: stats.wilson_interval(0, 0), "n >= 1"),
        (lambda: stats.wilson_interval(0.5, 5), "whole numbers"),
        (lambda: stats.final([1, 2], [1.0]), "one env_steps entry per row"),
        (lambda: stats.final([2, 1], [1.0, 2.0]), "strictly increase"),
        (lambda: stats.final([1, 2], [1.0, 2.0], fraction=0), "fraction above 0"),
        (lambda: stats.smooth([1, 2], [1.0, 2.0], fraction=2), "fraction above 0"),
        (lambda: stats.bootstrap_curve([[1.0]], rng=rng(), statistic="median"), "'iqm' or 'mean'"),
        (lambda: stats.fill_diverged(1.0, 0.0), "num_rows"),
        (lambda: stats.regime_relative([1], [0], [1, 2], [1, 2]), "above 0"),
        (lambda: stats.regime_relative([1], [1], [2, 1], [1, 2]), "strictly increasing"),
        (lambda: stats.regime_relative([1], [1], [1, 2], [1, -2]), "control returns above 0"),
        (lambda: stats.regime_relative([1], [1, 1], [1, 2], [1, 2]), "regime_value shaped"),
        (lambda: stats.regime_relative([1], [1], [1, 2], [1, 2], outside="x"), "'nearest'"),
        (lambda: stats.largest_after_changes([1], [1], [1], window=0), "window of env steps"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(LoptrlError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_tasks_weigh_the_same_however_many_runs_each_has():
    """By hand: with every run of a written three times and every run of b twice."""
    scores = {"a": [0.0, 1.0], "b": [10.0, 20.0, 30.0]}
    table = np.stack([np.repeat([0.0, 1.0], 3), np.repeat([10.0, 20.0, 30.0], 2)], axis=1)
    found = stats.stratified_bootstrap_ci(scores, stats.mean, rng=rng())
    assert found.value == stats.mean(table) == 10.25 and found.n == 2
    assert stats.stratified_bootstrap_ci(scores, rng=rng()).value == stats.iqm(table)
    assert found.low < 10.25 < found.high <= 15.5
    # P: on a no run is better; on b one half of 10, all of 20 and 30 beat 10 and 15.
    others = {"b": [10.0, 15.0], "a": [2.0]}
    chance = stats.probability_of_improvement(scores, others, rng=rng())
    assert chance.value == pytest.approx((0.0 + (0.5 + 0 + 2 + 2) / 6) / 2)
    assert chance.n == 1 and chance.high <= 0.5
    half = stats.normalised_ci(scores, {"a": [1.0], "b": [20.0]}, stats.mean, rng=rng())
    assert half.value == pytest.approx((0.5 + 1.0) / 2)
    share, low, high = stats.performance_profile(scores, [0.5, 15.0], rng=rng())
    np.testing.assert_allclose(share, [0.75, 1 / 3])
    assert (low <= share).all() and (share <= high).all()
    difference = stats.difference_ci(scores, {"a": [0.5], "b": [20.0]}, stats.mean, rng=rng())
    assert difference.value == 0.0 and difference.n == 1


def test_no_task_is_refused_by_every_statistic():
    with pytest.raises(LoptrlError, match="expected scores of at least one task, got none"):
        stats.stratified_bootstrap_ci({}, rng=rng())
    with pytest.raises(LoptrlError, match="the same tasks in x and y, got a and b"):
        stats.probability_of_improvement({"a": [1.0]}, {"b": [1.0]}, rng=rng())
    with pytest.raises(LoptrlError, match=r"paired sets .* got \[2\] and \[1\] runs"):
        stats.difference_ci([1.0, 2.0], [1.0], rng=rng(), paired=True)


def test_performance_profile_by_hand():
    scores = [[0.5, 2.0], [1.5, 2.0]]  # [runs, tasks]
    share, low, high = stats.performance_profile(
        scores, [0.0, 1.0, 1.5, 3.0], rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(share, [1.0, 0.75, 0.5, 0.0])
    # Only the first task's runs differ, so that a resample moves the share at 1 by a quarter.
    np.testing.assert_allclose(low, [1.0, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(high, [1.0, 1.0, 0.5, 0.0])


def test_around_is_a_window_as_wide_as_the_final_one():
    steps = np.arange(0, 101)
    assert stats.around(steps, steps, 0.25) == 25.0
    rows = stats.around(
        steps, np.stack([steps, steps * (steps == 27), steps * (steps == 28)]), 0.25
    )
    np.testing.assert_allclose(rows, [25.0, 27 / 5, 0.0])
    # Rows further apart than the window: the nearest one.
    assert stats.around([0, 40, 100], [1.0, 2.0, 3.0], 0.25) == 2.0
    with pytest.raises(LoptrlError, match="expected place above 0"):
        stats.around(steps, steps, 0.0)
