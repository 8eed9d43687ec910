"""`vmap_last`: `jax.vmap` with the batch kept as the last, contiguous axis of every array.

Physics written for one robot works on arrays such as `[links, 3]`. `jax.vmap` puts the batch in
front, `[batch, links, 3]`, whatever `in_axes` says, because most batching rules move it there;
the innermost loop then runs over three numbers and no SIMD unit is ever full. Here each primitive
of the traced function is evaluated with the batch last, `[links, 3, batch]`, so that the
innermost loop runs over environments. The values are the same up to rounding.

XLA may fuse long chains of products and compute each again for every use of every component of it,
and leaves loops over a transcendental function or a short sum without SIMD. So products,
transcendental functions, stacks and sums are computed once and kept, see `fusion.keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from loptrl.envs.fusion import keep

__all__ = ["vmap_last"]


class _Value(NamedTuple):
    """An array and whether its last axis is the batch."""

    array: Any
    batched: bool


_Rule = Callable[..., list[Any]]
_RULES: dict[str, _Rule] = {}

_ELEMENTWISE = frozenset(
    "abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy "
    "copy_p cos cosh div eq erf erf_inv exp exp2 expm1 floor ge gt integer_pow is_finite le log "
    "log1p logistic lt max min mul ne neg nextafter not or pow real rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient "
    "sub tan tanh xor".split()
)
_TRANSCENDENTAL = frozenset("acos asin atan atan2 cos exp log pow sin tan tanh".split())
_UNROLLED = 64  # terms of a sum
_REDUCTIONS = frozenset(
    "reduce_max reduce_min reduce_and reduce_or reduce_prod argmax argmin "
    "cumsum cumprod cummax cummin rev squeeze".split()
)


# Exactly rounded or only moving numbers: numpy gives XLA's bits, without compiling a program each.
_FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda _, a, b: np.add(a, b),
    "sub": lambda _, a, b: np.subtract(a, b),
    "mul": lambda _, a, b: np.multiply(a, b),
    "neg": lambda _, a: np.negative(a),
    "lt": lambda _, a, b: np.less(a, b),
    "gt": lambda _, a, b: np.greater(a, b),
    "eq": lambda _, a, b: np.equal(a, b),
    "ne": lambda _, a, b: np.not_equal(a, b),
    "select_n": lambda _, which, *cases: np.choose(which.astype(np.intp), cases),
    "convert_element_type": lambda params, a: a.astype(params["new_dtype"]),
    "squeeze": lambda params, a: np.squeeze(a, tuple(params["dimensions"])),
    "reshape": lambda params, a: a.reshape(params["new_sizes"]),
    "concatenate": lambda params, *arrays: np.concatenate(arrays, params["dimension"]),
    "slice": lambda params, a: a[
        tuple(
            slice(start, stop, stride)
            for start, stop, stride in zip(
                params["start_indices"],
                params["limit_indices"],
                params["strides"] or (1,) * a.ndim,
                strict=True,
            )
        )
    ],
    "broadcast_in_dim": lambda params, a: np.broadcast_to(
        np.expand_dims(
            a, [d for d in range(len(params["shape"])) if d not in params["broadcast_dimensions"]]
        ),
        params["shape"],
    ),
}


def vmap_last(fun: Callable[..., Any], batched: tuple[bool, ...]) -> Callable[..., Any]:
    """Vectorise `fun` over a trailing batch axis of the arguments marked in `batched`.

    Values only: derivatives of a function's own (`jax.custom_jvp`) are lost, as arccos has in Brax.

    Args:
        fun: a function of pytrees of arrays, written for one element.
        batched: per positional argument, whether its leaves carry a last axis `[..., batch]`.

    Returns:
        A function of the same arguments; every leaf of its result has the shape `[..., batch]`.

    Raises:
        ValueError: when no argument is batched, or the batch sizes differ.
    """
    if not any(batched):
        raise ValueError(
            "vmap_last expected at least one batched argument, got none; call fun itself"
        )

    def wrapped(*args: Any) -> Any:
        if len(args) != len(batched):
            raise ValueError(f"vmap_last expected {len(batched)} arguments, got {len(args)}")
        leaves, tree = jax.tree.flatten(args)
        flags = jax.tree.leaves(
            [jax.tree.map(lambda _, flag=flag: flag, arg) for flag, arg in zip(batched, args)]
        )
        sizes = {leaf.shape[-1] for leaf, flag in zip(leaves, flags) if flag}
        if len(sizes) != 1:
            raise ValueError(
                f"vmap_last expected one batch size on the last axes, got {sorted(sizes)}"
            )
        (size,) = sizes
        one = [
            jax.ShapeDtypeStruct(leaf.shape[:-1] if flag else leaf.shape, leaf.dtype)
            for leaf, flag in zip(leaves, flags)
        ]
        closed, out = jax.make_jaxpr(
            lambda *flat: fun(*jax.tree.unflatten(tree, flat)), return_shape=True
        )(*one)
        values = [_Value(leaf, flag) for leaf, flag in zip(leaves, flags)]
        evaluated = _evaluate(closed, values, size)
        results = [_with_batch(v, size) for v in evaluated]
        return jax.tree.unflatten(jax.tree.structure(out), results)

    return wrapped


def _evaluate(closed: core.ClosedJaxpr, args: list[_Value], size: int) -> list[_Value]:
    env: dict[Any, _Value] = {}

    def read(atom: Any) -> _Value:
        return _Value(atom.val, False) if isinstance(atom, core.Literal) else env[atom]

    env.update(zip(closed.jaxpr.constvars, [_Value(c, False) for c in closed.consts]))
    env.update(zip(closed.jaxpr.invars, args))
    for eqn in closed.jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        env.update(zip(eqn.outvars, _apply(eqn, inputs, size)))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _apply(eqn: Any, inputs: list[_Value], size: int) -> list[_Value]:
    name, params = eqn.primitive.name, eqn.params
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if name in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2"):
        inner = inner if hasattr(inner, "consts") else core.ClosedJaxpr(inner, ())
        return _evaluate(inner, inputs, size)
    arrays = [v.array for v in inputs]
    if not any(v.batched for v in inputs):
        if any(isinstance(a, jax.core.Tracer) for a in arrays):
            return _unbatched(eqn, arrays)
        # Constants are folded now: gathers with constant indices then become static slices.
        fold = _FOLDS.get(name)
        if fold is not None:
            folded = fold(params, *(np.asarray(a) for a in arrays))
            return [_Value(folded.astype(eqn.outvars[0].aval.dtype, copy=False), False)]
        with jax.ensure_compile_time_eval():
            return _unbatched(eqn, arrays)
    if name in _ELEMENTWISE:
        out = eqn.primitive.bind(*_aligned(inputs, eqn, size), **params)
        return [_Value(keep(out) if name in _TRANSCENDENTAL else out, True)]
    if name in _REDUCTIONS:
        return [_Value(eqn.primitive.bind(*arrays, **params), True)]
    rule = _RULES.get(name)
    outputs = rule(eqn, inputs, size) if rule else None
    if outputs is None:
        outputs = _fallback(eqn, inputs)
    return [_Value(array, True) for array in outputs]


def _unbatched(eqn: Any, arrays: list[Any]) -> list[_Value]:
    out = eqn.primitive.bind(*arrays, **eqn.params)
    return [_Value(o, False) for o in (out if eqn.primitive.multiple_results else [out])]


def _fallback(eqn: Any, inputs: list[_Value]) -> list[Any]:
    """`jax.vmap` for one primitive without a rule of its own."""

    def bind(*args: Any) -> list[Any]:
        out = eqn.primitive.bind(*args, **eqn.params)
        return list(out) if eqn.primitive.multiple_results else [out]

    axes = [-1 if v.batched else None for v in inputs]
    return jax.vmap(bind, in_axes=axes, out_axes=-1)(*[v.array for v in inputs])


def _with_batch(value: _Value, size: int) -> jax.Array:
    if value.batched:
        return value.array
    array = jnp.asarray(value.array)
    return jnp.broadcast_to(array[..., None], array.shape + (size,))


def _aligned(inputs: list[_Value], eqn: Any, size: int) -> list[Any]:
    """Operands of an elementwise primitive, all with the output's shape `[..., batch]`."""
    shape = eqn.outvars[0].aval.shape
    out = []
    for value in inputs:
        array = value.array if value.batched else jnp.asarray(value.array)[..., None]
        missing = len(shape) + 1 - array.ndim  # the scalar operands of select_n and clamp
        array = jnp.reshape(array, (1,) * missing + array.shape)
        out.append(jnp.broadcast_to(array, (*shape, size)))
    return out


