"""Dormant units and feature rank on features made by hand; activities as the networks report."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.ppo.diagnostics import dormant_fraction, feature_rank
from loptrl.ppo.networks import Actor, Critic


def test_dormant_relu_units_are_zero_everywhere():
    first = jnp.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])  # units 0 and 3
    second = jnp.array([[0.0, 1.0], [1e-6, 0.0]])  # none: 1e-6 is still a signal
    assert float(dormant_fraction([first, second], "relu")) == pytest.approx(2 / 6)


def test_dormant_tanh_units_are_constant():
    layer = jnp.array([[0.9, 0.1, 1.0, 0.0], [0.9, 0.2, 1.0, 0.0015], [0.9, 0.3, 0.9999, 0.0]])
    assert float(dormant_fraction([layer], "tanh")) == pytest.approx(3 / 4)
    # The same layer would have no dormant ReLU units but a constant zero.
    assert float(dormant_fraction([layer], "relu")) == 0.0


def features(singular_values, batch=40, units=6, seed=0):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(batch, units)))
    v, _ = np.linalg.qr(rng.normal(size=(units, units)))
    return jnp.asarray(u @ np.diag(singular_values) @ v.T, jnp.float32)


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        ((3, 0, 0, 0, 0, 0), 1),
        ((2, 2, 0, 0, 0, 0), 2),
        ((1, 1, 1, 1, 1, 1), 6),
        ((10, 1, 0, 0, 0, 0), 1),  # 100 / 101 of the variance in the first
        ((9, 1, 0, 0, 0, 0), 2),  # 81 / 82 < 0.99
        ((5, 4, 3, 0.1, 0.1, 0.1), 3),
    ],
)
def test_feature_rank_counts_what_carries_the_variance(values, rank):
    assert float(feature_rank(features(values))) == rank


def test_feature_rank_of_nothing_is_zero_and_of_no_numbers_none():
    assert float(feature_rank(jnp.zeros((5, 3)))) == 0
    assert np.isnan(feature_rank(jnp.full((5, 3), np.nan)))


def test_feature_rank_takes_another_threshold():
    assert float(feature_rank(features((9, 1, 0, 0, 0, 0)), threshold=0.9)) == 1


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_networks_report_every_hidden_layer(activation):
    actor = Actor(3, False, (8, 5), activation)
    critic = Critic((7,), activation)
    x = jnp.ones((2, 4))
    params = actor.init(jax.random.key(0), x)["params"]
    (mean, log_std), layers = actor.apply({"params": params}, x)
    assert mean.shape == (2, 3) and log_std.shape == (3,) and not log_std.any()
    assert [layer.shape for layer in layers] == [(2, 8), (2, 5)]
    # The layers are the activations themselves: the output follows from the last one.
    last = params[max(n for n in params if n.startswith("Dense"))]
    np.testing.assert_allclose(mean, layers[-1] @ last["kernel"] + last["bias"], rtol=1e-5)
    value, (hidden,) = critic.apply(critic.init(jax.random.key(1), x), x)
    assert value.shape == (2,) and hidden.shape == (2, 7)
    assert float(hidden.min()) >= (0.0 if activation == "relu" else -1.0)


def test_a_fresh_policy_is_nearly_uniform():
    actor = Actor(4, True, (16,), "tanh")
    x = jax.random.normal(jax.random.key(0), (32, 6))
    logits, _ = actor.apply(actor.init(jax.random.key(1), x), x)
    assert float(jnp.abs(logits).max()) < 0.1
