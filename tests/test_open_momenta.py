"""OPEN's momenta where gradients stay 0: as with IEEE 754's subnormal numbers, on any device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.optimizers import open_optimizer
from loptrl.optimizers.flat import Layout
from loptrl.optimizers.open import DECAYS

STEPS = 1_000
FIRST = np.array([1.2e-38, -1.2e-38, 1.0, -1.0, 0.0], np.float32)
"""Momenta of every decay at first; all decays take the small ones below 1.18e-38 in STEPS."""


def expected() -> np.ndarray:
    """Signs after STEPS updates without a gradient, `[decays, entries]`; NumPy has subnormals."""
    momentum = np.tile(FIRST, (len(DECAYS), 1))
    for _ in range(STEPS):
        momentum = np.asarray(DECAYS, np.float32)[:, None] * momentum
    return np.sign(momentum)


def test_the_signs_are_those_that_subnormal_numbers_give():
    optimizer = open_optimizer.build(open_optimizer.init_theta(jax.random.key(0)), noise=False)
    params = {"w": jnp.zeros(FIRST.size)}
    layout = Layout.of(params)
    state = optimizer.init(params)
    first = jnp.broadcast_to(layout.pack({"w": FIRST})[:, None], state.momentum.shape)
    state = state._replace(momentum=first)

    def step(state, grad):
        return optimizer.update({"w": grad}, state, params)[1], None

    grads = jnp.zeros((STEPS, FIRST.size))
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, grads))(state)
    momentum = layout.unpack_features(state.momentum)["w"]
    signs = expected()
    assert np.count_nonzero(signs) == 4 * 4  # decays of 0.1 and 0.5 do vanish
    np.testing.assert_array_equal(np.sign(momentum).T, signs)


def test_a_new_gradient_decides_again():
    optimizer = open_optimizer.build(open_optimizer.init_theta(jax.random.key(0)), noise=False)
    params = {"w": jnp.zeros(2)}
    state = optimizer.init(params)
    state = state._replace(momentum=jnp.full_like(state.momentum, np.finfo(np.float32).tiny))
    _, state = jax.jit(optimizer.update)({"w": jnp.array([-1.0, 0.0])}, state, params)
    momentum = Layout.of(params).unpack_features(state.momentum)["w"]
    assert np.all(momentum[0] < 0) and np.all(momentum[1, 2:] > 0)
