"""One iteration of the agent: what reaches the optimizer, clips, devices, seeds, divergence."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loptrl.drive import load_or_run
from loptrl.envs.drift import Drift
from loptrl.envs.dynamics import nominal
from loptrl.envs.probes import PROBES
from loptrl.envs.world import VectorWorld
from loptrl.keys import root_key
from loptrl.ppo.learner import DEVICES, Learner
from loptrl.ppo.losses import Minibatch
from loptrl.ppo.program import PPOProgram
from loptrl.ppo.structure import HParams, Structure
from loptrl.runs import RunSpec
from probe_runs import agent_for, compilations, config, leaves, play

CONFIG = config(hidden=(6, 5), normalize_rewards=False, eval_every=256, env_steps=256 * 2)
UPDATES = CONFIG.num_updates


# Hidden layers, the output, and the policy's standard deviation.
WIDTHS = {"actor": (6, 5, 1, 1), "critic": (6, 5, 1)}


class Recorded(NamedTuple):
    """`rate` and what each update was given, `[UPDATES, ...]`."""

    rate: jax.Array
    count: jax.Array
    key: jax.Array
    training_fraction: jax.Array
    epoch_fraction: jax.Array
    loss: jax.Array
    activity: Any


def recorder() -> optax.GradientTransformationExtraArgs:
    """Gradient descent that writes down its extra inputs."""

    def init(params: Any) -> Recorded:
        del params
        line = jnp.zeros(UPDATES)
        activity = {
            name: [jnp.zeros((UPDATES, w)) for w in widths] for name, widths in WIDTHS.items()
        }
        return Recorded(
            jnp.float32(1.0), jnp.int32(0), jnp.zeros((UPDATES, 2), jnp.uint32),
            line, line, line, activity,
        )  # fmt: skip

    def update(
        grads: Any, state: Recorded, params: Any = None, *, key: Any, activity: Any,
        training_fraction: Any, epoch_fraction: Any, loss: Any, **ignored: Any,
    ) -> tuple[Any, Recorded]:  # fmt: skip
        assert not ignored and params is not None
        i = state.count
        state = Recorded(
            state.rate,
            i + 1,
            state.key.at[i].set(jax.random.key_data(key)),
            state.training_fraction.at[i].set(training_fraction),
            state.epoch_fraction.at[i].set(epoch_fraction),
            state.loss.at[i].set(loss),
            jax.tree.map(lambda all_, now: all_.at[i].set(now), state.activity, activity),
        )
        return jax.tree.map(lambda g: -state.rate * g, grads), state

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.fixture(scope="module")
def agent():
    return agent_for(CONFIG, recorder())


def program(agent: Any, rate: float = 1e-2, seed: int = 0, **settings: Any) -> PPOProgram:
    chosen = dataclasses.replace(CONFIG, **settings)

    def table(steps):
        return Drift.from_dict(chosen.drift, seed=seed).table(steps, 1)

    def put(state):
        return state._replace(rate=jnp.float32(rate))

    return PPOProgram(chosen, seed, agent, table, put)


def test_extra_inputs_reach_the_optimizer_on_every_update(agent):
    state, _ = play(program(agent))
    seen = jax.tree.map(np.asarray, state.opt_state)
    assert int(seen.count) == UPDATES == 2 * 2 * 2 * 2
    assert len({tuple(key) for key in seen.key}) == UPDATES
    # 4 iterations, 2 epochs and 2 minibatches each.
    iteration, epoch = np.repeat([0, 1, 2, 3], 4), np.tile([0, 0, 1, 1], 4)
    np.testing.assert_allclose(seen.training_fraction, iteration / 3, rtol=1e-6)
    np.testing.assert_allclose(seen.epoch_fraction, epoch, rtol=1e-6)
    assert np.isfinite(seen.loss).all() and len(set(seen.loss)) == UPDATES
    for name in ("actor", "critic"):
        assert [a.shape for a in seen.activity[name]] == [(UPDATES, w) for w in WIDTHS[name]]
        for layer in seen.activity[name][:2]:
            # |tanh|; before the first update all biases and the probe's observation are 0.
            assert np.all((layer[1:] > 0).all(axis=1)) and np.all(layer <= 1)


def test_gradient_clip_of_actor_and_critic_each(agent):
    for bound in (1e-3, 1e-2):
        _, rows = play(program(agent, rate=1.0, max_grad_norm=bound))
        # Both are at their bound: sqrt(2) of it together.
        assert rows[-1]["update_norm_max"] == pytest.approx(2**0.5 * bound, rel=1e-3)
        assert rows[-1]["grad_norm"] > 3 * bound, "the norm before the clip"
        assert rows[-1]["largest_update"] <= bound * (1 + 1e-5)
    _, free = play(program(agent, rate=1e-2, max_grad_norm=None))
    _, wide = play(program(agent, rate=1e-2, max_grad_norm=1e9))
    assert free[-1]["update_norm_max"] == pytest.approx(1e-2 * free[-1]["grad_norm_max"], rel=1e-5)
    assert free == wide or str(free) == str(wide)


def test_nothing_is_compiled_again(agent):
    play(program(agent))
    with compilations() as compiled:
        drift = Drift.constant_friction(0.3).to_dict()
        play(program(agent, rate=0.1, seed=1, clip_ratio=None, max_grad_norm=2.0, drift=drift))
        numbers = {"discount": 0.5, "gae_lambda": 0.2, "entropy_coef": 0.1, "value_coef": 2.0}
        play(program(agent, seed=7, **numbers))
        play(program(agent, env_steps=256 * 3))  # another length, the same slices
    assert compiled == []
    with compilations() as compiled:
        jax.jit(lambda x: x * 3.25 + 1.5)(1.0)
    assert compiled, "compilations are seen"


def test_the_devices_agree(agent):
    assert agent.num_devices == jax.device_count() == 2
    state, _ = play(program(agent))
    for leaf in jax.tree.leaves((state.params, state.opt_state, state.observation_moments)):
        one, other = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        np.testing.assert_array_equal(one, other)
    halves = [np.asarray(s.data) for s in state.env.discounted.addressable_shards]
    assert [half.shape[-1] * half.shape[0] for half in halves] == [8, 8]


def test_seeds_and_moments(agent):
    (one, rows), (same, again), (other, different) = (
        play(program(agent, seed=seed)) for seed in (1, 1, 2)
    )
    for a, b in zip(leaves(one), leaves(same)):
        np.testing.assert_array_equal(a, b)
    assert str(rows) == str(again) and rows[-1]["weight_norm"] != different[-1]["weight_norm"]
    assert float(one.observation_moments.count) == CONFIG.env_steps
    assert float(one.return_moments.count) == 0.0, "rewards are not normalised"
    assert [row["env_steps"] for row in rows] == [0, 256, 512]
    assert [row["updates"] for row in rows] == [0, 8, 16]
    assert int(other.iteration) == 4


def test_rows_carry_the_dynamics_in_force(agent):
    drift = Drift.from_dict({"friction": {"form": "Linear", "low": 1, "high": 5, "period": 512}})
    _, rows = play(program(agent, drift=drift.to_dict()))
    # Each row's dynamics are those of the last iteration before it, at its first env step.
    expected = [drift.at(s, 1).friction for s in (0, 128, 384)]
    assert [row["dynamics_friction"] for row in rows] == pytest.approx(expected)
    assert rows[-1]["eval_return"] > rows[1]["eval_return"]
    assert rows[-1]["dynamics_fault"] == 0.0


def test_an_optimizer_that_breaks_is_recorded_as_diverged(agent, store):
    spec = RunSpec("probe", "nan", "smoke", 1, 0, CONFIG.to_dict())

    def make(spec):
        return program(agent, rate=np.nan)

    (run,) = load_or_run([spec], make, store=store, progress=False).runs
    assert run.manifest["diverged_at"] == 256, "the first slice is the last"
    assert list(run.frame["env_steps"]) == [0, 256]
    assert np.isnan(run.frame["weight_norm"].iloc[-1]) and "diverged" not in run.frame
    assert store.state(spec) == "done"


def test_seeds_can_be_vmapped():
    """Several agents at once, as a meta-trainer wants them: equal to one after another."""
    chosen = config(env_steps=128, max_grad_norm=None)
    # Plain gradient descent: an optimizer that knows no extra inputs is not given any.
    agent = agent_for(chosen, optax.sgd(1e-2), devices=1)
    hparams = HParams.of(chosen)
    table = Drift.none().table(np.arange(1), 1)
    first = jax.tree.map(lambda x: x[0], table)
    keys = [root_key(seed) for seed in (0, 1, 2)]
    alone = [agent.slice(agent.start(key, first), table, hparams) for key in keys]
    start = jax.vmap(agent.start, in_axes=(0, None))(jnp.stack(keys), first)
    state, metrics = jax.vmap(agent.slice, in_axes=(0, None, None))(start, table, hparams)
    for i, (one, values) in enumerate(alone):
        assert float(values["update_norm"]) == pytest.approx(1e-2 * float(values["grad_norm"]))
        for a, b in zip(leaves(one), leaves(jax.tree.map(lambda x, i=i: x[i], state))):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for name, value in values.items():
            np.testing.assert_allclose(value, metrics[name][i], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("by_minibatch", [False, True])
def test_what_advantages_are_standardised_over(by_minibatch):
    """Over the minibatch a shift and a scale of its advantages are nothing, on two devices too."""
    structure = Structure.of(config(standardize_minibatches=by_minibatch))
    learner = Learner(structure, VectorWorld(PROBES["probe_reach"]()), devices=2)
    params, rng = learner.params(root_key(0)), np.random.default_rng(0)
    shapes = (32, learner.world.world.observation_size), (32, 1), (32,), (32,), (32,)
    batch = Minibatch(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))
    hparams = HParams.of(config())

    def loss(batch, devices):
        shares = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        found, _ = jax.vmap(learner.loss, (None, 0, None), axis_name=DEVICES)(
            params, shares, hparams
        )
        return float(jnp.mean(found))

    moved = batch._replace(advantage=5.0 * batch.advantage + 3.0)
    same = loss(batch, 1) == pytest.approx(loss(moved, 1), rel=1e-4)
    assert same == by_minibatch
    assert loss(batch, 2) == pytest.approx(loss(batch, 1), rel=1e-5)


@pytest.mark.parametrize("by_minibatch", [False, True])
def test_a_rollout_s_advantages_are_standardised_over_all_devices_or_left_raw(by_minibatch):
    given = {"value_clip": 0.2, "normalize_rewards": False}
    settings = config(standardize_minibatches=by_minibatch, **given)
    world = VectorWorld(PROBES["probe_reach"]())
    learner = Learner(Structure.of(settings), world, devices=2)
    now, hparams = nominal(world.world.num_actuators), HParams.of(settings)

    def experience(device):
        del device
        state = learner.start(optax.sgd(0.1), root_key(0), now)
        return learner.experience(state, now, hparams, root_key(1))[1]

    batch = jax.jit(jax.vmap(experience, axis_name=DEVICES))(jnp.arange(2))
    raw = np.asarray(batch.target - batch.value)
    expected = raw if by_minibatch else (raw - raw.mean()) / raw.std()
    np.testing.assert_allclose(batch.advantage, expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(batch.advantage[0], batch.advantage[1])
    assert abs(raw.std() - 1) > 0.05, "standardising would show"


def test_structure_and_numbers_share_the_configuration():
    fields = {f.name for f in dataclasses.fields(Structure)} | set(HParams._fields)
    names = {f.name for f in dataclasses.fields(CONFIG)}
    # Every field is compiled in, traced, or used outside the agent.
    assert names - fields == {"world", "backend", "env_steps", "eval_every", "optimizer", "drift"}
    assert fields - names == {"iterations_per_slice", "num_iterations", "clip_values"}


@pytest.mark.parametrize(
    ("num_envs", "eval_envs", "minibatches", "expected"),
    [(16, 4, 2, 2), (16, 3, 2, 1), (9, 3, 1, 1), (2, 2, 16, 1)],
)
def test_as_many_devices_as_divide_the_sizes(num_envs, eval_envs, minibatches, expected):
    chosen = config(num_envs=num_envs, eval_envs=eval_envs, minibatches=minibatches)
    assert agent_for(chosen).num_devices == expected
