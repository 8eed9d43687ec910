"""What OPEN asks of its extra inputs and of the tree of parameters."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from loptrl.errors import LoptrlError
from loptrl.optimizers import LEARNED
from optimizer_cases import first_update

pytestmark = pytest.mark.usefixtures("strict_jax")


def test_open_asks_for_a_key_only_where_it_draws():
    theta = LEARNED["open"].init_theta(jax.random.key(0))
    actor, other = {"actor": {"w": jnp.ones((2, 2))}}, {"w": jnp.ones((2, 2))}
    with pytest.raises(LoptrlError, match="got no key"):
        first_update(LEARNED["open"].build(theta), actor, actor)
    silent = LEARNED["open"].build(theta, noise=False)
    first_update(silent, actor, actor)
    first_update(silent, other, other)
    first_update(LEARNED["open"].build(theta, noisy=()), other, other)
    with pytest.raises(LoptrlError, match="activity of 2 units for the layer"):
        first_update(silent, other, other, activity=[jnp.ones(5)])


def test_noise_without_a_network_for_it_is_refused():
    rule = LEARNED["open"]
    theta, params = rule.init_theta(jax.random.key(0)), {"policy": {"w": jnp.ones((2, 2))}}
    with pytest.raises(LoptrlError, match=r"noise to actor, got .*networks=.*or give noise=False"):
        first_update(rule.build(theta), params, params, key=jax.random.key(1))
    named = rule.build(theta, networks=("policy",), noisy=("policy",))
    with pytest.raises(LoptrlError, match="got no key"):
        first_update(named, params, params)
    first_update(rule.build(theta), {}, {})


@pytest.mark.parametrize("prefix", [False, True])
def test_layers_that_are_masked_still_count(prefix):
    """Both forms of a mask: one flag for each leaf, and one for a whole layer."""
    rule = LEARNED["open"].build(LEARNED["open"].init_theta(jax.random.key(0)), noise=False)
    layer = {"kernel": jnp.linspace(-1.0, 1.0, 16).reshape(4, 4), "bias": jnp.ones(4)}
    params = {"Dense_0": layer, "Dense_1": layer, "Dense_2": layer}
    mask = {name: name == "Dense_1" for name in params}
    if not prefix:
        mask = {name: dict.fromkeys(layer, flag) for name, flag in mask.items()}
    only = optax.masked(rule, mask)
    activity = [jnp.arange(4.0) + i for i in range(3)]
    found = first_update(only, params, params, activity=activity)["Dense_1"]
    by_name = first_update(only, params, params, activity={"Dense_1": activity[1]})["Dense_1"]
    alone = {"Dense_1": layer}
    elsewhere = first_update(rule, alone, alone, activity=activity[1:2])["Dense_1"]
    np.testing.assert_array_equal(found["kernel"], by_name["kernel"])
    assert np.abs(found["kernel"] - elsewhere["kernel"]).max() > 1e-9, "the layer's index is read"
    for wrong in (activity[:1], [*activity, None]):
        with pytest.raises(LoptrlError, match="expected the activity of 3 layers, got a list of"):
            first_update(only, params, params, activity=wrong)


def test_equal_activity_is_the_neutral_value():
    theta = LEARNED["open"].init_theta(jax.random.key(0))
    params = {"Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    params["Dense_10"] = {"kernel": jnp.ones((4, 2))}
    params["Dense_9"] = {"kernel": jnp.full((4, 4), 2.0)}
    rule = LEARNED["open"].build(theta, noise=False)
    update = functools.partial(first_update, rule, params, params)
    silent, equal = update(), update(activity=[jnp.full(4, 7.0), jnp.full(4, 3.0), jnp.ones(2)])
    named = update(activity={"Dense_9": jnp.array([1.0, 2.0, 3.0, 4.0])})
    # The list is in the order of the numbers: Dense_9 before Dense_10.
    by_list = update(activity=[jnp.ones(4), jnp.array([1.0, 2.0, 3.0, 4.0]), None])
    flat = [
        jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(t)])
        for t in (silent, equal, named, by_list)
    ]
    np.testing.assert_allclose(flat[0], flat[1], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(flat[2], flat[3], rtol=1e-5, atol=1e-9)
    assert np.abs(flat[0] - flat[2]).max() > 1e-7


class Separate(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.actor = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs))
        self.critic = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs))


def test_open_finds_networks_and_layers_wherever_flax_puts_them():
    """On top, below a module's "params", below each network's own, and in an nnx.State."""
    state = nnx.state(Separate(), nnx.Param)
    pure = nnx.to_pure_dict(state)
    trees = [
        pure,
        {"params": pure},
        {name: {"params": network} for name, network in pure.items()},
        state,
    ]
    theta = LEARNED["open"].init_theta(jax.random.key(5))
    optimizer = LEARNED["open"].build(theta)
    activity = {name: [jnp.array([1.0, 2.0, 3.0, 4.0]), None] for name in ("actor", "critic")}
    extra = {"key": jax.random.key(1), "activity": activity}
    found = []
    for tree in trees:
        update = first_update(optimizer, jax.tree.map(jnp.cos, tree), tree, **extra)
        found.append(jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(update)]))
        with pytest.raises(LoptrlError, match="got no key"):
            first_update(optimizer, tree, tree)
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-5, atol=1e-9)
    with pytest.raises(LoptrlError, match="they have none, got that of actor, critic"):
        silent = LEARNED["open"].build(theta, noise=False)
        first_update(silent, pure["actor"], pure["actor"], **extra)
