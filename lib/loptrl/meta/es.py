"""Meta-training by evolution: populations of a rule's weights, evaluated by whole trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import Open_ES

from loptrl.envs.dynamics import nominal
from loptrl.keys import derive, root_key
from loptrl.meta.bilevel import Rule
from loptrl.meta.es_config import SearchConfig
from loptrl.meta.members import MemberTrainings
from loptrl.ppo.config import PPOConfig
from loptrl.ppo.learner import Learner
from loptrl.ppo.structure import HParams

__all__ = ["Evaluation", "EvolutionProgram"]


class Evaluation(MemberTrainings):
    """What agents reach in one world when the members of a population train them.

    That is the mean return of the last episodes that ended in each environment. An environment that
    has ended none counts as 0, and an agent whose parameters are not finite at the end has NaN.

    Args:
        learner: the agents'.
        rule: theta to the transformation.
        config: of each training; its length is the horizon.
        devices, together: see `MemberTrainings`.
    """

    def __init__(
        self,
        learner: Learner,
        rule: Rule,
        config: PPOConfig,
        *,
        devices: int,
        together: int | None = None,
    ) -> None:
        self._learner, self._rule = learner, rule
        self._iterations = config.num_slices * config.iterations_per_slice
        super().__init__(HParams.of(config), devices=devices, together=together)

    def _train(self, theta: Any, inputs: HParams, key: jax.Array) -> jax.Array:
        now = nominal(self._learner.world.world.num_actuators)
        dynamics = jax.tree.map(lambda x: jnp.broadcast_to(x, (self._iterations, *x.shape)), now)
        optimizer = self._rule(theta)
        state = self._learner.start(optimizer, key, now)
        state, metrics = self._learner.slice(optimizer, state, dynamics, inputs)
        sound = jnp.isfinite(optax.tree.norm(state.params))
        return jnp.where(sound, metrics["last_return"], jnp.nan)


class EvolutionProgram:
    """One meta-training of a rule by OpenAI's evolution strategy, a generation per slice.

    Members are theta + sigma z and theta - sigma z. With r the members' ranks by fitness, spread
    over [-1/2, 1/2], Adam follows sum_i r_i z_i / (population sigma) (Salimans et al. 2017, section
    2; Goldie et al. 2024). A member whose fitness is not finite has the lowest rank.
    The search mean theta is evaluated beside the members, which has no effect on the search.

    The state is evosax's: the mean, sigma, the outer Adam's state, the generations done, and the
    weights that had the best fitness so far.

    Args:
        config: its numbers.
        seed: seeds everything.
        theta: the weights to start from.
        evaluations: task -> what members reach on it.
        finished: given the search mean and the generations made when the training is over, as
            planned or because no member of a generation had a finite fitness.
    """

    def __init__(
        self,
        config: SearchConfig,
        seed: int,
        theta: Any,
        evaluations: Mapping[str, Callable[[Any, jax.Array], Any]],
        finished: Callable[[Any, int], None] = lambda theta, slices: None,
    ) -> None:
        self.config = config
        self.num_slices = config.num_slices
        self.env_steps_per_slice = config.env_steps_per_slice
        self._root, self._theta = root_key(seed), theta
        self._evaluations, self._finished = evaluations, finished
        self._search = Open_ES(
            population_size=config.population,
            solution=theta,
            optimizer=optax.adam(
                lambda count: config.meta_learning_rate * config.lr_decay**count, b1=0.99
            ),
            # It is asked for after each generation, with the number of those before that one.
            std_schedule=lambda count: config.sigma * config.sigma_decay ** (count + 1),
        )
        self._params = self._search.default_params

    def init(self) -> Any:
        """The state before the first generation."""
        start = self._search.init(derive(self._root, "search"), self._theta, self._params)
        return start.replace(std=jnp.float32(self.config.sigma))

    def mean(self, state: Any) -> Any:
        """The search mean: the weights that the training ends with."""
        return self._search.get_mean(state)

    def advance(self, state: Any) -> tuple[Any, list[dict[str, float]]]:
        """One generation and its row."""
        generation = int(state.generation_counter)
        key = derive(self._root, "generation", generation)
        members, state = self._search.ask(derive(key, "members"), state, self._params)
        returns = self._returns(members, self.mean(state), derive(key, "trainings"))
        scaled = [returns[task] / n for task, n in zip(self.config.tasks, self.config.normalisers)]
        fitness = np.mean(scaled, axis=0)
        valued = np.where(np.isfinite(fitness), fitness, -np.inf)[:-1].astype(np.float32)
        row = self._row(state, fitness, {task: values[-1] for task, values in returns.items()})
        # evosax minimises.
        state, _ = self._search.tell(derive(key, "update"), members, -valued, state, self._params)
        if row["diverged"] or generation + 1 == self.num_slices:
            self._finished(jax.device_get(self.mean(state)), generation + 1)
        return state, [row]

    def _returns(self, members: Any, mean: Any, key: jax.Array) -> dict[str, np.ndarray]:
        """By task, the return of each member and, last, of the mean: `[population + 1]`."""
        thetas = jax.tree.map(lambda x, m: jnp.concatenate([x, m[None]]), members, mean)
        keys = {
            task: jax.random.split(derive(key, task), self.config.rollouts)
            for task in self.config.tasks
        }
        # Fetched, since what comes next happens on one device.
        return {
            task: np.asarray(evaluate(thetas, keys[task]), np.float64).mean(axis=1)
            for task, evaluate in self._evaluations.items()
        }

    def _row(self, state: Any, fitness: np.ndarray, center: Mapping[str, Any]) -> dict[str, float]:
        own = fitness[:-1][np.isfinite(fitness[:-1])]
        none = own.size == 0
        generation = int(state.generation_counter) + 1
        row: dict[str, float] = {
            "env_steps": generation * self.env_steps_per_slice,
            "generation": generation,
            "fitness_mean": float("nan") if none else float(own.mean()),
            "fitness_best": float("nan") if none else float(own.max()),
            "fitness_worst": float("nan") if none else float(own.min()),
            "fitness_center": float(fitness[-1]),
            "sigma": float(state.std),
            "theta_norm": float(optax.tree.norm(self.mean(state))),
            "failed_members": self.config.population - int(own.size),
        }
        row |= {f"center_return_{task}": float(value) for task, value in center.items()}
        row["diverged"] = none
        return row
