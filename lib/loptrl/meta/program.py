"""A meta-training as a program in slices: what `loptrl.drive` drives, one meta-iteration each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loptrl.keys import derive, root_key
from loptrl.meta.config import MetaConfig, Phase
from loptrl.meta.pipeline import Ages, Pipeline
from loptrl.meta.statistics import agreement, sign_agreement, variance
from loptrl.ppo.structure import HParams

__all__ = ["MetaProgram", "MetaState", "outer_optimizer"]

# Env steps of an agent's life so far, the phase and a seed -> dynamics with a leading axis.
DriftTable = Callable[[np.ndarray, Phase, int], Any]


class MetaState(NamedTuple):
    """Everything that goes on from one meta-iteration to the next.

    Attributes:
        theta: the rule's weights; the last good ones.
        outer: state of the outer optimizer.
        agents: world -> agents `[agents, ...]`; only those of the phase's world are stepped.
        iteration: int32 `[]`, meta-iterations done.
        skipped: int32 `[]`, meta-gradients that were not finite, in all.
        skipped_in_a_row: int32 `[]`.
    """

    theta: Any
    outer: Any
    agents: dict[str, Any]
    iteration: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array


def outer_optimizer(config: MetaConfig) -> optax.GradientTransformation:
    """Adam on theta, behind the meta-gradient's clips and the L2 of the meta-parameters."""
    parts = [optax.add_decayed_weights(config.meta_l2)] if config.meta_l2 else []
    if config.meta_grad_clip is not None:
        parts.append(optax.clip(config.meta_grad_clip))
    if config.meta_grad_norm is not None:
        parts.append(optax.clip_by_global_norm(config.meta_grad_norm))
    return optax.chain(*parts, optax.adam(config.meta_learning_rate))


