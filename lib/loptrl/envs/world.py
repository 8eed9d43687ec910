"""What the agent knows of a world, and how one environment becomes many."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from loptrl.envs.batch_last import vmap_last
from loptrl.envs.dynamics import Dynamics

__all__ = ["Step", "VectorWorld", "World"]


class Step(NamedTuple):
    """What one step shows. Leading axes as in the action; no field is hidden in an info dict.

    Attributes:
        observation: `[obs]`; after an automatic reset, the first one of the new episode.
        reward: `[]`.
        terminated: bool `[]`, the task ended: no value follows.
        truncated: bool `[]`, the time limit ended the episode: bootstrap from `final_observation`.
        final_observation: `[obs]`, the observation before any automatic reset.
    """

    observation: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_observation: jax.Array


class World(Protocol):
    """One environment; reset and step are pure and know nothing of batches.

    Attributes:
        observation_size: length of an observation.
        action_size: length of an action in [-1, 1], or the number of actions.
        discrete: whether an action is one of a number.
        num_actuators: length of `Dynamics.strength`.
        max_episode_steps: env steps after which an episode is cut off.
        layout: "first", or "last" as in `VectorWorld`.
        changes: the changes of a `Drift` that have an effect here; a world may leave it out where
            none has.
    """

    observation_size: int
    action_size: int
    discrete: bool
    num_actuators: int
    max_episode_steps: int
    layout: Literal["first", "last"]
    changes: tuple[str, ...]

    def reset(self, key: jax.Array, dynamics: Dynamics) -> tuple[Any, jax.Array]:
        """A first state, any pytree of arrays, and its observation `[obs]`."""
        ...

    def step(
        self, key: jax.Array, state: Any, action: jax.Array, dynamics: Dynamics
    ) -> tuple[Any, Step]:
        """One env step without resets; `action` is `[action_size]`, or an index `[]`."""
        ...


class VectorWorld:
    """`n` copies of a world stepped together; observations, rewards and flags are `[n, ...]`.

    A world with `layout = "last"` keeps its state as `[..., n]` and is stepped by `vmap_last`;
    its step must not use the key (one key would serve all copies).
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._last = world.layout == "last"

    def reset(self, key: jax.Array, n: int, dynamics: Dynamics) -> tuple[Any, jax.Array]:
        """First states and observations `[n, obs]` of `n` episodes."""
        axis = -1 if self._last else 0
        keys = jax.random.split(key, n)
        return jax.vmap(self.world.reset, in_axes=(0, None), out_axes=(axis, 0))(keys, dynamics)

    def step(
        self, key: jax.Array, state: Any, action: jax.Array, dynamics: Dynamics
    ) -> tuple[Any, Step]:
        """One step without resets: a finished episode goes on. `action` is `[n, ...]`."""
        if self._last:
            # The key is bound outside: vmap_last evaluates arrays of numbers only.
            one = vmap_last(lambda s, a, d: self.world.step(key, s, a, d), (True, True, False))
            state, step = one(state, jnp.moveaxis(action, 0, -1), dynamics)
            return state, jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), step)
        keys = jax.random.split(key, action.shape[0])
        return jax.vmap(self.world.step, in_axes=(0, 0, 0, None))(keys, state, action, dynamics)

    def step_autoreset(
        self, key: jax.Array, state: Any, action: jax.Array, dynamics: Dynamics
    ) -> tuple[Any, Step]:
        """One step; copies whose episode ended start a new one."""
        step_key, reset_key = jax.random.split(key)
        state, step = self.step(step_key, state, action, dynamics)
        done = step.terminated | step.truncated

        def reset(state: Any, observation: jax.Array) -> tuple[Any, jax.Array]:
            fresh, first = self.reset(reset_key, done.shape[0], dynamics)
            mask = done.reshape(-1, *[1] * (observation.ndim - 1))
            chosen = jax.tree.map(self._where(done), fresh, state)
            return chosen, jnp.where(mask, first, observation)

        state, observation = jax.lax.cond(
            jnp.any(done), reset, lambda *same: same, state, step.observation
        )
        return state, step._replace(observation=observation)

    def _where(self, done: jax.Array) -> Any:
        def select(new: jax.Array, old: jax.Array) -> jax.Array:
            mask = done if self._last else done.reshape(-1, *[1] * (new.ndim - 1))
            return jnp.where(mask, new, old)

        return select
