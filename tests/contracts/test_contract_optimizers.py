"""Every optimizer of the package, through the same table."""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

from loptrl import weights
from loptrl.errors import LoptrlError
from loptrl.optimizers import (
    LEARNED,
    adam,
    coupled_weight_decay,
    decoupled_weight_decay,
    l2_in_loss,
    rmsprop,
)
from optimizer_cases import CASES, LEARNED_TABLE, TABLE, downhill_velo, extras, first_update

pytestmark = pytest.mark.usefixtures("strict_jax")


TARGET = {"actor": {"a": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)}, "b": jnp.float32(0.5)}


def distance(params):
    squares = jax.tree.map(lambda p, t: jnp.sum((p - t) ** 2), params, TARGET)
    return 0.5 * jax.tree.reduce(jnp.add, squares)


def start(dtype=jnp.float32):
    return jax.tree.map(lambda t: jnp.full(jnp.shape(t), 0.1, dtype), TARGET)


def descend(case, theta, params, key):
    """`case.steps` updates inside a scan; the parameters at the end."""
    optimizer = case.build(theta)

    def step(carry, key):
        params, state = carry
        loss, grads = jax.value_and_grad(distance)(params)
        updates, state = optimizer.update(grads, state, params, **extras(loss, key))
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(key, case.steps)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]


@TABLE
def test_descends_alone_and_over_seeds(case):
    """One after another and as a vmapped axis, over seeds and weights: the same numbers."""
    key = jax.random.key(0)
    theta = case.init_theta(key)
    run = jax.jit(functools.partial(descend, case))
    thetas = jax.tree.map(lambda w: jnp.stack([w, 0.9 * w]), theta)
    starts = jax.tree.map(lambda p: jnp.stack([p, p + 0.3]), start())
    given = thetas, starts, jax.random.split(key, 2)
    ends = jax.jit(jax.vmap(run))(*given)
    before = jax.vmap(distance)(starts)
    after = jax.vmap(distance)(ends)
    assert (after < 0.8 * before).all(), (before, after)
    alone = [run(*jax.tree.map(operator.itemgetter(i), given)) for i in (0, 1)]
    for i, end in enumerate(alone):
        for one, both in zip(jax.tree.leaves(end), jax.tree.leaves(ends), strict=True):
            np.testing.assert_allclose(one, both[i], rtol=1e-3, atol=1e-4)


@TABLE
def test_ignores_what_it_does_not_know(case):
    params = start()
    optimizer = case.build(case.init_theta(jax.random.key(0)))
    given = extras(jnp.float32(1.0), jax.random.key(1))
    strange = first_update(optimizer, params, params, nobody_knows_this=jnp.ones(3), **given)
    known = first_update(optimizer, params, params, **given)
    jax.tree.map(np.testing.assert_array_equal, strange, known)


@TABLE
def test_the_three_kinds_of_decay_reach_every_rule(case):
    params, grads = start(), jax.tree.map(lambda t: 0.01 * jnp.ones_like(t), TARGET)
    rule, strength = case.build(case.init_theta(jax.random.key(0))), 0.1
    given = extras(jnp.float32(1.0), jax.random.key(1))
    decayed = jax.tree.map(lambda g, p: g + strength * p, grads, params)
    squares = sum(float(jnp.sum(p**2)) for p in jax.tree.leaves(params))
    expected = {
        decoupled_weight_decay: jax.tree.map(
            lambda u, p: u - strength * p, first_update(rule, grads, params, **given), params
        ),
        coupled_weight_decay: first_update(rule, decayed, params, **given),
        l2_in_loss: first_update(
            rule, decayed, params, **{**given, "loss": 1.0 + 0.5 * strength * squares}
        ),
    }
    for wrap, theirs in expected.items():
        ours = first_update(wrap(rule, strength), grads, params, **given)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)


@TABLE
def test_compiles_once_and_works_in_a_chain(case):
    theta, params = case.init_theta(jax.random.key(0)), start()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), case.build(theta), optax.scale(0.5))
    alone = case.build(theta)
    traced = 0

    @jax.jit
    def step(grads, state, params, key):
        nonlocal traced
        traced += 1
        return optimizer.update(grads, state, params, **extras(jnp.float32(1.0), key))

    grads = jax.tree.map(lambda p: 0.01 * p, params)
    state = optimizer.init(params)
    updates, state = step(grads, state, params, jax.random.key(1))
    expected, _ = jax.jit(
        lambda: alone.update(
            grads, alone.init(params), params, **extras(jnp.float32(1.0), jax.random.key(1))
        )
    )()
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, 0.5 * theirs, rtol=1e-4, atol=1e-9)
    step(grads, state, params, jax.random.key(2))
    assert traced == 1


