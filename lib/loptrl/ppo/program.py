"""A PPO run as a program in slices: what `loptrl.drive` drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.keys import root_key
from loptrl.ppo.agent import Agent
from loptrl.ppo.config import PPOConfig
from loptrl.ppo.learner import TrainState
from loptrl.ppo.structure import HParams

__all__ = ["PPOProgram"]


class PPOProgram:
    """One run of an agent: slices of training, each closed by an evaluation row.

    The row at 0 env steps is played by the untrained policy with sampled actions: the return of
    a random policy. All others use the policy's mode, and the dynamics of the last iteration.

    Args:
        config: the run's numbers.
        seed: seeds everything but the drift, which comes seeded.
        agent: compiled for the configuration's structure.
        drift_table: env steps `[k]` to dynamics with a leading axis k.
        hyperparameters: puts the optimizer's numbers into its fresh state.
    """

    def __init__(
        self,
        config: PPOConfig,
        seed: int,
        agent: Agent,
        drift_table: Callable[[np.ndarray], Any],
        hyperparameters: Callable[[Any], Any] = lambda state: state,
    ) -> None:
        self.config, self.seed, self.agent = config, seed, agent
        self.num_slices = config.num_slices
        self.env_steps_per_slice = config.env_steps_per_slice
        self._drift_table = drift_table
        self._hyperparameters = hyperparameters
        self._hparams = HParams.of(config)

    def _dynamics(self, iteration: int, count: int) -> Any:
        """Dynamics of `count` iterations from `iteration` on, each at its first env step."""
        return self._drift_table((iteration + np.arange(count)) * self.config.batch_size)

    def init(self) -> TrainState:
        """The state before the first update."""
        first = jax.tree.map(lambda x: x[0], self._dynamics(0, 1))
        state = self.agent.start(root_key(self.seed), first)
        state = state._replace(opt_state=self._hyperparameters(state.opt_state))
        return jax.device_put(state, self.agent.shardings)

    def advance(self, state: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """One slice, and its row (two for the first slice: before and after)."""
        iteration, count = int(state.iteration), self.config.iterations_per_slice
        rows = []
        if iteration == 0:
            first = jax.tree.map(lambda x: x[0], self._dynamics(0, 1))
            rows.append(self._row(state, first, {}, greedy=False))
        state, metrics = self.train(state)
        last = jax.tree.map(lambda x: x[-1], self._dynamics(iteration, count))
        rows.append(self._row(state, last, metrics, greedy=True))
        return state, rows

    def train(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The training half of a slice: the next state and the metrics of its updates."""
        dynamics = self._dynamics(int(state.iteration), self.config.iterations_per_slice)
        return self.agent.slice(state, dynamics, self._hparams)

    def _row(
        self, state: TrainState, dynamics: Any, metrics: dict[str, Any], *, greedy: bool
    ) -> dict[str, float]:
        evaluation = self.agent.evaluate(state, dynamics, jnp.bool_(greedy))
        iteration = int(state.iteration)
        row: dict[str, float] = {
            "env_steps": iteration * self.config.batch_size,
            "updates": iteration * self.config.epochs * self.config.minibatches,
        }
        values = {**_NO_UPDATES, **metrics, **evaluation}
        row |= {name: float(values[name]) for name in sorted(values) if name not in _SUMS}
        row["dynamics_friction"] = float(dynamics.friction)
        row["dynamics_actuator_strength"] = float(np.mean(dynamics.strength))
        row["dynamics_damping"] = float(dynamics.damping)
        row["dynamics_fault"] = float(np.any(np.asarray(dynamics.strength) == 0.0))
        row["diverged"] = not np.isfinite(row["weight_norm"])
        return row


_SUMS = frozenset({"episodes", "finished_return", "finished_length"})
_NO_UPDATES = dict.fromkeys(
    (
        "train_return", "train_episode_length", "last_return", "largest_update", "update_norm",
        "update_norm_max", "grad_norm", "grad_norm_max", "approx_kl", "clip_fraction",
        "entropy", "value_error",
    ),
    float("nan"),
)  # fmt: skip
