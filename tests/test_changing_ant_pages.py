"""The notebooks of studies 2 and 3: their prose, and a page made for real."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import stored_runs
from loptrl import book, verdicts, weights
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import adam_collapse, meta_recipes, optim4rl_l2, transfer

NOTEBOOKS = [repo_root() / "notebooks" / f"{name}.md" for name in ("02_optim4rl_l2", "03_transfer")]


def test_the_prose_says_what_the_studies_do():
    direct, moved = (" ".join(path.read_text().split()) for path in NOTEBOOKS)
    recipes = {name: r.config for name, r in meta_recipes.RECIPES["optim4rl"].items()}
    assert recipes["drift_l2"].agent_l2 == 1e-4 and "The penalty, of strength 1e-4," in direct
    full_size, reduced = recipes["drift"], recipes["reduced"]
    assert (full_size.inner_updates, reduced.inner_updates) == (4, 2)
    assert full_size.ppo("ant").batch_size == 2 * reduced.ppo("ant").batch_size
    assert "goes through 2 PPO iterations instead of 4, each on half the batch" in direct
    length = dataclasses.replace(recipes["drift_long"], env_steps=full_size.env_steps)
    assert length == full_size and recipes["drift_long"].env_steps == 1e8
    assert (recipes["drift_long"].num_slices, full_size.num_slices) == (575, 173)
    assert "575 meta-iterations in place of 173" in direct
    assert recipes["no_pipeline"].reset_interval is None and "none starts anew" in direct
    (phase,) = full_size.phases
    assert f"the friction changes every {phase.drift['friction']['period']:,} env steps" in direct
    assert [bool(p.drift) for p in recipes["curriculum"].phases] == [False, True]
    first, second = recipes["curriculum"].phases
    assert first.share == second.share and "one half of the meta-training without" in moved
    assert adam_collapse.STUDY.config("adam").max_grad_norm == 0.5
    assert "shortened to a norm of 0.5" in direct
    entries = [weights.REGISTRY[f"optim4rl/{name}"] for name in ("ant", "ant_1", "ant_22")]
    numbers = ["512, meta-learning rate 1e-5", "32, meta-learning rate 1e-5"]
    for entry, words in zip(entries, [*numbers, "64, meta-learning rate 1e-3"], strict=True):
        assert entry.trained_on.endswith(f"reset interval {words}")
    assert "of 512 or 32 and a meta-learning rate of 1e-5, and with 64 and 1e-3" in moved
    assert verdicts.QUARTER == 0.25 and "the 5 % of the run around that place" in moved


@pytest.mark.slow
def test_the_notebooks_train_and_make_a_page(tmp_path, monkeypatch, library_path):
    """At smoke size: what is stored is drawn, what our random weights can train is trained."""
    import jax
    import nbformat

    from loptrl.optimizers import optim4rl

    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    theta = optim4rl.init_theta(jax.random.key(0))
    arrays = {
        "/".join(str(part.key) for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(theta)
    }
    for name in ("drift", "stationary"):
        stored_runs.keep_weights(tmp_path / "data", name, arrays)
    results = tmp_path / "data" / "results"
    store = Store(results, tmp_path / "scratch")
    for study, arms in (
        (adam_collapse.STUDY, ["adam", "stationary"]),
        (optim4rl_l2.STUDY, ["drift", "small_step"]),
        # One training for real is enough: each compiles the Ant.
        (transfer.STUDY, ["transferred_still"]),
    ):
        for spec in study.specs("smoke", arms, 1, env_steps=400):
            stored_runs.keep(store, spec, 2000.0)
    given = {"budget": "smoke", "env_steps": "400", "seeds": "1", "compute": "missing"}
    stored = {"adam", "stationary", "drift", "small_step", "transferred_still"}
    for path, trained, images in zip(NOTEBOOKS, (set(), {"transferred"}), (5, 6), strict=True):
        page = book.execute(path, given, to="tiny" + path.stem[:2], output_dir=tmp_path / "pages")
        kept = {file.parent.name for file in results.glob("*/*/*.parquet")}
        assert kept == stored | trained
        node = nbformat.read(page, as_version=4)
        outputs = [o for c in node.cells for o in c.get("outputs", [])]
        assert sum("image/png" in o.get("data", {}) for o in outputs) == images
        text = page.read_text(encoding="utf-8")
        assert "**On the changing Ant " in text and "Too few runs" in text
        assert "No run of these: Optim4RL (" in text and str(tmp_path) not in text
