"""Adam written out by hand, and the largest step it can take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loptrl.errors import LoptrlError

__all__ = [
    "Moments",
    "adam_ratios",
    "check_beta",
    "check_count",
    "largest_ratio",
    "optax_ratios",
    "quiet_then_loud",
    "single_spike_bound",
]

EPSILON = 1e-8


def check_beta(name: str, beta: float) -> None:
    """Refuse a decay outside [0, 1)."""
    if not 0.0 <= beta < 1.0:
        raise LoptrlError(f"{name} must lie in [0, 1), got {beta}: use for example 0.9.")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise LoptrlError(f"{name} must be a whole number of at least {least}, got {value}.")


@dataclass
class Moments:
    """Adam's state: first and second moment, both of the gradient's shape, and the update count."""

    first: np.ndarray
    second: np.ndarray
    count: int = 0

    def ratio(self, gradient: np.ndarray, beta1: float, beta2: float) -> np.ndarray:
        """One update of the moments, then the step in units of the learning rate."""
        self.count += 1
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        mean = self.first / (1 - beta1**self.count)
        mean_square = self.second / (1 - beta2**self.count)
        return mean / (np.sqrt(mean_square) + EPSILON)


def adam_ratios(gradients: np.ndarray, beta1: float = 0.9, beta2: float = 0.999) -> np.ndarray:
    """Adam's step at every update, in units of the learning rate, computed by hand.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t,   v_t = beta2 v_{t-1} + (1 - beta2) g_t^2,
    step_t / lr = (m_t / (1 - beta1^t)) / (sqrt(v_t / (1 - beta2^t)) + 1e-8).

    Args:
        gradients: gradients in order of the updates, [updates, ...].
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).

    Returns:
        The steps divided by the learning rate, [updates, ...]; the parameters move by minus this.

    Raises:
        LoptrlError: a beta outside [0, 1), no gradients, or a gradient that is not finite.

    References:
        Kingma and Ba (2015), Algorithm 1.
    """
    check_beta("beta1", beta1)
    check_beta("beta2", beta2)
    gradients = np.asarray(gradients, dtype=np.float64)
    if gradients.ndim == 0 or gradients.shape[0] == 0:
        raise LoptrlError("gradients must hold at least one update, got none: pass [updates, ...].")
    if not np.isfinite(gradients).all():
        raise LoptrlError("gradients must be finite, got NaN or infinity: remove the bad updates.")
    moments = Moments(np.zeros(gradients.shape[1:]), np.zeros(gradients.shape[1:]))
    return np.stack([moments.ratio(gradient, beta1, beta2) for gradient in gradients])


def optax_ratios(gradients: np.ndarray, beta1: float = 0.9, beta2: float = 0.999) -> np.ndarray:
    """The same steps from ``optax.adam`` with learning rate 1, in float32.

    Args:
        gradients: gradients in order of the updates, [updates, ...].
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).

    Returns:
        Optax's updates with their sign turned, [updates, ...]; comparable with `adam_ratios`.
    """
    import jax
    import jax.numpy as jnp
    import optax

    rule = optax.adam(1.0, b1=beta1, b2=beta2, eps=EPSILON)
    gradients = jnp.asarray(np.asarray(gradients), jnp.float32)

    def update(state: optax.OptState, gradient: jax.Array) -> tuple[optax.OptState, jax.Array]:
        step, state = rule.update(gradient, state)
        return state, -step

    return np.asarray(jax.lax.scan(update, rule.init(gradients[0]), gradients)[1])


def single_spike_bound(beta1: float, beta2: float) -> float:
    """Largest step, in learning rates, when one gradient follows endless zeros.

    max(1, (1 - beta1) / sqrt(1 - beta2)).

    References:
        Kingma and Ba (2015), section 2.1.
    """
    check_beta("beta1", beta1)
    check_beta("beta2", beta2)
    return max(1.0, (1 - beta1) / math.sqrt(1 - beta2))


def largest_ratio(beta1: float, beta2: float, updates: int | None = None) -> float:
    """Largest step, in learning rates, over all sequences of gradients.

    By the Cauchy-Schwarz inequality, with r = beta1^2 / beta2 and t updates so far::

        |step_t| / lr <= (1 - beta1) / (1 - beta1^t) * sqrt((1 - beta2^t) / (1 - beta2))
                         * sqrt(sum_{k<t} r^k)

    reached when the k-th last gradient is proportional to (beta1 / beta2)^k. For t without end it
    is (1 - beta1) / sqrt((1 - beta2) (1 - r)) when r < 1, and has no limit otherwise. With equal
    betas it is 1 at every t: both moments are then averages with the same weights.

    Args:
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        updates: number of updates so far, or None for the limit.

    Returns:
        The bound in units of the learning rate; infinity when there is none.
    """
    check_beta("beta1", beta1)
    check_beta("beta2", beta2)
    if beta2 == 0.0:
        # Then v is the last squared gradient alone, and m still remembers the ones before it.
        return 1.0 if beta1 == 0.0 or updates == 1 else math.inf
    r = beta1**2 / beta2
    if updates is None:
        return math.inf if r >= 1 else (1 - beta1) / math.sqrt((1 - beta2) * (1 - r))
    check_count("updates", updates)
    weights = float(updates) if r == 1 else (1 - r**updates) / (1 - r)
    decayed = (1 - beta2**updates) / (1 - beta2)
    return (1 - beta1) / (1 - beta1**updates) * math.sqrt(decayed * weights)


def quiet_then_loud(quiet_updates: int, loud_updates: int, quiet_gradient: float) -> np.ndarray:
    """Gradients of size `quiet_gradient` with alternating sign, then ones, [updates]."""
    check_count("quiet_updates", quiet_updates)
    check_count("loud_updates", loud_updates)
    quiet = quiet_gradient * (-1.0) ** np.arange(quiet_updates)
    return np.concatenate([quiet, np.ones(loud_updates)])
