"""VeLO (Metz et al. 2022): an LSTM per tensor writes the small network that updates its entries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loptrl.errors import LoptrlError
from loptrl.optimizers.accumulation import averaged_over
from loptrl.optimizers.flat import Layout, need_params

__all__ = ["MAX_UPDATES", "Accumulators", "VeloState", "build", "init_theta"]

MAX_UPDATES = 150_000
"""Updates that the released weights were trained for; longer runs average gradients instead."""

_DECAYS = np.asarray((0.9, 0.99, 0.999), np.float32)
_RMS_DECAY = np.float32(0.999)
_GROUPS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
_INPUTS = sum(_GROUPS)
_FEATURES = 30
_LOSS_SCALES = 10
_TIMES = np.asarray((0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1), np.float32)
_NEVER = 999999999999.0
_PRECISION = jax.lax.Precision.HIGHEST


class Accumulators(NamedTuple):
    """Running means of one tensor.

    Attributes:
        momentum: of the gradient, `[3, *shape]`.
        rms: of its square, `[*shape]`.
        row, col: of its square, averaged over the largest and the second largest axis,
            `[3, *shape without that axis]`; None below two axes.
        diag: of its square, `[3, *shape]`; None from two axes on.
    """

    momentum: jax.Array
    rms: jax.Array
    row: jax.Array | None
    col: jax.Array | None
    diag: jax.Array | None


class VeloState(NamedTuple):
    """State of the rule.

    Attributes:
        tensors: `Accumulators` of each leaf, in the tree's order.
        hidden, cell: state of the LSTM, `[tensors, hidden_size]`.
        loss_means, loss_minima: of the loss at ten time scales, `[10]`.
        count: int32 `[]`, updates made.
    """

    tensors: tuple[Accumulators, ...]
    hidden: jax.Array
    cell: jax.Array
    loss_means: jax.Array
    loss_minima: jax.Array
    count: jax.Array


def init_theta(
    key: jax.Array, *, lstm_hidden_size: int = 512, param_inits: int = 256
) -> dict[str, Any]:
    """Untrained weights; the default sizes are those of the released ones (2,320,385 numbers)."""
    keys = iter(jax.random.split(key, 32))
    h, k = lstm_hidden_size, param_inits

    def normal(*shape: int, inputs: int) -> jax.Array:
        return jax.random.truncated_normal(next(keys), -2.0, 2.0, shape) / math.sqrt(inputs)

    def linear(inputs: int, outputs: int) -> dict[str, jax.Array]:
        return {"b": jnp.zeros(outputs), "w": normal(inputs, outputs, inputs=inputs)}

    stack = {f"w0__{i}": normal(k, c, 4, inputs=_INPUTS) for i, c in enumerate(_GROUPS)}
    stack |= {"w1": normal(k, 4, 4, inputs=4), "w2": normal(k, 4, 3, inputs=4)}
    stack |= {"b0": jnp.zeros((k, 4)), "b1": jnp.zeros((k, 4)), "b2": jnp.zeros((k, 3))}
    return {
        "ff_mod_stack": stack,
        "lstm_init_state": {"cell": jnp.zeros((1, h)), "hidden": jnp.zeros((1, h))},
        "rnn_params": {
            # Without effect, but part of the official weights.
            "linear": linear(_FEATURES, h),
            "linear_1": linear(_FEATURES, h),
            "linear_2": linear(_FEATURES, h),
            "rnn": {"linear": linear(2 * h, 4 * h)},
            "rnn_to_controls": linear(h, k),
            "step_size": linear(h, 1),
        },
    }


def build(
    theta: Any,
    *,
    num_steps: int,
    bugged_lstm_state: bool = False,
    bugged_loss_features: bool = False,
    max_updates: int = MAX_UPDATES,
) -> optax.GradientTransformationExtraArgs:
    """VeLO (HyperV2): per tensor an LSTM, per entry an MLP of 30 inputs that the LSTM mixes.

    p <- p - lr o0 sqrt(mean p^2 + 1e-9) exp(1e-3 o1) 1e-3, with (o0, o1, .) the MLP's outputs, its
    weights 100 mean_k(control_k W_k), and (control, lr) what the LSTM gives for the tensor.

    A run of more than `max_updates` updates averages gradients and losses over
    n = ceil(num_steps / max_updates) calls and moves at every n-th one, as the released code does.

    Args:
        theta: weights as `init_theta` makes them; may be traced.
        num_steps: updates the run will make.
        bugged_lstm_state: the LSTM always starts from its initial state (older releases).
        bugged_loss_features: the loss is followed over 10 updates only (older releases).
        max_updates: the longest horizon the weights know.

    Returns:
        The transformation; it needs `loss`, unknown extra inputs are ignored.

    Raises:
        LoptrlError: num_steps or max_updates is not a positive whole number.

    References:
        Metz et al., "VeLO: Training Versatile Learned Optimizers by Scaling Up", 2022, appendix A.
    """
    for name, value in (("num_steps", num_steps), ("max_updates", max_updates)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < 1:
            raise LoptrlError(f"expected {name} as a positive whole number, got {value!r}")
    if set(theta) != {"ff_mod_stack", "lstm_init_state", "rnn_params"}:
        raise LoptrlError(
            f"expected theta with the parts ff_mod_stack, lstm_init_state and rnn_params, "
            f"got {sorted(theta)}; make it with init_theta"
        )
    calls = -(-num_steps // max_updates)
    rule = _rule(theta, num_steps // calls, bugged_lstm_state, bugged_loss_features)
    return averaged_over(rule, calls) if calls > 1 else rule


def _rule(
    theta: Any, num_steps: int, bugged_lstm_state: bool, bugged_loss_features: bool
) -> optax.GradientTransformationExtraArgs:
    loss_decays = _loss_decays(10 if bugged_loss_features else num_steps)

    def init(params: Any) -> VeloState:
        layout = Layout.of(params)
        start = {
            name: jnp.tile(jnp.asarray(x, layout.dtype), (len(layout.shapes), 1))
            for name, x in theta["lstm_init_state"].items()
        }
        return VeloState(
            tuple(_new(shape, layout.dtype) for shape in layout.shapes),
            start["hidden"],
            start["cell"],
            jnp.zeros(_LOSS_SCALES, layout.dtype),
            jnp.full(_LOSS_SCALES, _NEVER, layout.dtype),
            jnp.zeros([], jnp.int32),
        )

    def update(
        grads: Any, state: VeloState, params: Any = None, *, loss: Any = None, **extra: Any
    ) -> tuple[Any, VeloState]:
        del extra
        layout = Layout.of(need_params(params, "VeLO"))
        if loss is None:
            raise LoptrlError("VeLO follows the loss, got none; call update(..., loss=loss)")
        if not layout.shapes:
            return grads, state._replace(count=state.count + 1)
        weights = jax.tree.map(lambda w: jnp.asarray(w, layout.dtype), theta)
        loss = jnp.asarray(loss, layout.dtype)
        means, minima, loss_features = _follow_loss(state, loss, loss_decays)
        fraction = state.count.astype(layout.dtype) / num_steps
        shared = jnp.concatenate([jnp.tanh(10.0 * (fraction - _TIMES)), loss_features])
        ps = [jnp.asarray(p, layout.dtype) for p in layout.treedef.flatten_up_to(params)]
        gs = [
            jnp.clip(jnp.asarray(g, layout.dtype), -1000.0, 1000.0)
            for g in layout.treedef.flatten_up_to(grads)
        ]
        inputs = jnp.stack([_tensor_features(p, a, shared) for p, a in zip(ps, state.tensors)])
        control, rate, hidden, cell = _lstm(weights["rnn_params"], inputs, state.hidden, state.cell)
        mixed = jax.tree.map(
            lambda w: 100.0 / len(w) * jnp.tensordot(control, w, 1, precision=_PRECISION),
            weights["ff_mod_stack"],
        )
        tensors = tuple(_accumulate(a, g) for a, g in zip(state.tensors, gs))
        updates = []
        for i, (p, g, after, dtype) in enumerate(zip(ps, gs, tensors, layout.dtypes, strict=True)):
            own = {name: w[i] for name, w in mixed.items()}
            updates.append((-rate[i] * _direction(own, p, g, after)).astype(dtype))
        if bugged_lstm_state:
            hidden, cell = state.hidden, state.cell
        after_all = VeloState(tensors, hidden, cell, means, minima, state.count + 1)
        return layout.treedef.unflatten(updates), after_all

    return optax.GradientTransformationExtraArgs(init, update)


def _factored_axes(shape: Sequence[int]) -> tuple[int, int]:
    """(second largest, largest) axis; numpy's own order where sizes are equal, as officially."""
    order = np.argsort(shape)
    return int(order[-2]), int(order[-1])


