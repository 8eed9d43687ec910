"""Small supervised tasks, and what a network learns of one when the members train it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from loptrl.keys import derive
from loptrl.meta.bilevel import Rule
from loptrl.meta.members import MemberTrainings
from loptrl.meta.supervised_config import SupervisedConfig

__all__ = ["Examples", "SupervisedEvaluation", "examples", "learnt"]


class Examples(NamedTuple):
    """A task: inputs `[n, features]` in units of their deviation, labels `[n]`; some held out."""

    inputs: np.ndarray
    labels: np.ndarray
    held_out_inputs: np.ndarray
    held_out_labels: np.ndarray

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(self.labels.max()) + 1


def examples(task: str) -> Examples:
    """One of scikit-learn's built-in sets, every fifth example held out."""
    from sklearn import datasets

    inputs, labels = getattr(datasets, f"load_{task}")(return_X_y=True)
    held_out = np.arange(len(labels)) % 5 == 0
    mean, deviation = inputs[~held_out].mean(axis=0), inputs[~held_out].std(axis=0)
    inputs = ((inputs - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)
    labels = labels.astype(np.int32)
    return Examples(inputs[~held_out], labels[~held_out], inputs[held_out], labels[held_out])


def learnt(loss: jax.Array, classes: int) -> jax.Array:
    """How much of a task is learnt, from the mean cross-entropy of examples that were held out.

    With x = loss / log(classes) that is 1 - x, and -log(x) where x > 1: 1 for a network that is
    always right and sure, 0 for one that knows nothing. So tasks with different numbers of classes
    have one scale. Its upper bound, and the held-out examples, leave nothing to win by weights that
    grow without end. The logarithm, which joins with equal slope, lets the other tasks count where
    a training diverges: under untrained weights losses go to 1e20.
    """
    x = loss / math.log(classes)
    return jnp.where(x > 1.0, -jnp.log(x), 1.0 - x)


class SupervisedEvaluation(MemberTrainings):
    """How much of a task a network has learnt, see `learnt`, after members' trainings of it.

    Args:
        task: what is learnt.
        rule: theta to the transformation.
        config: of each training.
        devices: see `MemberTrainings`.
    """

    def __init__(
        self, task: Examples, rule: Rule, config: SupervisedConfig, *, devices: int
    ) -> None:
        layers = [layer for width in config.hidden for layer in (nn.Dense(width), nn.relu)]
        self._network, self._rule = nn.Sequential([*layers, nn.Dense(task.classes)]), rule
        self._updates, self._batch_size = config.updates, config.batch_size
        self._classes = task.classes
        super().__init__(task, devices=devices, together=config.members_at_once)

    def _loss(self, params: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        logits = self._network.apply(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def _train(self, theta: Any, inputs: Examples, key: jax.Array) -> jax.Array:
        optimizer, shape = self._rule(theta), (self._batch_size,)

        def update(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
            params, state = carry
            own = derive(key, "updates", i)
            rows = jax.random.randint(derive(own, "batch"), shape, 0, len(inputs.labels))
            batch = inputs.inputs[rows], inputs.labels[rows]
            loss, grads = jax.value_and_grad(self._loss)(params, *batch)
            changes, state = optimizer.update(
                grads,
                state,
                params,
                loss=loss,
                key=derive(own, "optimizer"),
                training_fraction=i / self._updates,
            )
            return (optax.apply_updates(params, changes), state), None

        params = self._network.init(derive(key, "network"), inputs.inputs[:1])
        start = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(update, start, jnp.arange(self._updates))
        loss = self._loss(params, inputs.held_out_inputs, inputs.held_out_labels)
        return learnt(loss, self._classes)
