"""Meta-training on supervised tasks: the tasks, what counts, the search, the stand-in's command."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loptrl import checkpoints, cli, weights
from loptrl.errors import LoptrlError, WeightsError
from loptrl.meta import fitting
from loptrl.meta.supervised import SupervisedEvaluation, examples, learnt
from loptrl.meta.supervised_config import TASKS, SupervisedConfig
from loptrl.optimizers import velo
from loptrl.runs import RunSpec, Store
from loptrl.studies import brax_ant, meta_recipes, open_multitask
from loptrl.studies.meta_training import make_supervised_program
from probe_runs import leaves

SMALL: dict[str, Any] = {
    "lstm_hidden_size": 4,
    "param_inits": 2,
    "tasks": ["iris"],
    "updates": 20,
    "batch_size": 8,
    "hidden": [],
    "population": 4,
    "generations": 4,
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("task", "held_out", "features", "classes"),
    [
        ("digits", 360, 64, 10),
        ("wine", 36, 13, 3),
        ("breast_cancer", 114, 30, 2),
        ("iris", 30, 4, 3),
    ],
)
def test_a_task_is_fixed_and_in_units_of_its_deviation(task, held_out, features, classes):
    found, again = examples(task), examples(task)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.classes == classes and found.held_out_inputs.shape == (held_out, features)
    assert found.inputs.dtype == np.float32 and len(found.inputs) == len(found.labels)
    assert abs(len(found.labels) - 4 * held_out) <= 4
    assert set(found.labels) == set(found.held_out_labels) == set(range(classes))
    np.testing.assert_allclose(found.inputs.mean(axis=0), 0.0, atol=1e-5)
    varies = found.inputs.std(axis=0) > 0
    np.testing.assert_allclose(found.inputs.std(axis=0)[varies], 1.0, atol=1e-4)
    assert varies.sum() > 0.9 * features or task == "digits"


def descent(devices: int = 1, **settings: Any) -> SupervisedEvaluation:
    """Gradient descent, whose only weight is its step size."""
    config = SupervisedConfig.from_dict({**SMALL, **settings})
    return SupervisedEvaluation(
        examples("iris"),
        lambda theta: optax.with_extra_args_support(optax.sgd(theta)),
        config,
        devices=devices,
    )


KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def two():
    return descent(devices=2)


def test_who_learns_has_more_than_who_does_not_and_who_diverges_least(two):
    rates = jnp.asarray([0.3, 0.0, -0.3, -3.0, jnp.nan])
    learns, stands, forgets, diverges, broken = np.asarray(two(rates, KEYS))
    assert (learns > stands + 0.3).all() and (learns < 1.0).all()
    assert (stands > forgets).all() and (forgets > diverges).all()
    assert np.isfinite(diverges).all() and np.isnan(broken).all()


def test_the_scale_of_what_is_learnt():
    """From nothing to everything, and the same for any number of classes."""
    for classes in (2, 10):
        nothing = math.log(classes)
        losses = jnp.asarray([0.0, 0.25, 1.0, math.e, math.e**40]) * nothing
        found = learnt(losses, classes)
        np.testing.assert_allclose(found, [1.0, 0.75, 0.0, -1.0, -40.0], atol=1e-4)
    below, above = jax.vmap(jax.grad(lambda loss: learnt(loss, 10)))(jnp.asarray([2.302, 2.303]))
    assert [float(below), float(above)] == pytest.approx([-1 / nothing] * 2, rel=0.01)


def test_devices_and_members_at_once_change_nothing(two):
    rates, one = jnp.linspace(0.01, 0.3, 5), descent(members_at_once=3)
    found = np.asarray(two(rates, KEYS))
    assert found.shape == (5, 2) and len(np.unique(found)) == 10
    np.testing.assert_allclose(one(rates, KEYS), found, rtol=1e-4, atol=1e-5)
    assert (two._devices, two.at_once, one._devices, one.at_once) == (2, {3: 1}, 1, {5: 3})
    many = descent(members_at_once=9)
    assert np.isfinite(many(rates[:2], KEYS)).all() and many.at_once == {2: 2}


@pytest.mark.parametrize("devices", [1, 2])
def test_members_at_once_are_as_many_as_fit(two, monkeypatch, devices):
    rates, share, whole = jnp.linspace(0.01, 0.3, 5), -(-5 // devices), descent(devices=devices)
    monkeypatch.setattr(fitting, "memory_limit", lambda: 2.0**40)
    found = np.asarray(whole(rates, KEYS))
    assert whole.at_once == {share: share}
    np.testing.assert_allclose(found, two(rates, KEYS), rtol=1e-4, atol=1e-5)
    compiled = whole._jitted(share).lower(rates, KEYS, whole._inputs).compile()
    needed = fitting.compiled_bytes(compiled)
    monkeypatch.setattr(fitting, "memory_limit", lambda: float(needed))
    fewer = descent(devices=devices)
    fewer(rates, KEYS)
    assert 0 < fewer.at_once[share] < share, "a tenth of the memory stays free"


def spec(seed: int = 0, **settings: Any) -> RunSpec:
    config = SupervisedConfig.from_dict({**SMALL, **settings})
    return RunSpec("meta", "velo.probe", "smoke", 1, seed, config.to_dict())


@pytest.fixture(scope="module")
def program():
    return make_supervised_program(spec())


def test_the_search_goes_on_from_a_checkpoint_with_the_same_numbers(program, tmp_path):
    """Its state is that of `EvolutionProgram`, and nothing else changes from generation to next."""
    state, rows = program.init(), []
    for generation in range(program.num_slices):
        if generation == 2:
            checkpoints.save(tmp_path, generation, state, [], {})
        state, new = program.advance(state)
        rows += new
    again = checkpoints.load(tmp_path, program.init()).state
    for row in rows[2:]:
        again, (found,) = program.advance(again)
        assert found == row
    for a, b in zip(leaves(again), leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rows[-1]["env_steps"] == 4 * 4 * 20 * 8
    assert all(np.isfinite(row["fitness_center"]) for row in rows)
    assert rows[0]["center_return_iris"] == rows[0]["fitness_center"] != rows[-1]["fitness_center"]


def test_it_starts_with_untrained_weights_of_the_sizes(program):
    theta = program.mean(program.init())
    whole = velo.init_theta(jax.random.key(0), lstm_hidden_size=4, param_inits=2)
    assert jax.tree.map(jnp.shape, theta) == jax.tree.map(jnp.shape, whole)
    other = make_supervised_program(spec(seed=1))
    weights_of = [one.mean(one.init())["ff_mod_stack"]["w1"] for one in (program, other)]
    assert (np.abs(weights_of[0]) > 0).all() and not np.array_equal(*weights_of)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tasks": []}, "tasks must list at least one task"),
        ({"tasks": ["iris", "iris"]}, "tasks must list each task once"),
        ({"tasks": ["diabetes"]}, "unknown task 'diabetes': expected one of digits, wine, breast"),
        ({"normalisers": [1, 2]}, "normalisers must list one number for each of 1 tasks"),
        ({"population": 5}, "population must be even"),
        ({"updates": 0}, "updates must be a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"param_inits": 0}, "param_inits must be a whole number of at least 1"),
        ({"hidden": 16}, "hidden must list the widths of layers, got 16"),
        ({"hidden": [0]}, "a width in hidden must be a whole number of at least 1"),
        ({"sigma": 0}, "sigma must be a number above 0"),
        ({"env_steps": 10}, "unknown setting 'env_steps'"),
        ({"rule": "open"}, "unknown setting 'rule'"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(LoptrlError, match=words):
        SupervisedConfig.from_dict({**SMALL, **settings})


def test_a_configuration_goes_through_json():
    for config in (SupervisedConfig(), SupervisedConfig.from_dict(SMALL)):
        assert SupervisedConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    names = [field.name for field in dataclasses.fields(SupervisedConfig)]
    assert sorted(config.to_dict()) == sorted(names) and "rule" not in names


def test_the_command_makes_a_stand_in_that_is_called_one(data, monkeypatch, capsys):
    standin = meta_recipes.recipe("velo", "standin")
    small = dataclasses.replace(standin, config=SupervisedConfig.from_dict(SMALL))
    monkeypatch.setitem(meta_recipes.RECIPES["velo"], "standin", small)
    command = ["meta", "velo", "--recipe", "standin"]
    cli.main(command)
    path = data / "weights" / "velo" / "standin.npz"
    said = f"velo/standin: 4 generations, 0 members failed; the weights are in {path}"
    assert said in capsys.readouterr().out
    card = weights.card(path, "velo")
    assert card["trained_on"].startswith("stand-in: VeLO's architecture at a reduced size")
    assert card["trained_on"].endswith("not the released VeLO")
    assert card["command"] == "loptrl meta velo --recipe standin"
    assert card["examples"] == 4 * 4 * 20 * 8 and "env_steps" not in card
    assert SupervisedConfig.from_dict(card["config"]) == small.config
    assert [run["key"] for run in Store().iter_manifests()] == [card["run"]]

    rule, params = velo("standin", num_steps=10), {"w": jnp.ones((2, 3))}
    updates, _ = rule.update(params, rule.init(params), params, loss=1.0)
    assert np.isfinite(updates["w"]).all()

    before = path.stat().st_mtime_ns
    cli.main(command)
    assert path.stat().st_mtime_ns == before, "what is done is not done again"

    # Who asks for the released weights does not get these.
    with pytest.raises(WeightsError, match="'velo/released' are here"):
        velo(num_steps=10)
    for study, task in ((open_multitask, "breakout"), (brax_ant, "ant")):
        with pytest.raises(WeightsError, match="velo/released"):
            study.STUDY.specs(arms=[f"{task}.velo"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "take a --recipe, such as standin"),
        (["--recipe", "drift"], "unknown recipe 'drift' for velo: expected one of standin"),
        (["--recipe", "standin", "--sigma", "0.1"], "the weights need a --name, got 'standin'"),
        (["--recipe", "standin", "--name", "released", "--sigma", "0.1"], "are published weights"),
        (["--recipe", "standin", "--name", "x", "--population", "3"], "population must be even"),
        (["--recipe", "standin", "--size", "large"], "options: --size"),
    ],
)
def test_commands_that_cannot_be(data, capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["meta", "velo", *arguments])
    assert stop.value.code == 2
    assert re.search(re.escape(words), capsys.readouterr().err)


def test_the_recipe_s_tasks():
    recipe = meta_recipes.recipe("velo", "standin")
    assert recipe.config.tasks == TASKS and "four scikit-learn tasks" in recipe.trained_on


@pytest.mark.long
def test_the_recipe_s_normalisers_are_what_adam_reaches():
    """With the best of some step sizes on each task, and trainings as the recipe's."""
    config = dataclasses.replace(
        meta_recipes.recipe("velo", "standin").config, members_at_once=None
    )
    rates = jnp.asarray([2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2, 5e-2])
    keys = jax.random.split(jax.random.key(0), 16)

    def adam(rate: Any) -> Any:
        return optax.with_extra_args_support(optax.adam(rate))

    for task, value in zip(config.tasks, config.normalisers, strict=True):
        reached = SupervisedEvaluation(examples(task), adam, config, devices=2)(rates, keys)
        assert float(np.mean(reached, axis=1).max()) == pytest.approx(value, abs=0.01)
