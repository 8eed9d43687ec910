"""`vmap_last` against `jax.vmap`: every rule, the fallback, transformations around it, errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from loptrl.envs import batch_last
from loptrl.envs.batch_last import vmap_last

BATCH = 5
F32 = np.float32


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(-1.0, 1.0, shape).astype(F32)


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=F32).reshape(shape)


@jax.custom_jvp
def doubled(x):
    return 2.0 * x


doubled.defjvp(lambda primals, tangents: (doubled(*primals), 2.0 * tangents[0]))


@jax.custom_vjp
def tripled(x):
    return 3.0 * x


tripled.defvjp(lambda x: (tripled(x), None), lambda _, g: (3.0 * g,))


def scan_with_everything(x, w):
    def body(carry, xs):
        total, fixed = carry
        row, constant = xs
        total = total + row * w + constant
        return (total, fixed + 1.0), (total, constant)

    return lax.scan(body, (jnp.zeros(3), jnp.zeros(())), (x, jnp.arange(12.0).reshape(4, 3)))


# Each case: the function, then its arguments' shapes for one element and whether each is batched.
B, C = True, False
CASES = {
    "elementwise": (lambda x, y: jnp.sin(x) * y + jnp.exp(-x) / (2.0 + y), [((3,), B), ((3,), B)]),
    "broadcast a constant": (lambda x, c: x * c + c[0], [((2, 3), B), ((2, 3), C)]),
    "broadcast rows and columns": (lambda x, c: x[:, None] + c[None, :], [((2,), B), ((4,), C)]),
    "batched scalar": (lambda x, c: x * c, [((), B), ((2, 3), C)]),
    "select by a scalar": (
        lambda x, y: lax.select_n(x[0] > 0, x, y),
        [((3,), B), ((3,), B)],
    ),
    "where with a constant": (lambda x: jnp.where(x > 0, x, 7.0), [((2, 3), B)]),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.5), [((2, 3), B)]),
    "types": (lambda x: (x > 0).astype(jnp.int32) + jnp.round(x).astype(jnp.int32), [((4,), B)]),
    "powers": (lambda x: x**3 + jnp.abs(x) ** 0.5 + jnp.arctan2(x, x + 2), [((4,), B)]),
    "sums of none and of many": (lambda x, y: (x.sum(0), y.sum()), [((0, 2), B), ((70,), B)]),
    "sums": (lambda x: (x.sum(), x.sum(0), x.mean((0, 2)), x.prod(1)), [((2, 3, 4), B)]),
    "extremes": (lambda x: (x.max(1), x.min(), x.argmax(0), x.argmin(1)), [((3, 4), B)]),
    "all and any": (lambda x: ((x > 0).all(0), (x > 0).any()), [((3, 4), B)]),
    "cumulative": (
        lambda x: (jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x), lax.cummin(x, 1)),
        [((3, 4), B)],
    ),
    "reversed": (lambda x: (jnp.flip(x, 0), lax.cumsum(x, 1, reverse=True)), [((3, 4), B)]),
    "shapes": (
        lambda x: (x.reshape(4, 3), x.T, x[None], x.reshape(1, 3, 4).squeeze(0), jnp.ravel(x)),
        [((3, 4), B)],
    ),
    "transpose": (lambda x: jnp.transpose(x, (2, 0, 1)), [((2, 3, 4), B)]),
    "broadcast_to": (lambda x: jnp.broadcast_to(x[:, None], (2, 3, 4)), [((3,), B)]),
    "concatenate": (lambda x, c: jnp.concatenate([x, c, x], 1), [((2, 3), B), ((2, 1), C)]),
    "stack": (lambda x, y: jnp.stack([x, y], 1), [((2, 3), B), ((2, 3), B)]),
    "slices": (lambda x: (x[1:3], x[::2], x[:, 1:], x[3:0:-2]), [((4, 3), B)]),
    "split": (lambda x: tuple(jnp.split(x, [1, 3], axis=1)), [((2, 5), B)]),
    "pad": (
        lambda x: (jnp.pad(x, ((1, 2), (0, 1))), lax.pad(x, 9.0, ((-1, 0, 0), (0, 1, 1)))),
        [((3, 2), B)],
    ),
    "pad with a batched value": (lambda x, v: lax.pad(x, v, ((1, 1, 0),)), [((3,), B), ((), B)]),
    "tile": (lambda x: jnp.tile(x, (2, 3)), [((2, 2), B)]),
    "vector times vector": (jnp.dot, [((3,), B), ((3,), B)]),
    "matrix times vector": (jnp.matmul, [((2, 3), B), ((3,), B)]),
    "constant matrix": (jnp.matmul, [((4, 3), C), ((3, 2), B)]),
    "times a constant matrix": (jnp.matmul, [((4, 3), B), ((3, 2), C)]),
    "batched matrices": (jnp.matmul, [((6, 2, 3), B), ((6, 3, 4), B)]),
    "two contractions": (
        lambda a, b: jnp.einsum("ijk,jkl->il", a, b),
        [((2, 3, 4), B), ((3, 4, 5), B)],
    ),
    "outer product": (lambda a, b: jnp.einsum("i,j->ji", a, b), [((3,), B), ((2,), B)]),
    "gather rows": (lambda x: x[np.array([2, 0, 0, 1])], [((3, 2), B)]),
    "gather columns": (lambda x: x[:, np.array([1, 1])], [((3, 2), B)]),
    "gather pairs": (lambda x: x[np.array([0, 2]), np.array([1, 0])], [((3, 2), B)]),
    "take beyond the end": (lambda x: jnp.take(x, np.array([0, 9]), axis=0), [((3, 2), B)]),
    "take and clip": (lambda x: jnp.take(x, np.array([0, 9]), axis=0, mode="clip"), [((3, 2), B)]),
    "take beyond the end, filled": (
        lambda x: x.at[np.array([0, 9])].get(mode="fill", fill_value=-3.0),
        [((3, 2), B)],
    ),
    "gather by a batched index": (
        lambda x, i: x[(i > 0).astype(jnp.int32)],
        [((3, 2), B), ((4,), B)],
    ),
    "scatter-add": (lambda x, u: x.at[np.array([2, 0])].add(u), [((3, 2), B), ((2, 2), B)]),
    "scatter-add, repeated rows": (
        lambda x, u: x.at[np.array([1, 1, 0])].add(u),
        [((3, 2), B), ((3, 2), B)],
    ),
    "scatter-add, dropped rows": (
        lambda x, u: x.at[np.array([1, 7, -9])].add(u, mode="drop"),
        [((3, 2), B), ((3, 2), B)],
    ),
    "scatter-add of a constant": (lambda x, c: x.at[np.array([1])].add(c), [((3,), B), ((1,), C)]),
    "scatter-add onto a constant": (
        lambda c, u: jnp.asarray(c).at[np.array([1, 1])].add(u),
        [((3,), C), ((2,), B)],
    ),
    "scatter-add by a batched index": (
        lambda x, i: x.at[(i > 0).astype(jnp.int32)].add(1.0),
        [((3,), B), ((2,), B)],
    ),
    "segment_sum": (
        lambda x: jax.ops.segment_sum(x, np.array([0, 2, 0]), num_segments=3),
        [((3, 2), B)],
    ),
    "scatter": (lambda x, u: x.at[np.array([2, 0])].set(u), [((3,), B), ((2,), B)]),
    "scan": (scan_with_everything, [((4, 3), B), ((3,), C)]),
    "scan backwards over constants": (
        lambda x, w: lax.scan(lambda c, r: (c + r.sum(), c), x[0], w, reverse=True, unroll=2),
        [((2,), B), ((6, 3), C)],
    ),
    "cond on a constant": (
        lambda x: lax.cond(jnp.int32(1) > 0, lambda a: a + 1, lambda a: a - 1, x),
        [((3,), B)],
    ),
    "switch on a constant": (
        lambda x: lax.switch(9, [lambda a: a, jnp.sin, lambda a: a * 0 + 4], x),
        [((3,), B)],
    ),
    "cond by a batched value": (
        lambda x: lax.cond(x[0] > 0, lambda a: a + 1, lambda a: a - 1, x),
        [((3,), B)],
    ),
    "custom derivatives": (lambda x: doubled(x) + tripled(x), [((3,), B)]),
    "inner jit": (lambda x, c: jax.jit(lambda a, b: a @ b)(x, c), [((2, 3), B), ((3,), C)]),
    "checkpointed": (lambda x: jax.checkpoint(lambda a: jnp.sin(a) * 2)(x), [((3,), B)]),
    "gradient inside": (jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2)), [((3,), B)]),
    "inner vmap": (lambda x: jax.vmap(lambda r: r / jnp.linalg.norm(r))(x), [((4, 3), B)]),
    "fallback: sort": (lambda x: jnp.sort(x, axis=0), [((5, 2), B)]),
    "fallback: while": (
        lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1],
        [((3,), B)],
    ),
    "fallback: dynamic slice": (
        lambda x, i: lax.dynamic_slice(x, ((i[0] > 0).astype(jnp.int32),), (2,)),
        [((4,), B), ((1,), B)],
    ),
    "fallback: inverse": (lambda x: jnp.linalg.inv(x + 3 * jnp.eye(3)), [((3, 3), B)]),
    "a constant result": (lambda x: (x, jnp.arange(3.0), jnp.float32(2)), [((2,), B)]),
    "pytrees": (lambda d: {"s": d["a"] + d["b"][0]}, None),
}


def reference(fun, arguments, flags):
    axes = [-1 if flag else None for flag in flags]
    return jax.vmap(fun, in_axes=axes, out_axes=-1)(*arguments)


def arguments_of(case):
    fun, signature = CASES[case]
    if signature is None:
        return fun, [{"a": draw(2, BATCH), "b": [draw(2, BATCH, seed=1)]}], [True]
    arguments = [
        draw(*shape, *([BATCH] if flag else []), seed=i)
        for i, (shape, flag) in enumerate(signature)
    ]
    return fun, arguments, [flag for _, flag in signature]


def check_equal(got, expected, tolerance=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_equal_to_vmap(case):
    fun, arguments, flags = arguments_of(case)
    expected = reference(fun, arguments, flags)
    check_equal(vmap_last(fun, tuple(flags))(*arguments), expected)
    # Compiled, everything is a tracer; what was static before is still.
    check_equal(jax.jit(vmap_last(fun, tuple(flags)))(*arguments), expected)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it is left to XLA")
def test_products_and_transcendental_functions_are_computed_once():
    """Each stays behind a call in the compiled program, which XLA does not fuse across."""

    def chain(x, w):
        for _ in range(3):
            x = jnp.tanh(w @ x)
        return x

    x, w = draw(3, BATCH), draw(3, 3)
    fast = jax.jit(vmap_last(chain, (True, False)))
    calls = fast.lower(x, w).compile().as_text().count('inlineable="false"')
    assert calls == 6, "three products and three tanh"
    check_equal(fast(x, w), jax.vmap(chain, (-1, None), -1)(x, w))


def test_every_rule_is_exercised():
    seen = set()

    def collect(jaxpr):
        for eqn in jaxpr.eqns:
            seen.add(eqn.primitive.name)
            for value in jax.tree.leaves(dict(eqn.params), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    collect(inner)

    for case in CASES:
        fun, arguments, flags = arguments_of(case)
        one = [
            jax.tree.map(lambda a, flag=flag: a[..., 0] if flag else a, argument)
            for argument, flag in zip(arguments, flags)
        ]
        collect(jax.make_jaxpr(fun)(*one).jaxpr)
    never = set(batch_last._RULES) - seen
    assert never <= {"expand_dims"}, "no jax in use makes these primitives: a rule without a test"


def test_maps_and_derivatives_around_it():
    def fun(x, w):
        return jnp.tanh(w @ x).sum() + x[np.array([0, 0])].sum()

    x, w = draw(4, 3, BATCH), draw(2, 3)
    fast = vmap_last(fun, (True, False))
    slow = jax.vmap(fun, in_axes=(-1, None), out_axes=-1)
    check_equal(lax.map(lambda a: fast(a, w), x), lax.map(lambda a: slow(a, w), x))
    check_equal(jax.vmap(fast, (0, None))(x, w), jax.vmap(slow, (0, None))(x, w))
    grads = [jax.grad(lambda w, f=f: f(x[0], w).sum())(w) for f in (fast, slow)]
    check_equal(*grads)


@pytest.mark.parametrize(
    ("batched", "arguments", "message"),
    [
        ((False,), [numbered(3)], "at least one batched argument, got none"),
        ((True, True), [numbered(3)], "expected 2 arguments, got 1"),
        ((True, True), [numbered(2, 3), numbered(2, 4)], r"one batch size .* got \[3, 4\]"),
    ],
)
def test_mistakes(batched, arguments, message):
    with pytest.raises(ValueError, match=message):
        vmap_last(lambda *a: a, batched)(*arguments)
