"""The hand-designed optimizers, with their numbers in the state so that none is compiled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loptrl.errors import LoptrlError

__all__ = ["adam", "annealed", "rmsprop", "with_hyperparameters"]


def _numbers_in_state(
    rule: Callable[..., optax.GradientTransformation], *numbers: float
) -> optax.GradientTransformationExtraArgs:
    """The rule with its numbers and moments in at least float32: in bfloat16, 0.999 is 1."""
    # A whole number would be kept as an integer, and so would every number put in its place.
    floats = [float(x) if isinstance(x, (int, np.integer)) else x for x in numbers]
    inner = optax.with_extra_args_support(optax.inject_hyperparams(rule)(*floats))

    def wide(tree: Any) -> Any:
        def cast(x: Any) -> jax.Array:
            x = jnp.asarray(x)
            return x.astype(jnp.promote_types(x.dtype, jnp.float32))

        return jax.tree.map(cast, tree)

    def init(params: Any) -> Any:
        return inner.init(wide(params))

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        like = grads if params is None else params
        params = None if params is None else wide(params)
        updates, after = inner.update(wide(grads), state, params, **extra)
        # The numbers have one dtype, which leaves of several would take on.
        after = jax.tree.map(lambda new, old: new.astype(jnp.result_type(old)), after, state)
        return jax.tree.map(lambda u, x: u.astype(jnp.result_type(x)), updates, like), after

    return optax.GradientTransformationExtraArgs(init, update)


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
    state (`optax.inject_hyperparams`): another value compiles nothing. `update` needs the
    parameters, for the decay.
    """
    return _numbers_in_state(_adam, learning_rate, b1, b2, eps, weight_decay)


def rmsprop(
    learning_rate: float = 1e-3,
    b1: float = 0.0,
    b2: float = 0.9,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp: theta <- theta - alpha (trace_{b1}[g / sqrt(v + eps)] + lambda theta).

    Epsilon stands under the root, as in `optax.rmsprop`; v starts at 0 and is not corrected for it.
    Numbers and parameters as in `adam`.
    """
    return _numbers_in_state(_rmsprop, learning_rate, b1, b2, eps, weight_decay)


def annealed(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """u max(1 - t, 0): the step size falls with the extra input `training_fraction` t, and stays 0.

    Raises:
        LoptrlError: `update` is called without it.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        grads: Any, state: Any, params: Any = None, *, training_fraction: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        if training_fraction is None:
            raise LoptrlError(
                "expected training_fraction, 0 at first and 1 at last, for an annealed optimizer, "
                "got none; call update(grads, state, params, training_fraction=...)"
            )
        extra["training_fraction"] = training_fraction
        updates, state = inner.update(grads, state, params, **extra)
        left = jnp.maximum(1.0 - training_fraction, 0.0)
        return jax.tree.map(lambda u: (u * left).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def with_hyperparameters(state: Any, values: Mapping[str, float]) -> Any:
    """The optimizer state with the given numbers, if any, in place of the defaults.

    Raises:
        LoptrlError: the state holds no number of that name.
    """
    if not values:
        return state
    if not hasattr(state, "hyperparams"):
        raise LoptrlError(
            f"expected the state of an optimizer with numbers, such as adam's, to set "
            f"{', '.join(values)}, got {type(state).__name__}; name a hand-designed optimizer"
        )
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
