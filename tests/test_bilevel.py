"""The meta-gradient: finite differences in float64, rematerialisation, rollouts as data."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from loptrl import optimizers
from loptrl.envs.dynamics import nominal
from loptrl.envs.probes import PROBES
from loptrl.envs.world import VectorWorld
from loptrl.meta.bilevel import Bilevel
from loptrl.ppo.learner import DEVICES, Learner
from loptrl.ppo.losses import Minibatch
from loptrl.ppo.structure import HParams, Structure
from probe_runs import config

SMALL = config(
    num_envs=4, rollout_length=4, hidden=(3,), minibatches=2, epochs=2, normalize_rewards=False
)
HPARAMS = HParams.of(SMALL)


def on_one_device(fn: Any) -> Any:
    """`fn` where a learner's methods may be traced."""
    mesh, whole = Mesh(jax.devices()[:1], (DEVICES,)), PartitionSpec()
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False))


def doubled(tree: Any) -> Any:
    """Floats as float64."""

    def cast(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)


class Replay(Learner):
    """Its rollouts are random numbers, the same whatever the policy does: pure data."""

    def experience(
        self, state: Any, dynamics: Any, hparams: Any, key: Any, length: int | None = None
    ) -> Any:
        del dynamics, hparams, length
        keys = jax.random.split(key, 5)
        shape = (SMALL.batch_size,)
        batch = Minibatch(
            *(jax.random.normal(k, (*shape, 1), jnp.float64) for k in keys[:2]),
            *(
                0.5 * jax.random.normal(k, shape, jnp.float64) - m
                for k, m in zip(keys[2:], (1, 0, 0))
            ),
        )
        return state, batch, {}


class Frozen(NamedTuple):
    """State of a rule, and the gradients it saw or will be given, `[updates, ...]`."""

    inner: Any
    seen: Any
    count: jax.Array


