"""All parameters of a tree as one axis, cut into chunks that stay in a core's cache.

A learned rule does the same arithmetic for every parameter. Leaf by leaf that is many small
loops, and the whole tree at once does not fit the cache; so each leaf is padded to whole blocks
of `LANES` entries and the blocks are stacked as `[chunks, ..., lanes, blocks]`. A block never
holds entries of two leaves, so what differs between leaves is a number per block, and a sum over a
leaf is a sum over lanes (contiguous blocks, hence vectorised) followed by one over few blocks.

Inside `jax.shard_map` the work can be split over devices that hold the same parameters and
gradients. Each takes the same number of blocks of every leaf, so that stacking costs it no more
than its share; only the updates are gathered.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.errors import LoptrlError

__all__ = ["LANES", "Layout", "Split", "need_params"]

LANES = 32
_BLOCKS = 32


class Split(NamedTuple):
    """Over what the blocks of every leaf are split: an axis inside `jax.shard_map`, its size."""

    axis: str
    parts: int


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """How the leaves of one tree lie in the stack; static, made while tracing.

    Where the work is split, every stack that a method takes or gives is this device's share.

    Attributes:
        shapes: the shape of each leaf, in the tree's own order.
        dtypes: the dtype of each leaf.
        dtype: what is computed in: the widest of the leaves, at least float32.
        chunks: first axis of a stack.
        blocks: last axis of a stack.
        split: over which devices the blocks of every leaf are split, or None.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    dtype: Any
    chunks: int
    blocks: int
    split: Split | None = None

    @classmethod
    def of(cls, tree: Any, split: Split | None = None) -> Layout:
        """The layout of a tree of float arrays.

        Raises:
            LoptrlError: a leaf is not a float array.
        """
        leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
        for path, leaf in leaves:
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise LoptrlError(
                    f"a learned optimizer expects float arrays, got {jnp.result_type(leaf)} at "
                    f"{jax.tree_util.keystr(path) or 'the root'}; leave it out with optax.masked"
                )
        shapes = tuple(tuple(jnp.shape(leaf)) for _, leaf in leaves)
        dtypes = tuple(jnp.result_type(leaf) for _, leaf in leaves)
        dtype = jnp.result_type(jnp.float32, *dtypes)
        total = sum(_blocks(shape, 1 if split is None else split.parts) for shape in shapes)
        chunks = max(1, -(-total // _BLOCKS))
        blocks = _BLOCKS if chunks > 1 else max(1, total)
        return cls(treedef, shapes, dtypes, dtype, chunks, blocks, split)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each leaf, on all devices together."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def stack_shape(self) -> tuple[int, int, int]:
        """`(chunks, lanes, blocks)`."""
        return (self.chunks, LANES, self.blocks)

    @property
    def _parts(self) -> int:
        return 1 if self.split is None else self.split.parts

    @property
    def _lengths(self) -> tuple[int, ...]:
        """Entries of each leaf in a device's share, with their padding."""
        return tuple(LANES * _blocks(shape, self._parts) for shape in self.shapes)

    def _part(self) -> Any:
        return 0 if self.split is None else jax.lax.axis_index(self.split.axis)

    def leaf_of_block(self) -> np.ndarray:
        """Index of the leaf that each block belongs to, int `[chunks, blocks]`; padding is 0."""
        lengths = np.array(self._lengths, np.int64)
        index = np.repeat(np.arange(len(self.shapes)), lengths // LANES)
        padded = np.zeros(self.chunks * self.blocks, np.int32)
        padded[: index.size] = index
        return padded.reshape(self.chunks, self.blocks)

    def valid(self) -> Any:
        """1 where the stack holds an entry and 0 where it is padding, `[chunks, lanes, blocks]`."""
        whole = [
            (np.arange(self._parts * length) < size).reshape(self._parts, length)
            for size, length in zip(self.sizes, self._lengths, strict=True)
        ]
        rest = np.zeros((self._parts, self._rest), bool)
        tables = np.concatenate([*whole, rest], axis=1)
        tables = tables.reshape(self._parts, self.chunks, self.blocks, LANES).swapaxes(2, 3)
        return tables[0] if self.split is None else jnp.asarray(tables)[self._part()]

    @property
    def _rest(self) -> int:
        """Entries at the end of a stack that belong to no leaf."""
        return self.chunks * self.blocks * LANES - sum(self._lengths)

    def per_block(self, values: Sequence[float]) -> np.ndarray:
        """One static number per leaf as a number per block, `[chunks, blocks]`."""
        table = np.asarray(values if len(values) else [0.0], self.dtype)
        return table[self.leaf_of_block()]

    def pack(self, tree: Any) -> jax.Array:
        """A tree of this structure as a stack `[chunks, lanes, blocks]` of `dtype`."""
        shares = []
        for leaf, length in zip(self.treedef.flatten_up_to(tree), self._lengths, strict=True):
            entries = jnp.ravel(leaf).astype(self.dtype)
            entries = jnp.pad(entries, (0, self._parts * length - entries.size))
            shares.append(jax.lax.dynamic_slice_in_dim(entries, self._part() * length, length))
        return self._stacked(shares)

    def normal(self, key: jax.Array, drawn: Sequence[bool]) -> jax.Array:
        """Normal numbers for the leaves that get them and zeros for the others, as a stack.

        One key for each leaf, and the numbers that `jax.random.normal` gives for the leaf's shape,
        since jax's default keys number entries one by one; where the work is split, a key of its
        own for each device.
        """
        keys = jax.random.split(key, len(drawn))
        if self.split is not None:
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, self._part())
        return self._stacked(
            [
                jax.random.normal(k, (n,), self.dtype) if wanted else jnp.zeros(n, self.dtype)
                for k, n, wanted in zip(keys, self._lengths, drawn, strict=True)
            ]
        )

    def _stacked(self, shares: Sequence[jax.Array]) -> jax.Array:
        flat = jnp.concatenate([*shares, jnp.zeros(self._rest, self.dtype)])
        return jnp.swapaxes(flat.reshape(self.chunks, self.blocks, LANES), 1, 2)

    def unpack(self, stack: jax.Array) -> Any:
        """A stack `[chunks, lanes, blocks]` as a tree of the leaves' own dtypes."""
        flat = jnp.swapaxes(stack, 1, 2).reshape(-1)
        parts = flat[None] if self.split is None else jax.lax.all_gather(flat, self.split.axis)
        leaves = zip(self._leaves(parts), self.dtypes, strict=True)
        return self.treedef.unflatten(leaf.astype(dtype) for leaf, dtype in leaves)

    def unpack_features(self, stack: jax.Array) -> Any:
        """All chunks `[chunks, features, lanes, blocks]` as a tree of leaves `[*shape, features]`.

        A split state has those of all devices outside `jax.shard_map`.
        """
        features = stack.shape[1]
        flat = jnp.moveaxis(stack, (1, 3, 2), (0, 2, 3)).reshape(features, self._parts, -1)
        return self.treedef.unflatten(jax.vmap(self._leaves, out_axes=-1)(flat))

    def _leaves(self, parts: jax.Array) -> list[jax.Array]:
        """The leaves of all devices' entries, `[parts, entries]`."""
        leaves, start = [], 0
        for shape, length in zip(self.shapes, self._lengths, strict=True):
            entries = parts[:, start : start + length].reshape(-1)
            leaves.append(entries[: math.prod(shape)].reshape(shape))
            start += length
        return leaves

    def sum_over_leaves(self, sums: jax.Array) -> jax.Array:
        """Sums of blocks `[chunks, features, blocks]` to sums of leaves `[features, leaves]`."""
        member = self.leaf_of_block()[..., None] == np.arange(max(1, len(self.shapes)))
        own = jnp.einsum(
            "cfb,cbl->fl", sums, member.astype(self.dtype), precision=jax.lax.Precision.HIGHEST
        )
        return self.total(own)

    def total(self, own: jax.Array) -> jax.Array:
        """Sum over the devices of what each computed from its share."""
        return own if self.split is None else jax.lax.psum(own, self.split.axis)

    def map_chunks(self, fn: Callable[..., Any], *stacks: Any) -> Any:
        """`fn` on every chunk: one after another on a CPU, all at once elsewhere."""
        if self.chunks == 1:
            out = fn(*jax.tree.map(lambda x: x[0], stacks))
            return jax.tree.map(lambda x: x[None], out)
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda x: fn(*x), stacks)
        return jax.vmap(fn)(*stacks)


def need_params(params: Any, name: str) -> Any:
    """The parameters, which some rules read.

    Raises:
        LoptrlError: there are none.
    """
    if params is None:
        raise LoptrlError(
            f"{name} reads the parameters, got None; call update(grads, state, params)"
        )
    return params


def _blocks(shape: tuple[int, ...], parts: int) -> int:
    """How many blocks of a leaf each of `parts` devices has."""
    return -(-math.prod(shape) // (LANES * parts))
