"""How far meta-training moved Optim4RL's weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from loptrl import weights
from loptrl.paths import repo_root
from loptrl.studies import meta_recipes, meta_training, optim4rl_moved

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
        np.testing.assert_array_equal(found[name], value)


def test_every_own_training_has_its_row_and_its_numbers():
    rows = optim4rl_moved.moves().set_index("weights")
    assert set(rows.index) <= set(meta_recipes.RECIPES["optim4rl"]) and len(rows) >= 17
    for name in ("drift", "grid_1e-5_512", "grid_1e-3_32"):
        arrays, start = (weights.load(f"optim4rl/{n}").arrays for n in (name, "untrained"))
        largest = max(np.abs(arrays[key] - start[key]).max() for key in start)
        assert rows.loc[name, "largest move"] == pytest.approx(largest, rel=1e-5)
    assert rows.loc["drift", "meta-iterations"] == 173
    assert rows.loc["drift", "meta learning rate"] == 1e-4
    assert rows["move"].is_monotonic_increasing


def test_a_training_goes_about_as_far_as_its_steps():
    """What the page says of the product, within a factor of three to either side."""
    rows = optim4rl_moved.moves()
    product = rows["meta learning rate"] * rows["meta-iterations"]
    ratio = rows["largest move"] / product
    assert ratio.between(1 / 3, 3).all(), ratio
    assert "goes about as far as the product of that rate and of the meta-iterations" in PROSE


def test_the_words_and_the_table_are_of_these_rows():
    words, table = optim4rl_moved.words(), optim4rl_moved.table()
    rows = optim4rl_moved.moves()
    slow = rows[rows["meta learning rate"] == 1e-5]["move"]
    assert (
        f"by {100 * slow.min():.2g} to {100 * slow.max():.2g} % with a meta learning rate" in words
    )
    assert words.count("1e-5") == words.count("1e-4") == words.count("1e-3") == 1
    assert table.count("| `") == len(rows)
