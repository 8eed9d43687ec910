"""Trainings by all members of a population, shared out over devices."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from loptrl.meta.fitting import at_once
from loptrl.ppo.learner import DEVICES

__all__ = ["MemberTrainings"]

MEMBERS = "members"
"""The mesh axis over which the members of a population are shared out."""


class MemberTrainings:
    """What the members of a population reach when each trains something, compiled once.

    A subclass says what by `_train(theta, inputs, key)`, a scalar, larger is better.

    Args:
        inputs: arrays that all trainings need.
        devices: over how many devices members are shared out. Where their number is not a
            multiple of it, some are evaluated twice.
        together: members trained at once on a device; None for as many as fit, see `at_once`.
    """

    def __init__(self, inputs: Any, *, devices: int, together: int | None) -> None:
        self._inputs, self._devices = inputs, devices
        self._together = together
        self.at_once: dict[int, int] = {}
        """Members of a device -> how many of them at once, once they were trained."""
        mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(devices, 1), (MEMBERS, DEVICES))
        whole, shared = PartitionSpec(), PartitionSpec(MEMBERS)

        @functools.cache
        def jitted(together: int) -> Any:
            share = jax.shard_map(
                functools.partial(self._share, together),
                mesh=mesh,
                in_specs=(shared, whole, whole),
                out_specs=shared,
                check_vma=False,
            )
            return jax.jit(functools.partial(self._padded, share))

        self._jitted = jitted

    def __call__(self, thetas: Any, keys: jax.Array) -> jax.Array:
        """What each member reaches in each training, `[members, rollouts]`.

        Args:
            thetas: weights with a leading axis of members.
            keys: of the trainings, `[rollouts]`; the same for all members, as in the official code
                of OPEN, so that members differ by their weights and not by luck.
        """
        arguments = thetas, keys, self._inputs
        own = -(-jax.tree.leaves(thetas)[0].shape[0] // self._devices)
        if own not in self.at_once:
            given = self._together
            self.at_once[own] = (
                at_once(own, self._jitted, *arguments) if given is None else min(given, own)
            )
        return self._jitted(self.at_once[own])(*arguments)

    def _padded(self, share: Any, thetas: Any, keys: jax.Array, inputs: Any) -> jax.Array:
        members = jax.tree.leaves(thetas)[0].shape[0]
        rows = np.arange(members + -members % self._devices) % members
        return share(jax.tree.map(lambda x: x[rows], thetas), keys, inputs)[:members]

    def _share(self, together: int, thetas: Any, keys: jax.Array, inputs: Any) -> jax.Array:
        """One device's members, `together` of them at once."""

        def member(theta: Any) -> jax.Array:
            return jax.lax.map(functools.partial(self._train, theta, inputs), keys)

        if together == 1:
            # Not vmapped over an axis of 1, which would make both branches of conditions run.
            return jax.lax.map(member, thetas)
        return jax.lax.map(member, thetas, batch_size=together)

    def _train(self, theta: Any, inputs: Any, key: jax.Array) -> jax.Array:
        raise NotImplementedError
