"""Optimizers whose work is split over devices: the same updates, each device its share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from loptrl import optimizers
from loptrl.optimizers.flat import Layout, Split

AXIS = "devices"


def tree(width: int) -> dict:
    """An actor and a critic with kernels of `width` inputs."""

    def network(outputs: int, seed: int) -> dict:
        keys = jax.random.split(jax.random.key(seed))
        return {
            "Dense_0": {"bias": jnp.zeros(9), "kernel": jax.random.normal(keys[0], (width, 9))},
            "Dense_1": {"kernel": jax.random.normal(keys[1], (9, outputs))},
        }

    return {"actor": network(3, 0), "critic": network(1, 1)}


def trained(optimizer, params):
    """Parameters and state after a few updates."""
    activity = {name: [jnp.arange(9.0) + 1, jnp.ones(1)] for name in ("actor", "critic")}

    def step(carry, i):
        params, state = carry
        grads = jax.tree.map(lambda p: jnp.sin(37 * p) + 0.1, params)
        extra = {"key": jax.random.key(i), "activity": activity, "training_fraction": 0.2}
        updates, state = optimizer.update(grads, state, params, **extra)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(4))[0]


# Leaves of one block, of blocks that do not divide evenly, and of many chunks.
@pytest.mark.parametrize("width", [2, 150, 700])
@pytest.mark.parametrize("name", ["optim4rl", "linear_optim", "open"])
def test_split_work_gives_the_same_updates(name, width):
    if jax.device_count() < 2:
        pytest.skip("needs two host devices (see conftest)")
    rule = optimizers.LEARNED[name]
    theta, params = rule.init_theta(jax.random.key(5)), tree(width)
    # Each device draws noise of its own.
    options = {"noise": False} if name == "open" else {}
    whole = rule.build(theta, **options)
    split = rule.build(theta, split=Split(AXIS, 2), **options)
    expected, unsplit = jax.jit(lambda p: trained(whole, p))(params)
    which = optimizers.split_state(jax.eval_shape(split.init, params))
    spec = jax.tree.map(lambda one: PartitionSpec(AXIS) if one else PartitionSpec(), which)
    run = jax.shard_map(
        lambda p: trained(split, p),
        mesh=Mesh(jax.devices()[:2], (AXIS,)),
        in_specs=PartitionSpec(),
        out_specs=(PartitionSpec(), spec),
        check_vma=False,
    )
    got, state = jax.jit(run)(params)
    for one, two in zip(jax.tree.leaves(expected), jax.tree.leaves(got)):
        np.testing.assert_allclose(one, two, atol=1e-6)
    stacks = [x for x, one in zip(jax.tree.leaves(state), jax.tree.leaves(which)) if one]
    layout = Layout.of(params, Split(AXIS, 2))
    assert stacks and all(stack.shape[0] == 2 * layout.chunks for stack in stacks)
    # A split state reads leaf by leaf as the whole one does.
    for one, two in zip(jax.tree.leaves(unsplit)[:-1], stacks, strict=True):
        one, two = Layout.of(params).unpack_features(one), layout.unpack_features(two)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            # Gradients of slope 37 make much of a rounding; the state's entries are about 1.
            np.testing.assert_allclose(a, b, atol=2e-4)
    # Both halves are worked on, where leaves are longer than a block.
    for stack in stacks:
        assert width == 2 or all(np.abs(half).max() > 0 for half in np.split(np.asarray(stack), 2))


def test_each_device_draws_its_own_noise():
    params = {"actor": {"kernel": jnp.zeros((300, 9))}, "critic": {"kernel": jnp.zeros((300, 1))}}
    layout = Layout.of(params, Split(AXIS, 2))

    def run(key):
        drawn = layout.normal(key, [True, False])
        return drawn, layout.unpack(drawn)

    drawn, tree = jax.shard_map(
        run,
        mesh=Mesh(jax.devices()[:2], (AXIS,)),
        in_specs=PartitionSpec(),
        out_specs=(PartitionSpec(AXIS), PartitionSpec()),
        check_vma=False,
    )(jax.random.key(0))
    one, two = np.split(np.asarray(drawn), 2)
    assert not np.array_equal(one, two)
    noise = np.ravel(tree["actor"]["kernel"])
    assert np.unique(noise).size == noise.size, "no entry gets another one's number"
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size) and abs(noise.std() - 1) < 0.06
    assert not np.any(tree["critic"]["kernel"])


def test_nothing_of_other_states_is_split():
    state = optimizers.make("adam").init({"w": jnp.ones(3)})
    assert not any(jax.tree.leaves(optimizers.split_state(state)))
