"""Probe environments whose values are known by arithmetic: the agent is tested on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loptrl.envs.dynamics import Dynamics
from loptrl.envs.world import Step

__all__ = ["PROBES", "Choice", "Endless", "Reach"]


class _Age(NamedTuple):
    age: jax.Array
    target: jax.Array


class _Probe:
    """Shared sizes; the dynamics have no effect on a probe, except where a class says so."""

    observation_size = 1
    action_size = 1
    discrete = False
    num_actuators = 1
    max_episode_steps = 1
    layout = "first"
    changes: tuple[str, ...] = ()

    def _start(self, key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(())

    def reset(self, key: jax.Array, dynamics: Dynamics) -> tuple[_Age, jax.Array]:
        del dynamics
        state = _Age(jnp.int32(0), self._start(key))
        return state, self._observe(state)

    def _observe(self, state: _Age) -> jax.Array:
        return state.target[None]

    def _step(
        self, state: _Age, reward: jax.Array, terminated: Any, truncated: Any
    ) -> tuple[_Age, Step]:
        state = state._replace(age=state.age + 1)
        observation = self._observe(state)
        flags = jnp.bool_(terminated), jnp.bool_(truncated)
        return state, Step(observation, reward, *flags, observation)


class Endless(_Probe):
    """Reward 1 on every step, cut off by a time limit after 8: V = 1 / (1 - gamma).

    An agent that takes the time limit for a termination learns a value of at most 8.
    """

    max_episode_steps = 8

    def step(
        self, key: jax.Array, state: _Age, action: jax.Array, dynamics: Dynamics
    ) -> tuple[_Age, Step]:
        del key, action, dynamics
        return self._step(state, jnp.ones(()), False, state.age + 1 >= self.max_episode_steps)


class Reach(_Probe):
    """One step; reward friction - (action - 0.5)^2: the best action is 0.5, V = friction then."""

    # Of no effect, strength is taken too: at the smallest budget this stands in for a body.
    changes = ("friction", "strength")

    def step(
        self, key: jax.Array, state: _Age, action: jax.Array, dynamics: Dynamics
    ) -> tuple[_Age, Step]:
        del key
        reward = dynamics.friction - (action[0] - 0.5) ** 2
        return self._step(state, reward, True, False)


class Choice(_Probe):
    """One step, two actions; the reward is 1 for the action that the observation (0 or 1) names."""

    action_size = 2
    discrete = True

    def _start(self, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key).astype(jnp.float32)

    def step(
        self, key: jax.Array, state: _Age, action: jax.Array, dynamics: Dynamics
    ) -> tuple[_Age, Step]:
        del key, dynamics
        reward = (action == state.target.astype(action.dtype)).astype(jnp.float32)
        return self._step(state, reward, True, False)


PROBES = {"probe_endless": Endless, "probe_reach": Reach, "probe_choice": Choice}
