"""Meta-training by evolution: evaluations, the search, failures, resumption, the command."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loptrl import checkpoints, cli, weights
from loptrl.drive import load_or_run
from loptrl.errors import LoptrlError, Stopped
from loptrl.meta.es import EvolutionProgram
from loptrl.meta.es_config import EvolutionConfig
from loptrl.optimizers import LEARNED
from loptrl.runs import RunSpec, Store
from loptrl.studies import meta_recipes
from loptrl.studies.meta_runs import meta_spec, picture
from loptrl.studies.meta_training import make_evolution_program
from probe_runs import leaves

# From zeros LinearOptim is gradient descent, here with a step size too small to learn anything.
SMALL: dict[str, Any] = {
    "rule": "linear_optim",
    "learning_rate": 0.003,
    "tasks": ["probe_reach"],
    "population": 16,
    "generations": 22,
    "sigma": 0.1,
    "meta_learning_rate": 0.06,
    "rollouts": 2,
    "env_steps": 16 * 8 * 8,
    "agent": {
        "num_envs": 16,
        "rollout_length": 8,
        "epochs": 2,
        "minibatches": 2,
        "hidden": [4],
    },
}


def spec(seed: int = 0, **settings: Any) -> RunSpec:
    config = EvolutionConfig.from_dict({**SMALL, **settings})
    return RunSpec("meta", "probe", "smoke", 1, seed, config.to_dict())


def play(program: EvolutionProgram) -> tuple[Any, list[dict[str, float]]]:
    state, rows = program.init(), []
    for _ in range(program.num_slices):
        state, new = program.advance(state)
        rows += new
        if rows[-1]["diverged"]:
            break
    return state, rows


def searching(returns: Any, finished: Any = lambda theta, slices: None, **settings: Any) -> Any:
    """A program on three numbers, whose members' returns are functions of them, by task."""
    tasks = [f"probe_{name}" for name in ("reach", "choice")][: len(returns)]
    # The outer Adam's momentum makes the mean swing around the best place: smaller and smaller.
    given = {"population": 32, "generations": 200, "sigma": 0.1, "lr_decay": 0.98}
    config = EvolutionConfig(**{"tasks": tasks, **given, **settings})
    evaluations = {
        task: lambda thetas, keys, fn=fn: np.stack([fn(np.asarray(thetas["x"]))] * len(keys), 1)
        for task, fn in zip(tasks, returns, strict=True)
    }
    return EvolutionProgram(config, 0, {"x": jnp.zeros(3)}, evaluations, finished)


def near(target: list[float]) -> Any:
    return lambda x: -np.sum((x - np.asarray(target)) ** 2, axis=1)


def test_the_search_climbs_to_the_best_fitness():
    program = searching([near([0.5, -0.5, 0.2])])
    state, rows = play(program)
    np.testing.assert_allclose(program.mean(state)["x"], [0.5, -0.5, 0.2], atol=0.1)
    fitness = [row["fitness_center"] for row in rows]
    assert fitness[0] == pytest.approx(-0.54) and fitness[-1] > -0.02
    assert [row["generation"] for row in rows] == list(range(1, 201))
    for row in rows:
        assert row["fitness_worst"] < row["fitness_mean"] < row["fitness_best"]