def _new(shape: tuple[int, ...], dtype: Any) -> Accumulators:
    momentum, rms = jnp.zeros((3, *shape), dtype), jnp.zeros(shape, dtype)
    if len(shape) < 2:
        return Accumulators(momentum, rms, None, None, jnp.zeros((3, *shape), dtype))
    row, col = (
        jnp.zeros((3, *(n for i, n in enumerate(shape) if i != axis)), dtype)
        for axis in reversed(_factored_axes(shape))
    )
    return Accumulators(momentum, rms, row, col, None)


def _loss_decays(horizon: int) -> np.ndarray:
    half_lives = np.logspace(1.0, np.log10(horizon), _LOSS_SCALES)
    return np.exp(-1.0 / half_lives).astype(np.float32)


def _follow_loss(
    state: VeloState, loss: jax.Array, decays: np.ndarray
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """New means and minima of the loss, and nine features that compare neighbouring time scales."""
    powers = 1.0 - decays ** (state.count + 1).astype(loss.dtype)
    # The exponent counts this update although the means do not have it yet: the official cap.
    most = jnp.where(state.count == 0, loss, jnp.max(state.loss_means / powers))
    loss = jnp.minimum(2.0 * jnp.abs(most), loss)
    means = state.loss_means * decays + loss * (1.0 - decays)
    corrected = means / powers
    minima = jnp.minimum(state.loss_minima, corrected)
    above = jnp.maximum(1e-8, corrected[1:] - minima[:-1])
    features = jnp.clip((corrected[:-1] - minima[:-1]) / above - 1.0, -1.0, 1.0)
    return means, minima, jnp.where(state.count + 1 <= 2, 0.0, features)


def _mean(x: jax.Array) -> jax.Array:
    """Mean over all axes but the first; 0 for an empty tensor."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.sum(flat, axis=1) / max(flat.shape[1], 1)


def _tensor_features(p: jax.Array, before: Accumulators, shared: jax.Array) -> jax.Array:
    """The LSTM's 30 inputs for one tensor, from the accumulators before this gradient."""
    size = jax.lax.rsqrt(jnp.maximum(1e-9, _mean(jnp.square(p)[None])[0]))
    m = before.momentum.reshape(3, -1) * size
    rms = before.rms.reshape(1, -1) * size
    mean_m = _mean(m)
    moments = (
        _mean(rms),
        _mean(jnp.square(m - mean_m[:, None])),
        # Around the mean of the momentum, not of the rms: hence three numbers.
        _mean(jnp.square(rms - mean_m[:, None])),
    )
    mean_rms, var_m, var_rms = (
        0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(10.0 * x)), -5.0, 5.0) for x in moments
    )
    rank = np.arange(5) == sum(n > 1 for n in p.shape)
    return jnp.concatenate([shared, mean_rms, jnp.asarray(rank, p.dtype), var_m, var_rms])


