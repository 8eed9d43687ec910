"""OPEN's momenta where gradients stay 0: as with IEEE 754's subnormal numbers, on any device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.optimizers import open_optimizer
from loptrl.optimizers.flat import Layout
from loptrl.optimizers.open import DECAYS

STEPS = 2_000
FIRST = np.array([3.0, -0.5, 1e-6, -1e-9, 0.0], np.float32)


def expected() -> np.ndarray:
    """Signs after one gradient and STEPS times none, `[decays, entries]`; NumPy has subnormals."""
    decays = np.asarray(DECAYS, np.float32)[:, None]
    momentum = (np.float32(1.0) - decays) * FIRST
    with np.errstate(under="ignore"):
        for _ in range(STEPS):
            momentum = decays * momentum
    return np.sign(momentum)


def test_the_signs_are_those_that_subnormal_numbers_give():
    optimizer = open_optimizer.build(open_optimizer.init_theta(jax.random.key(0)))
    params = {"w": jnp.zeros(FIRST.size)}
    state = optimizer.init(params)

    def step(state, grad):
        return optimizer.update({"w": grad}, state, params)[1], None

    grads = jnp.zeros((STEPS + 1, FIRST.size)).at[0].set(FIRST)
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, grads))(state)
    momentum = Layout.of(params).unpack_features(state.momentum)["w"]
    signs = expected()
    assert np.count_nonzero(signs) == 4 * FIRST[:-1].size  # decays of 0.1 and 0.5 do vanish
    np.testing.assert_array_equal(np.sign(momentum).T, signs)
