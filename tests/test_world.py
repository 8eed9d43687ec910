"""`VectorWorld` and the probes: many copies, automatic resets, what a step shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.envs.drift import Drift
from loptrl.envs.dynamics import Dynamics, nominal
from loptrl.envs.probes import PROBES, Choice, Endless, Reach
from loptrl.envs.world import Step, VectorWorld

KEY = jax.random.key(0)
NOMINAL = nominal(1)


class Counter(NamedTuple):
    left: jax.Array
    total: jax.Array


class Countdown:
    """Episodes of random length 1 to 4; observation (left, sum of actions), reward the action."""

    observation_size, action_size, discrete = 2, 1, False
    num_actuators, max_episode_steps = 1, 4

    def __init__(self, layout: str) -> None:
        self.layout, self.keep_products = layout, False

    def reset(self, key: jax.Array, dynamics: Dynamics) -> tuple[Counter, jax.Array]:
        del dynamics
        state = Counter(jax.random.randint(key, (), 1, 5).astype(jnp.float32), jnp.zeros(2))
        return state, self._observe(state)

    def step(
        self, key: Any, state: Counter, action: jax.Array, dynamics: Dynamics
    ) -> tuple[Counter, Step]:
        del key
        state = Counter(state.left - 1.0, state.total + action[0] * dynamics.friction)
        over = state.left <= 0
        observation = self._observe(state)
        high = state.total[0] > 2.0
        return state, Step(observation, action[0], over & high, over & ~high, observation)

    @staticmethod
    def _observe(state: Counter) -> jax.Array:
        return jnp.stack([state.left, state.total.sum()])


@pytest.mark.parametrize("layout", ["first", "last"])
def test_automatic_resets(layout):
    world = VectorWorld(Countdown(layout))
    n = 6
    dynamics = NOMINAL._replace(friction=np.float32(2.0))
    state, observation = world.reset(KEY, n, dynamics)
    assert observation.shape == (n, 2)
    assert state.total.shape == ((2, n) if layout == "last" else (n, 2))
    left, total = np.asarray(observation)[:, 0], np.zeros(n)
    step = jax.jit(world.step_autoreset)
    ended = 0
    for t in range(12):
        action = jnp.linspace(-1.0, 1.0, n)[:, None] + 0.1 * t
        state, out = step(jax.random.fold_in(KEY, t), state, action, dynamics)
        left, total = left - 1, total + 4 * np.asarray(action)[:, 0]
        over = left <= 0
        np.testing.assert_allclose(out.reward, action[:, 0], rtol=1e-6)
        np.testing.assert_array_equal(out.terminated | out.truncated, over)
        assert not np.any(out.terminated & out.truncated)
        # Before the reset, what was reached; after it, the start of another episode.
        np.testing.assert_allclose(out.final_observation[:, 0], left)
        np.testing.assert_allclose(out.final_observation[:, 1], total, rtol=1e-4, atol=1e-4)
        shown = np.asarray(out.observation)
        np.testing.assert_allclose(shown[~over], np.asarray(out.final_observation)[~over])
        assert np.all((shown[over, 0] >= 1) & (shown[over, 0] <= 4)) and np.all(shown[over, 1] == 0)
        left, total = shown[:, 0].copy(), np.where(over, 0, total)
        ended += int(over.sum())
    assert ended > n


@pytest.mark.parametrize("layout", ["first", "last"])
def test_without_resets_an_episode_goes_on(layout):
    world = VectorWorld(Countdown(layout))
    state, _ = world.reset(KEY, 3, NOMINAL)
    for _ in range(6):
        state, out = world.step(KEY, state, jnp.ones((3, 1)), NOMINAL)
    assert np.all(np.asarray(out.observation)[:, 0] < 0)
    np.testing.assert_array_equal(out.observation, out.final_observation)


def test_copies_start_differently_and_seeds_repeat():
    world = VectorWorld(Countdown("first"))
    one, again = world.reset(KEY, 64, NOMINAL)[1], world.reset(KEY, 64, NOMINAL)[1]
    np.testing.assert_array_equal(one, again)
    assert len(set(np.asarray(one)[:, 0])) == 4


def test_endless():
    world = VectorWorld(Endless())
    state, _ = world.reset(KEY, 2, NOMINAL)
    flags = []
    for _ in range(8):
        state, out = world.step(KEY, state, jnp.zeros((2, 1)), NOMINAL)
        assert np.all(out.reward == 1.0) and not out.terminated.any()
        flags.append(bool(out.truncated.all()))
    assert flags == [False] * 7 + [True]


def test_reach():
    world = VectorWorld(Reach())
    dynamics = Drift.constant_friction(0.25).at(0, 1)
    state, _ = world.reset(KEY, 3, dynamics)
    _, out = world.step(KEY, state, jnp.array([[0.5], [0.0], [1.5]]), dynamics)
    np.testing.assert_allclose(out.reward, [0.25, 0.0, -0.75], atol=1e-6)
    assert out.terminated.all() and not out.truncated.any()


def test_choice():
    world = VectorWorld(Choice())
    state, observation = world.reset(KEY, 200, NOMINAL)
    right = np.asarray(observation)[:, 0].astype(int)
    assert 60 < right.sum() < 140
    _, good = world.step(KEY, state, jnp.asarray(right), NOMINAL)
    _, bad = world.step(KEY, state, jnp.asarray(1 - right), NOMINAL)
    assert np.all(good.reward == 1.0) and np.all(bad.reward == 0.0) and good.terminated.all()


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_shows_what_a_world_shows(name):
    world = PROBES[name]()
    state, observation = world.reset(KEY, NOMINAL)
    assert observation.shape == (world.observation_size,)
    action = jnp.int32(0) if world.discrete else jnp.zeros(world.action_size)
    after, step = world.step(KEY, state, action, NOMINAL)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert step.reward.shape == () and step.terminated.dtype == step.truncated.dtype == bool
    assert step.final_observation.shape == observation.shape