@TABLE
def test_keeps_dtypes_and_structure(case):
    theta = case.init_theta(jax.random.key(0))
    optimizer = case.build(theta)
    params = {
        "actor": {"half": jnp.ones((2, 3), jnp.bfloat16)},
        "list": [jnp.ones(()), (jnp.ones(33), jnp.ones((0, 2)))],
        "none": None,
    }

    def step(params, state):
        return optimizer.update(params, state, params, **extras(jnp.float32(1), jax.random.key(0)))

    state = optimizer.init(params)
    updates, after = jax.eval_shape(step, params, state)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    same = jax.tree.map(lambda u, p: (u.shape, u.dtype) == (p.shape, p.dtype), updates, params)
    assert jax.tree.all(same)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state)
    )
    made = jax.jit(step)(params, state)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(made))


@TABLE
def test_updates_have_the_dtypes_of_the_parameters(case):
    """Those of the gradients may be others, as where a loss is computed in half precision."""
    optimizer, params = case.build(case.init_theta(jax.random.key(0))), start()
    grads = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    given = extras(jnp.float32(1.0), jax.random.key(1))
    updates = jax.eval_shape(lambda g: first_update(optimizer, g, params, **given), grads)
    assert all(u.dtype == jnp.float32 for u in jax.tree.leaves(updates))


@TABLE
def test_the_state_goes_through_orbax(case, tmp_path):
    optimizer = case.build(case.init_theta(jax.random.key(0)))
    params = {**start(), "bias": jnp.ones(3)}
    given = extras(jnp.float32(1.0), jax.random.key(1))
    state = optimizer.update(params, optimizer.init(params), params, **given)[1]
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        back = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, back, state)


@LEARNED_TABLE
def test_refuses_what_is_no_float_and_foreign_weights(case):
    optimizer = case.build(case.init_theta(jax.random.key(0)))
    with pytest.raises(LoptrlError, match=r"expects float arrays, got int32 at \['count'\]"):
        optimizer.init({"count": jnp.zeros(3, jnp.int32)})
    with pytest.raises(LoptrlError, match="expected theta with the parts"):
        case.build({"something": 1})


@pytest.mark.parametrize("name", LEARNED)
def test_weights_are_saved_and_loaded_without_pickle(name, tmp_path):
    case = CASES[name]
    theta = case.init_theta(jax.random.key(3))
    LEARNED[name].save(tmp_path / "w.npz", theta, trained_on="nothing")
    assert weights.card(tmp_path / "w.npz", name)["trained_on"] == "nothing"
    back = LEARNED[name].theta(tmp_path / "w.npz")
    assert jax.tree.structure(back) == jax.tree.structure(theta)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(theta), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_no_array_of_floats_is_not_saved(tmp_path):
    theta = LEARNED["open"].init_theta(jax.random.key(0))
    for bad, words in ((3, "holds int"), (jnp.full(2, jnp.nan), "holds NaN or infinity")):
        with pytest.raises(LoptrlError, match=words):
            LEARNED["open"].save(str(tmp_path / "w.npz"), {**theta, "more": bad})
    for name in ("w", "w.v1", "w.json"):
        with pytest.raises(LoptrlError, match=r"expected a file NAME\.npz"):
            LEARNED["open"].save(tmp_path / name, theta)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("optimizer", [adam(0.1), rmsprop(0.1, b2=0.999)], ids=["adam", "rmsprop"])
def test_half_precision_is_near_single(optimizer):
    """b2 = 0.999 is 1 in bfloat16: numbers and moments are kept in float32."""
    moved = []
    for dtype in (jnp.bfloat16, jnp.float32):
        params = {"w": jnp.linspace(-1.0, 1.0, 4, dtype=dtype)}
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update({"w": jnp.full(4, 0.5, dtype)}, state, params)
        moved.append(np.asarray(updates["w"], np.float32))
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-2)


def test_the_three_kinds_of_decay():
    params, grads = {"w": jnp.array([2.0, -4.0])}, {"w": jnp.array([1.0, 1.0])}
    seen = []

    def update(g, state, params=None, *, loss=None, **extra):
        seen.append(loss)
        return jax.tree.map(jnp.negative, g), state

    plain = optax.GradientTransformationExtraArgs(lambda params: (), update)
    out = first_update(decoupled_weight_decay(plain, 0.1), grads, params, loss=1.0)
    np.testing.assert_allclose(out["w"], [-1.2, -0.6], rtol=1e-6)
    out = first_update(coupled_weight_decay(plain, 0.1), grads, params, loss=1.0)
    np.testing.assert_allclose(out["w"], [-1.2, -0.6], rtol=1e-6)
    out = first_update(l2_in_loss(plain, 0.1), grads, params, loss=1.0)
    np.testing.assert_allclose(out["w"], [-1.2, -0.6], rtol=1e-6)
    # 0.1/2 (4 + 16) more, and only for the last.
    np.testing.assert_allclose(seen, [1.0, 1.0, 2.0], rtol=1e-6)
    with pytest.raises(LoptrlError, match="reads the parameters"):
        decoupled_weight_decay(plain, 0.1).update(grads, (), None)


