"""Brax bodies whose physics can change: the only module that imports brax."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import warnings
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from loptrl.envs.dynamics import Dynamics
from loptrl.envs.world import Step
from loptrl.errors import LoptrlError

__all__ = ["BODIES", "BraxBody"]

BODIES = ("ant", "humanoid")
_BACKENDS = ("spring", "positional", "generalized")


class BodyState(NamedTuple):
    """A body in mid-episode: the physics state and the steps since the reset, int32 `[]`."""

    physics: Any
    age: jax.Array


class BraxBody:
    """A Brax locomotion task with ground friction, actuator strength and damping as arguments.

    Rewards, terminations and observations are Brax's own. Actions are clipped to [-1, 1].
    Friction replaces the sliding coefficient of every geom (the contact takes the larger of
    the two, so the ground's alone would have no effect); strength scales each actuator's gear;
    damping adds to the linear and angular velocity damping of every link (the "generalized" backend
    has none).
    """

    discrete = False
    max_episode_steps = 1000

    def __init__(
        self, name: str, backend: str = "spring", layout: Literal["first", "last"] = "first"
    ) -> None:
        if name not in BODIES:
            raise LoptrlError(f"unknown body {name!r}: expected one of {', '.join(BODIES)}")
        if backend not in _BACKENDS:
            raise LoptrlError(
                f"unknown backend {backend!r}: expected one of {', '.join(_BACKENDS)}"
            )
        self.name, self.backend, self.layout = name, backend, layout
        # The generalized physics has no damping of the links' velocities.
        damping = () if backend == "generalized" else ("damping",)
        self.changes = ("friction", "strength", "faults", *damping)
        self._env = _load(name, backend)
        # Brax's own property makes a whole reset, operation by operation: seconds of compiling.
        self.observation_size = jax.eval_shape(self._env.reset, jax.random.key(0)).obs.shape[-1]
        self.action_size = int(self._env.action_size)
        self.num_actuators = int(self._env.sys.actuator.gear.shape[0])

    def reset(self, key: jax.Array, dynamics: Dynamics) -> tuple[BodyState, jax.Array]:
        """A fresh episode: its state, and the observation `[obs]`."""
        state = self._with(dynamics).reset(key)
        return BodyState(state.pipeline_state, jnp.int32(0)), state.obs

    def step(
        self, key: jax.Array, state: BodyState, action: jax.Array, dynamics: Dynamics
    ) -> tuple[BodyState, Step]:
        """One env step with an action `[actuators]`; the physics is deterministic, `key` unused."""
        del key
        env = self._with(dynamics)
        # Brax's step reads nothing of its input state but the physics, and adds to `metrics`.
        brax_state = _brax_state(state.physics, self.observation_size)
        brax_state = env.step(brax_state, jnp.clip(action, -1.0, 1.0))
        age = state.age + 1
        terminated = brax_state.done > 0.5
        truncated = (age >= self.max_episode_steps) & ~terminated
        step = Step(brax_state.obs, brax_state.reward, terminated, truncated, brax_state.obs)
        return BodyState(brax_state.pipeline_state, age), step

    def _with(self, dynamics: Dynamics) -> Any:
        sys = self._env.sys
        friction = jnp.broadcast_to(dynamics.friction, sys.geom_friction[:, 0].shape)
        sys = sys.replace(
            geom_friction=jnp.concatenate([friction[:, None], sys.geom_friction[:, 1:]], axis=1),
            actuator=sys.actuator.replace(gear=sys.actuator.gear * dynamics.strength),
            vel_damping=sys.vel_damping - dynamics.damping,
            ang_damping=sys.ang_damping - dynamics.damping,
        )
        env = copy.copy(self._env)
        env.sys = sys
        return env


@functools.cache
def _load(name: str, backend: str) -> Any:
    # Brax announces that it is not actively developed; mujoco prints which engines it lacks.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from brax import envs

        return envs.get_environment(name, backend=backend)


def _brax_state(physics: Any, observation_size: int) -> Any:
    from brax.envs.base import State

    zero = jnp.zeros(())
    return State(physics, jnp.zeros(observation_size), zero, zero, {})
