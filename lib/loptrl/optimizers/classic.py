"""The hand-designed optimizers, with their numbers in the state so that none is compiled in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from loptrl.errors import LoptrlError

__all__ = ["adam", "make", "rmsprop", "with_hyperparameters"]


def _adam(
    learning_rate: float, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def _rmsprop(
    learning_rate: float, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_rms(decay=b2, eps=eps),
        optax.trace(decay=b1),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma & Ba 2015, algorithm 1), with decoupled weight decay (Loshchilov & Hutter 2019).

    theta <- theta - alpha (m_hat / (sqrt(v_hat) + eps) + lambda theta). All numbers live in the
    state (`optax.inject_hyperparams`): another value compiles nothing.
    """
    return optax.with_extra_args_support(
        optax.inject_hyperparams(_adam)(learning_rate, b1, b2, eps, weight_decay)
    )


def rmsprop(
    learning_rate: float = 1e-3,
    b1: float = 0.0,
    b2: float = 0.9,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp: theta <- theta - alpha (trace_{b1}[g / (sqrt(v) + eps)] + lambda theta)."""
    return optax.with_extra_args_support(
        optax.inject_hyperparams(_rmsprop)(learning_rate, b1, b2, eps, weight_decay)
    )


_MAKERS = {"adam": adam, "rmsprop": rmsprop}


@functools.cache
def make(name: str) -> optax.GradientTransformationExtraArgs:
    """The optimizer of that name, with default numbers; `with_hyperparameters` sets a run's own.

    Raises:
        LoptrlError: the name is not known.
    """
    if name not in _MAKERS:
        raise LoptrlError(f"unknown optimizer {name!r}: expected one of {', '.join(_MAKERS)}")
    return _MAKERS[name]()


def with_hyperparameters(state: Any, values: Mapping[str, float]) -> Any:
    """The optimizer state with the given numbers in place of the defaults.

    Raises:
        LoptrlError: the state holds no number of that name.
    """
    unknown = sorted(set(values) - set(state.hyperparams))
    if unknown:
        raise LoptrlError(
            f"the optimizer has the numbers {sorted(state.hyperparams)}, got {unknown[0]!r}"
        )
    new = {
        name: jnp.asarray(values.get(name, old), dtype=jnp.asarray(old).dtype)
        for name, old in state.hyperparams.items()
    }
    return state._replace(hyperparams=new)
