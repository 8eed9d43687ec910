"""Drifts: each form against values worked out by hand; pure, seeded, composable, printable."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from loptrl.envs.drift import Drift, Faults, Linear, RandomWalk, Sinusoid, Steps, Wear
from loptrl.envs.dynamics import nominal
from loptrl.errors import LoptrlError

FRICTION = 1  # the channel's number, part of what seeds it


def uniform(seed, channel, index, count=1):
    return np.random.default_rng([seed, channel, index]).random(count)


def test_no_drift_is_the_nominal_task():
    for env_steps in (0, 10**9):
        for got, expected in zip(Drift.none().at(env_steps, 8), nominal(8)):
            np.testing.assert_array_equal(got, expected)


def test_steps_by_hand():
    drift = Drift(friction=Steps(0.02, 2.0, 100), seed=5)
    for env_steps, index in ((0, 0), (99, 0), (100, 1), (250, 2)):
        expected = 0.02 * 100 ** uniform(5, FRICTION, index)[0]
        assert drift.at(env_steps, 1).friction == pytest.approx(expected, rel=1e-6)
    flat = Drift(friction=Steps(1.0, 3.0, 100, log=False), seed=5)
    assert flat.at(0, 1).friction == pytest.approx(1 + 2 * uniform(5, FRICTION, 0)[0], rel=1e-6)


def test_steps_are_log_uniform_over_their_range():
    values = np.array(
        [Drift(friction=Steps(0.02, 2.0, 1), seed=3).at(i, 1).friction for i in range(2000)]
    )
    assert values.min() >= 0.02 and values.max() <= 2.0
    share = np.log(values / 0.02) / math.log(100)
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.04)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Linear(1.0, 3.0, 100), {0: 1.0, 25: 1.5, 100: 3.0, 500: 3.0}),
        (Linear(3.0, 1.0, 100), {0: 3.0, 50: 2.0, 100: 1.0}),
        (Linear(0.01, 1.0, 100, log=True), {0: 0.01, 50: 0.1, 100: 1.0}),
        (Sinusoid(0.0, 2.0, 100), {0: 1.0, 25: 2.0, 50: 1.0, 75: 0.0, 125: 2.0}),
        (Sinusoid(0.1, 10.0, 100, log=True), {0: 1.0, 25: 10.0, 75: 0.1}),
    ],
    ids=str,
)
def test_smooth_forms_by_hand(schedule, values):
    drift = Drift(friction=schedule)
    for env_steps, value in values.items():
        assert drift.at(env_steps, 1).friction == pytest.approx(value, rel=1e-6, abs=1e-7)


def test_random_walk_by_hand():
    walk = Drift(friction=RandomWalk(0.02, 2.0, 10, scale=0.3), seed=2)
    normal = np.random.default_rng([2, FRICTION]).standard_normal(40)
    for env_steps in (0, 9, 10, 55, 400):
        position = 0.5 + 0.3 * normal[: env_steps // 10].sum()
        while not 0 <= position <= 1:  # reflected at either bound
            position = -position if position < 0 else 2 - position
        expected = 0.02 * 100**position
        assert walk.at(env_steps, 1).friction == pytest.approx(expected, rel=1e-5)


def test_wear_by_hand():
    drift = Drift(strength=Wear(0.4, 200, least=0.1), seed=4)
    np.testing.assert_array_equal(drift.at(0, 8).strength, np.ones(8))
    half, end = drift.at(100, 8).strength, drift.at(200, 8).strength
    assert np.all(end >= 0.6 - 1e-6) and np.all(end <= 0.9 + 1e-6) and np.ptp(end) > 0.05
    np.testing.assert_allclose(half, 0.5 * (1 + end), rtol=1e-6)
    np.testing.assert_array_equal(drift.at(10**9, 8).strength, end)
    alike = Drift(strength=Linear(1.0, 0.5, 100)).at(50, 3).strength
    np.testing.assert_allclose(alike, [0.75] * 3)


def test_faults_by_hand():
    drift = Drift(faults=Faults(0.5, 100), seed=6)
    count = 0
    for index in range(200):
        strength = drift.at(100 * index + 7, 4).strength
        u, which = uniform(6, 4, index, 2)
        expected = np.ones(4)
        if u < 0.5:
            expected[int(4 * which)] = 0.0
            count += 1
        np.testing.assert_array_equal(strength, expected)
    assert 70 < count < 130
    certain = Drift(faults=Faults(1.0, 1), seed=0)
    assert {int(np.argmin(certain.at(i, 3).strength)) for i in range(50)} == {0, 1, 2}
    assert np.all(Drift(faults=Faults(0.0, 1)).at(3, 4).strength == 1)


EVERYTHING = Drift(
    friction=Steps(0.02, 2.0, 100),
    strength=Wear(0.4, 1000),
    damping=RandomWalk(0.1, 1.0, 50),
    faults=Faults(0.5, 70),
    seed=9,
)


def test_pure_and_seeded():
    moments = [0, 350, 120, 999, 350, 0, 5000]
    twin = dataclasses.replace(EVERYTHING)
    forwards = [EVERYTHING.at(s, 4) for s in moments]
    backwards = [twin.at(s, 4) for s in reversed(moments)][::-1]
    for one, other in zip(forwards, backwards):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
    table = EVERYTHING.table(np.array(moments), 4)
    assert table.friction.shape == (7,) and table.strength.shape == (7, 4)
    np.testing.assert_array_equal(table.strength[3], forwards[3].strength)
    other = EVERYTHING.with_seed(10)
    assert other.at(0, 4).friction != EVERYTHING.at(0, 4).friction
    assert {leaf.dtype for leaf in EVERYTHING.at(3, 4)} == {np.dtype(np.float32)}


def test_channels_do_not_reseed_each_other():
    alone = Drift(friction=EVERYTHING.friction, seed=9)
    for env_steps in (0, 150, 920):
        assert alone.at(env_steps, 4).friction == EVERYTHING.at(env_steps, 4).friction


def test_composition():
    friction, wear = (
        Drift(friction=Steps(0.1, 1, 10), seed=3),
        Drift(strength=Wear(0.3, 10), seed=8),
    )
    both = friction | wear
    assert both.changes == ("friction", "strength") and both.seed == 3
    assert both.at(25, 2).friction == friction.at(25, 2).friction
    np.testing.assert_array_equal(both.at(25, 2).strength, wear.with_seed(3).at(25, 2).strength)
    with pytest.raises(LoptrlError, match=r"different channels, both set \['friction'\]"):
        both | friction


def test_faults_multiply_the_strength():
    drift = Drift(strength=Linear(0.5, 0.5, 1), faults=Faults(1.0, 10))
    assert sorted(drift.at(0, 3).strength) == [0.0, 0.5, 0.5]


def test_json_round_trip():
    text = json.dumps(EVERYTHING.to_dict())
    assert "seed" not in text
    assert Drift.from_dict(json.loads(text), seed=9) == EVERYTHING
    assert Drift.from_dict({}) == Drift.none() and Drift.none().to_dict() == {}


def test_printing():
    assert str(Drift.none()) == "no drift"
    text = str(Drift(friction=Steps(0.02, 2, 2_000_000), damping=Linear(0, 1, 10), seed=7))
    assert text == (
        "friction: Steps(low=0.02, high=2, period=2e+06, log=1); "
        "damping: Linear(low=0, high=1, period=10, log=0) [seed 7]"
    )


def test_constant_friction():
    drift = Drift.constant_friction(0.2)
    assert {float(drift.at(s, 1).friction) for s in (0, 10, 10**8)} == {float(np.float32(0.2))}


def test_drawing():
    figure = EVERYTHING.draw(1000, 4, points=50)
    assert isinstance(figure, Figure)
    drawn = [line.get_ydata() for axes in figure.axes for line in axes.get_lines()]
    friction = EVERYTHING.table(np.linspace(0, 1000, 50), 4).friction
    assert any(len(y) == 50 and np.allclose(y, friction) for y in map(np.asarray, drawn))


def test_numpy_scalars_are_moments():
    drift = Drift(friction=Steps(0.1, 1.0, 10), seed=3)
    for moment in np.arange(0, 40, 10):
        assert drift.at(moment, 2).friction == drift.at(int(moment), 2).friction
    drift = Drift(
        friction=Steps(np.float32(0.5), 1, np.int64(10)), strength=Wear(np.float32(0.5), 9)
    )
    assert json.loads(json.dumps(drift.to_dict())) == drift.to_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Steps(1, 2, 0), r"Steps\.period must be a number above 0, got 0"),
        (lambda: Steps(1, 2, -5), r"Steps\.period must be a number above 0, got -5"),
        (lambda: Steps(2, 1, 10), "Steps needs low <= high, got low=2 and high=1"),
        (lambda: Steps(0, 1, 10), r"Steps\.low must be a number above 0, got 0"),
        (lambda: Steps(math.nan, 1, 10), r"Steps\.low must be a number above 0, got nan"),
        (lambda: Steps(0.1, math.inf, 10), r"Steps\.high must be a number above 0, got inf"),
        (lambda: Steps("a", 1, 10), r"Steps\.low must be a number above 0, got 'a'"),
        (lambda: Steps(True, 1, 10), r"Steps\.low must be a number above 0, got True"),
        (lambda: Linear(-1, 1, 10), r"Linear\.low must be a number of at least 0, got -1"),
        (lambda: Linear(1, 1, 0), r"Linear\.period must be a number above 0, got 0"),
        (lambda: Sinusoid(3, 1, 10), "Sinusoid needs low <= high, got low=3 and high=1"),
        (lambda: Sinusoid(1, 3, math.nan), r"Sinusoid\.period must be a number above 0"),
        (lambda: RandomWalk(1, 2, 10, scale=0), r"RandomWalk\.scale must be a number above 0"),
        (lambda: Wear(1.5, 10), r"Wear\.most must be at most 1 \(all strength lost\), got 1\.5"),
        (lambda: Wear(0.1, 10, least=0.2), r"Wear\.most must be a number of at least 0\.2"),
        (lambda: Wear(0.4, 0), r"Wear\.period must be a number above 0, got 0"),
        (lambda: Faults(1.5, 10), r"Faults\.probability must be at most 1, got 1\.5"),
        (lambda: Faults(-0.1, 10), r"Faults\.probability must be a number of at least 0"),
        (lambda: Faults(0.1, 0), r"Faults\.period must be a number above 0, got 0"),
        (lambda: Drift(friction=Wear(0.1, 1)), r"Drift\.friction must be None or .*, got Wear"),
        (lambda: Drift(damping=3.0), r"Drift\.damping must be None or one of .*, got 3\.0"),
        (lambda: Drift(faults=Steps(1, 2, 3)), r"Drift\.faults must be None or one of"),
        (lambda: Drift(seed=-1), r"Drift\.seed must be a whole number of at least 0, got -1"),
        (lambda: Drift(seed=1.5), r"Drift\.seed must be a whole number of at least 0, got 1\.5"),
        (lambda: Drift().at(-1, 2), r"Drift\.at\.env_steps must be a number of at least 0"),
        (lambda: Drift.constant_friction(0), r"constant_friction must be a number above 0"),
        (lambda: Drift.from_dict({"wind": {}}), r"channels \['damping', .*\], got 'wind'"),
        (lambda: Drift.from_dict({"friction": {"form": "Jump"}}), r"forms are .*, got 'Jump'"),
        (lambda: Drift.from_dict({"friction": {"low": 1}}), r"forms are .*, got None for friction"),
        (lambda: Drift.from_dict({"friction": {"form": "Steps", "lo": 1}}), r"got also \['lo'\]"),
        (lambda: Drift.from_dict({"friction": {"form": "Steps", "low": 1}}), "incomplete"),
        (lambda: Drift.from_dict({"friction": 5}), r"friction .*got 5"),
        (lambda: Drift.from_dict(5), "got 5"),
        (lambda: Drift.from_dict({"friction": {"form": ["a"]}}), "forms are"),
    ],
)  # fmt: skip
def test_mistakes_are_named_in_one_sentence(make, message):
    with pytest.raises(LoptrlError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
