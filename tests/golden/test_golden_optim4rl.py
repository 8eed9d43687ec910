"""Optim4RL, LinearOptim and L2LGD2 replay what the official code did."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from golden_files import files, flat, nested, read, under, worst

from loptrl.optimizers.flat import Layout
from loptrl.optimizers.optim4rl import build, build_l2lgd2, build_linear

NAMES = [
    "optim4rl_mlp0",
    "optim4rl_mlp0_lr_arg",
    "optim4rl_mlp0_smallv",
    "optim4rl_mlp0_tiny",
    "optim4rl_mlp16x16",
    "optim4rl_mlp16x16_huge",
    "linear_mlp0",
    "linear_mlp16x16",
    "l2lgd2_mlp0",
    "l2lgd2_mlp16x16",
]
BUILDERS = (build, build_linear, build_l2lgd2)


def replay(data, theta=None, **options):
    """Free-running over the whole sequence; arrays by leaf, steps first."""
    theta = nested(under(data, "meta/params/")) if theta is None else theta
    kind = int(data["config/optimizer"])
    clip = float(data["config/grad_clip"])
    options = {
        "learning_rate": float(data["config/learning_rate"]),
        "grad_clip": clip if clip > 0 else None,
        **({} if kind == 1 else {"eps": float(data["config/eps"])}),
        **({"p": float(data["config/p"])} if kind == 2 else {}),
        **options,
    }
    optimizer = BUILDERS[kind](theta, **options)
    params = nested(under(data, "init/params/"))
    grads = nested(under(data, "in/grads/"))

    def step(carry, x):
        params, state = carry
        g, factor = x
        updates, state = optimizer.update(g, state, params)
        updates = jax.tree.map(lambda u: factor * u, updates)
        params = optax.apply_updates(params, updates)
        hidden = Layout.of(params).unpack_features(state.hidden)
        return (params, state), (updates, params, hidden, state.count)

    carry = (params, optimizer.init(params))
    return jax.jit(lambda c: jax.lax.scan(step, c, (grads, data["in/lr"]))[1])(carry)


@pytest.mark.parametrize("path", files("optim4rl", NAMES))
def test_replays_the_official_rule(path):
    data = read(path)
    updates, params, hidden, count = replay(data)
    assert worst(flat(updates), under(data, "out/update/")) < 1e-5
    assert worst(flat(params), under(data, "out/params/")) < 2e-6
    recorded = under(data, "out/hidden/")
    if int(data["config/optimizer"]) == 0:
        # [steps, 2, shape, hidden] there, the two cells one after the other here.
        recorded = {
            name: np.concatenate([value[:, 0], value[:, 1]], axis=-1)
            for name, value in recorded.items()
        }
    assert worst(flat(hidden), recorded) < 1e-5
    np.testing.assert_array_equal(count, data["out/iteration"])


@pytest.mark.parametrize("path", files("optim4rl", NAMES[:1]))
@pytest.mark.parametrize(
    "change", [{"grad_clip": None}, {"eps": 1e-3}, {"learning_rate": 3.0001e-4}]
)
def test_a_wrong_number_is_noticed(path, change):
    data = read(path)
    updates, *_ = replay(data, **change)
    assert worst(flat(updates), under(data, "out/update/")) > 1e-5


@pytest.mark.parametrize("path", files("optim4rl", ["optim4rl_mlp0", "linear_mlp0"]))
def test_what_a_zero_gradient_does(path):
    """Optim4RL stays exactly where it is, LinearOptim does not."""
    data = read(path)
    updates, *_ = replay(data)
    still = under(data, "in/grads/")["params/Dense_0/kernel"] == 0
    moved = flat(updates)["params/Dense_0/kernel"][still] != 0
    assert still.any()
    assert moved.any() == (int(data["config/optimizer"]) == 1)
