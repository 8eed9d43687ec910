"""The PPO agent: a learner and an optimizer, compiled once over a mesh of devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loptrl.ppo.learner import DEVICES, Learner, TrainState
from loptrl.ppo.structure import Structure, count_devices

__all__ = ["Agent"]


class Agent:
    """PPO for one world, one optimizer and one structure, compiled once.

    Args:
        structure: sizes and switches.
        world: a `VectorWorld`.
        optimizer: any optax transformation; it is offered `key`, `activity`,
            `training_fraction`, `epoch_fraction` and `loss` on every update.
        devices: at most how many devices share the environments (see `count_devices`).
        split_state: which arrays of the optimizer's state are split over `DEVICES`, along their
            first axis: a tree of bools from a state; by default none is.
    """

    def __init__(
        self,
        structure: Structure,
        world: Any,
        optimizer: optax.GradientTransformation,
        *,
        devices: int | None = None,
        split_state: Callable[[Any], Any] | None = None,
    ) -> None:
        self.structure, self.world = structure, world
        self.num_devices = count_devices(structure, devices)
        self.learner = learner = Learner(structure, world, devices=self.num_devices)
        extended = optax.with_extra_args_support(optimizer)
        self.mesh = Mesh(jax.devices()[: self.num_devices], (DEVICES,))
        replicated, split = PartitionSpec(), PartitionSpec(DEVICES)
        optimizer_state: Any = replicated
        if split_state is not None:
            params = jax.eval_shape(learner.params, jax.random.key(0))
            which = split_state(jax.eval_shape(extended.init, params))
            optimizer_state = jax.tree.map(lambda one: split if one else replicated, which)
        state = TrainState(replicated, optimizer_state, split, *[replicated] * 4)
        self.shardings = jax.tree.map(
            lambda spec: NamedSharding(self.mesh, spec),
            state,
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )
        shard = functools.partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        self.start = jax.jit(
            shard(
                functools.partial(learner.start, extended),
                in_specs=(replicated, replicated),
                out_specs=state,
            )
        )
        self.slice = jax.jit(
            shard(
                functools.partial(learner.slice, extended),
                in_specs=(state, replicated, replicated),
                out_specs=(state, replicated),
            ),
            donate_argnums=0,
        )
        self.evaluate = jax.jit(
            shard(
                learner.evaluate,
                in_specs=(state._replace(opt_state=replicated), replicated, replicated),
                out_specs=replicated,
            )
        )
