"""OPEN (Goldie et al., NeurIPS 2024): a learned optimizer for RL with learned exploration noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import GetAttrKey

from loptrl.errors import LoptrlError
from loptrl.optimizers.features import dense, gru, init_dense, init_gru, layer_norm
from loptrl.optimizers.flat import Layout, Split, need_params

__all__ = ["DECAYS", "SIZES", "OpenState", "build", "init_theta", "theta_from_vector"]

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Decays of the six momenta."""

SIZES = {"small": (16, 8), "large": (32, 16)}
"""(width of the head, hidden size of the GRU): 1,211 and 3,571 weights."""

_INPUTS = 19
_TINY = 1e-13
_SCALE = 1e-3


class OpenState(NamedTuple):
    """State of the rule; stacks as in `flat.Layout`.

    Attributes:
        momentum: `[chunks, 6, lanes, blocks]`, float.
        hidden: `[chunks, hidden_size, lanes, blocks]`, float.
        count: int32 `[]`, updates made.
    """

    momentum: jax.Array
    hidden: jax.Array
    count: jax.Array


def init_theta(key: jax.Array, *, size: str = "small") -> dict[str, Any]:
    """Untrained weights: a GRU of 19 inputs and a head of two hidden layers.

    The tree's leaves lie in the order of the official flat vectors.

    Raises:
        LoptrlError: the size is neither "small" nor "large".
    """
    if size not in SIZES:
        raise LoptrlError(f"expected the size as one of {', '.join(SIZES)}, got {size!r}")
    width, hidden = SIZES[size]
    keys = jax.random.split(key, 4)
    norm = {"bias": jnp.zeros(width), "scale": jnp.ones(width)}
    return {
        "gru": init_gru(keys[0], _INPUTS, hidden),
        "mlp": {
            "layers_0": init_dense(keys[1], hidden, width),
            "layers_1": dict(norm),
            "layers_3": init_dense(keys[2], width, width),
            "layers_4": dict(norm),
            "layers_6": init_dense(keys[3], width, 3),
        },
    }


def theta_from_vector(vector: Any) -> dict[str, Any]:
    """The weights of an official flat vector (flax's `ravel_pytree` order).

    Raises:
        LoptrlError: the length is that of neither size.
    """
    for size in SIZES:
        tree = jax.eval_shape(lambda s=size: init_theta(jax.random.key(0), size=s))
        leaves, treedef = jax.tree.flatten(tree)
        if vector.shape == (sum(leaf.size for leaf in leaves),):
            stops = np.cumsum([leaf.size for leaf in leaves])[:-1]
            pieces = jnp.split(jnp.asarray(vector), stops)
            return treedef.unflatten(
                piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)
            )
    raise LoptrlError(
        f"expected OPEN's weights as 1211 or 3571 numbers, got an array of shape {vector.shape}"
    )


