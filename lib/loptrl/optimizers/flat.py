"""All parameters of a tree as one axis, cut into chunks that stay in a core's cache.

A learned rule does the same arithmetic for every parameter. Leaf by leaf that is many small
loops, and the whole tree at once does not fit the cache; so each leaf is padded to whole blocks
of `LANES` entries and the blocks are stacked as `[chunks, ..., lanes, blocks]`. A block never
holds entries of two leaves, so what differs between leaves is a number per block, and a sum over a
leaf is a sum over lanes (contiguous blocks, hence vectorised) followed by one over few blocks.

Inside `jax.shard_map` the chunks can be split over devices that hold the same parameters and
gradients: each steps its share, and only the updates are gathered.
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
    """Over what the chunks are split: a mesh axis inside `jax.shard_map`, and its size."""

    axis: str
    parts: int


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """How the leaves of one tree lie in the stack; static, made while tracing.

    Where the chunks are split, every stack that a method takes or gives is this device's share.

    Attributes:
        shapes: the shape of each leaf, in the tree's own order.
        dtypes: the dtype of each leaf.
        dtype: what is computed in: the widest of the leaves, at least float32.
        chunks: leading axis of the whole stack.
        blocks: last axis of the stack.
        split: over which devices the chunks are split, or None.
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
        total = sum(_blocks(shape) for shape in shapes)
        parts = 1 if split is None else split.parts
        chunks = parts * max(1, -(-total // (_BLOCKS * parts)))
        blocks = _BLOCKS if chunks > parts else max(1, -(-total // parts))
        return cls(treedef, shapes, dtypes, dtype, chunks, blocks, split)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def stack_shape(self) -> tuple[int, int, int]:
        """`(chunks, lanes, blocks)`."""
        parts = 1 if self.split is None else self.split.parts
        return (self.chunks // parts, LANES, self.blocks)

    def _share(self, whole: Any) -> Any:
        """This device's part of an array with all chunks."""
        if self.split is None:
            return whole
        count = self.stack_shape[0]
        start = jax.lax.axis_index(self.split.axis) * count
        return jax.lax.dynamic_slice_in_dim(jnp.asarray(whole), start, count)

    def leaf_of_block(self) -> Any:
        """Index of the leaf that each block belongs to, int `[chunks, blocks]`; padding is 0."""
        return self._share(self._leaf_of_block())

    def _leaf_of_block(self) -> np.ndarray:
        index = np.repeat(np.arange(len(self.shapes)), [_blocks(s) for s in self.shapes])
        padded = np.zeros(self.chunks * self.blocks, np.int32)
        padded[: index.size] = index
        return padded.reshape(self.chunks, self.blocks)

    def valid(self) -> Any:
        """1 where the stack holds an entry and 0 where it is padding, `[chunks, lanes, blocks]`."""
        pieces = [np.arange(_blocks(s) * LANES) < math.prod(s) for s in self.shapes]
        flat = np.zeros(self.chunks * self.blocks * LANES, bool)
        if pieces:
            joined = np.concatenate(pieces)
            flat[: joined.size] = joined
        return self._share(flat.reshape(self.chunks, self.blocks, LANES).swapaxes(1, 2))

    def per_block(self, values: Sequence[float]) -> Any:
        """One static number per leaf as a number per block, `[chunks, blocks]`."""
        table = np.asarray(values if len(values) else [0.0], self.dtype)
        return self._share(table[self._leaf_of_block()])

    def pack(self, tree: Any) -> jax.Array:
        """A tree of this structure as a stack `[chunks, lanes, blocks]` of `dtype`."""
        leaves = self.treedef.flatten_up_to(tree)
        pieces = [
            jnp.pad(jnp.ravel(leaf).astype(self.dtype), (0, _blocks(s) * LANES - math.prod(s)))
            for leaf, s in zip(leaves, self.shapes, strict=True)
        ]
        rest = self.chunks * self.blocks * LANES - sum(p.size for p in pieces)
        flat = jnp.concatenate([*pieces, jnp.zeros(rest, self.dtype)])
        return jnp.swapaxes(self._share(flat.reshape(self.chunks, self.blocks, LANES)), 1, 2)

    def unpack(self, stack: jax.Array) -> Any:
        """A stack `[chunks, lanes, blocks]` as a tree of the leaves' own dtypes."""
        if self.split is not None:
            stack = jax.lax.all_gather(stack, self.split.axis, tiled=True)
        flat = jnp.swapaxes(stack, 1, 2).reshape(-1)
        leaves, start = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = math.prod(shape)
            leaves.append(flat[start : start + size].reshape(shape).astype(dtype))
            start += _blocks(shape) * LANES
        return self.treedef.unflatten(leaves)

    def unpack_features(self, stack: jax.Array) -> Any:
        """All chunks `[chunks, features, lanes, blocks]` as a tree of leaves `[*shape, features]`.

        A split state has all of them outside `jax.shard_map`.
        """
        features = stack.shape[1]
        flat = jnp.moveaxis(stack, (1, 3, 2), (0, 2, 3)).reshape(features, -1)
        leaves, start = [], 0
        for shape in self.shapes:
            leaf = flat[:, start : start + math.prod(shape)].reshape(features, *shape)
            leaves.append(jnp.moveaxis(leaf, 0, -1))
            start += _blocks(shape) * LANES
        return self.treedef.unflatten(leaves)

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
        if self.stack_shape[0] == 1:
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


def _blocks(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // LANES)
