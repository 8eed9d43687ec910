"""OPEN replays what the official code did, noise included."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_files import files, flat, nested, read, scaled_error, under, worst

from loptrl.optimizers.flat import Layout
from loptrl.optimizers.open import build, theta_from_vector

SETS = ["rand_small_disc", "rand_small_cont", "rand_large_disc", "edge_small_disc"]
SETS += ["rand_small_lneps", "ant_cont", "breakout_disc", "multi_disc"]
NAMES = [f"{name}_{mask}" for name in SETS for mask in ("noise", "nonoise")]


def activity(data):
    """Steps first: {network: {layer: [steps, units]}}, the outputs of the last layers included."""
    out = {"actor": {}, "critic": {}}
    for path, value in under(data, "in/activations/").items():
        network, _, layer = path.split("/")[:3]
        out[network][layer] = jnp.asarray(value)
    return out


def program(data, **options):
    """The compiled sequence, free-running, and its recorded inputs."""
    optimizer = build(theta_from_vector(data["meta/flat"]), **options)
    params = nested(under(data, "init/params/"))
    inputs = {
        "grads": nested(under(data, "in/grads/")),
        "key": jax.random.wrap_key_data(data["in/key"], impl="threefry2x32"),
        "training_fraction": jnp.asarray(data["in/training_prop"]),
        "epoch_fraction": jnp.asarray(data["in/batch_prop"]),
        "activity": activity(data),
    }

    def step(carry, x):
        params, state = carry
        x = dict(x)
        grads = x.pop("grads")
        updates, state = optimizer.update(grads, state, params, **x)
        params = optax.apply_updates(params, updates)
        layout = Layout.of(params)
        hidden = layout.unpack_features(state.hidden)
        momentum = layout.unpack_features(state.momentum)
        return (params, state), (updates, params, hidden, momentum)

    carry = (params, optimizer.init(params))
    return jax.jit(lambda xs: jax.lax.scan(step, carry, xs)[1]), inputs


def update_error(data, updates):
    """The error of the updates, by the largest raw update of the step over all leaves."""
    raw = under(data, "out/update_raw/").values()
    largest = [np.abs(x).reshape(len(x), -1).max(axis=1) for x in raw]
    by = np.max(largest, axis=0)
    recorded = under(data, "out/update/")
    # Recorded updates are subtracted, ours are added.
    return max(scaled_error(-updates[name], recorded[name], by=by) for name in recorded)


@pytest.mark.parametrize("path", files("open", NAMES))
def test_replays_the_official_rule(path):
    data = read(path)
    run, inputs = program(data, noise=bool(data["config/noise"]))
    updates, params, hidden, momentum = (flat(tree) for tree in run(inputs))
    assert worst(params, under(data, "out/params/")) < 1e-5
    assert update_error(data, updates) < 1e-4
    assert worst(hidden, under(data, "out/carry/")) < 1e-3
    assert worst(momentum, under(data, "out/momentum/"), last_axis=True) < 1e-5


def no_activity(inputs):
    """What a module that reports nothing amounts to: all units of a layer equally active."""
    return {**inputs, "activity": jax.tree.map(jnp.ones_like, inputs["activity"])}


def other_key(inputs):
    return {**inputs, "key": jax.vmap(lambda k: jax.random.fold_in(k, 1))(inputs["key"])}


def without(name):
    return lambda inputs: {**inputs, name: jnp.zeros_like(inputs[name])}


@pytest.mark.parametrize("path", files("open", ["rand_small_cont_noise"]))
def test_a_wrong_input_is_noticed(path):
    data = read(path)
    run, inputs = program(data)
    assert update_error(data, flat(run(inputs)[0])) < 1e-4
    fractions = without("training_fraction"), without("epoch_fraction")
    for change in (no_activity, other_key, *fractions):
        assert update_error(data, flat(run(change(inputs))[0])) > 1e-4, change