def build(
    theta: Any,
    *,
    noise: bool = True,
    networks: Sequence[str] = ("actor", "critic"),
    noisy: Sequence[str] = ("actor",),
    split: Split | None = None,
) -> optax.GradientTransformationExtraArgs:
    """OPEN: 19 inputs per parameter, a GRU, a head of three outputs, and noise on the actor.

    u = 1e-3 o0 exp(1e-3 o1) + 1e-3 [noisy] o2 n with n ~ N(0, 1); the mean of u over all parameters
    is removed; theta <- theta - u.

    Extra inputs, all keyword-only: `key`, needed where noise is drawn; `training_fraction` and
    `epoch_fraction`, 0 where not given; `activity`, mean absolute activation per unit of each
    layer: a list by layer or a mapping from a layer's name, and by network where there are
    several. A layer without activity (None in a list) has dormancy 1, the value of a layer whose
    units are all equally active. Layers that `optax.masked` takes out still count.

    Args:
        theta: weights as `init_theta` makes them; may be traced.
        noise: False leaves the noise out.
        networks: keys at the top of the parameters (below flax's "params") that hold one network
            each; what else there is counts as one network. Layers are counted within a network.
        noisy: the networks that get noise; the parameters must have one of them.
        split: over which devices the work is split, inside `jax.shard_map`; the stacks of the state
            are then split along their first axis, and each device draws noise of its own.

    Returns:
        The transformation; unknown extra inputs are ignored.

    References:
        Goldie et al., "Can Learned Optimization Make Reinforcement Learning Less Difficult?",
        NeurIPS 2024, section 5.3 and appendix B.1.
    """
    if set(theta) != {"gru", "mlp"}:
        raise LoptrlError(
            f"expected theta with the parts gru and mlp, got {sorted(theta)}; "
            "make it with init_theta or theta_from_vector"
        )
    hidden_size = theta["gru"]["hn"]["bias"].shape[-1]

    def init(params: Any) -> OpenState:
        layout = Layout.of(params, split)
        chunks, lanes, blocks = layout.stack_shape
        return OpenState(
            jnp.zeros((chunks, len(DECAYS), lanes, blocks), layout.dtype),
            jnp.zeros((chunks, hidden_size, lanes, blocks), layout.dtype),
            jnp.zeros([], jnp.int32),
        )

    def update(
        grads: Any,
        state: OpenState,
        params: Any = None,
        *,
        key: jax.Array | None = None,
        activity: Any = None,
        training_fraction: Any = 0.0,
        epoch_fraction: Any = 0.0,
        **extra: Any,
    ) -> tuple[Any, OpenState]:
        del extra
        layout = Layout.of(need_params(params, "OPEN"), split)
        places = _places(params, networks)
        drawn = [noise and place.network in noisy for place in places]
        if noise and noisy and places and not any(drawn):
            raise LoptrlError(
                f"OPEN adds noise to {', '.join(noisy)}, got parameters without such a network; "
                "name theirs with build(theta, networks=..., noisy=...), or give noise=False"
            )
        if any(drawn) and key is None:
            raise LoptrlError(
                "OPEN draws noise for the actor, got no key; call update(..., key=key), "
                "or build(theta, noise=False)"
            )
        dtype = layout.dtype
        weights = jax.tree.map(lambda w: jnp.asarray(w, dtype), theta)
        g, p = layout.pack(grads), layout.pack(params)
        dormancy = layout.pack(_dormancy(layout, places, networks, activity))
        momentum, sums = layout.map_chunks(_accumulate, state.momentum, g, p, layout.valid())
        sizes = np.maximum(layout.sizes or (1,), 1).astype(dtype)
        means = layout.sum_over_leaves(sums) / sizes[None]
        scale = jax.lax.rsqrt(1e-5 + means)[:, layout.leaf_of_block()]
        rest = _rest(layout, places, training_fraction, epoch_fraction)

        def step(hidden: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = _inputs(*inputs)
            h = gru(weights["gru"], hidden.reshape(hidden_size, -1), x.reshape(_INPUTS, -1))
            out = _head(weights["mlp"], h)
            return h.reshape(hidden.shape), out.reshape(3, *x.shape[1:])

        hidden, out = layout.map_chunks(
            step, state.hidden, momentum, g, p, jnp.moveaxis(scale, 1, 0), rest, dormancy
        )
        raw = _SCALE * out[:, 0] * jnp.exp(_SCALE * out[:, 1])
        if any(drawn):
            raw = raw + _SCALE * out[:, 2] * layout.normal(key, drawn)
        total = layout.total(jnp.sum(jnp.where(layout.valid(), raw, 0.0)))
        mean = total / max(sum(layout.sizes), 1)
        return layout.unpack(mean - raw), OpenState(momentum, hidden, state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _accumulate(
    momentum: jax.Array, g: jax.Array, p: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """New momenta, and the squares of the 15 inputs to be normalised, summed over each block."""
    # The float32 number, whatever is computed in: 1 - 0.9999 differs in the fourth digit.
    decays = np.asarray(DECAYS, np.float32)
    kept, new = (x.astype(g.dtype)[:, None, None] for x in (decays, np.float32(1.0) - decays))
    # Where gradients stay 0 a momentum of a decay of 0.9 or more shrinks to a subnormal number that
    # rounding gives back: its sign, an input of the rule, never goes. So it is on GPUs, on which
    # the official weights were made. XLA's code for CPUs takes subnormal numbers for 0.
    least = np.where(decays > 0.5, np.finfo(g.dtype).tiny, 0.0).astype(g.dtype)[:, None, None]
    shrunk = kept * momentum + new * g[None]
    lost = (shrunk == 0.0) & (g[None] == 0.0)
    momentum = jnp.where(lost, least * jnp.sign(momentum), shrunk)
    weight = valid.astype(g.dtype)[None]
    sums = [jnp.sum(x * x * weight, axis=1) for x in _features(momentum, g, p)]
    return momentum, jnp.concatenate(sums)


def _features(momentum: jax.Array, g: jax.Array, p: jax.Array) -> list[jax.Array]:
    """The 15 inputs that are normalised, in groups `[features, lanes, blocks]`."""
    groups = [p[None]]
    for values in (momentum, g[None]):
        groups += [jnp.sign(values), jnp.log(jnp.abs(values) + _TINY)]
    return groups


def _inputs(
    momentum: jax.Array,
    g: jax.Array,
    p: jax.Array,
    scale: jax.Array,
    rest: jax.Array,
    dormancy: jax.Array,
) -> jax.Array:
    """All 19 inputs of a chunk, `[19, lanes, blocks]`.

    Computed again from the momenta, since storing 15 numbers a parameter takes longer; and written
    group by group, since XLA's CPU code evaluates a fused concatenation number by number.
    """
    x = jnp.zeros((_INPUTS, *g.shape), g.dtype)
    at = 0
    for group in _features(momentum, g, p):
        stop = at + group.shape[0]
        x = jax.lax.dynamic_update_slice_in_dim(x, group * scale[at:stop, None, :], at, 0)
        at = stop
    for group in (jnp.broadcast_to(rest[:, None, :], (3, *g.shape)), dormancy[None]):
        x = jax.lax.dynamic_update_slice_in_dim(x, group, at, 0)
        at += group.shape[0]
    return x


def _head(theta: Mapping[str, Any], x: jax.Array) -> jax.Array:
    x = jax.nn.relu(layer_norm(theta["layers_1"], dense(theta["layers_0"], x)))
    x = jax.nn.relu(layer_norm(theta["layers_4"], dense(theta["layers_3"], x)))
    return dense(theta["layers_6"], x)


class _Place(NamedTuple):
    """Where a leaf stands: its network, its layer's name, and the layer's index and count."""

    network: str | None
    layer: str
    index: int
    count: int


def _places(params: Any, networks: Sequence[str]) -> list[_Place]:
    """The place of each leaf; layers are counted as they are named, numbers as numbers."""

    def is_masked(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_masked)
    named = []
    for path, _ in leaves:
        names = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
        # An nnx.State ends every path in the variable's "value"; linen has "params" above a module,
        # be that the whole or one network.
        if len(names) > 1 and path[-1] == GetAttrKey("value"):
            names = names[:-1]
        names = _without_params(names)
        network = names[0] if names and names[0] in networks else None
        names = _without_params(names if network is None else names[1:])
        # A leaf that no module holds, such as log_std, is a layer of its own.
        named.append((network, "/".join(names[:-1] if len(names) > 1 else names)))
    places = []
    for (network, layer), (_, leaf) in zip(named, leaves, strict=True):
        if is_masked(leaf):
            continue
        layers = sorted({other for net, other in named if net == network}, key=_natural)
        places.append(_Place(network, layer, layers.index(layer), len(layers)))
    return places


def _without_params(names: list[str]) -> list[str]:
    return names[1:] if names[:1] == ["params"] else names


def _natural(name: str) -> list[Any]:
    return [(0, int(x), "") if x.isdigit() else (1, 0, x) for x in re.split(r"(\d+)", name)]


def _dormancy(
    layout: Layout, places: Sequence[_Place], networks: Sequence[str], activity: Any
) -> Any:
    """Each unit's share of its layer's activity, times the number of units; 1 where unknown.

    d = n a / sum(a) with a = mean |activation| + 1e-11, given to every weight that leads to the
    unit (Sokar et al. 2023, eq. 1).
    """
    by_network = isinstance(activity, Mapping) and any(name in activity for name in networks)
    if by_network and not any(place.network in activity for place in places):
        raise LoptrlError(
            f"expected the activity of networks that the parameters have, or a list by layer where "
            f"they have none, got that of {', '.join(activity)}"
        )
    leaves = []
    for place, shape in zip(places, layout.shapes, strict=True):
        known = activity.get(place.network) if by_network else activity
        if isinstance(known, Mapping):
            known = known.get(place.layer)
        elif known is not None:
            if len(known) != place.count:
                raise LoptrlError(
                    f"expected the activity of {place.count} layers, got a list of {len(known)}; "
                    "give None for an unknown one, or a mapping from a layer's name"
                )
            known = known[place.index]
        if known is None or not shape:
            leaves.append(jnp.ones(shape, layout.dtype))
            continue
        units = jnp.ravel(jnp.asarray(known, layout.dtype)) + 1e-11
        if units.size not in (1, shape[-1]):
            raise LoptrlError(
                f"expected the activity of {shape[-1]} units for the layer {place.layer!r}, got "
                f"{units.size}; give one mean absolute activation per unit, by layer"
            )
        leaves.append(jnp.broadcast_to(units / jnp.sum(units) * units.size, shape))
    return layout.treedef.unflatten(leaves)


def _rest(
    layout: Layout, places: Sequence[_Place], training_fraction: Any, epoch_fraction: Any
) -> jax.Array:
    """Training, layer and epoch fraction per block, `[chunks, 3, blocks]`."""
    layer = layout.per_block([place.index / max(place.count - 1, 1) for place in places])
    rows = [
        jnp.broadcast_to(jnp.asarray(x, layout.dtype), layer.shape)
        for x in (training_fraction, layer, epoch_fraction)
    ]
    return jnp.stack(rows, axis=1)
