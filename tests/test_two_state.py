"""Study 0: Adam by hand, its bounds, and the two-state process."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loptrl.errors import LoptrlError
from loptrl.studies import two_state_figures as figures
from loptrl.studies import two_state_mdp as study

DEFAULT = (0.9, 0.999)


def test_two_updates_computed_by_hand():
    # g = 2, -1 with betas 0.5 and 0.75.
    # m1 = 1, v1 = 1: corrected 1 / 0.5 = 2 and 1 / 0.25 = 4, so the step is 2 / 2 = 1.
    # m2 = 0.5 - 0.5 = 0: the step is 0.
    steps = study.adam_ratios(np.array([2.0, -1.0]), 0.5, 0.75)
    assert steps == pytest.approx([1.0, 0.0], abs=1e-8)
    # g = 2, 1: m2 = 0.5 + 0.5 = 1, corrected 1 / 0.75; v2 = 0.75 + 0.25 = 1, corrected 1 / 0.4375.
    steps = study.adam_ratios(np.array([2.0, 1.0]), 0.5, 0.75)
    assert steps[1] == pytest.approx((4 / 3) / math.sqrt(16 / 7), abs=1e-7)


def test_epsilon_is_outside_the_root():
    # A first gradient of 1e-8 has m / sqrt(v) = 1; epsilon of 1e-8 halves it.
    assert study.adam_ratios(np.array([1e-8]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("betas", [DEFAULT, (0.99, 0.99), (0.5, 0.9)])
def test_by_hand_and_optax_agree_to_float32(betas):
    rng = np.random.default_rng(3)
    gradients = rng.normal(size=(400, 3)) * rng.choice([1e-4, 1.0], size=(400, 1))
    by_hand = study.adam_ratios(gradients, *betas)
    by_optax = study.optax_ratios(gradients, *betas)
    assert by_optax.dtype == np.float32
    np.testing.assert_allclose(by_optax, by_hand, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("betas", [DEFAULT, (0.99, 0.99), (0.5, 0.9), (0.9, 0.81), (0.9, 0.5)])
def test_no_gradients_exceed_the_bound(betas):
    rng = np.random.default_rng(4)
    # Sizes over many magnitudes, so that growing stretches are among them.
    gradients = rng.normal(size=(300, 200)) * 10.0 ** rng.uniform(-6, 3, size=(300, 200))
    steps = np.abs(study.adam_ratios(gradients, *betas)).max(axis=1)
    bounds = [study.largest_ratio(*betas, updates=t) for t in range(1, 301)]
    assert np.all(steps <= np.array(bounds) * (1 + 1e-9))


@pytest.mark.parametrize("updates", [1, 7, 400])
def test_the_bound_is_reached_by_growing_gradients(updates):
    beta1, beta2 = DEFAULT
    gradients = (beta1 / beta2) ** np.arange(updates)[::-1]
    last = study.adam_ratios(gradients, beta1, beta2)[-1]
    assert last == pytest.approx(study.largest_ratio(beta1, beta2, updates), rel=1e-6)


def test_known_bounds():
    assert study.single_spike_bound(*DEFAULT) == pytest.approx(math.sqrt(10))
    assert study.single_spike_bound(0.9, 0.5) == 1.0
    # (1 - 0.9) / sqrt(0.001 (1 - 0.81 / 0.999)) = 7.2703 by hand.
    assert study.largest_ratio(*DEFAULT) == pytest.approx(7.2703, abs=1e-4)
    assert study.largest_ratio(*DEFAULT, updates=100_000) == pytest.approx(7.2703, abs=1e-4)
    assert study.largest_ratio(0.9, 0.5) == math.inf
    assert study.largest_ratio(*DEFAULT, updates=1) == pytest.approx(1.0)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.997])
def test_equal_betas_bound_the_step_by_the_learning_rate(beta):
    for updates in (1, 10, 10_000, None):
        assert study.largest_ratio(beta, beta, updates) == pytest.approx(1.0)


def test_one_spike_after_long_silence_reaches_its_bound():
    gradients = np.concatenate([np.full(20_000, 1e-9), [1.0]])
    assert study.adam_ratios(gradients)[-1] == pytest.approx(math.sqrt(10), rel=1e-3)


def test_a_sudden_large_gradient_beats_the_spike_but_not_the_bound():
    gradients = study.quiet_then_loud(3000, 200, 1e-3)
    largest = study.adam_ratios(gradients).max()
    assert math.sqrt(10) < largest < study.largest_ratio(*DEFAULT)
    assert study.adam_ratios(gradients, 0.99, 0.99).max() <= 1.0


# --- the process ------------------------------------------------------------------------------


def test_share_paid_is_the_stationary_distribution():
    mdp = study.TwoStateMDP(slip=0.2)
    logits = np.array([0.7, -1.3])
    go = 1 / (1 + np.exp(-logits))
    leave = 0.2 + 0.6 * go
    transition = np.array([[1 - leave[0], leave[0]], [leave[1], 1 - leave[1]]])
    stationary = np.linalg.matrix_power(transition, 200)[0]
    assert mdp.share_paid(logits, 0) == pytest.approx(stationary[0])
    assert mdp.share_paid(logits, 1) == pytest.approx(stationary[1])
    assert mdp.share_paid(np.array([-50.0, 50.0])) == pytest.approx(0.8)


def test_gradient_is_the_expectation_of_the_actor_critic_update():
    # The expectation by enumerating both actions and both slips, for copies in both states.
    mdp = study.TwoStateMDP(slip=0.1, discount=0.9)
    parameters = np.array([[0.4, -0.8, 2.0, 1.0]])
    expected = np.zeros(4)
    for s in (0, 1):
        logit, value = parameters[0, s], parameters[0, 2 + s]
        p = 1 / (1 + np.exp(-logit))
        for go, chance in ((1, p), (0, 1 - p)):
            for slipped, odds in ((1, 0.1), (0, 0.9)):
                after = 1 - s if go != slipped else s
                delta = (after == 0) + 0.9 * parameters[0, 2 + after] - value
                weight = 0.5 * chance * odds
                expected[s] += weight * (-delta * (go - p) + 0.2 * p * (1 - p) * logit)
                expected[2 + s] -= weight * delta
    copies = 400_000
    state = (np.arange(copies) % 2)[None]
    draws = np.random.default_rng(0).random((2, 1, copies))
    gradient, following = study._actor_critic_gradient(parameters, state, draws, 0, mdp, 0.2)
    np.testing.assert_allclose(gradient[0], expected, atol=0.01)
    assert following.shape == state.shape


def test_a_seed_is_the_same_experiment_whatever_the_number_of_seeds():
    change = study.Disturbance(20, 5)
    few = study.train(study.ARMS["adam"], change, seeds=2, after=20, batch=8)
    many = study.train(study.ARMS["adam"], change, seeds=4, after=20, batch=8)
    np.testing.assert_array_equal(few.logits, many.logits[:, :2])
    assert not np.array_equal(many.logits[:, 0], many.logits[:, 1])


def test_recorded_steps_are_adam_on_the_recorded_gradients():
    arm = study.ARMS["l2"]
    history = study.train(arm, study.Disturbance(50, 10), seeds=2, after=30, batch=16)
    expected = study.adam_ratios(history.gradients, arm.beta1, arm.beta2)
    np.testing.assert_allclose(history.ratios, expected, rtol=1e-12)


def test_disturbance_times():
    change = study.Disturbance(quiet_updates=10, length=3)
    assert [change.paying(t) for t in range(9, 16)] == [0, 0, 1, 1, 1, 0, 0]
    assert study.Disturbance(10, None).paying(10**6) == 1
    assert change.final_paying == 0
    assert study.Disturbance(10, None).final_paying == 1


@pytest.fixture(scope="module")
def passing():
    change = study.Disturbance(3000, 50)
    return {name: study.train(arm, change, seeds=3) for name, arm in study.ARMS.items()}


@pytest.fixture(scope="module")
def lasting():
    change = study.Disturbance(3000, None)
    return {name: study.train(arm, change, seeds=3) for name, arm in study.ARMS.items()}


def test_what_the_chapter_says_about_a_passing_disturbance(passing):
    said = {name: study.summarise(history) for name, history in passing.items()}
    assert said["adam"].largest_step > 5 > 1 > said["equal_betas"].largest_step
    assert said["adam"].lowest < 0.85 < 0.9 < said["equal_betas"].lowest
    assert said["l2"].lowest < said["adam"].lowest
    assert said["equal_betas"].recovery == 0 < said["adam"].recovery < 200
    assert all(summary.before > 0.95 for summary in said.values())


def test_what_the_chapter_says_about_a_lasting_change(lasting):
    said = {name: study.summarise(history) for name, history in lasting.items()}
    assert said["adam"].recovery * 2 < said["equal_betas"].recovery < 700
    assert said["adam"].steps_over_rate > 0.5 > 0 == said["equal_betas"].steps_over_rate


def test_a_long_quiet_makes_a_large_step():
    arms = {name: study.ARMS[name] for name in ("adam", "equal_betas")}
    steps = figures.largest_steps(arms, [30, 3000], seeds=2)
    assert steps["adam"].shape == (2, 2)
    assert steps["adam"][0].max() < 2 < 4 < steps["adam"][1].min()
    assert steps["equal_betas"].max() <= 1 + 1e-9


def test_recovery_counts_to_the_last_poor_update():
    change = study.Disturbance(2, None)
    mdp = study.TwoStateMDP(slip=0.0)
    good, bad = np.array([50.0, -50.0]), np.array([-50.0, 50.0])
    logits = np.array([bad, bad, bad, good, bad, good, good])[:, None, :]
    history = study.Histories(
        mdp,
        study.ARMS["adam"],
        change,
        logits,
        logits,
        np.zeros((7, 1, 4)),
        np.zeros((7, 1, 4)),
        np.array([0, 0, 1, 1, 1, 1, 1]),
    )
    assert study.summarise(history).recovery == 3


# --- figures and words ------------------------------------------------------------------------


def test_figures_draw_the_data(passing, lasting):
    arms = {name: study.ARMS[name] for name in ("adam", "equal_betas")}
    gradients = study.quiet_then_loud(100, 60, 1e-3)
    optax = {name: study.adam_ratios(gradients, a.beta1, a.beta2) for name, a in arms.items()}
    axes = figures.step_figure(gradients, 100, arms, optax).axes[0]
    by_label = {line.get_label(): line for line in axes.get_lines()}
    drawn = by_label[arms["adam"].label]
    np.testing.assert_allclose(drawn.get_ydata(), optax["adam"][60:])
    assert drawn.get_xdata()[-1] == 60

    panels = figures.disturbance_figure(passing).axes
    assert len(panels) == 3
    mean = next(
        line for line in panels[1].get_lines() if line.get_label() == study.ARMS["l2"].label
    )
    expected = passing["l2"].share_of_best(0)[2950:3300].mean(axis=1)
    np.testing.assert_allclose(mean.get_ydata(), expected)

    assert len(figures.lasting_change_figure(lasting).axes) == 1
    steps = {name: np.ones((2, 1)) for name in arms}
    assert figures.quiet_length_figure(arms, [30, 100], steps).axes[0].get_xscale() == "log"


def test_sentences_say_the_numbers():
    arms = study.ARMS
    summaries = {
        "adam": study.Summary(5.81, 0.9, 0.98, 0.49, 107.0),
        "equal_betas": study.Summary(0.63, 0.0, 0.98, 0.96, 0.0),
    }
    said = figures.disturbance_sentences(arms, summaries)
    assert "5.81 learning rates" in said and "(50 % lost)" in said
    assert "107 updates" in said and "it never leaves 90 %" in said
    order = figures.lasting_change_sentences(arms, summaries)
    assert order.index("equal betas") < order.index("Adam (0.9")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: study.adam_ratios(np.ones(3), beta1=1.0), "beta1 must lie in"),
        (lambda: study.adam_ratios(np.array([])), "at least one update"),
        (lambda: study.adam_ratios(np.array([1.0, np.nan])), "must be finite"),
        (lambda: study.largest_ratio(0.9, 0.999, 0), "updates must be a whole number"),
        (lambda: study.TwoStateMDP(slip=0.5), "slip must lie in"),
        (lambda: study.TwoStateMDP(discount=1.0), "discount must lie in"),
        (lambda: study.Disturbance(0, 5), "quiet_updates must be"),
        (lambda: study.Disturbance(5, 0), "length must be"),
        (lambda: study.arms(l2=-1.0), "l2 must be zero or positive"),
        (lambda: study.arms(equal_beta=1.5), "beta1 must lie in"),
        (lambda: study.train(study.ARMS["adam"], study.Disturbance(5), seeds=0), "seeds must be"),
        (
            lambda: study.train(study.ARMS["adam"], study.Disturbance(5), learning_rate=math.nan),
            "learning_rate must be",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(LoptrlError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
