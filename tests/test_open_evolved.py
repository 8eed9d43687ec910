"""The page of OPEN evolved here: right with whatever searches and runs are stored."""

from __future__ import annotations

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import stored_runs
from loptrl import book, optimizers, weights
from loptrl.optimizers import open_optimizer
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import (
    meta_recipes,
    meta_runs,
    meta_training,
    open_evolved,
    open_evolved_longer,
    open_evolved_report,
    open_multitask,
)
from loptrl.studies.comparison_report import finals_table, missing
from loptrl.studies.words import estimate

NOTEBOOK = repo_root() / "notebooks" / "09_open_evolved.md"
LEVELS = {"adam": 5.0, "start": 0.5, "early": 1.0, "one": 9.0, "slow": 8.0, "two": 5.5}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Weights for every arm, and an empty store."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    for number, recipe in enumerate(["untrained", *meta_recipes.RECIPES["open"]]):
        theta = open_optimizer.init_theta(jax.random.key(number))
        open_optimizer.save(meta_runs.weights_path(recipe, "open"), theta)
    return Store()


def search(store, name, fitness):
    config = meta_recipes.recipe("open", name).config
    spec = meta_runs.meta_spec(name, config)
    fitness = np.asarray(fitness, np.float64)
    rows = {
        "env_steps": np.arange(1, fitness.size + 1) * config.env_steps_per_slice,
        "generation": np.arange(1, fitness.size + 1),
        "fitness_mean": fitness,
        "fitness_best": fitness + 1,
        "fitness_worst": fitness - 1,
        "fitness_center": fitness + 0.1,
    }
    length = int(rows["env_steps"][-1])
    facts = stored_runs.FACTS | {"env_steps": length, "diverged_at": None}
    store.write(spec, pd.DataFrame(rows), facts)


def fill(store, levels=LEVELS):
    for optimizer, level in levels.items():
        for task in open_evolved.COMPARISON.tasks:
            arm = open_evolved.COMPARISON.arm_name(task, optimizer)
            for spec in open_evolved.STUDY.specs("laptop", [arm], 5):
                stored_runs.keep(store, spec, level + 0.01 * spec.seed)


def load(store):
    return open_evolved_report.load(compute="never", store=store)


def test_the_study_has_the_horizon_and_the_agent_of_the_search(store):
    for optimizer, name in open_evolved.EVOLUTIONS.items():
        recipe = meta_recipes.recipe("open", name).config
        for task in recipe.tasks:
            arm = open_evolved.COMPARISON.arm_name(task, optimizer)
            config, member = open_evolved.STUDY.config(arm), recipe.ppo(task)
            assert config.num_slices * config.env_steps_per_slice == config.env_steps == 204_800
            assert member.num_slices * member.env_steps_per_slice == 204_800
            assert (config.hidden, config.num_updates) == (member.hidden, member.num_updates)
            assert config.optimizer.sha256 == weights.digest(f"open/{name}")


def test_all_weights_0_move_nothing():
    zeros = jax.tree.map(jnp.zeros_like, open_optimizer.init_theta(jax.random.key(0)))
    params = {"actor": {"kernel": jnp.ones((3, 2))}, "critic": {"kernel": jnp.ones((3, 1))}}
    rule = open_optimizer.build(zeros)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = rule.update(grads, rule.init(params), params, key=jax.random.key(1))
    assert all(not np.any(u) for u in jax.tree.leaves(updates))


def test_nothing_stored_is_said(store):
    found = load(store)
    assert "nothing can be said" in open_evolved_report.headline(found)
    assert open_evolved_report.on_fitness(found) == "No search is stored."
    assert open_evolved_report.on_start(found) == open_evolved_report.on_adam(found) == ""
    for figure in (open_evolved_report.fitness_figure, open_evolved_report.finals_figure):
        assert figure(found).texts[0].get_text().startswith("Not drawn")


def test_the_words_follow_the_runs(store):
    search(store, "evolved_breakout", np.linspace(1, 6, 100))
    search(store, "evolved_breakout_asterix", np.full(50, 2.0) + np.tile([0.1, -0.1], 25))
    fill(store)
    found = load(store)
    answer = open_evolved_report.headline(found)
    final, early, start, adam = (
        found.evidence.scores[n]["breakout"] for n in ("one", "early", "start", "adam")
    )
    assert answer == (
        f"**In 204,800 env steps on Breakout agents reach a return of {estimate(final)} with OPEN "
        f"after 100 generations on that game, {estimate(early)} after the first 10, "
        f"{estimate(start)} with the random weights of its start, {estimate(adam)} with Adam "
        "as tuned for 10 million; untrained agents score -10 [-10, -10].**"
    )
    fitness = open_evolved_report.on_fitness(found)
    assert "1.23 over the first 10 of 100 generations, 5.77 over the last 10." in fitness
    assert "2.02 over the first 5 of 50 generations, 1.98 over the last 5." in fitness
    start = open_evolved_report.on_start(found)
    assert re.findall("^Agents with (.*) minus$", start, re.M) == [
        "OPEN (Breakout) on Breakout",
        "OPEN (both games) on Breakout",
        "OPEN (both games) on Asterix",
    ]
    assert start.count("better: the interval excludes 0") == 3 + 2 + 2
    assert start.count("its own first 10 generations: ") == 1
    lines = open_evolved_report.on_adam(found).splitlines()
    assert len(lines) == 9 and sum("better" in line for line in lines) >= 6
    assert sum(line.startswith("- Both games, each score divided") for line in lines) == 3
    assert "OPEN, early (Breakout)" in finals_table(found.evidence)
    for figure in (open_evolved_report.fitness_figure, open_evolved_report.finals_figure):
        drawn = figure(found)
        assert isinstance(drawn, Figure) and drawn.axes
    assert len(open_evolved_report.fitness_figure(found).axes) == 2


