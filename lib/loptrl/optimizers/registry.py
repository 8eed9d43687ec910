"""All optimizers of the package by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import jax
import optax

from loptrl.errors import LoptrlError
from loptrl.optimizers.classic import adam, annealed, rmsprop
from loptrl.optimizers.flat import Split
from loptrl.optimizers.learned import LEARNED
from loptrl.optimizers.open import OpenState
from loptrl.optimizers.optim4rl import GRUState

__all__ = ["make", "split_state"]

_CLASSIC = {"adam": adam, "rmsprop": rmsprop}


def make(
    name: str,
    *,
    weights: str | Path | None = None,
    learning_rate: float | None = None,
    anneal: bool = False,
    num_updates: int | None = None,
    split: Split | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of that name.

    Args:
        name: "adam" or "rmsprop", with default numbers (`with_hyperparameters` sets a run's own),
            or a learned rule of `LEARNED`.
        weights: name or path of a learned rule's weights.
        learning_rate: alpha of a learned rule that has one (Optim4RL and its relatives).
        anneal: alpha falls linearly to 0 with the extra input `training_fraction`.
        num_updates: planned length of the training, for a rule that needs it in advance (VeLO);
            others do without.
        split: over which devices a rule that can (Optim4RL and its relatives, OPEN) splits its
            work, inside `jax.shard_map`; `split_state` says which parts of the state are split.

    Raises:
        LoptrlError: the name is not known, the weights are not here, or weights or a learning rate
            are given that have no effect.
    """
    if name in _CLASSIC:
        if weights is not None or learning_rate is not None:
            raise LoptrlError(
                f"expected {name} without weights, its numbers set by with_hyperparameters, got "
                f"weights={weights!r} and learning_rate={learning_rate!r}; leave both out"
            )
        optimizer = _CLASSIC[name]()
    elif name in LEARNED:
        rule = LEARNED[name]
        takes = inspect.signature(rule.build).parameters
        options: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
        if options and "learning_rate" not in takes:
            raise LoptrlError(f"{name} has no learning rate, got {learning_rate}; leave it out")
        if "num_steps" in takes:
            if num_updates is None:
                raise LoptrlError(
                    f"{name} needs the length of the training in advance, got none; give "
                    "num_updates, the updates that it will make"
                )
            options["num_steps"] = num_updates
        options |= {"split": split} if "split" in takes else {}
        optimizer = rule(weights, **options)
    else:
        known = ", ".join((*_CLASSIC, *LEARNED))
        raise LoptrlError(f"unknown optimizer {name!r}: expected one of {known}")
    return annealed(optimizer) if anneal else optimizer


def split_state(state: Any) -> Any:
    """A state of an optimizer made with `split`, as a tree of: is this array split over devices?

    What is split is split along its first axis.
    """

    def marked(node: Any) -> Any:
        if isinstance(node, (OpenState, GRUState)):
            stacks = {name for name in node._fields if name != "count"}
            return type(node)(*(name in stacks for name in node._fields))
        return False

    return jax.tree.map(marked, state, is_leaf=lambda x: isinstance(x, (OpenState, GRUState)))