def _rule(name: str) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        _RULES[name] = rule
        return rule

    return register


@_rule("broadcast_in_dim")
def _broadcast_in_dim(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    out = jax.lax.broadcast_in_dim(inputs[0].array, (*shape, size), (*dims, len(shape)))
    return [out]


@_rule("reshape")
def _reshape(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    return [jnp.reshape(inputs[0].array, (*eqn.params["new_sizes"], size))]


@_rule("transpose")
def _transpose(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    order = eqn.params["permutation"]
    return [jnp.transpose(inputs[0].array, (*order, len(order)))]


@_rule("concatenate")
def _concatenate(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    out = jax.lax.concatenate([_with_batch(v, size) for v in inputs], eqn.params["dimension"])
    return [keep(out) if len(inputs) > 2 else out]


@_rule("slice")
def _slice(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    params = eqn.params
    strides = params["strides"]
    return [
        jax.lax.slice(
            inputs[0].array,
            (*params["start_indices"], 0),
            (*params["limit_indices"], size),
            None if strides is None else (*strides, 1),
        )
    ]


@_rule("pad")
def _pad(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    if inputs[1].batched:
        return None
    config = (*eqn.params["padding_config"], (0, 0, 0))
    return [jax.lax.pad(inputs[0].array, jnp.asarray(inputs[1].array), config)]


@_rule("tile")
def _tile(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    return [jnp.tile(inputs[0].array, (*eqn.params["reps"], 1))]


@_rule("split")
def _split(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    return list(jax.lax.split(inputs[0].array, eqn.params["sizes"], eqn.params["axis"]))


@_rule("dot_general")
def _dot_general(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    """Products of 3-vectors and 3x3 matrices: a multiplication and a sum, with the batch inside."""
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    a, b = (v.array if v.batched else jnp.asarray(v.array)[..., None] for v in inputs)
    rank_a, rank_b = (len(atom.aval.shape) for atom in eqn.invars)
    free_a = [d for d in range(rank_a) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(rank_b) if d not in (*contract_b, *batch_b)]
    a = jnp.transpose(a, (*batch_a, *free_a, *contract_a, rank_a))
    b = jnp.transpose(b, (*batch_b, *free_b, *contract_b, rank_b))
    a = jnp.expand_dims(a, [len(batch_a) + len(free_a) + i for i in range(len(free_b))])
    b = jnp.expand_dims(b, [len(batch_b) + i for i in range(len(free_a))])
    outer = len(batch_a) + len(free_a) + len(free_b)
    out = _sum((a * b).astype(eqn.outvars[0].aval.dtype), range(outer, outer + len(contract_a)))
    return [keep(jnp.broadcast_to(out, (*eqn.outvars[0].aval.shape, size)))]


@_rule("reduce_sum")
def _reduce_sum(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    array, axes = inputs[0].array, eqn.params["axes"]
    if not 0 < np.prod([array.shape[axis] for axis in axes]) <= _UNROLLED:
        return [eqn.primitive.bind(array, **eqn.params)]
    return [keep(_sum(array, axes))]


def _sum(array: jax.Array, axes: Iterable[int]) -> jax.Array:
    """Unrolled: a chain of additions fuses, a reduction over any but the last axis does not."""
    for axis in sorted(axes, reverse=True):
        parts = [
            jax.lax.index_in_dim(array, i, axis, keepdims=False) for i in range(array.shape[axis])
        ]
        array = sum(parts[1:], parts[0])
    return array


@_rule("gather")
def _gather(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    """Static indices: a concatenation of slices."""
    operand, indices = inputs
    if indices.batched or isinstance(indices.array, jax.core.Tracer):
        return None
    shape = tuple(atom.aval.shape for atom in eqn.invars)[0]
    # The gather on row numbers tells which flat element each output element comes from.
    rows = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    with jax.ensure_compile_time_eval():
        params = {**eqn.params, "fill_value": None}
        if "fill" in str(eqn.params["mode"]).lower():
            params["fill_value"] = -1
        flat = np.asarray(
            eqn.primitive.bind(jnp.asarray(rows), jnp.asarray(indices.array), **params)
        )
    if (flat < 0).any():
        return None
    return [_take_static(operand.array.reshape(-1, size), flat.ravel()).reshape(*flat.shape, size)]


def _take_static(rows: jax.Array, index: np.ndarray) -> jax.Array:
    """`rows[index]` for a static index, as slices of runs of consecutive rows."""
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    runs = np.split(index, cuts)
    parts = [jax.lax.slice_in_dim(rows, int(run[0]), int(run[-1]) + 1) for run in runs]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


@_rule("scatter-add")
def _scatter_add(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    """Static indices: a product with a constant matrix of zeros and ones."""
    operand, indices, updates = inputs
    if indices.batched or isinstance(indices.array, jax.core.Tracer):
        return None
    shapes = [atom.aval.shape for atom in eqn.invars]
    count = int(np.prod(shapes[2]))
    with jax.ensure_compile_time_eval():
        # Linear in the updates: the image of each unit update tells where its value goes.
        images = jax.vmap(
            lambda unit: eqn.primitive.bind(
                jnp.zeros(shapes[0]), jnp.asarray(indices.array), unit, **eqn.params
            )
        )(jnp.eye(count).reshape(count, *shapes[2]))
    targets = np.asarray(images).reshape(count, -1)
    base = _with_batch(operand, size)
    values = _with_batch(updates, size).reshape(count, size)
    total = jnp.asarray(targets.T, values.dtype) @ values
    return [base + total.reshape(*shapes[0], size)]


@_rule("cond")
def _cond(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    index, *operands = inputs
    if index.batched or isinstance(index.array, jax.core.Tracer):
        return None
    branches = eqn.params["branches"]
    branch = branches[int(np.clip(np.asarray(index.array), 0, len(branches) - 1))]
    return [_with_batch(v, size) for v in _evaluate(branch, operands, size)]


@_rule("scan")
def _scan(eqn: Any, inputs: list[_Value], size: int) -> list[Any]:
    params = eqn.params
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, xs = inputs[:num_consts], inputs[num_consts + num_carry :]
    carry = [_with_batch(v, size) for v in inputs[num_consts : num_consts + num_carry]]

    def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        values = [_Value(c, True) for c in carry]
        slices = [_Value(a, v.batched) for a, v in zip(x, xs)]
        out = _evaluate(params["jaxpr"], [*consts, *values, *slices], size)
        out = [_with_batch(v, size) for v in out]
        return out[:num_carry], out[num_carry:]

    carry, ys = jax.lax.scan(
        body,
        carry,
        [v.array for v in xs],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *ys]
