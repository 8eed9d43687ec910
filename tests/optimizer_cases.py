"""Every optimizer of the package with weights that descend, for the tests that try them all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from loptrl.optimizers import LEARNED, adam, rmsprop


class Case(NamedTuple):
    """An optimizer: untrained weights that descend, and how it is built from them."""

    init_theta: Callable[[jax.Array], Any]
    build: Callable[[Any], optax.GradientTransformationExtraArgs]
    steps: int


def downhill_open(key):
    """OPEN that follows the gradient's sign: untrained weights go in no direction."""
    theta = jax.tree.map(lambda w: 0.0 * w, LEARNED["open"].init_theta(key))
    # The state is tanh(sign of the gradient), the head passes its positive and its negative part.
    theta["gru"]["in"]["kernel"] = theta["gru"]["in"]["kernel"].at[13, 0].set(3.0)
    theta["gru"]["iz"]["bias"] -= 20.0
    mlp = theta["mlp"]
    mlp["layers_0"]["kernel"] = mlp["layers_0"]["kernel"].at[0, :2].set(jnp.array([3.0, -3.0]))
    eye = jnp.eye(16)
    mlp["layers_3"]["kernel"] = eye
    for name in ("layers_1", "layers_4"):
        mlp[name]["scale"] += 1.0
    mlp["layers_6"]["kernel"] = mlp["layers_6"]["kernel"].at[:2, 0].set(jnp.array([2.0, -2.0]))
    return theta


def downhill_velo(key):
    """VeLO that follows the clipped gradient."""
    theta = LEARNED["velo"].init_theta(key, lstm_hidden_size=8, param_inits=4)
    theta = jax.tree.map(jnp.zeros_like, theta)
    rnn, stack = theta["rnn_params"], theta["ff_mod_stack"]
    rnn["rnn_to_controls"]["b"] += 0.01
    rnn["step_size"]["b"] += 3.0
    stack["w0__0"] = stack["w0__0"].at[:, 0, :2].set(jnp.array([1.0, -1.0]))
    stack["w1"] = stack["w1"] + jnp.eye(4)[None]
    stack["w2"] = stack["w2"].at[:, :2, 0].set(jnp.array([3.0, -3.0]))
    return theta


def small(family, **options):
    return functools.partial(LEARNED[family].init_theta, **options)


def zeros_head(init):
    """Untrained weights whose heads say 0, so that exp(head) is 1."""

    def made(key):
        theta = init(key)
        for name in theta:
            if name.startswith("mlp"):
                theta[name] = jax.tree.map(jnp.zeros_like, theta[name])
        return theta

    return made


CASES = {
    "adam": Case(lambda key: None, lambda theta: adam(3e-3), 200),
    "rmsprop": Case(lambda key: None, lambda theta: rmsprop(3e-3), 200),
    "optim4rl": Case(
        zeros_head(small("optim4rl")),
        lambda theta: LEARNED["optim4rl"].build(theta, learning_rate=3e-3),
        200,
    ),
    "linear_optim": Case(
        zeros_head(small("linear_optim")),
        lambda theta: LEARNED["linear_optim"].build(theta, learning_rate=3e-2),
        200,
    ),
    "l2lgd2": Case(
        zeros_head(small("l2lgd2")),
        lambda theta: LEARNED["l2lgd2"].build(theta, learning_rate=3e-2),
        200,
    ),
    "open": Case(downhill_open, LEARNED["open"].build, 300),
    "velo": Case(downhill_velo, lambda theta: LEARNED["velo"].build(theta, num_steps=200), 200),
}
TABLE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
LEARNED_TABLE = pytest.mark.parametrize(
    "case", [CASES[name] for name in LEARNED], ids=list(LEARNED)
)


def extras(loss, key):
    """What the agent here offers to every optimizer beside gradients and parameters."""
    return {
        "key": key,
        "loss": loss,
        "training_fraction": 0.5,
        "epoch_fraction": 0.25,
        "activity": None,
    }


def first_update(optimizer, grads, params, **extra):
    """What the optimizer makes of the first gradients."""
    return optimizer.update(grads, optimizer.init(params), params, **extra)[0]
