"""The MinAtar games of the OPEN paper (Young & Tian 2019): the only module that imports gymnax.

The rules are those of gymnax 1.0.1. It differs from MinAtar itself: no sticky actions (MinAtar
repeats the last action with probability 0.1), episodes end after 1000 steps (Freeway: 2500; only
Freeway has a limit in MinAtar, 2501), and a spawn that finds no free row in Asterix removes an
entity (MinAtar: nothing happens).

The OPEN authors ran gymnax 0.0.6. Asterix, Breakout and Freeway play the same in both versions.
Space Invaders changed twice: the first wave had 28 aliens (now 24, as every later wave and as in
MinAtar), and a bullet hit the cannon where it stood before its move (now where it stands after).
In 0.0.6 the time limit was part of "done"; `bootstrap_truncation=False` counts it so.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from loptrl.envs.dynamics import Dynamics
from loptrl.envs.world import Step
from loptrl.errors import LoptrlError

__all__ = ["GAMES", "MinAtar"]

_IDS = {
    "asterix": "Asterix-MinAtar",
    "breakout": "Breakout-MinAtar",
    "freeway": "Freeway-MinAtar",
    "space_invaders": "SpaceInvaders-MinAtar",
}
GAMES = tuple(_IDS)


class MinAtar:
    """A MinAtar game with its minimal action set; the dynamics have no effect.

    Observations are the flattened binary channels, float32 `[10 * 10 * channels]`. The state is
    gymnax's own. Losing terminates, the game's time limit truncates.

    Args:
        name: one of `GAMES`.

    Raises:
        LoptrlError: no such game.
    """

    discrete = True
    num_actuators = 1
    layout = "first"
    changes = ()

    def __init__(self, name: str) -> None:
        if name not in GAMES:
            raise LoptrlError(f"unknown game {name!r}: expected one of {', '.join(GAMES)}")
        self.name = name
        self._env, self._params = _load(name)
        self.observation_size = math.prod(self._env.obs_shape)
        self.action_size = int(self._env.num_actions)
        self.max_episode_steps = int(self._params.max_steps_in_episode)

    def reset(self, key: jax.Array, dynamics: Dynamics) -> tuple[Any, jax.Array]:
        """The state and observation `[obs]` at the start of an episode."""
        del dynamics
        observation, state = self._env.reset_env(key, self._params)
        # Python numbers become arrays of a definite type, so that a scan can carry the state.
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state)
        return state, jnp.ravel(observation)

    def step(
        self, key: jax.Array, state: Any, action: jax.Array, dynamics: Dynamics
    ) -> tuple[Any, Step]:
        """One frame; `action` is an index into the game's minimal action set, `[]`."""
        del dynamics
        # Not gymnax's `step`, which resets by itself and computes a reset on every call.
        observation, after, reward, terminated, _ = self._env.step_env(
            key, state, action, self._params
        )
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)
        terminated = jnp.asarray(terminated, bool)
        truncated = self._env.is_truncated(after, self._params) & ~terminated
        observation = jnp.ravel(observation)
        return after, Step(observation, reward, terminated, truncated, observation)


@functools.cache
def _load(name: str) -> Any:
    # gymnax loads plotting libraries and pandas with its games (2 s); none of it is used here.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import gymnax

        return gymnax.make(_IDS[name])
