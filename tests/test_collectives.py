"""Sums, means and stacks over devices: of several, and absent from the program of one."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from loptrl.ppo.collectives import all_gather, pmean, psum


def across(fn, shape):
    """`fn` on shares of an axis of devices, beside an axis of groups that never meet."""
    mesh = Mesh(np.asarray(jax.devices()[:2]).reshape(shape), ("groups", "devices"))
    spec = PartitionSpec(("groups", "devices"))
    return jax.jit(
        jax.shard_map(
            lambda x: fn(x, "devices"), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
    )


@pytest.mark.parametrize(
    ("fn", "expected"),
    [(psum, [4, 6, 4, 6]), (pmean, [2, 3, 2, 3]), (all_gather, [1, 2, 3, 4, 1, 2, 3, 4])],
)
def test_two_devices_get_the_same(fn, expected):
    x = np.asarray([1.0, 2.0, 3.0, 4.0], np.float32)
    np.testing.assert_array_equal(across(fn, (1, 2))(x), np.asarray(expected, np.float32))


@pytest.mark.parametrize("fn", [psum, pmean, all_gather])
def test_a_device_alone_calls_no_other(fn):
    x = np.asarray([1.0, 2.0, 3.0, 4.0], np.float32)
    alone = across(fn, (2, 1))
    np.testing.assert_array_equal(alone(x), x)
    collectives = ("all-reduce", "all-gather")
    text = alone.lower(x).compile().as_text()
    assert not any(name in text for name in collectives)
    # That two do shows that the words are the compiler's.
    text = across(fn, (1, 2)).lower(x).compile().as_text()
    assert any(name in text for name in collectives)
