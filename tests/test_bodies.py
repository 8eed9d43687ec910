"""Brax bodies: our physical parameters move them, everything else is Brax's own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.envs.bodies import BODIES, BodyState, BraxBody
from loptrl.envs.dynamics import Dynamics, nominal
from loptrl.envs.world import VectorWorld
from loptrl.errors import LoptrlError

N, STEPS = 3, 40
KEY = jax.random.key(0)
ACTIONS = jax.random.uniform(jax.random.key(1), (STEPS, N, 8), minval=-1.0, maxval=1.0)
NOMINAL = nominal(8)


def player(layout: str, backend: str = "spring") -> Any:
    """A compiled function: the dynamics to first observations, last state and all steps."""
    world = VectorWorld(BraxBody("ant", backend, layout))

    @jax.jit
    def play(actions: jax.Array, dynamics: Dynamics) -> Any:
        state, first = world.reset(KEY, N, dynamics)

        def one(state, action):
            return world.step(KEY, state, action, dynamics)

        state, steps = jax.lax.scan(one, state, actions)
        return first, state, steps

    return play


@pytest.fixture(scope="module")
def play():
    return player("last")


@pytest.fixture(scope="module")
def usual(play):
    return play(ACTIONS, NOMINAL)


@pytest.fixture(scope="module")
def body():
    return BraxBody("ant", "spring", "first")


@pytest.fixture(scope="module")
def one_step(body):
    return jax.jit(lambda state, action, dynamics: body.step(KEY, state, action, dynamics))


def element(state: Any, index: int) -> Any:
    """One robot of a state whose last axis is the batch."""
    return jax.tree.map(lambda x: x[..., index], state)


def test_both_layouts_are_the_same_physics(usual):
    # Contacts amplify rounding; the first half second is free of large amplification.
    same_physics(usual, player("first")(ACTIONS, NOMINAL), steps=10, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_both_layouts_are_the_same_positional_physics():
    last, first = (player(layout, "positional")(ACTIONS, NOMINAL) for layout in ("last", "first"))
    # Here they do from the start, with the products kept or not.
    same_physics(last, first, steps=5, tolerance=2e-3)


def same_physics(usual, first, *, steps, tolerance):
    for a, b in zip(jax.tree.leaves((usual[0], usual[2])), jax.tree.leaves((first[0], first[2]))):
        assert a.shape == b.shape and a.dtype == b.dtype
        one, other = (np.asarray(x, float)[:steps] for x in (a, b))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(usual[1].age, first[1].age)
    assert jax.tree.leaves(usual[1])[0].shape[-1] == N


def test_rewards_and_observations_are_brax_s_own(body, one_step, usual):
    from brax.envs.base import State

    reference = jax.jit(body._env.step)
    zero = jnp.zeros(())
    for index in range(N):
        state = element(usual[1], index)
        before = State(state.physics, usual[2].observation[-1, index], zero, zero, {})
        theirs = reference(before, ACTIONS[0, index])
        _, ours = one_step(state, ACTIONS[0, index], NOMINAL)
        np.testing.assert_allclose(ours.observation, theirs.obs, rtol=1e-5, atol=1e-5)
        assert float(ours.reward) == pytest.approx(float(theirs.reward), rel=1e-5, abs=1e-5)
        assert bool(ours.terminated) == bool(theirs.done)


def test_parameters_reach_the_physics(body):
    dynamics = Dynamics(np.float32(0.3), np.linspace(0, 1, 8, dtype=np.float32), np.float32(0.5))
    built, changed = body._env.sys, body._with(dynamics).sys
    np.testing.assert_allclose(changed.geom_friction[:, 0], 0.3)  # of the ground and of every limb
    np.testing.assert_array_equal(changed.geom_friction[:, 1:], built.geom_friction[:, 1:])
    np.testing.assert_allclose(changed.actuator.gear, built.actuator.gear * dynamics.strength)
    assert changed.vel_damping == pytest.approx(built.vel_damping - 0.5)
    assert changed.ang_damping == pytest.approx(built.ang_damping - 0.5)
    same = body._with(NOMINAL).sys
    np.testing.assert_array_equal(same.geom_friction, built.geom_friction)  # Brax's own is 1
    np.testing.assert_array_equal(same.actuator.gear, built.actuator.gear)
    np.testing.assert_array_equal(body._env.sys.geom_friction, built.geom_friction)


def positions(result: Any) -> np.ndarray:
    return np.asarray(result[1].physics.x.pos[0])  # the torso, [3, N]


def speeds(result: Any) -> np.ndarray:
    return np.asarray(jnp.linalg.norm(result[1].physics.xd.vel, axis=1)).mean(0)


def test_friction_changes_the_motion(play, usual):
    for friction in (0.02, 2.0):
        other = play(ACTIONS, NOMINAL._replace(friction=np.float32(friction)))
        assert np.abs(positions(other) - positions(usual))[:2].max() > 0.02
    again = play(ACTIONS, NOMINAL._replace(friction=np.float32(1.0)))
    np.testing.assert_array_equal(positions(again), positions(usual))


def test_without_strength_actions_do_nothing(play, usual):
    limp = NOMINAL._replace(strength=np.zeros(8, np.float32))
    one, other = play(ACTIONS, limp), play(-ACTIONS, limp)
    np.testing.assert_array_equal(positions(one), positions(other))
    assert np.abs(positions(one) - positions(usual)).max() > 0.02


def test_each_actuator_has_its_own_strength(play):
    weak = NOMINAL._replace(strength=np.array([0, 1, 1, 1, 1, 1, 1, 1], np.float32))
    only_the_first = ACTIONS.at[:, :, 0].multiply(-1)
    np.testing.assert_array_equal(
        positions(play(ACTIONS, weak)), positions(play(only_the_first, weak))
    )
    assert np.any(positions(play(ACTIONS, NOMINAL)) != positions(play(only_the_first, NOMINAL)))


def test_damping_slows_the_motion(play, usual):
    assert np.all(speeds(play(ACTIONS, NOMINAL._replace(damping=np.float32(20.0)))) < speeds(usual))


def test_actions_are_clipped(one_step, usual):
    state = element(usual[1], 0)
    (far, _), (edge, _) = (one_step(state, jnp.full(8, a), NOMINAL) for a in (50.0, 1.0))
    np.testing.assert_array_equal(far.physics.x.pos, edge.physics.x.pos)


def test_the_time_limit_truncates(one_step, usual):
    state = element(usual[1], 0)
    for age, expected in ((997, False), (998, False), (999, True), (1500, True)):
        after, step = one_step(state._replace(age=jnp.int32(age)), ACTIONS[0, 0], NOMINAL)
        assert bool(step.truncated) is expected and not bool(step.terminated)
        assert int(after.age) == age + 1


def test_an_unhealthy_body_terminates(one_step, usual):
    state = element(usual[1], 0)
    lifted = state.physics.x_i.pos.at[:, 2].add(5.0)
    high = BodyState(
        state.physics.replace(x_i=state.physics.x_i.replace(pos=lifted)), jnp.int32(999)
    )
    _, step = one_step(high, ACTIONS[0, 0], NOMINAL)
    assert bool(step.terminated) and not bool(step.truncated), "an end is no time limit"


def test_the_humanoid_resets_and_steps():
    body = BraxBody("humanoid", "spring", "first")
    assert (body.action_size, body.num_actuators) == (17, 17)
    action = jnp.full(17, 0.3)

    @jax.jit
    def play(dynamics: Dynamics) -> Any:
        state, first = body.reset(KEY, dynamics)
        return first, body.step(KEY, state, action, dynamics)[1]

    first, step = play(nominal(17))
    assert first.shape == step.observation.shape == (body.observation_size,)
    assert np.isfinite(step.observation).all() and not step.terminated
    assert float(step.reward) > 0
    _, other = play(nominal(17)._replace(strength=np.full(17, 0.2, np.float32)))
    assert np.any(np.asarray(other.observation) != np.asarray(step.observation))


def test_sizes_and_mistakes():
    assert BODIES == ("ant", "humanoid")
    ant = BraxBody("ant")
    assert (ant.observation_size, ant.action_size, ant.num_actuators) == (27, 8, 8)
    assert ant.layout == "first" and ant.max_episode_steps == 1000 and not ant.discrete
    with pytest.raises(LoptrlError, match="unknown body 'cheetah': expected one of ant, humanoid"):
        BraxBody("cheetah")
    with pytest.raises(LoptrlError, match="unknown backend 'mjx': expected one of spring"):
        BraxBody("ant", "mjx")
