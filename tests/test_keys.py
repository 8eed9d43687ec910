"""Keys by name: stable, independent, traceable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.keys import derive, name_hash, root_key

pytestmark = pytest.mark.usefixtures("strict_jax")


def data(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_names_hash_as_recorded():
    # The first four bytes of `printf actor | sha256sum`: a change would reseed every stored run.
    assert name_hash("actor") == 0x50C9C4AE
    assert 0 <= name_hash("µ-critic") < 2**32


def test_derivation_is_fold_in_of_the_hash():
    key = root_key(7)
    expected = jax.random.fold_in(key, np.uint32(name_hash("actor")))
    assert data(derive(key, "actor")) == data(expected)
    deeper = jax.random.fold_in(expected, 3)
    assert data(derive(key, "actor", 3)) == data(deeper)


def test_a_new_component_reseeds_no_other():
    names = ("envs", "critic", "actor", "drift")
    few = {name: derive(root_key(0), name) for name in names[1:3]}
    more = {name: derive(root_key(0), name) for name in names}
    assert all(data(more[name]) == data(key) for name, key in few.items())
    assert len({data(key) for key in more.values()}) == 4


def test_seeds_and_paths_give_different_keys():
    keys = [derive(root_key(s), name) for s in (0, 1, 2**32 - 1) for name in ("a", "b", "ab")]
    keys += [derive(root_key(0), "a", i) for i in range(5)] + [derive(root_key(0), "a", "b")]
    assert len({data(key) for key in keys}) == len(keys)


def test_under_jit_vmap_and_scan():
    key = root_key(3)
    plain = [data(derive(key, "noise", i)) for i in range(3)]
    jitted = jax.jit(lambda k, i: derive(k, "noise", i))
    assert [data(jitted(key, i)) for i in range(3)] == plain
    mapped = jax.vmap(lambda i: derive(key, "noise", i))(jnp.arange(3))
    assert [data(mapped[i]) for i in range(3)] == plain
    _, scanned = jax.lax.scan(lambda c, i: (c, derive(c, "noise", i)), key, jnp.arange(3))
    assert [data(scanned[i]) for i in range(3)] == plain
    seeds = jax.vmap(lambda k: derive(k, "actor"))(jax.random.split(key, 2))
    assert seeds.shape == (2,)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: derive(jax.random.PRNGKey(0), "a"), TypeError, "typed key, got uint32"),
        (lambda: derive(5, "a"), TypeError, "typed key, got int"),
        (lambda: derive(jax.random.split(root_key(0), 2), "a"), ValueError, "array of keys"),
        (lambda: derive(root_key(0)), ValueError, "at least one name"),
        (lambda: derive(root_key(0), ""), ValueError, "empty text"),
        (lambda: derive(root_key(0), -1), ValueError, r"in \[0, 2\*\*32\), got -1"),
        (lambda: derive(root_key(0), 1.5), TypeError, "a name or a whole number"),
        (lambda: derive(root_key(0), True), TypeError, "a name or a number"),
        (lambda: root_key(-1), ValueError, "got -1"),
        (lambda: root_key(2**32), ValueError, "got 4294967296"),
        (lambda: root_key(1.0), TypeError, "whole number, got 1.0"),
        (lambda: root_key(True), TypeError, "whole number, got True"),
    ],
)
def test_mistakes(call, error, text):
    with pytest.raises(error, match=text):
        call()
