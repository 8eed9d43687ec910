"""What page 10 tells of the agents of a long meta-training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import stored_runs
from loptrl.meta.pipeline import Ages
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import meta_recipes, meta_runs, optim4rl_lives

CONFIG = meta_recipes.recipe("optim4rl", optim4rl_lives.NAME).config


def keep(store, returns):
    """A run of the meta-training with these training returns, and its spec."""
    iterations = np.arange(1, returns.size + 1)
    frame = pd.DataFrame(
        {
            "env_steps": iterations * CONFIG.env_steps_per_slice,
            "meta_iteration": iterations,
            "train_return": returns,
        }
    )
    steps = int(frame["env_steps"].iloc[-1])
    over = steps if returns.size < CONFIG.num_slices else None
    spec = meta_runs.meta_spec(optim4rl_lives.NAME, CONFIG)
    store.write(spec, frame, {**stored_runs.FACTS, "env_steps": steps, "diverged_at": over})
    return spec


def test_a_round_has_every_age_of_every_agent_once_from_the_second_on():
    ages = np.stack([Ages.at(i, CONFIG.agents, CONFIG.reset_interval).age for i in range(384)])
    for first, seen in ((0, False), (128, True), (256, True)):
        own = np.sort(ages[first : first + CONFIG.reset_interval], axis=0)
        assert (own == np.arange(128)[:, None]).all() == seen


def test_the_rounds_are_said_and_drawn_from_the_run(store):
    assert optim4rl_lives.words(store) == ""
    assert "is not stored" in optim4rl_lives.figure(store).texts[0].get_text()
    returns = np.repeat([10.0, 1200.0, 1300.0, 1500.0, 99.0], 128)[: CONFIG.num_slices]
    returns[130] = np.nan
    spec = keep(store, returns)
    words = optim4rl_lives.words(store)
    assert "of 1,200, 1,300 and 1,500 in the second and the following rounds of 128 meta" in words
    figure = optim4rl_lives.figure(store)
    (axes,) = figure.axes
    thin, thick = axes.get_lines()
    assert len(thin.get_xdata()) == 575 and thick.get_xdata()[0] == 256
    assert thick.get_ydata()[0] == 1200 and thick.get_ydata()[128] == 1300
    printed = " ".join(figure._supxlabel.get_text().split())
    assert spec.key[:8] in printed and "loptrl meta optim4rl --recipe drift_long" in printed


@pytest.mark.parametrize("length", [60, 200])
def test_a_meta_training_that_ended_early_is_drawn_without_rounds(store, length):
    keep(store, np.ones(length))
    assert optim4rl_lives.words(store) == ""
    (axes,) = optim4rl_lives.figure(store).axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [length]


def test_the_two_trainings_begin_alike_and_rounding_sets_them_apart():
    """In the committed runs, as page 02 says."""
    runs = meta_runs.stored("optim4rl", ["drift", optim4rl_lives.NAME], Store())
    short, long = (run.frame["train_return"].to_numpy(np.float64) for run in runs.values())
    assert short[0] != long[0] == pytest.approx(short[0], rel=0.01)
    assert not np.allclose(long[: short.size], short, rtol=0.01)
    text = (repo_root() / "notebooks" / "02_optim4rl_l2.md").read_text(encoding="utf-8")
    assert "rounding sets them apart from the first meta-iteration on" in " ".join(text.split())
