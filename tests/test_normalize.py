"""Running moments against numpy over all samples at once, on two devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from loptrl.ppo import normalize


def merged(devices: int):
    mesh = Mesh(jax.devices()[:devices], ("devices",))
    specs = (PartitionSpec(), PartitionSpec("devices"))
    return jax.jit(
        jax.shard_map(
            functools.partial(normalize.merge, axis_name="devices"),
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )


def batches(shape=(), offset=0.0):
    rng = np.random.default_rng(0)
    scales = (1.0, 5.0, 0.1)
    return [
        (offset + s * i + s * rng.normal(size=(8, 5, 3, *shape))).astype(np.float32)
        for i, s in enumerate(scales)
    ]


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_merges_equal_all_samples_at_once(devices, shape):
    assert jax.device_count() >= devices
    moments = normalize.new(shape)
    seen = []
    for batch in batches(shape):
        moments = merged(devices)(moments, batch)
        seen.append(batch.reshape(-1, *shape))
        samples = np.concatenate(seen).astype(np.float64)
        assert float(moments.count) == len(samples)
        np.testing.assert_allclose(moments.mean, samples.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moments.variance, samples.var(0), rtol=1e-4)


def test_a_large_offset_does_not_spoil_the_variance():
    moments = normalize.new(())
    for batch in batches(offset=1000.0):
        moments = merged(2)(moments, batch)
    everything = np.concatenate([b.ravel() for b in batches(offset=1000.0)]).astype(np.float64)
    assert float(moments.variance) == pytest.approx(everything.var(), rel=1e-2)


def test_before_the_first_sample_nothing_changes():
    x = jnp.array([-3.0, 0.5])
    np.testing.assert_allclose(normalize.standardize(normalize.new((2,)), x), x, rtol=1e-6)


def test_standardize_and_its_bound():
    moments = normalize.Moments(jnp.float32(4), jnp.array([1.0, 0.0]), jnp.array([16.0, 0.0]))
    x = jnp.array([[5.0, 0.0], [1.0, 0.0], [500.0, -1.0]])
    expected = [[2.0, 0.0], [0.0, 0.0], [10.0, -10.0]]
    np.testing.assert_allclose(normalize.standardize(moments, x), expected, rtol=1e-6)
    np.testing.assert_allclose(normalize.standardize(moments, x, limit=1.5)[0], [1.5, 0.0])
