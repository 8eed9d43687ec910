"""The policies' distributions against scipy, and their samples against their own probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from loptrl.ppo.distributions import Categorical, DiagonalGaussian, distribution

RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(7, 3)).astype(np.float32)
LOG_STD = np.array([-1.0, 0.0, 0.7], np.float32)
LOGITS = RNG.normal(size=(7, 4)).astype(np.float32) * 3


def test_gaussian_log_probability_and_entropy():
    action = MEAN + RNG.normal(size=MEAN.shape).astype(np.float32)
    expected = stats.norm(MEAN, np.exp(LOG_STD)).logpdf(action).sum(-1)
    np.testing.assert_allclose(
        DiagonalGaussian.log_prob((MEAN, LOG_STD), action), expected, rtol=1e-5
    )
    entropy = DiagonalGaussian.entropy((MEAN, LOG_STD))
    assert entropy.shape == (7,)
    np.testing.assert_allclose(
        entropy, np.full(7, stats.norm(0, np.exp(LOG_STD)).entropy().sum()), rtol=1e-6
    )
    np.testing.assert_array_equal(DiagonalGaussian.mode((MEAN, LOG_STD)), MEAN)


def test_the_mean_cancels_in_the_log_probability_of_its_own_sample():
    """Page 08 says so: through actions that are not data the surrogate sees the scale alone."""

    def log_prob(parameters):
        action = DiagonalGaussian.sample(jax.random.key(0), parameters)
        return DiagonalGaussian.log_prob(parameters, action).sum()

    of_mean, of_scale = jax.grad(log_prob)((jnp.asarray(MEAN), jnp.asarray(LOG_STD)))
    np.testing.assert_allclose(of_mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(of_scale, -7.0, rtol=1e-5)


def test_gaussian_samples():
    mean = jnp.broadcast_to(jnp.asarray(MEAN[0]), (20_000, 3))
    draws = np.asarray(DiagonalGaussian.sample(jax.random.key(0), (mean, LOG_STD)))
    for d in range(3):
        _, p = stats.kstest(draws[:, d], stats.norm(MEAN[0, d], np.exp(LOG_STD[d])).cdf)
        assert p > 1e-4


def test_categorical_log_probability_entropy_and_mode():
    p = special.softmax(LOGITS.astype(np.float64), axis=-1)
    action = RNG.integers(0, 4, 7)
    np.testing.assert_allclose(
        Categorical.log_prob(LOGITS, action), np.log(p)[np.arange(7), action], rtol=1e-5
    )
    np.testing.assert_allclose(
        Categorical.entropy(LOGITS), stats.entropy(p, axis=-1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(Categorical.mode(LOGITS), LOGITS.argmax(-1))


def test_categorical_samples():
    logits = jnp.broadcast_to(jnp.asarray(LOGITS[1]), (20_000, 4))
    draws = np.asarray(Categorical.sample(jax.random.key(1), logits))
    expected = 20_000 * special.softmax(LOGITS[1].astype(np.float64))
    assert stats.chisquare(np.bincount(draws, minlength=4), expected).pvalue > 1e-4


def test_large_logits_stay_finite():
    logits = jnp.array([[1e4, 0.0, -1e4]])
    assert np.isfinite(Categorical.entropy(logits)).all()
    assert Categorical.log_prob(logits, jnp.array([0])) == pytest.approx(0.0)
    grad = jax.grad(lambda x: Categorical.log_prob(x, jnp.array([1]))[0])(logits)
    assert np.isfinite(grad).all()


def test_the_kind_of_action_decides():
    assert distribution(True) is Categorical and distribution(False) is DiagonalGaussian