def test_that_nothing_is_missing_is_said(store):
    fill(store)
    found = open_evolved_report.load(seeds=2, compute="never", store=store)
    assert missing(found.evidence) == "Every planned run is stored."


def test_a_worse_end_is_said_too(store):
    fill(store, LEVELS | {"one": 0.5, "early": 9.0})
    found = load(store)
    assert "worse: the interval excludes 0" in open_evolved_report.on_start(found)
    assert "worse: the interval excludes 0" in open_evolved_report.on_adam(found)


def test_what_becomes_of_it_in_longer_trainings(store):
    """One game where every run falls, one where none does, two without runs."""

    def falls(steps, friction, seed):
        return np.where(steps < 1_000_000, 8.0 + seed, 0.1)

    for arm, returns in {"breakout.open_own": falls, "freeway.open_own": 20.0}.items():
        for spec in open_multitask.STUDY.specs("laptop", [arm], 3):
            stored_runs.keep(store, spec, returns)
    evidence = open_evolved_longer.load(store=store)
    assert open_evolved_longer.headline(evidence) == (
        "3 of 6 runs with OPEN (ours, Breakout) on Freeway and Breakout collapse in trainings of "
        "9,830,400 env steps."
    )
    table = open_evolved_longer.longer_table(evidence).splitlines()
    assert len(table) == 4
    freeway, breakout = table[2:]
    assert "| Freeway |" in freeway and freeway.endswith("| 0 of 3 |")
    assert "| Breakout | 9 [8, 10] | 204,800 | 0.10 [0.10, 0.10] | 3 of 3 |" in breakout
    figure = open_evolved_longer.longer_figure(evidence)
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert axes.get_xscale() == "log" and axes.get_xlim()[0] == 204_800


def test_without_longer_trainings_that_is_said(store):
    evidence = open_evolved_longer.load(store=store)
    for say in (open_evolved_longer.longer_table, open_evolved_longer.headline):
        assert say(evidence).startswith("No run with these weights")
    assert open_evolved_longer.longer_figure(evidence).texts[0].get_text().startswith("Not drawn")


def test_adam_alone_is_drawn(store):
    fill(store, {"adam": 5.0})
    found = load(store)
    assert "nothing can be said" in open_evolved_report.headline(found)
    assert open_evolved_report.finals_figure(found).axes
    assert "among them all of OPEN, untrained, OPEN, early (Breakout)" in missing(found.evidence)


def test_the_prose_says_what_the_searches_are():
    text = " ".join(NOTEBOOK.read_text(encoding="utf-8").split())
    for name in open_evolved.EVOLUTIONS.values():
        config = meta_recipes.recipe("open", name).config
        assert f"{config.population} members a generation" in text
        assert not config.zero_start and "start with untrained random weights" in text
        assert config.agent["hidden"] == [16, 16] and "two layers of 16 units" in text
    assert "trainings of 204,800 env steps" in text
    said = re.findall(r"--recipe (\w+)", text)
    assert sorted(said) == sorted(meta_recipes.RECIPES["open"])


def test_the_search_starts_from_the_untrained_weights_of_its_seed():
    kept = optimizers.LEARNED["open"].theta("open/untrained")
    first = meta_training.untrained_theta("open", 0)
    # An orthogonal matrix comes from a decomposition, whose rounding differs between processors.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), kept, first)


def test_two_games_are_weighed_by_what_adam_reaches_at_the_horizon():
    """In the committed runs of this study."""
    config = meta_recipes.recipe("open", "evolved_breakout_asterix").config
    scores = open_evolved_report.load(compute="never").evidence.scores["adam"]
    means = [np.mean(scores[task]) for task in config.tasks]
    assert list(config.normalisers) == pytest.approx(means, rel=0.01)


@pytest.mark.slow
def test_the_notebook_makes_a_page(store, tmp_path, library_path):
    """At smoke size: short trainings for real, and no search."""
    import nbformat

    shutil.copytree(repo_root() / "data" / "reference", tmp_path / "data" / "reference")
    given = {"budget": "smoke", "env_steps": "512", "seeds": "2"}
    # One by hand and one learned are enough: each program takes long to compile.
    trained = {"breakout.adam", "breakout.one"}
    specs = open_evolved.STUDY.specs("smoke", seeds=2, env_steps=512)
    for spec in specs:
        if spec.arm not in trained:
            stored_runs.keep(store, spec, 1.0)
    page = book.execute(NOTEBOOK, given, to="tiny", output_dir=tmp_path / "pages")
    node = nbformat.read(page, as_version=4)
    shown = [o for c in node.cells for o in c.get("outputs", []) if "image/png" in o["data"]]
    assert all(store.path(spec).is_file() for spec in specs)
    assert len(shown) == 3 and "No search is stored." in page.read_text(encoding="utf-8")
