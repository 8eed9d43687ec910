"""PPO learns what it must on environments whose answers are known."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from loptrl import optimizers
from loptrl.envs.drift import Drift
from probe_runs import agent_for, config, play, program_for


def learned(*, learning_rate=1e-2, **settings):
    chosen = config(**settings)
    agent = agent_for(chosen)
    state, rows = play(program_for(chosen, agent, learning_rate=learning_rate))
    return agent, state, rows


ENDLESS = {
    "world": "probe_endless",
    "env_steps": 128 * 150,
    "eval_every": 128 * 50,
    "discount": 0.9,
    "gae_lambda": 1.0,
    "normalize_rewards": False,
}


def test_a_time_limit_is_no_end():
    """Rewards of 1 for ever are worth 1 / (1 - gamma), whatever the limit of 8 steps."""
    agent, state, rows = learned(**ENDLESS)
    assert float(agent.learner.value(state, jnp.zeros(1))) == pytest.approx(10.0, rel=0.05)
    assert rows[-1]["eval_return"] == 8.0 and rows[-1]["eval_episode_length"] == 8.0
    assert rows[-1]["train_return"] == 8.0 and rows[-1]["train_episode_length"] == 8.0


def test_taken_for_an_end_it_makes_the_value_wrong():
    agent, state, _ = learned(**ENDLESS, bootstrap_truncation=False)
    # The observation does not tell the time: the mean of the 8 remaining discounted sums.
    expected = np.mean([(1 - 0.9**left) / 0.1 for left in range(1, 9)])
    assert float(agent.learner.value(state, jnp.zeros(1))) == pytest.approx(expected, rel=0.05)


REACH = config(
    env_steps=128 * 200,
    eval_every=128 * 100,
    eval_envs=32,
    drift=Drift.constant_friction(0.7).to_dict(),
    max_grad_norm=None,
    value_coef=1.0,
)


@functools.cache
def agent_of(name):
    return agent_for(REACH, optimizers.make(name))


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_best_action_is_found(name):
    agent = agent_of(name)
    state, rows = play(program_for(REACH, agent, learning_rate=5e-3))
    mean, log_std = agent.learner.act(state, jnp.zeros((1, 1)))
    assert float(mean[0, 0]) == pytest.approx(0.5, abs=0.1)
    assert float(log_std[0]) < -0.5, "narrower than at the start"
    # The mode is played: almost the best reward, the friction itself.
    assert rows[-1]["eval_return"] == pytest.approx(0.7, abs=0.01)
    assert rows[0]["eval_return"] < 0.5
    assert rows[-1]["train_return"] < rows[-1]["eval_return"], "training plays samples"


def test_the_observation_decides():
    _, _, rows = learned(
        world="probe_choice", env_steps=128 * 60, eval_every=128 * 20, eval_envs=32
    )
    assert rows[-1]["eval_return"] == 1.0
    assert 0.2 < rows[0]["eval_return"] < 0.8
    assert rows[-1]["entropy"] < 0.5 * np.log(2)
    assert rows[-1]["train_episode_length"] == 1.0


def test_the_row_at_zero_plays_samples():
    """At the start the mode of Reach is almost 0, where every episode would give the same."""
    chosen = dataclasses.replace(REACH, env_steps=128, drift={})
    _, rows = play(program_for(chosen, agent_of("adam")))
    assert rows[0]["eval_return_std"] > 0.3 and rows[1]["eval_return_std"] < 1e-5