def test_members_come_in_pairs_and_adam_follows_their_ranks():
    seen = []

    def returns(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return x @ np.asarray([3.0, -1.0, 0.0])

    program = searching([returns], population=6, generations=2, sigma=0.2, sigma_decay=0.5)
    state, rows = play(program)
    first, second = seen
    assert first.shape == (7, 3)
    np.testing.assert_allclose(first[:3], -first[3:6], atol=1e-7)
    np.testing.assert_array_equal(first[6], 0.0)
    assert [row["sigma"] for row in rows] == pytest.approx([0.2, 0.1])

    def gradient(members: np.ndarray, sigma: float) -> np.ndarray:
        own = members[:-1] - members[-1]
        ranks = np.argsort(np.argsort(own @ [3.0, -1.0, 0.0]))
        return (ranks / 5 - 0.5) @ own / (6 * sigma**2)

    adam, theta = optax.adam(lambda count: 0.03 * 0.98**count, b1=0.99), jnp.zeros(3)
    inner = adam.init(theta)
    for members, sigma in ((first, 0.2), (second, 0.1)):
        np.testing.assert_allclose(members[-1], theta, atol=1e-5)
        descent = jnp.asarray(-gradient(members, sigma), jnp.float32)
        updates, inner = adam.update(descent, inner, theta)
        theta = optax.apply_updates(theta, updates)
    np.testing.assert_allclose(program.mean(state)["x"], theta, atol=1e-5)


def test_a_member_that_breaks_is_ranked_last():
    """Infinitely good counts as broken, too; otherwise the search would go there."""

    def returns(x: np.ndarray) -> np.ndarray:
        worth = x[:, 0] + 2 * x[:, 1]
        worth = np.where(x[:, 0] > 0.05, np.nan, worth)
        return np.where(x[:, 1] < -0.15, np.inf, worth)

    program = searching([returns], generations=1, meta_learning_rate=0.01)
    state, (row,) = play(program)
    moved = np.asarray(program.mean(state)["x"])
    assert moved[0] < 0 < moved[1]
    assert 0 < row["failed_members"] < 32 and not row["diverged"]
    assert np.isfinite([row["fitness_mean"], row["fitness_best"], row["fitness_worst"]]).all()


def test_a_generation_without_a_sound_member_ends_the_training():
    kept = []
    program = searching(
        [lambda x: np.where(x[:, 0] == 0, 1.0, np.nan)], lambda *made: kept.append(made)
    )
    _, rows = play(program)
    assert len(rows) == 1 and rows[0]["diverged"] and rows[0]["failed_members"] == 32
    assert rows[0]["fitness_center"] == 1.0 and np.isnan(rows[0]["fitness_mean"])
    [(theta, generations)] = kept
    assert generations == 1 and np.isfinite(theta["x"]).all()


def test_tasks_count_by_their_normalisers():
    """A task with returns a thousand times as large, and a normaliser as large, weighs the same."""
    returns = [near([1.0, 0.0, 0.0]), lambda x: 1000 * near([0.0, 1.0, 0.0])(x)]
    program = searching(returns, normalisers=[1.0, 1000.0])
    state, rows = play(program)
    np.testing.assert_allclose(program.mean(state)["x"], [0.5, 0.5, 0.0], atol=0.1)
    for row in rows:
        both = row["center_return_probe_reach"], row["center_return_probe_choice"] / 1000
        assert row["fitness_center"] == pytest.approx(np.mean(both))


@pytest.fixture(scope="module")
def played():
    program = make_evolution_program(spec())
    return program, *play(program)


def test_the_rule_learns_to_learn(played):
    """Over generations the agents that the search mean trains get better."""
    _, _, rows = played
    fitness = np.asarray([row["fitness_center"] for row in rows])
    assert np.median(fitness[-6:]) > np.median(fitness[:6]) + 0.3
    assert rows[-1]["env_steps"] == 22 * 16 * 2 * 16 * 8 * 8
    assert all(row["failed_members"] == 0 for row in rows)


@pytest.mark.long
def test_devices_and_members_at_once_change_nothing(played):
    """An odd number of members, over two devices and one, one by one and three together."""
    program, *_ = played
    init = jax.vmap(lambda key: LEARNED["linear_optim"].init_theta(key))
    thetas = init(jax.random.split(jax.random.key(1), 17))
    keys = jax.random.split(jax.random.key(2), 2)
    two = program._evaluations["probe_reach"]
    found = np.asarray(two(thetas, keys))
    assert (two._devices, two.at_once) == (2, {9: 1})
    assert found.shape == (17, 2) and len(np.unique(found)) == 34
    chosen = spec(members_at_once=3)
    one = make_evolution_program(chosen, most_devices=1)._evaluations["probe_reach"]
    np.testing.assert_allclose(one(thetas, keys), found, rtol=1e-3, atol=1e-4)
    assert (one._devices, one.at_once) == (1, {17: 3})


def test_members_differ_by_their_weights_alone(played):
    """They get the same keys; one whose agent breaks has no return."""
    program, *_ = played
    theta = LEARNED["linear_optim"].init_theta(jax.random.key(1))
    factors = np.ones(17)
    factors[1] = np.nan
    thetas = jax.tree.map(lambda x: jnp.stack([x * factor for factor in factors]), theta)
    keys = jax.random.split(jax.random.key(2), 2)
    returns = np.asarray(program._evaluations["probe_reach"](thetas, keys))
    assert np.isnan(returns[1]).all() and returns[0, 0] != returns[0, 1]
    same = np.delete(returns, 1, axis=0)
    np.testing.assert_array_equal(same, np.broadcast_to(returns[:1], same.shape))


def test_stopped_and_gone_on_it_ends_with_the_same_weights(store):
    """The state goes through a checkpoint after every generation."""
    whole, pieces = [], []
    chosen = spec(generations=4)
    play(make_evolution_program(chosen, lambda *made: whole.append(made)))
    program = make_evolution_program(chosen, lambda *made: pieces.append(made))
    template = checkpoints.settle(program.init())

    class OneSlice:
        """A program that is stopped after each slice."""

        num_slices, env_steps_per_slice = program.num_slices, program.env_steps_per_slice
        init = staticmethod(program.init)

        @staticmethod
        def advance(state: Any) -> Any:
            out = program.advance(state)
            os.kill(os.getpid(), signal.SIGTERM)
            return out

    stops = 0
    while True:
        try:
            load_or_run([chosen], lambda spec: OneSlice(), store=store, progress=False)
            break
        except Stopped:
            stops += 1
    assert stops == 3 and store.read(chosen).manifest["resumed"] == 3
    (expected, slices), (got, made) = whole[0], pieces[0]
    assert made == slices
    for a, b in zip(leaves(expected), leaves(got), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(leaf["dtype"] in ("float32", "int32") for leaf in checkpoints.signature(template))


def test_where_it_starts(monkeypatch, tmp_path):
    def start(**settings: Any) -> Any:
        program = make_evolution_program(spec(rule="open", learning_rate=None, **settings))
        return program.mean(program.init())

    def count(theta: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(theta))

    zeros, untrained = start(), start(zero_start=False)
    assert count(zeros) == count(untrained) == 1211 and count(start(size="large")) == 3571
    assert not np.any(np.concatenate([np.ravel(x) for x in jax.tree.leaves(zeros)]))
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    path = tmp_path / "data" / "weights" / "open" / "given.npz"
    path.parent.mkdir(parents=True)
    LEARNED["open"].save(path, untrained)
    digest = weights.digest("open/given", "open")
    named = start(zero_start=False, init="open/given", init_sha256=digest)
    for a, b in zip(leaves(named), leaves(untrained), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(LoptrlError, match="expected the weights open/given with sha256"):
        start(zero_start=False, init="open/given", init_sha256="0" * 64)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "adam"}, "rule must be one of optim4rl"),
        ({"population": 3}, "population must be even, since members come in pairs, got 3"),
        ({"population": 0}, "population must be a whole number of at least 1"),
        ({"generations": 1.5}, "generations must be a whole number"),
        ({"members_at_once": 0}, "members_at_once must be a whole number of at least 1"),
        ({"sigma": 0}, "sigma must be a number above 0"),
        ({"sigma_decay": 1.1}, "sigma_decay must be a number above 0 and at most 1"),
        ({"lr_decay": 0}, "lr_decay must be a number above 0"),
        ({"zero_start": 1}, "zero_start must be true or false"),
        ({"init": "x"}, "init and init_sha256"),
        ({"init": "x", "init_sha256": "0"}, "a start with zeros leaves nothing of the weights x"),
        ({"size": "large"}, "size is that of OPEN's untrained weights, got 'large' for linear"),
        ({"tasks": []}, "tasks must list at least one world"),
        ({"tasks": ["probe_reach"] * 2}, "tasks must list each world once"),
        ({"normalisers": [1.0, 2.0]}, "normalisers must list one number for each of 1 tasks"),
        ({"normalisers": [0]}, "a normaliser must be a number above 0"),
        ({"agent": ["x"]}, r"agent must map names to values, got \['x'\]"),
        ({"agent": {"env_steps": 4}}, "agent holds what is left of PPOConfig, got 'env_steps'"),
        ({"agent": {"hiden": [3]}}, "unknown setting 'hiden'"),
        ({"generation": 1}, "unknown setting 'generation'"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(LoptrlError, match=words):
        EvolutionConfig.from_dict({**SMALL, **settings})


def test_a_configuration_goes_through_json():
    for config in (EvolutionConfig.from_dict(SMALL), EvolutionConfig()):
        assert EvolutionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    names = [field.name for field in dataclasses.fields(EvolutionConfig)]
    assert sorted(config.to_dict()) == sorted(names)


def test_recipes_and_their_tasks():
    for name in ("evolved_breakout", "evolved_breakout_asterix"):
        config = meta_recipes.recipe("open", name).config
        assert isinstance(config, EvolutionConfig) and "_".join(["evolved", *config.tasks]) == name
        assert config.env_steps_per_slice == 64 * len(config.tasks) * 204_800
    early, whole = (
        meta_recipes.recipe("open", f"evolved_breakout{part}").config for part in ("_early", "")
    )
    assert dataclasses.replace(early, generations=whole.generations) == whole
    for rule, recipes in meta_recipes.RECIPES.items():
        assert not {f"{rule}/{name}" for name in recipes} & set(weights.REGISTRY), "not to be taken"
    assert meta_recipes.normalisers(["breakout", "asterix"]) == [50.0822, 15.0353]
    assert meta_recipes.normalisers(["probe_reach"]) == [1.0]
    with pytest.raises(LoptrlError, match="no return of Adam on probe_reach is known"):
        meta_recipes.normalisers(["ant", "probe_reach"])
    with pytest.raises(LoptrlError, match="whose agents are alike, got ant, breakout"):
        meta_recipes.evolution_agent(["ant", "breakout"])


COMMAND = ["meta", "open", "--tasks", "probe_choice", "--population", "2", "--generations", "2"]
AGENT = {"num_envs": 4, "rollout_length": 4, "epochs": 1, "minibatches": 1, "hidden": "[2]"}
SETTINGS = [part for name, value in AGENT.items() for part in ("--agent", f"{name}={value}")]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    return tmp_path / "data"


def test_the_command_ends_with_weights_that_load_and_build(data, capsys):
    command = [*COMMAND, *SETTINGS, "--env-steps", "32", "--name", "tiny"]
    cli.main(command)
    out = capsys.readouterr().out
    path = data / "weights" / "open" / "tiny.npz"
    assert f"open/tiny: 2 generations, 0 members failed; the weights are in {path}" in out
    card = weights.card(path, "open")
    assert card["trained_on"] == "probe_choice, by evolution" and card["options"] == {}
    assert "--agent 'hidden=[2]'" in card["command"] and "--env-steps 32" in card["command"]
    config = EvolutionConfig.from_dict(card["config"])
    assert card["env_steps"] == 2 * 2 * 32 == config.num_slices * config.env_steps_per_slice
    assert picture(meta_spec("tiny", config)).stat().st_size > 10_000
    done = meta_spec("tiny", config)
    assert done.key == card["run"]
    assert list(Store().read(done).frame["generation"]) == [1, 2]

    rule, params = LEARNED["open"]("open/tiny"), {"actor": {"kernel": jnp.ones((2, 3))}}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = rule.update(grads, rule.init(params), params, key=jax.random.key(0))
    assert np.isfinite(updates["actor"]["kernel"]).all()

    before = path.stat().st_mtime_ns
    cli.main(command)
    assert path.stat().st_mtime_ns == before, "what is done is not done again"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the worlds with --tasks, or take a --recipe"),
        (["--recipe", "evolved_breakout", "--sigma", "1"], "the weights need a --name, got 'evol"),
        (
            ["--recipe", "drift"],
            "unknown recipe 'drift' for open: expected one of evol",
        ),
        (["--tasks", "probe_choice", "--agent", "hidden"], "--agent expects NAME=VALUE"),
        (["--tasks", "breakout", "--normalisers", "five"], "--normalisers expects numbers"),
        (
            ["--recipe", "evolved_breakout", "--normalisers", "5,1"],
            "one number for each of 1",
        ),
        (["--tasks", "ant,breakout"], "whose agents are alike"),
        (["--tasks", "breakout", "--name", "multi"], "open/multi are published weights"),
        (["--tasks", "pong", "--name", "x", "--generations", "1"], "unknown world 'pong'"),
    ],
)
def test_commands_that_cannot_be(data, capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["meta", "open", *arguments])
    assert stop.value.code == 2
    assert re.search(re.escape(words), capsys.readouterr().err)
