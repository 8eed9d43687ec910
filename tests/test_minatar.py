"""The MinAtar games: gymnax's own steps, episode ends told apart, and rules checked by hand."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.envs.dynamics import nominal
from loptrl.envs.minatar import GAMES, MinAtar
from loptrl.envs.world import VectorWorld
from loptrl.errors import LoptrlError
from loptrl.studies.training import make_world

N, STEPS = 8, 300
KEY = jax.random.key(0)
NOMINAL = nominal(1)
# Per game: actions, observation channels, and the time limit in steps.
FACTS = {
    "asterix": (5, 4, 1000),
    "breakout": (3, 4, 1000),
    "freeway": (3, 7, 2500),
    "space_invaders": (4, 6, 1000),
}
# Indices into the minimal action sets.
BREAKOUT_LEFT, FREEWAY_UP = 1, 1
INVADERS_WAIT, INVADERS_LEFT, INVADERS_FIRE = 0, 1, 3


class Play(NamedTuple):
    """`STEPS` steps of `N` copies with automatic resets, `[STEPS, N, ...]`."""

    first: jax.Array  # [N, obs]
    states: Any
    steps: Any
    gymnax_states: Any
    gymnax_steps: Any  # observation, reward, terminated


@functools.cache
def game(name: str) -> MinAtar:
    return MinAtar(name)


@functools.cache
def player(name: str) -> Any:
    """A compiled function of a key, actions and dynamics; gymnax plays beside us."""
    world = game(name)
    copies = VectorWorld(world)
    env, params = world._env, world._params

    def gymnax_step(key, state, action):
        observation, after, reward, terminated, _ = env.step_env(key, state, action, params)
        return after, (observation, reward, terminated)

    @jax.jit
    def play(key: jax.Array, actions: jax.Array, dynamics: Any) -> Play:
        reset_key, steps_key = jax.random.split(key)
        state, first = copies.reset(reset_key, N, dynamics)

        def one(state, x):
            step_key, action = x
            # The keys that VectorWorld hands to its copies.
            keys = jax.random.split(jax.random.split(step_key)[0], N)
            theirs = jax.vmap(gymnax_step)(keys, state, action)
            ours, _ = copies.step(jax.random.split(step_key)[0], state, action, dynamics)
            state, step = copies.step_autoreset(step_key, state, action, dynamics)
            return state, (ours, step, *theirs)

        _, out = jax.lax.scan(one, state, (jax.random.split(steps_key, STEPS), actions))
        return Play(first, *out)

    return play


def actions(name: str) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (STEPS, N), 0, FACTS[name][0])


@functools.cache
def usual(name: str) -> Play:
    return player(name)(KEY, actions(name), NOMINAL)


@functools.cache
def stepper(name: str) -> Any:
    world = game(name)
    return jax.jit(lambda state, action: world.step(KEY, state, action, NOMINAL))


def start(name: str) -> Any:
    return game(name).reset(KEY, NOMINAL)[0]


def place(state: Any, **fields: Any) -> Any:
    """The state with some fields set, in their own types."""
    new = {k: jnp.asarray(v, getattr(state, k).dtype) for k, v in fields.items()}
    return state.replace(**new)


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_the_games():
    assert tuple(FACTS) == GAMES


@pytest.mark.parametrize("name", GAMES)
def test_sizes(name):
    action_size, channels, limit = FACTS[name]
    world = game(name)
    assert (world.action_size, world.observation_size) == (action_size, 100 * channels)
    assert (world.max_episode_steps, world.num_actuators) == (limit, 1)
    assert world.discrete and world.layout == "first"


@pytest.mark.parametrize("name", GAMES)
def test_what_a_step_shows(name):
    play, size = usual(name), 100 * FACTS[name][1]
    assert play.first.shape == (N, size)
    assert play.steps.observation.shape == play.steps.final_observation.shape == (STEPS, N, size)
    for field in ("reward", "terminated", "truncated"):
        assert getattr(play.steps, field).shape == (STEPS, N)
    for field in ("observation", "final_observation", "reward"):
        assert getattr(play.steps, field).dtype == jnp.float32
    assert play.steps.terminated.dtype == play.steps.truncated.dtype == bool
    for observation in (play.first, play.steps.observation, play.steps.final_observation):
        assert set(np.unique(observation)) == {0.0, 1.0}


@pytest.mark.parametrize("name", GAMES)
def test_steps_are_gymnax_s_own(name):
    play = usual(name)
    observation, reward, terminated = play.gymnax_steps
    np.testing.assert_array_equal(
        play.steps.final_observation, np.reshape(observation, (STEPS, N, -1))
    )
    np.testing.assert_array_equal(play.steps.reward, reward)
    np.testing.assert_array_equal(play.steps.terminated, terminated)
    assert jax.tree.structure(play.states) == jax.tree.structure(play.gymnax_states)
    assert same(play.states, play.gymnax_states)  # no value is lost to the types we hold
    assert np.any(np.diff(np.asarray(play.steps.observation), axis=0)), "nothing moved"


@pytest.mark.parametrize("name", GAMES)
def test_episodes_end_and_start_anew(name):
    steps = usual(name).steps
    over = np.asarray(steps.terminated)
    assert not np.any(steps.truncated)
    assert over.any() == (name != "freeway"), "chance loses every game that can be lost"
    changed = np.any(np.asarray(steps.observation) != np.asarray(steps.final_observation), axis=-1)
    np.testing.assert_array_equal(changed, over)


@pytest.mark.parametrize("name", GAMES)
def test_keys_decide_and_dynamics_do_not(name):
    play = usual(name)
    assert same(play, player(name)(KEY, actions(name), NOMINAL))
    other = NOMINAL._replace(friction=np.float32(0.1), strength=np.zeros(1, np.float32))
    assert same(play, player(name)(KEY, actions(name), other))
    # Space Invaders leaves nothing to chance: the actions alone decide.
    elsewhere = player(name)(jax.random.key(7), actions(name), NOMINAL)
    assert same(play.steps, elsewhere.steps) == (name == "space_invaders")


def test_freeway_ends_at_its_time_limit_only():
    world = game("freeway")

    @jax.jit
    def whole_episode(key):
        def one(state, key):
            state, step = world.step(key, state, jnp.int32(FREEWAY_UP), NOMINAL)
            return state, step._replace(observation=None, final_observation=None)

        return jax.lax.scan(one, world.reset(key, NOMINAL)[0], jax.random.split(key, 2500))[1]

    steps = whole_episode(KEY)
    assert np.flatnonzero(steps.truncated).tolist() == [2499]
    assert not steps.terminated.any()
    # Always up: a crossing takes 9 moves, one every third step or slower.
    assert 0 < float(steps.reward.sum()) < 2500 / (9 * 3)


@pytest.mark.parametrize("name", GAMES)
def test_the_time_limit_truncates(name):
    limit = FACTS[name][2]
    for time, expected in ((limit - 2, False), (limit - 1, True)):
        _, step = stepper(name)(place(start(name), time=time), jnp.int32(0))
        assert bool(step.truncated) is expected and not bool(step.terminated)


def test_a_missed_ball_terminates():
    # The ball starts in row 3 of either corner; it is in row 9 after six steps, away from column 0.
    state, flags = start("breakout"), []
    for _ in range(6):
        state, step = stepper("breakout")(state, jnp.int32(BREAKOUT_LEFT))
        flags.append((bool(step.terminated), bool(step.truncated)))
    assert flags == [(False, False)] * 5 + [(True, False)]


def test_losing_at_the_time_limit_is_no_time_limit():
    last = place(start("breakout"), ball_y=8, ball_x=5, ball_dir=2, pos=0, time=999)
    _, step = stepper("breakout")(last, jnp.int32(0))
    assert bool(step.terminated) and not bool(step.truncated)


def test_a_brick_is_worth_one():
    below = place(start("breakout"), ball_y=4, ball_x=5, ball_dir=1, last_y=5, last_x=4)
    assert float(below.brick_map.sum()) == 30
    state, step = stepper("breakout")(below, jnp.int32(0))
    assert float(step.reward) == 1.0 and float(state.brick_map.sum()) == 29
    assert float(state.brick_map[3, 6]) == 0
    state, step = stepper("breakout")(state, jnp.int32(0))
    assert float(step.reward) == 0.0 and float(state.brick_map.sum()) == 29


def test_a_crossed_road_is_worth_one():
    kerb = start("freeway")
    far = kerb.cars.at[:, 0].set(8).at[:, 2].set(5)  # no car near the chicken's column
    below = place(kerb, pos=1, move_timer=0, cars=far)
    state, step = stepper("freeway")(below, jnp.int32(FREEWAY_UP))
    assert float(step.reward) == 1.0 and int(state.pos) == 9
    for waiting in (place(below, move_timer=1), place(below, pos=2)):
        assert float(stepper("freeway")(waiting, jnp.int32(FREEWAY_UP))[1].reward) == 0.0


def test_a_car_sends_the_chicken_back():
    kerb = start("freeway")
    far = kerb.cars.at[:, 0].set(8).at[:, 2].set(5)
    hit = place(kerb, pos=5, move_timer=1, cars=far.at[4, 0].set(4))  # car 4 drives in row 5
    state, step = stepper("freeway")(hit, jnp.int32(0))
    assert int(state.pos) == 9 and float(step.reward) == 0.0 and not step.terminated


@pytest.mark.parametrize("gold", [True, False])
def test_gold_is_worth_one_and_an_enemy_ends_the_game(gold):
    # An entity (x, y, moves right, is gold, is there) on the player's place (5, 5).
    entities = jnp.zeros((8, 5)).at[4].set(jnp.array([5, 5, 1, gold, 1]))
    state, step = stepper("asterix")(place(start("asterix"), entities=entities), jnp.int32(0))
    assert float(step.reward) == float(gold) and bool(step.terminated) is not gold
    assert bool(state.entities[4, 4]) is not gold


def test_an_alien_is_worth_one():
    state = start("space_invaders")
    assert float(state.alien_map.sum()) == 24  # 28 in the gymnax of the OPEN paper
    rewards = []
    for action in [INVADERS_FIRE] + [INVADERS_WAIT] * 6:
        state, step = stepper("space_invaders")(state, jnp.int32(action))
        rewards.append(float(step.reward))
    # From row 9 to the lowest alien in row 3, one row a step, the step of the shot included.
    assert rewards == [0, 0, 0, 0, 0, 1, 0]
    assert float(state.alien_map.sum()) == 23


def test_a_bullet_hits_where_the_cannon_is_after_its_move():
    # The opposite in the gymnax of the OPEN paper.
    above = jnp.zeros((10, 10)).at[8, 5].set(1)
    for action, hit in ((INVADERS_WAIT, True), (INVADERS_LEFT, False)):
        state = place(start("space_invaders"), e_bullet_map=above)
        _, step = stepper("space_invaders")(state, jnp.int32(action))
        assert bool(step.terminated) is hit and not step.truncated


def test_mistakes():
    expected = "expected one of asterix, breakout, freeway, space_invaders"
    with pytest.raises(LoptrlError, match=f"unknown game 'seaquest': {expected}"):
        MinAtar("seaquest")


def test_the_studies_know_the_games():
    world = make_world("breakout", "spring")
    assert isinstance(world.world, MinAtar) and world.world.name == "breakout"
    with pytest.raises(LoptrlError, match=r"unknown world 'pong': .*ant.*breakout.*probe_reach"):
        make_world("pong", "spring")
    for name in ("breakout", "probe_reach"):
        with pytest.raises(LoptrlError, match=f"{name} has none: .*'spring', got 'positional'"):
            make_world(name, "positional")


def test_gymnax_is_loaded_late_and_quietly(library_path):
    code = (
        "import sys, loptrl.envs.minatar as minatar\n"
        "assert 'gymnax' not in sys.modules\n"
        "minatar.MinAtar('breakout')\n"
        "assert 'gymnax' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, env=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
