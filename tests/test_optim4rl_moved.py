"""How far meta-training moved Optim4RL's weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import stored_runs
from loptrl import weights
from loptrl.paths import repo_root
from loptrl.studies import (
    meta_recipes,
    meta_training,
    optim4rl_by_hand,
    optim4rl_moved,
    optim4rl_response,
)

PROSE = " ".join((repo_root() / "notebooks" / "10_optim4rl.md").read_text("utf-8").split())


def test_meta_trainings_begin_with_the_untrained_weights_that_are_stored():
    stored = weights.load("optim4rl/untrained").arrays
    begun = meta_training.untrained_theta("optim4rl", 0)
    found = {
        "/".join(str(part.key) for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(begun)
    }
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        # Orthogonal matrices come from a decomposition, whose rounding differs between processors.
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5)


def test_every_own_training_has_its_row_and_its_numbers():
    rows = optim4rl_moved.moves().set_index("weights")
    own = {name for name in meta_recipes.RECIPES["optim4rl"] if weights.available(name, "optim4rl")}
    assert set(rows.index) == own and len(own) >= 17
    start = weights.load("optim4rl/untrained").arrays
    for name, row in rows.iterrows():
        arrays = weights.load(f"optim4rl/{name}").arrays
        squares = sum(np.sum((arrays[key] - start[key]) ** 2) for key in start)
        size = sum(np.sum(start[key] ** 2) for key in start)
        largest = max(np.abs(arrays[key] - start[key]).max() for key in start)
        assert row["largest move"] == pytest.approx(largest, rel=1e-4)
        assert row["move"] == pytest.approx((squares / size) ** 0.5, rel=1e-4)
        assert row["meta-iterations"] == {"reduced": 586, "drift_long": 575}.get(
            name, 100 if name.startswith("small") else 173
        )
    assert rows.loc["drift", "meta learning rate"] == 1e-4
    assert rows["move"].is_monotonic_increasing
    step = optim4rl_response.respond(optim4rl_by_hand.weights("reduced"), np.array([1e-6]))
    assert rows.loc["reduced", "step"] == pytest.approx(step.item())


def test_rate_times_iterations_is_about_the_most():
    rows = optim4rl_moved.moves()
    product = rows["meta learning rate"] * rows["meta-iterations"]
    ratio = rows["largest move"] / product
    assert ratio.max() < 2.5 and "is about the most that a weight moves" in PROSE
    assert f"{ratio.min():.1f} to {ratio.max():.1f} times the meta" in optim4rl_moved.words()


def test_the_three_rules_of_page_03_are_as_the_page_says():
    rows = optim4rl_moved.moves().set_index("weights").loc[["stationary", "drift", "curriculum"]]
    assert (rows["move"] < 0.03).all() and "the same weights to a few per cent" in PROSE
    untrained = optim4rl_response.responses()["untrained"][0]
    assert (rows["step"] / untrained < 1.11).all() and "as long to about a tenth" in PROSE
    longer = optim4rl_moved.moves().set_index("weights").loc["drift_long"] / rows.loc["drift"]
    assert 4.5 < longer["move"] < 5.5 and "about five times as far as `drift`" in PROSE
    assert 2 < longer["step"] < 3 and "its steps are more than twice as long" in PROSE


def test_the_words_and_the_table_are_of_these_rows():
    words, table = optim4rl_moved.words(), optim4rl_moved.table()
    rows = optim4rl_moved.moves()
    slow = rows[rows["meta learning rate"] == 1e-5]["move"]
    assert (
        f"by {100 * slow.min():.2g} to {100 * slow.max():.2g} % with a meta learning rate" in words
    )
    assert words.count("1e-5") == words.count("1e-4") == words.count("1e-3") == 1
    assert table.count("\n") == len(rows) + 1


def test_without_weights_there_is_nothing_to_say(monkeypatch, tmp_path):
    arrays = weights.load("optim4rl/untrained").arrays
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path))
    for name in (None, "untrained"):
        if name:
            stored_runs.keep_weights(tmp_path, name, arrays)
        assert optim4rl_moved.moves().empty and optim4rl_moved.table() == ""
        assert optim4rl_moved.words().startswith("No set of weights")