def _linear(theta: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    return jnp.dot(x, theta["w"], precision=_PRECISION) + theta["b"][None]


def _lstm(
    theta: Mapping[str, Any], x: jax.Array, h: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mix over tensors, then one LSTM step: control `[tensors, k]`, rate `[tensors]`, h, c."""
    mix = jnp.max(jax.nn.relu(_linear(theta["linear_1"], x)), axis=0, keepdims=True)
    x = _linear(theta["linear_2"], x) + mix
    gates = _linear(theta["rnn"]["linear"], jnp.concatenate([x, h], axis=-1))
    i, g, f, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return _linear(theta["rnn_to_controls"], h), _linear(theta["step_size"], h)[:, 0], h, c


def _accumulate(before: Accumulators, g: jax.Array) -> Accumulators:
    """The accumulators after gradient `g [*shape]`."""

    def roll(old: jax.Array, new: jax.Array) -> jax.Array:
        decay = _DECAYS.reshape(3, *[1] * (old.ndim - 1))
        return decay * old + (np.float32(1.0) - decay) * new

    square = g * g
    row, col, diag = before.row, before.col, before.diag
    if g.ndim >= 2:
        second, largest = _factored_axes(g.shape)
        row, col = (
            # A mean, which an empty axis does not make NaN.
            roll(old, jnp.sum(square + 1e-30, axis=axis)[None] / max(g.shape[axis], 1))
            for old, axis in ((row, largest), (col, second))
        )
    else:
        diag = roll(diag, (square + 1e-30)[None])
    rms = _RMS_DECAY * before.rms + (np.float32(1.0) - _RMS_DECAY) * square
    return Accumulators(roll(before.momentum, g[None]), rms, row, col, diag)


def _safe_rsqrt(x: jax.Array) -> jax.Array:
    return jax.lax.rsqrt(jnp.maximum(x, 1e-9))


def _direction(
    theta: Mapping[str, jax.Array], p: jax.Array, g: jax.Array, a: Accumulators
) -> jax.Array:
    """The per-entry MLP of one tensor, its step before the LSTM's rate, `[*shape]`."""
    m = a.momentum
    if p.ndim >= 2:
        second, largest = _factored_axes(p.shape)
        # Axis 0 of the accumulators is the decay.
        inner = second if second < largest else second - 1
        mean_row = jnp.mean(a.row, axis=inner + 1, keepdims=True)
        by_row = jnp.expand_dims(_safe_rsqrt(a.row / (mean_row + 1e-9)), largest + 1)
        by_col = jnp.expand_dims(_safe_rsqrt(a.col), second + 1)
        g_factored, m_factored = g[None] * by_row * by_col, m * by_row * by_col
        row = jnp.broadcast_to(jnp.expand_dims(a.row, largest + 1), m.shape)
        col = jnp.broadcast_to(jnp.expand_dims(a.col, second + 1), m.shape)
    else:
        row = col = a.diag
        # As long as the gradient was 0, diag is near 1e-30 and this power's derivative overflows.
        diag = jnp.where(a.diag > 1e-24, a.diag, jax.lax.stop_gradient(a.diag))
        g_factored, m_factored = g[None] * _safe_rsqrt(a.diag + 1e-9), m * diag**-0.5
    by_rms = jax.lax.rsqrt(a.rms + 1e-6)
    groups = (
        g,
        jnp.clip(g, -0.1, 0.1),
        p,
        m,
        a.rms,
        m * by_rms[None],
        by_rms,
        g_factored,
        g * by_rms,
        row,
        col,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(col + 1e-8),
        m_factored,
    )
    x = jnp.concatenate([group.reshape(n, -1) for n, group in zip(_GROUPS, groups, strict=True)])
    # Dividing the first layer's weights in place of the inputs saves a pass over them.
    scale = jax.lax.rsqrt(1e-5 + _mean(jnp.square(x)))
    first = jnp.concatenate([theta[f"w0__{i}"] for i in range(len(_GROUPS))]) * scale[:, None]
    layers = ((first, theta["b0"]), (theta["w1"], theta["b1"]), (theta["w2"], theta["b2"]))
    for i, (w, b) in enumerate(layers):
        x = jnp.dot(w.T, x if i == 0 else jax.nn.relu(x), precision=_PRECISION) + b[:, None]
    size = jnp.sqrt(_mean(jnp.square(p)[None])[0] + 1e-9)
    return (x[0] * (size * jnp.exp(0.001 * x[1])) * 0.001).reshape(p.shape)
