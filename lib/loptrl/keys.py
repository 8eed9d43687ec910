"""Random keys derived by name, so that a new component never reseeds an old one."""

from __future__ import annotations

import hashlib
import operator

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["derive", "name_hash", "root_key"]

# Named, so that a change of JAX's default generator cannot change a run's numbers unseen.
IMPLEMENTATION = "threefry2x32"


def root_key(seed: int) -> jax.Array:
    """The typed key that a run starts from.

    Args:
        seed: 0 <= seed < 2**32.

    Returns:
        A scalar typed key.

    Raises:
        ValueError: the seed is out of range.
        TypeError: the seed is not a whole number.
    """
    if isinstance(seed, bool):
        raise TypeError(f"Expected a seed as a whole number, got {seed}; give 0, 1, 2, ...")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            f"Expected a seed as a whole number, got {seed!r}; give 0, 1, 2, ..."
        ) from None
    if not 0 <= number < 2**32:
        raise ValueError(f"Expected a seed in [0, 2**32), got {number}; choose a smaller one.")
    return jax.random.key(np.uint32(number), impl=IMPLEMENTATION)


def name_hash(name: str) -> int:
    """The first 32 bits of SHA-256 of the name: the same on every machine and in every version."""
    if not name:
        raise ValueError("Expected the name of a component, got an empty text; name it.")
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:4], "big")


def derive(key: jax.Array, *path: str | int | jax.Array) -> jax.Array:
    """The key of a component, by its name.

    ``derive(key, "actor", 3) = fold_in(fold_in(key, hash("actor")), 3)``. Names are hashed when
    the function is traced, numbers may be traced, so it works under jit, vmap and scan.

    Args:
        key: a scalar typed key (``root_key`` or ``jax.random.key``).
        *path: names, and numbers such as an index or an update count.

    Returns:
        A scalar typed key, independent of the keys of other paths.

    Raises:
        TypeError: the key is a raw array of integers, or a part of the path is neither.
        ValueError: the key is an array of keys, or the path is empty.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"Expected a typed key, got {dtype or type(key).__name__}; make it with root_key(seed)."
        )
    if jnp.ndim(key) != 0:
        raise ValueError(
            f"Expected one key, got an array of keys of shape {jnp.shape(key)}; use jax.vmap."
        )
    if not path:
        raise ValueError("Expected at least one name, got none; name the component.")
    for part in path:
        key = jax.random.fold_in(key, _as_uint32(part))
    return key


def _as_uint32(part: str | int | jax.Array) -> np.uint32 | jax.Array:
    if isinstance(part, str):
        return np.uint32(name_hash(part))
    if isinstance(part, bool):
        raise TypeError(f"Expected a name or a number, got {part}; name the component.")
    if isinstance(part, (int, np.integer)):
        if not 0 <= int(part) < 2**32:
            raise ValueError(f"Expected a number in [0, 2**32), got {part}; use a smaller one.")
        return np.uint32(int(part))
    if isinstance(part, (jax.Array, np.ndarray)) and jnp.issubdtype(part.dtype, jnp.integer):
        return part
    raise TypeError(f"Expected a name or a whole number, got {part!r}; name the component.")
