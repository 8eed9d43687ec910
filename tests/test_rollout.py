"""What a rollout records."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.envs.dynamics import nominal
from loptrl.envs.minatar import MinAtar
from loptrl.envs.probes import Endless
from loptrl.envs.world import VectorWorld
from loptrl.ppo.distributions import distribution
from loptrl.ppo.rollout import collect, start

ENVS, STEPS = 3, 60


@pytest.mark.parametrize("single", [MinAtar("breakout"), Endless()], ids=["breakout", "endless"])
def test_next_values_differ_only_where_an_episode_ends(single):
    """Breakout's episodes end by losing within these steps, the probe's by its time limit."""
    world = VectorWorld(single)
    weights = jax.random.normal(jax.random.key(1), (single.observation_size,))
    actions = jnp.zeros(single.action_size)

    def act(observation):
        logits = jnp.broadcast_to(actions, (*observation.shape[:-1], single.action_size))
        return logits if single.discrete else (logits, actions)

    def play(bootstrap_truncation):
        now = nominal(single.num_actuators)
        env = start(world, jax.random.key(2), 1, ENVS, now)
        return collect(
            world,
            distribution(single.discrete),
            act,
            lambda observation: observation @ weights,
            env,
            jax.random.key(3),
            now,
            STEPS,
            jnp.float32(0.9),
            bootstrap_truncation,
        )

    (_, whole), (_, short) = (jax.jit(play, static_argnums=0)(flag) for flag in (True, False))
    over = np.asarray(whole.terminated | whole.truncated)
    assert over.any() and not over.all()
    np.testing.assert_array_equal(whole.value, short.value)
    np.testing.assert_allclose(
        np.asarray(whole.next_value)[~over], np.asarray(short.next_value)[~over], rtol=1e-5
    )
    # After an end it is the value of the next episode's first observation.
    followed = over.copy()
    followed[:, -1] = False
    after = np.asarray(short.value)[np.roll(followed, 1, axis=1)]
    np.testing.assert_allclose(np.asarray(short.next_value)[followed], after, rtol=1e-5)