class MetaProgram:
    """One meta-training of a rule by gradients.

    Args:
        config: its numbers.
        seed: seeds everything, drifts included.
        theta: the weights to start from.
        pipelines: world -> its compiled agents.
        drift_table: see `DriftTable`.
        finished: given theta and the meta-iterations made when the training is over, as planned or
            because of too many meta-gradients that were not finite (theta is then the last good
            one).
    """

    def __init__(
        self,
        config: MetaConfig,
        seed: int,
        theta: Any,
        pipelines: Mapping[str, Pipeline],
        drift_table: DriftTable,
        finished: Callable[[Any, int], None] = lambda theta, slices: None,
    ) -> None:
        self.config, self.seed = config, seed
        self.num_slices = config.num_slices
        self.env_steps_per_slice = config.env_steps_per_slice
        self._theta, self._pipelines = theta, pipelines
        self._drift_table, self._finished = drift_table, finished
        self._outer = outer_optimizer(config)
        self._hparams = {w: HParams.of(config.ppo(w)) for w in config.worlds}
        self._starts = config.starts()
        self._learn = jax.jit(self._outer_step)

    def init(self) -> MetaState:
        """The state before the first meta-iteration."""
        replicated = next(iter(self._pipelines.values())).replicated
        theta = jax.device_put(self._theta, replicated)
        agents = {}
        for world, pipeline in self._pipelines.items():
            phase = next(i for i, p in enumerate(self.config.phases) if p.world == world)
            ages = self._ages(self._starts[phase], phase)
            agents[world] = pipeline.start(
                theta, self._keys(phase, ages.life), self._dynamics(phase, ages)
            )
        zero = jnp.int32(0)
        rest = self._outer.init(theta), zero, zero, zero
        outer, *counts = jax.device_put(rest, replicated)
        return MetaState(theta, outer, agents, *counts)

    def compiled(self) -> Any:
        """The agents' half of the first meta-iteration, compiled and not run."""
        world, ages = self.config.phases[0].world, self._ages(0, 0)
        pipeline = self._pipelines[world]
        fresh = self._keys(0, ages.life), self._dynamics(0, ages)
        agents = jax.eval_shape(pipeline.start, self._theta, *fresh)
        arguments = self._theta, agents, ages.restart, *fresh, self._hparams[world]
        return pipeline.program(*arguments).lower(*arguments).compile()

    def advance(self, state: MetaState) -> tuple[MetaState, list[dict[str, float]]]:
        """One meta-iteration and its row."""
        iteration = int(state.iteration)
        phase = max(i for i, first in enumerate(self._starts) if first <= iteration)
        world = self.config.phases[phase].world
        ages = self._ages(iteration, phase)
        agents, (gradients, figures) = self._pipelines[world].step(
            state.theta,
            state.agents[world],
            ages.restart,
            self._keys(phase, ages.life),
            self._dynamics(phase, ages),
            self._hparams[world],
        )
        others = state.agents
        state, outer = self._learn(state._replace(agents={}), gradients)
        state = state._replace(agents=others | {world: agents})
        row = self._row(state, phase, ages, {**figures, **outer})
        if row["diverged"] or iteration + 1 == self.num_slices:
            self._finished(jax.device_get(state.theta), iteration + 1)
        return state, [row]

    def _ages(self, iteration: int, phase: int) -> Ages:
        config = self.config
        return Ages.at(iteration, config.agents, config.reset_interval, self._starts[phase])

    def _keys(self, phase: int, life: np.ndarray) -> jax.Array:
        """Keys of agents that start anew, by phase, agent and life."""
        root = derive(root_key(self.seed), "agents", phase)
        numbers = jnp.arange(len(life)), jnp.asarray(life, jnp.int32)
        return jax.vmap(lambda agent, life: derive(root, agent, life))(*numbers)

    def _dynamics(self, phase: int, ages: Ages) -> Any:
        """In force in each inner iteration and in the meta-rollout, `[agents, k + 1, ...]`."""
        config, chosen = self.config, self.config.phases[phase]
        batch = config.ppo(chosen.world).batch_size
        own = config.inner_updates * batch + config.num_envs * config.meta_rollout_length
        within = np.arange(config.inner_updates + 1) * batch
        tables = []
        for agent, (age, life) in enumerate(zip(ages.age, ages.life, strict=True)):
            seed = np.random.SeedSequence([self.seed, phase, agent, int(life)])
            number = int(seed.generate_state(1)[0])
            tables.append(self._drift_table(age * own + within, chosen, number))
        return jax.tree.map(lambda *x: np.stack(x), *tables)

    def _outer_step(
        self, state: MetaState, gradients: Any
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        norm = optax.tree.norm(mean)
        good = jnp.isfinite(norm)
        updates, outer = self._outer.update(mean, state.outer, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        kept = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), (theta, outer), (state.theta, state.outer)
        )
        bad = (~good).astype(jnp.int32)
        after = MetaState(
            *kept,
            state.agents,
            state.iteration + 1,
            state.skipped + bad,
            jnp.where(good, 0, state.skipped_in_a_row + 1),
        )
        singles = jax.vmap(optax.tree.norm)(gradients)
        figures = {
            "meta_grad_norm": norm,
            "meta_grad_norm_single": jnp.mean(singles),
            "meta_agreement": agreement(gradients),
            "meta_sign_agreement": sign_agreement(gradients),
            "meta_grad_variance": variance(gradients),
            "theta_norm": optax.tree.norm(after.theta),
            "theta_update_norm": jnp.where(good, optax.tree.norm(updates), 0.0),
        }
        return after, figures

    def _row(
        self, state: MetaState, phase: int, ages: Ages, figures: Mapping[str, Any]
    ) -> dict[str, float]:
        values = {name: np.asarray(value) for name, value in figures.items()}
        episodes = values.pop("episodes").sum()
        returns, lengths = (values.pop(n).sum() for n in ("finished_return", "finished_length"))
        row: dict[str, float] = {
            "env_steps": int(state.iteration) * self.env_steps_per_slice,
            "meta_iteration": int(state.iteration),
            "phase": phase,
            "restarts": int(ages.restart.sum()) + int(values.pop("broken").sum()),
            "age_mean": float(ages.age.mean()),
            "skipped": int(state.skipped),
            "train_return": float(returns / episodes) if episodes else float("nan"),
            "train_episode_length": float(lengths / episodes) if episodes else float("nan"),
        }
        oldest = int(np.argmax(ages.age))
        row["meta_loss_oldest"] = float(values["meta_loss"][oldest])
        for name, value in sorted(values.items()):
            if value.ndim < 2:
                row[name] = float(value.mean())
            else:
                shares = value.mean(axis=0)
                row |= {f"{name}_{i:02d}": float(share) for i, share in enumerate(shares)}
        row["diverged"] = int(state.skipped_in_a_row) >= self.config.max_skipped
        return row