def test_velo_averages_beyond_its_horizon():
    """Four calls of two are two updates on mean gradients and losses, the first of each pair 0."""
    theta = downhill_velo(jax.random.key(0))
    build = LEARNED["velo"].build
    params = {"w": jnp.linspace(-1.0, 1.0, 6)}
    grads = [{"w": jnp.full(6, v)} for v in (0.1, 0.3, -0.2, 0.6)]
    losses = (1.0, 3.0, 5.0, 2.0)
    long, short = build(theta, num_steps=4, max_updates=2), build(theta, num_steps=2)
    state, expected_state = long.init(params), short.init(params)
    for pair in (0, 2):
        nothing, state = long.update(grads[pair], state, params, loss=losses[pair])
        assert not np.any(nothing["w"])
        moved, state = long.update(grads[pair + 1], state, params, loss=losses[pair + 1])
        mean = jax.tree.map(lambda a, b: (a + b) / 2, grads[pair], grads[pair + 1])
        expected, expected_state = short.update(
            mean, expected_state, params, loss=(losses[pair] + losses[pair + 1]) / 2
        )
        np.testing.assert_allclose(moved["w"], expected["w"], rtol=1e-6)
        assert np.any(moved["w"])
        np.testing.assert_allclose(state.inner.loss_means, expected_state.loss_means, rtol=1e-6)
    assert int(state.inner.count) == 2 and int(state.count) == 4
    with pytest.raises(LoptrlError, match="positive whole number"):
        build(theta, num_steps=0)
    for rule in (short, build(theta, num_steps=np.int64(4), max_updates=2)):
        with pytest.raises(LoptrlError, match="got none"):
            rule.update(grads[0], rule.init(params), params)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    moved, _ = long.update(grads[0], long.init(half), half, loss=1.0)
    assert moved["w"].dtype == jnp.bfloat16


def test_many_chunks_equal_one():
    """A tree of several chunks moves as its leaves do alone, where nothing is shared."""
    theta = LEARNED["optim4rl"].init_theta(jax.random.key(0))
    optimizer = LEARNED["optim4rl"].build(theta, learning_rate=1.0)
    grads = {"a": jnp.linspace(-1, 1, 1500), "b": jnp.linspace(-2, 1, 700).reshape(7, 100)}
    together = jax.jit(functools.partial(first_update, optimizer))(grads, grads)
    for name, g in grads.items():
        alone = first_update(optimizer, {"x": jnp.ravel(g)[:40]}, {"x": jnp.ravel(g)[:40]})
        np.testing.assert_allclose(jnp.ravel(together[name])[:40], alone["x"], rtol=1e-5)


@pytest.mark.parametrize("name", ["optim4rl", "linear_optim", "l2lgd2"])
def test_a_bound_that_leaves_no_gradient_is_refused(name):
    rule = LEARNED[name]
    theta = rule.init_theta(jax.random.key(0))
    for wrong in (0.0, -1, jnp.float32(0.0), float("nan")):
        with pytest.raises(LoptrlError, match=r"expected grad_clip > 0, got .*; give None"):
            rule.build(theta, grad_clip=wrong)
    params = {"w": jnp.ones(3)}

    @jax.jit
    def traced(clip):
        return first_update(rule.build(theta, grad_clip=clip), params, params)

    expected = first_update(rule.build(theta, grad_clip=0.5), params, params)
    np.testing.assert_allclose(traced(0.5)["w"], expected["w"], rtol=1e-5)


@pytest.mark.parametrize("name", ["optim4rl", "linear_optim", "l2lgd2"])
def test_a_schedule_goes_through_optax(name):
    """As a learning rate it would be multiplied with; `optax.inject_hyperparams` calls it."""
    build = LEARNED[name].build
    theta = LEARNED[name].init_theta(jax.random.key(0))
    schedule = optax.piecewise_constant_schedule(1e-2, {1: 0.5})
    with pytest.raises(LoptrlError, match=r"expected learning_rate as a number, .*inject_hyper"):
        build(theta, learning_rate=schedule)
    scheduled, plain = (
        optax.inject_hyperparams(build)(theta, learning_rate=schedule),
        build(theta, learning_rate=1e-2),
    )
    params = {"w": jnp.linspace(-1.0, 1.0, 5)}
    states = [scheduled.init(params), plain.init(params)]
    for scale in (1.0, 0.5):
        ours, states[0] = scheduled.update(params, states[0], params)
        theirs, states[1] = plain.update(params, states[1], params)
        np.testing.assert_allclose(ours["w"], scale * theirs["w"], rtol=1e-5)
