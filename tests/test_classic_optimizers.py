"""Adam and RMSProp: one update by hand, beside optax's, and their numbers in the state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loptrl import optimizers
from loptrl.errors import LoptrlError
from loptrl.optimizers import registry
from loptrl.ppo.config import HAND_DESIGNED

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([0.3])}
GRADS = [jax.tree.map(lambda p, s=s: jnp.cos(7 * p + s), PARAMS) for s in range(5)]


def updates(optimizer, grads=GRADS, numbers=None, **extra):
    state = optimizer.init(PARAMS)
    if numbers:
        state = optimizers.with_hyperparameters(state, numbers)
    params, out = PARAMS, []
    for g in grads:
        update, state = jax.jit(optimizer.update)(g, state, params, **extra)
        params = optax.apply_updates(params, update)
        out.append(update)
    return out, params


def check_equal(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-8), a, b)


def test_adam_by_hand():
    numbers = {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.01}
    got, final = updates(optimizers.make("adam"), numbers=numbers)
    theta = {name: np.asarray(p, float) for name, p in PARAMS.items()}
    m = dict.fromkeys(theta, 0.0)
    v = dict(m)
    for t, grads in enumerate(GRADS, 1):
        for name in theta:
            g = np.asarray(grads[name], float)
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.9 * v[name] + 0.1 * g**2
            m_hat, v_hat = m[name] / (1 - 0.8**t), v[name] / (1 - 0.9**t)
            step = -0.1 * (m_hat / (np.sqrt(v_hat) + 1e-3) + 0.01 * theta[name])
            np.testing.assert_allclose(got[t - 1][name], step, rtol=1e-4)
            theta[name] += step
    check_equal(final, theta)


def test_rmsprop_by_hand():
    numbers = {"learning_rate": 0.1, "b1": 0.5, "b2": 0.9, "eps": 1e-6, "weight_decay": 0.02}
    got, _ = updates(optimizers.make("rmsprop"), numbers=numbers)
    theta, v, trace = np.asarray(PARAMS["w"], float), 0.0, 0.0
    for t, grads in enumerate(GRADS):
        g = np.asarray(grads["w"], float)
        v = 0.9 * v + 0.1 * g**2
        trace = 0.5 * trace + g / np.sqrt(v + 1e-6)
        step = -0.1 * (trace + 0.02 * theta)
        np.testing.assert_allclose(got[t]["w"], step, rtol=1e-4)
        theta = theta + step


def test_equal_to_optax():
    ours = updates(optimizers.adam(3e-4, 0.9, 0.999, 1e-8))[0]
    check_equal(ours, updates(optax.adam(3e-4, 0.9, 0.999, 1e-8))[0])
    default = updates(optimizers.make("adam"), numbers={"learning_rate": 3e-4})[0]
    check_equal(default, ours)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_extra_inputs_are_ignored(name):
    plain = updates(optimizers.make(name))[0]
    given = updates(
        optimizers.make(name), key=jax.random.key(0), activity={"actor": [jnp.ones(3)]},
        training_fraction=0.5, epoch_fraction=0.0, loss=1.0,
    )[0]  # fmt: skip
    check_equal(plain, given)


def test_another_number_compiles_nothing():
    optimizer = optimizers.make("adam")
    update = jax.jit(lambda *args: optimizer.update(*args))  # a cache of its own
    for rate, b2 in ((1e-3, 0.999), (1e-2, 0.9), (0.5, 0.0)):
        state = optimizers.with_hyperparameters(
            optimizer.init(PARAMS), {"learning_rate": rate, "b2": b2}
        )
        update(GRADS[0], state, PARAMS)
    assert update._cache_size() == 1


@pytest.mark.parametrize("optimizer", [optimizers.adam, optimizers.rmsprop])
def test_a_whole_number_makes_place_for_a_fraction(optimizer):
    whole, fraction = optimizer(1, np.int64(0)), optimizer(0.25, 0.5)
    numbers = {"learning_rate": 0.25, "b1": 0.5}
    check_equal(updates(whole, numbers=numbers)[0], updates(fraction)[0])


def test_annealed_steps_fall_linearly():
    plain, _ = updates(optimizers.make("adam"))
    for fraction, left in ((0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (1.5, 0.0)):
        got, _ = updates(optimizers.make("adam", anneal=True), training_fraction=fraction)
        # The first update only: the later ones start from other parameters.
        check_equal(got[0], jax.tree.map(lambda u, f=left: u * f, plain[0]))


def test_what_has_no_effect_is_refused():
    with pytest.raises(LoptrlError, match="expected adam without weights"):
        optimizers.make("adam", weights="multi")
    with pytest.raises(LoptrlError, match=r"open has no learning rate, got 0.1; leave it out"):
        optimizers.make("open", learning_rate=0.1)


def test_velo_needs_the_length_of_the_training():
    with pytest.raises(LoptrlError, match=r"velo needs the length .*, got none; give num_updates"):
        optimizers.make("velo", weights="standin")


def test_names_and_numbers_are_checked():
    with pytest.raises(LoptrlError, match="unknown optimizer 'adamm': expected one of adam"):
        optimizers.make("adamm")
    with pytest.raises(LoptrlError, match=r"the optimizer has the numbers .*, got 'beta'"):
        optimizers.with_hyperparameters(optimizers.make("adam").init(PARAMS), {"beta": 0.9})
    with pytest.raises(LoptrlError, match="expected the state of an optimizer with numbers"):
        optimizers.with_hyperparameters(optax.sgd(0.1).init(PARAMS), {"b1": 0.9})
    with pytest.raises(LoptrlError, match="expected training_fraction"):
        updates(optimizers.make("adam", anneal=True))
    assert set(registry._CLASSIC) == set(HAND_DESIGNED)


@pytest.mark.parametrize("name", HAND_DESIGNED)
def test_leaves_of_several_widths_keep_theirs(name):
    with jax.enable_x64(True):
        params = {"a": jnp.ones(2, jnp.float64), "b": jnp.ones(2, jnp.float32)}
        optimizer = optimizers.make(name)
        before = optimizer.init(params)
        found, after = optimizer.update(params, before, params)
        for new, old in ((found, params), (after, before)):
            same = jax.tree.map(lambda x, y: x.dtype == jnp.result_type(y), new, old)
            assert jax.tree.all(same)
