"""Agents of staggered ages whose meta-gradients are averaged (pipeline training)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loptrl.keys import derive
from loptrl.meta.bilevel import Bilevel
from loptrl.meta.fitting import at_once
from loptrl.ppo.learner import DEVICES, TrainState
from loptrl.ppo.structure import HParams

__all__ = ["Ages", "Pipeline", "reset_indices"]

AGENTS = "agents"
"""The mesh axis over which agents are shared out."""


def reset_indices(agents: int, interval: int) -> np.ndarray:
    """When in each interval an agent starts anew, `[agents]` meta-iterations.

    The whole parts of `agents` numbers evenly spaced in [0, interval - 1] (the official code of
    Lan et al. 2024 has one agent per device).
    """
    return np.linspace(0, interval - 1, agents).astype(int)


class Ages(NamedTuple):
    """Where each agent stands at the start of a meta-iteration, all int `[agents]`.

    Attributes:
        restart: bool, it starts anew now.
        life: how many lives it has finished.
        age: meta-iterations since the start of this life.
    """

    restart: np.ndarray
    life: np.ndarray
    age: np.ndarray

    @classmethod
    def at(cls, iteration: int, agents: int, interval: int | None, since: int = 0) -> Ages:
        """At a meta-iteration; all agents are fresh at `since`, the start of their phase."""
        now = iteration - since
        if interval is None:
            return cls(np.full(agents, now == 0), np.zeros(agents, int), np.full(agents, now))
        index = reset_indices(agents, interval)
        past = now - index
        first = past < 0
        life = np.where(first, 0, past // interval + (index > 0))
        age = np.where(first, now, past % interval)
        return cls(age == 0, life, age)


class Pipeline:
    """One meta-iteration of several agents, compiled once.

    Args:
        bilevel: the meta-gradient of one agent.
        agents: how many.
        devices: over how many devices they are shared out.
        together: agents stepped at once on a device, the others wait and take no memory beyond
            their state; None for as many as fit, see `at_once`.
    """

    def __init__(
        self, bilevel: Bilevel, agents: int, *, devices: int, together: int | None = None
    ) -> None:
        self.bilevel = bilevel
        self._own = agents // devices
        self._together = None if together is None else min(together, self._own)
        mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(devices, 1), (AGENTS, DEVICES))
        whole, shared = PartitionSpec(), PartitionSpec(AGENTS)
        self.replicated, self.shared = (NamedSharding(mesh, spec) for spec in (whole, shared))
        shard = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        self.start = jax.jit(shard(self._start, in_specs=(whole, shared, shared), out_specs=shared))

        @functools.cache
        def jitted(together: int) -> Any:
            step = shard(
                functools.partial(self._step, together),
                in_specs=(whole, shared, shared, shared, shared, whole),
                out_specs=(shared, shared),
            )
            return jax.jit(step, donate_argnums=1)

        self._jitted = jitted

    def program(self, *arguments: Any) -> Any:
        """The jitted `step`, with as many agents at once as it takes for those arguments."""
        if self._together is None:
            self._together = at_once(self._own, self._jitted, *arguments)
        return self._jitted(self._together)

    def _fresh(self, theta: Any, key: jax.Array, dynamics: Any) -> TrainState:
        first = jax.tree.map(lambda x: x[0], dynamics)
        return self.bilevel.learner.start(self.bilevel.rule(theta), key, first)

    def _start(self, theta: Any, keys: jax.Array, dynamics: Any) -> TrainState:
        return jax.lax.map(lambda x: self._fresh(theta, *x), (keys, dynamics))

    def step(
        self,
        theta: Any,
        states: TrainState,
        restart: jax.Array,
        keys: jax.Array,
        dynamics: Any,
        hparams: HParams,
    ) -> tuple[TrainState, tuple[Any, dict[str, jax.Array]]]:
        """Every agent's inner updates and meta-gradient; the agents' buffers are reused.

        Args:
            theta: the rule's weights.
            states: the agents, `[agents, ...]`.
            restart: bool `[agents]`; an agent whose parameters are not finite starts anew, too.
            keys: of fresh agents, `[agents]`; one that was broken takes a key from its last.
            dynamics: `[agents, inner_updates + 1, ...]`.
            hparams: the traced numbers.

        Returns:
            The agents; their meta-gradients and figures, `[agents, ...]`.
        """
        arguments = theta, states, restart, keys, dynamics, hparams
        return self.program(*arguments)(*arguments)

    def _step(
        self,
        together: int,
        theta: Any,
        states: TrainState,
        restart: jax.Array,
        keys: jax.Array,
        dynamics: Any,
        hparams: HParams,
    ) -> tuple[TrainState, tuple[Any, dict[str, jax.Array]]]:
        """One device's agents, `together` of them at once."""

        def one(agent: tuple[Any, ...]) -> Any:
            state, due, key, now = agent
            broken = ~due & ~jnp.isfinite(optax.tree.norm(state.params))
            # The life's own key again would lead to the same end.
            key = jnp.where(broken, derive(state.key, "broken"), key)
            state = jax.lax.cond(due | broken, lambda: self._fresh(theta, key, now), lambda: state)
            gradient, out = self.bilevel.gradient(theta, state, now, hparams)
            figures = out.metrics | {"meta_loss": out.meta_loss, "broken": broken}
            return out.state, (gradient, figures)

        # A batch of one would still be a vmap, under which both branches of a `cond` are computed.
        batch = None if together == 1 else together
        return jax.lax.map(one, (states, restart, keys, dynamics), batch_size=batch)