def remembering(rule: optax.GradientTransformation, updates: int) -> Any:
    """The rule, with what it was given written down."""

    def init(params: Any) -> Frozen:
        seen = jax.tree.map(lambda p: jnp.zeros((updates, *p.shape), p.dtype), params)
        return Frozen(rule.init(params), seen, jnp.int32(0))

    def update(grads: Any, state: Frozen, params: Any = None, **extra: Any) -> Any:
        out, inner = rule.update(grads, state.inner, params, **extra)
        seen = jax.tree.map(lambda s, g: s.at[state.count].set(g), state.seen, grads)
        return out, Frozen(inner, jax.lax.stop_gradient(seen), state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def replaying(rule: optax.GradientTransformation, seen: Any) -> Any:
    """The rule, given those gradients instead of the agent's."""

    def init(params: Any) -> Frozen:
        return Frozen(rule.init(params), (), jnp.int32(0))

    def update(grads: Any, state: Frozen, params: Any = None, **extra: Any) -> Any:
        del grads
        given = jax.tree.map(lambda s: s[state.count], seen)
        out, inner = rule.update(given, state.inner, params, **extra)
        return out, Frozen(inner, (), state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def stretched(build: Any, factor: float = 100.0) -> Any:
    """A rule whose updates are larger or smaller, so that k of them matter to the loss."""

    def rule(theta: Any) -> Any:
        return optax.chain(build(theta), optax.scale(factor))

    return rule


def start(learner: Learner, rule: Any, theta: Any) -> Any:
    dynamics = nominal(1)
    begin = functools.partial(learner.start, optax.with_extra_args_support(rule(theta)))
    return on_one_device(lambda key: begin(key, dynamics))(jax.random.key(1))


def table(k: int) -> Any:
    return jax.tree.map(lambda x: np.stack([x] * (k + 1)), nominal(1))


RULES = {
    "optim4rl": optimizers.optim4rl,
    "open": optimizers.open_optimizer,
    "linear_optim": optimizers.LEARNED["linear_optim"],
    "l2lgd2": optimizers.LEARNED["l2lgd2"],
    "velo": optimizers.velo,
}
SIZES = {"velo": {"lstm_hidden_size": 4, "param_inits": 2}}
OPTIONS = {"velo": {"num_steps": 100}}


def noisy(theta: Any) -> Any:
    """Away from untrained weights, whose zero biases put ReLUs of a zero input on their kink."""
    flat, unravel = jax.flatten_util.ravel_pytree(theta)
    return unravel(flat + 0.1 * jax.random.normal(jax.random.key(8), flat.shape, flat.dtype))


def setting(name: str, k: int, **options: Any) -> tuple[Any, Any, Any, Any]:
    """A small agent in float64: learner, rule, theta and the agent's state."""
    learned = RULES[name]
    build = functools.partial(learned.build, **OPTIONS.get(name, {}))
    rule = stretched(build, 0.1 if name == "velo" else 100.0)
    theta = noisy(doubled(learned.init_theta(jax.random.key(7), **SIZES.get(name, {}))))
    learner = Replay(Structure.of(SMALL), VectorWorld(PROBES["probe_reach"]()), **options)
    state = doubled(start(learner, rule, theta))
    return learner, rule, theta, state._replace(opt_state=doubled(rule(theta).init(state.params)))


CASES = [
    ("optim4rl", 1),
    ("optim4rl", 3),
    *(
        pytest.param(*case, marks=pytest.mark.long)
        for case in (("linear_optim", 3), ("l2lgd2", 3), ("open", 3), ("velo", 2))
    ),
]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_finite_differences(name, k):
    """Rules that read their gradient as data are compared with that gradient held fixed."""
    with jax.enable_x64(True):
        learner, rule, theta, state = setting(name, k)
        fixed = name not in ("open", "velo")  # their inputs are not stopped: no help is needed
        total = k * SMALL.epochs * SMALL.minibatches
        dynamics = table(k)

        def compiled(rule: Any) -> Any:
            # Where an agent stands is data, and so is what the rule has made of it so far.
            begun = state._replace(opt_state=rule(theta).init(state.params))

            def run(theta: Any) -> Any:
                bilevel = Bilevel(learner, rule, k, 2, agent_l2=0.1)
                return bilevel.gradient(theta, begun, dynamics, HPARAMS)

            return on_one_device(run)

        gradient, out = compiled(lambda t: remembering(rule(t), total))(theta)
        seen = out.state.opt_state.seen
        run = compiled((lambda t: replaying(rule(t), seen)) if fixed else rule)
        assert_trees_close(gradient, run(theta)[0], 1e-9)
        flat, unravel = jax.flatten_util.ravel_pytree(theta)
        direction = np.asarray(jax.random.normal(jax.random.key(3), flat.shape, jnp.float64))
        eps = 3e-7
        losses = [
            float(run(unravel(flat + sign * eps * direction))[1].meta_loss) for sign in (1.0, -1.0)
        ]
        difference = (losses[0] - losses[1]) / (2 * eps)
        claimed = float(jax.flatten_util.ravel_pytree(gradient)[0] @ direction)
        assert abs(difference) > 1e-4, "the loss must depend on theta"
        assert claimed == pytest.approx(difference, rel=1e-5)


@pytest.mark.long
def test_holding_the_inputs_fixed_matters():
    """For k > 1 Optim4RL's gradient is not the whole derivative: its inputs depend on theta."""
    with jax.enable_x64(True):
        _, rule, theta, state = setting("optim4rl", 3)
        learner = Replay(Structure.of(SMALL), VectorWorld(PROBES["probe_reach"]()))
        build = functools.partial(RULES["optim4rl"].build, stop_inputs=False)
        ours = Bilevel(learner, rule, 3, 2, whole=stretched(build, 100.0))
        full = dataclasses.replace(ours, rule=ours.whole, whole=rule)

        def compiled(bilevel: Bilevel) -> Any:
            return on_one_device(lambda theta: bilevel.gradient(theta, state, table(3), HPARAMS))

        run = compiled(ours)
        flat, unravel = jax.flatten_util.ravel_pytree(theta)
        direction = np.asarray(jax.random.normal(jax.random.key(3), flat.shape, jnp.float64))
        losses = [float(run(unravel(flat + s * 1e-6 * direction))[1].meta_loss) for s in (1, -1)]
        difference = (losses[0] - losses[1]) / 2e-6
        found = []
        for one in (run, compiled(full)):
            gradient, unrolled = one(theta)
            slope = float(jax.flatten_util.ravel_pytree(gradient)[0] @ direction)
            found.append((slope, unrolled.metrics))
        (claimed, same), (whole, turned) = found
        assert abs(claimed - difference) > 1e-3 * abs(difference)
        assert whole == pytest.approx(difference, rel=1e-5)
        assert same["whole_cosine"] < 1 - 1e-9
        assert turned["whole_cosine"] == pytest.approx(float(same["whole_cosine"]), rel=1e-9)
        assert turned["whole_norm_ratio"] * same["whole_norm_ratio"] == pytest.approx(1, rel=1e-9)


def assert_trees_close(one: Any, two: Any, tolerance: float) -> None:
    scale = max(float(np.max(np.abs(x))) for x in jax.tree.leaves(one))
    assert scale > 0
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert float(np.max(np.abs(a - b))) <= tolerance * scale


def test_without_a_bound_on_the_agents_gradients_the_meta_gradient_is_finite():
    """OPEN's derivative flows through the clipping of its inputs, which then does nothing."""
    found = []
    for bound in (None, 1e6):
        hparams = HParams.of(dataclasses.replace(SMALL, max_grad_norm=bound))
        with jax.enable_x64(True):
            learner, rule, theta, state = setting("open", 1)
            gradient = Bilevel(learner, rule, 1, 2).gradient
            run = functools.partial(gradient, state=state, dynamics=table(1), hparams=hparams)
            found.append(on_one_device(run)(theta)[0])
    assert_trees_close(*found, 1e-12)


def test_where_a_network_has_no_gradient_the_meta_gradient_is_finite():
    """A loss without the critic's part: the norm's own derivative at zero is not finite."""
    hparams = HParams.of(dataclasses.replace(SMALL, value_coef=0.0))
    with jax.enable_x64(True):
        learner, rule, theta, state = setting("open", 2)
        gradient = Bilevel(learner, rule, 2, 2).gradient
        run = functools.partial(gradient, state=state, dynamics=table(2), hparams=hparams)
        found = on_one_device(run)(theta)[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(found))


WAYS = {"optim4rl": [(True, False), (True, True)], "open": [(True, True)]}


@pytest.mark.parametrize("name", ["optim4rl", pytest.param("open", marks=pytest.mark.long)])
def test_rematerialised_or_not_the_gradient_is_the_same(name):
    learned = RULES[name]
    world = VectorWorld(PROBES["probe_reach"]())
    theta = learned.init_theta(jax.random.key(7))
    gradients = []
    for updates, iterations in ((False, False), *WAYS[name]):
        learner = Learner(Structure.of(SMALL), world, rematerialize=updates)
        state = start(learner, learned.build, theta)
        bilevel = Bilevel(learner, learned.build, 2, 3, rematerialize_iterations=iterations)
        run = on_one_device(functools.partial(bilevel.gradient, dynamics=table(2), hparams=HPARAMS))
        gradients.append(run(theta, state)[0])
    for other in gradients[1:]:
        assert_trees_close(gradients[0], other, 1e-6)


@functools.cache
def whole_path(through: bool, k: int = 2, surrogate_only: bool = False, policy: bool = True) -> Any:
    """Meta-gradient of Optim4RL with real rollouts, and the state after."""
    alone = {"value_coef": jnp.zeros([]), "entropy_coef": jnp.zeros([])}
    hparams = HPARAMS._replace(**alone) if surrogate_only else HPARAMS
    learned = RULES["optim4rl"]
    rule = stretched(learned.build)
    theta = learned.init_theta(jax.random.key(7))
    learner = Learner(Structure.of(SMALL), VectorWorld(PROBES["probe_reach"]()))
    bilevel = Bilevel(learner, rule, k, 3, through_dynamics=through, policy=policy)
    run = on_one_device(functools.partial(bilevel.gradient, dynamics=table(k), hparams=hparams))
    return run(theta, start(learner, rule, theta))


def test_the_path_through_actions_changes_the_gradient_and_nothing_else():
    without, with_path = whole_path(False), whole_path(True)
    assert float(without[1].meta_loss) == float(with_path[1].meta_loss)
    a, b = (jax.flatten_util.ravel_pytree(g)[0] for g in (without[0], with_path[0]))
    assert float(jnp.linalg.norm(a - b)) > 1e-3 * float(jnp.linalg.norm(a))


@pytest.mark.parametrize("through", [False, True])
def test_through_the_physics_the_clipped_surrogate_has_no_derivative(through):
    """Behaviour and target log-probability are then one function of theta: their ratio is 1."""
    alone, whole = (whole_path(through, surrogate_only=only)[0] for only in (True, False))
    share = float(optax.tree.norm(alone) / optax.tree.norm(whole))
    assert share < 1e-4 if through else share > 1e-2, share


def test_without_the_policy_the_rest_of_the_meta_loss_moves_the_rule():
    """Where the rest is nothing, nothing does; the agent learns as before."""
    whole, rest = whole_path(False), whole_path(False, policy=False)
    assert_trees_close(whole[1].state.params, rest[1].state.params, 0.0)
    assert 1e-3 < float(optax.tree.norm(rest[0]) / optax.tree.norm(whole[0])) != 1.0
    nothing = whole_path(False, surrogate_only=True, policy=False)
    assert float(optax.tree.norm(nothing[0])) == 0.0


def test_what_the_agent_learns_is_plain_ppo():
    """The agent after a meta-iteration is where the same iterations without any gradient end."""
    learned = RULES["optim4rl"]
    rule, theta = stretched(learned.build), learned.init_theta(jax.random.key(7))
    learner = Learner(Structure.of(SMALL), VectorWorld(PROBES["probe_reach"]()))
    state = start(learner, rule, theta)
    dynamics = jax.tree.map(lambda x: x[0], table(1))

    def plain(state: Any) -> Any:
        for _ in range(2):
            state, _ = learner.iteration(rule(theta), state, dynamics, HPARAMS)
        return state.params

    assert_trees_close(on_one_device(plain)(state), whole_path(False)[1].state.params, 1e-6)
