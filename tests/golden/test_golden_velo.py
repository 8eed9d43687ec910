"""VeLO replays what the official code did."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_files import files, flat, nested, read, scaled_error, under, worst

from loptrl.optimizers import velo

NAMES = ["small_released_flags", "small_bugged_both", "small_tree_ranks"]
NAMES += ["default128_released_flags", "full512_released_flags"]


def weights(data):
    """The recorded weights, or those that the recorded recipe makes."""
    named = under(data, "meta/")
    if not named:
        ends, shapes = data["meta_recipe/leaf_end"], under(data, "meta_shape/")
        scale = np.repeat(data["meta_recipe/leaf_scale"], np.diff([0, *ends]))
        random = np.random.RandomState(int(data["meta_recipe/seed"]))
        numbers = random.standard_normal(int(data["meta_recipe/size"])).astype(np.float32) * scale
        np.testing.assert_array_equal(numbers[:16], data["meta_recipe/head"])
        np.testing.assert_array_equal(numbers[-16:], data["meta_recipe/tail"])
        pieces = np.split(numbers, ends[:-1])
        named = {k: x.reshape(shapes[k]) for k, x in zip(shapes, pieces, strict=True)}
    named.pop("flat", None)
    return nested({name.replace("/~/", "/"): value for name, value in named.items()})


def replay(data, theta=None, **options):
    """Free-running over the whole sequence; (params, states), steps first."""
    options = {
        "num_steps": int(data["config/num_steps_total"]),
        "bugged_lstm_state": bool(data["config/use_bugged_next_lstm_state"]),
        "bugged_loss_features": bool(data["config/use_bugged_loss_features"]),
        **options,
    }
    theta = weights(data) if theta is None else theta
    params = nested(under(data, "init/params/"))
    inputs = nested(under(data, "in/grads/")), jnp.asarray(data["in/loss"])

    def run(theta, params, inputs):
        optimizer = velo.build(theta, **options)

        def step(carry, x):
            params, state = carry
            updates, state = optimizer.update(x[0], state, params, loss=x[1])
            params = optax.apply_updates(params, updates)
            return (params, state), (params, state)

        return jax.lax.scan(step, (params, optimizer.init(params)), inputs)[1]

    return jax.jit(run)(theta, params, inputs)


@pytest.mark.parametrize("path", files("velo", NAMES))
def test_replays_the_official_rule(path):
    data = read(path)
    params, state = replay(data)
    assert worst(flat(params), under(data, "out/params/")) < 5e-4
    leaves = list(flat(params))
    for name in ("momentum", "fac_v_row", "fac_v_col", "fac_v_diag", "rms"):
        recorded = under(data, f"out/{name}/")
        for leaf, ours in zip(leaves, state.tensors, strict=True):
            value = getattr(ours, name.removeprefix("fac_v_"))
            if value is None:
                assert recorded[leaf].size == 0
                continue
            value = np.asarray(value)
            # The decay is their last axis and our second, after the step.
            value = value[..., None] if name == "rms" else np.moveaxis(value, 1, -1)
            assert scaled_error(value, recorded[leaf], last_axis=True) < 1e-5, (name, leaf)
    for name in ("hidden", "cell"):
        assert scaled_error(np.asarray(getattr(state, name)), data[f"out/lstm_{name}"]) < 5e-4
    for ours, name in ((state.loss_means, "means"), (state.loss_minima, "running_min")):
        assert scaled_error(np.asarray(ours), data[f"out/loss_buffer/{name}"]) < 1e-4
    np.testing.assert_array_equal(state.count, data["out/iteration"])


@pytest.mark.parametrize("path", files("velo", ["small_released_flags"]))
@pytest.mark.parametrize(
    "wrong",
    [{"bugged_lstm_state": True}, {"bugged_loss_features": True}, {"num_steps": 1000}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_option_is_noticed(path, wrong):
    data = read(path)
    params, _ = replay(data, **wrong)
    assert worst(flat(params), under(data, "out/params/")) > 5e-4
