"""Generalised advantages against sums written out by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.ppo.advantages import generalized_advantages

GAMMA, LAMBDA = 0.9, 0.8


def advantages(terminated, truncated, gamma=GAMMA, lam=LAMBDA):
    """Three steps of one environment: rewards 1, 2, 3; V = 10, 20, 30; next V = 20, 30, 40."""

    def column(*values):
        return jnp.array(values, jnp.float32)[:, None]

    def flags(values):
        return jnp.array(values, bool)[:, None]

    out = generalized_advantages(
        column(1, 2, 3), column(10, 20, 30), column(20, 30, 40),
        flags(terminated), flags(truncated), gamma, lam,
    )  # fmt: skip
    return np.asarray(out)[:, 0]


NEVER = (False, False, False)


@pytest.mark.usefixtures("strict_jax")
def test_nothing_ends():
    deltas = [1 + 0.9 * 20 - 10, 2 + 0.9 * 30 - 20, 3 + 0.9 * 40 - 30]
    last = deltas[2]
    middle = deltas[1] + 0.72 * last
    np.testing.assert_allclose(
        advantages(NEVER, NEVER), [deltas[0] + 0.72 * middle, middle, last], rtol=1e-6
    )


def test_a_termination_has_no_future():
    got = advantages((False, True, False), NEVER)
    np.testing.assert_allclose(got[1], 2 - 20, rtol=1e-6)
    np.testing.assert_allclose(got[0], (1 + 18 - 10) + 0.72 * (2 - 20), rtol=1e-6)
    np.testing.assert_allclose(got[2], 3 + 36 - 30, rtol=1e-6)


def test_a_time_limit_keeps_the_value_but_passes_nothing_on():
    got = advantages(NEVER, (False, True, False))
    np.testing.assert_allclose(got[1], 2 + 27 - 20, rtol=1e-6)
    np.testing.assert_allclose(got[0], (1 + 18 - 10) + 0.72 * (2 + 27 - 20), rtol=1e-6)


def test_what_follows_an_end_does_not_matter_before_it():
    base = advantages(NEVER, (False, True, False))
    rewards = jnp.array([[1.0], [2.0], [99.0]])
    values, following = jnp.array([[10.0], [20.0], [-7.0]]), jnp.array([[20.0], [30.0], [5.0]])
    never, cut = jnp.zeros((3, 1), bool), jnp.array([[False], [True], [False]])
    got = generalized_advantages(rewards, values, following, never, cut, GAMMA, LAMBDA)
    np.testing.assert_allclose(got[:2, 0], base[:2], rtol=1e-6)


def test_lambda_one_is_the_return_minus_the_value():
    got = advantages(NEVER, NEVER, lam=1.0)
    discounted = 1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 40
    # V(next) of one row is V of the following one here, so the sum telescopes.
    assert got[0] == pytest.approx(discounted - 10, rel=1e-6)


def test_lambda_zero_is_the_one_step_error_and_gamma_zero_the_reward():
    np.testing.assert_allclose(advantages(NEVER, NEVER, lam=0.0), [9, 9, 9], rtol=1e-6)
    np.testing.assert_allclose(advantages(NEVER, NEVER, gamma=0.0), [-9, -18, -27], rtol=1e-6)


def test_environments_do_not_mix():
    rng = np.random.default_rng(0)
    parts = [jnp.asarray(rng.normal(size=(6, 4)), jnp.float32) for _ in range(3)]
    ends = [jnp.asarray(rng.random((6, 4)) < 0.3) for _ in range(2)]
    together = generalized_advantages(*parts, *ends, GAMMA, LAMBDA)
    for n in range(4):
        one = generalized_advantages(*(x[:, n : n + 1] for x in (*parts, *ends)), GAMMA, LAMBDA)
        np.testing.assert_allclose(together[:, n], one[:, 0], rtol=1e-6)
