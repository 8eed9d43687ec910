"""The method pages: by hand and the library agree, and a wrong rule would be noticed."""

from __future__ import annotations

import re

import jax
import numpy as np
import pandas as pd
import pytest

import stored_runs
from loptrl.errors import LoptrlError
from loptrl.optimizers import open_optimizer, optim4rl, velo
from loptrl.paths import repo_root
from loptrl.studies import (
    by_hand,
    meta_recipes,
    meta_runs,
    method_pages,
    open_by_hand,
    optim4rl_by_hand,
    velo_by_hand,
    velo_standin,
)
from loptrl.weights import save

HANDS = {"optim4rl": optim4rl_by_hand, "open": open_by_hand, "velo": velo_by_hand}
PAGES = {"optim4rl": "10_optim4rl", "open": "11_open", "velo": "12_velo"}
EACH = pytest.mark.parametrize("family", HANDS)
# Of the largest entry of an update; the largest seen is 1e-6.
ROUNDING = 1e-5


def disagreement(ours, theirs):
    worst, largest = by_hand.largest_difference(ours, theirs)
    return worst / largest


@pytest.mark.parametrize(
    ("family", "seed"), [("optim4rl", 0), ("optim4rl", 1), ("open", 0), ("open", 1), ("velo", 0)]
)
def test_by_hand_and_the_library_agree(family, seed):
    hand = HANDS[family]
    given, theta = by_hand.example(seed, 6), hand.weights(seed=seed)
    ours, theirs = hand.run(theta, given), hand.library(theta, given)
    assert len(ours) == 6 and ours[0].keys() == given.params.keys()
    assert all(tree[path].dtype == np.float64 for tree in ours for path in tree)
    assert all(tree[path].dtype == np.float32 for tree in theirs for path in tree)
    assert disagreement(ours, theirs) < ROUNDING
    # Not by standing still.
    assert all(np.abs(np.concatenate([u.ravel() for u in t.values()])).max() > 1e-5 for t in ours)


def open_extras(given, **changes):
    found = []
    for i in range(len(given.gradients)):
        now = open_by_hand.inputs_of(given, i)
        extra = {
            "key": jax.random.key(i),
            "activity": given.activity,
            "training_fraction": now.training_fraction,
            "epoch_fraction": now.epoch_fraction,
        }
        found.append({**extra, **changes})
    return found


WRONG = {
    "optim4rl": {
        "no clip": lambda th, ex: by_hand.by_library(optim4rl.build(th, grad_clip=None), ex),
        "epsilon": lambda th, ex: by_hand.by_library(optim4rl.build(th, eps=1e-3), ex),
        "networks swapped": lambda th, ex: optim4rl_by_hand.library(
            {**th, "rnn1": th["rnn2"], "rnn2": th["rnn1"]}, ex
        ),
    },
    "open": {
        "no noise": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th, noise=False), ex, open_extras(ex)
        ),
        "noise on the critic": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th, noisy=("actor", "critic")), ex, open_extras(ex)
        ),
        "layers of one network": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th, networks=(), noise=False), ex, open_extras(ex, activity=None)
        ),
        "no dormancy": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th), ex, open_extras(ex, activity=None)
        ),
        "no progress": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th), ex, open_extras(ex, training_fraction=0.0)
        ),
        "no epochs": lambda th, ex: by_hand.by_library(
            open_optimizer.build(th), ex, open_extras(ex, epoch_fraction=0.0)
        ),
    },
    "velo": {
        "start of the LSTM": lambda th, ex: by_hand.by_library(
            velo.build(th, num_steps=100, bugged_lstm_state=True),
            ex,
            [{"loss": loss} for loss in ex.losses],
        ),
        "loss over ten updates": lambda th, ex: by_hand.by_library(
            velo.build(th, num_steps=100, bugged_loss_features=True),
            ex,
            [{"loss": loss} for loss in ex.losses],
        ),
        "horizon": lambda th, ex: velo_by_hand.library(th, ex, num_steps=101),
    },
}


@pytest.mark.parametrize(
    ("family", "what"), [(family, what) for family, wrong in WRONG.items() for what in wrong]
)
def test_a_wrong_rule_is_noticed(family, what):
    hand = HANDS[family]
    given, theta = by_hand.example(0, 6), hand.weights()
    wrong = WRONG[family][what](theta, given)
    assert disagreement(hand.run(theta, given), wrong) > 5 * ROUNDING


@pytest.mark.parametrize(
    ("hand", "name", "value"),
    [
        (optim4rl_by_hand, "gru", lambda theta, h, x: by_hand.gru(theta, 0.9 * h, x)),
        (open_by_hand, "_KEPT", 0.999 * open_by_hand._KEPT),
        (open_by_hand, "dense", lambda theta, x: 1.001 * by_hand.dense(theta, x)),
        (velo_by_hand, "_RMS_NEW", 1e-2),
        (velo_by_hand, "_inverse_root", lambda x: 1.0 / np.sqrt(x + 1e-4)),
        (velo_by_hand, "sigmoid", lambda x: by_hand.sigmoid(x + 0.01)),
    ],
)
def test_a_mistake_by_hand_is_noticed(monkeypatch, hand, name, value):
    given, theta = by_hand.example(0, 4), hand.weights()
    right = hand.run(theta, given)
    monkeypatch.setattr(hand, name, value)
    assert disagreement(right, hand.run(theta, given)) > 5 * ROUNDING


def test_optim4rl_in_numbers_one_can_check():
    # All weights zero: both heads say 0, so every step is alpha against the gradient's sign.
    theta = jax.tree.map(lambda w: 0.0 * w, optim4rl_by_hand.weights())
    theta = by_hand.as_float64(theta)
    zero = np.zeros((3, 8))
    gradient = np.array([-300.0, 0.0, 1e-9])
    update, (h1, h2) = optim4rl_by_hand.step(theta, gradient, (zero, zero), 0.25)
    np.testing.assert_allclose(update, [0.25, 0.0, -0.25], rtol=1e-7)
    assert not h1.any() and not h2.any()
    # A bias of log 9 on the second head makes the root 3, one of log 2 on the first doubles m.
    theta["mlp2"]["layers_0"]["bias"] += np.log(9.0)
    theta["mlp1"]["layers_0"]["bias"] += np.log(2.0)
    update, _ = optim4rl_by_hand.step(theta, gradient, (zero, zero), 0.3)
    np.testing.assert_allclose(update, [0.2, 0.0, -0.2], rtol=1e-7)


def test_open_takes_the_mean_off_and_leaves_the_critic_without_noise():
    given, theta = by_hand.example(3, 2), open_by_hand.weights()
    for tree in open_by_hand.run(theta, given):
        assert abs(np.concatenate([u.ravel() for u in tree.values()]).mean()) < 1e-17
    noise = open_by_hand.inputs_of(given, 0).noise
    assert all(noise[path].any() == path.startswith("actor") for path in noise)


def test_what_the_rules_do_without_a_gradient():
    """The example's one entry that never has a gradient, as the pages say."""
    given = by_hand.example(0, 3)
    assert all(tree["actor/Dense_0/kernel"][0, 0] == 0.0 for tree in given.gradients)
    ours = optim4rl_by_hand.run(optim4rl_by_hand.weights(), given)
    theirs = optim4rl_by_hand.library(optim4rl_by_hand.weights(), given)
    for tree in (*ours, *theirs):
        assert tree["actor/Dense_0/kernel"][0, 0] == 0.0
        assert np.count_nonzero(tree["actor/Dense_0/kernel"]) == 5


# --- weights, tables, sources -----------------------------------------------------------------


def test_named_weights_are_taken(tmp_path):
    theta = optim4rl.init_theta(jax.random.key(7))
    arrays = by_hand._flat(theta)
    save(tmp_path / "mine.npz", arrays, {"family": "optim4rl"})
    found = optim4rl_by_hand.weights(tmp_path / "mine.npz", seed=3)
    assert by_hand._flat(found).keys() == arrays.keys()
    np.testing.assert_array_equal(found["rnn1"]["hn"]["bias"], theta["rnn1"]["hn"]["bias"])
    with pytest.raises(LoptrlError):
        optim4rl_by_hand.weights(str(tmp_path / "other.npz"))


def test_the_table_shows_both_and_the_largest_difference():
    ours = [{"a": np.array([1.0, 2.0]), "b": np.array(-0.0)}]
    theirs = [{"a": np.array([1.0, 2.0625]), "b": np.array(-0.5)}]
    text = by_hand.table(ours, theirs)
    assert "| a | 1.00000e+00 | 1.00000e+00 | 6e−02 |" in text
    assert "| b | 0.00000e+00 | −5.00000e−01 | 5e−01 |" in text
    assert "Over this update and all entries the largest difference is **5e−01**" in text
    with pytest.raises(LoptrlError, match="same tensors"):
        by_hand.table(ours, [{"a": np.zeros(2)}])


@EACH
def test_the_code_shown_is_the_code_that_ran(family):
    hand = HANDS[family]
    shown = by_hand.code(getattr(hand, "update", None) or hand.step)
    assert shown.startswith("```python\ndef ") and shown.endswith("\n```")
    assert '"""' not in shown and "References" not in shown


@pytest.mark.parametrize("bad", [{"seed": -1}, {"updates": 0}, {"updates": 2.5}])
def test_a_bad_example_is_refused(bad):
    with pytest.raises(LoptrlError, match="whole number"):
        by_hand.example(**bad)


# --- what is kept -----------------------------------------------------------------------------


def test_bytes_per_parameter():
    (adam,) = method_pages.kept("adam")
    assert adam.weights == 0
    assert adam.needed == pytest.approx(8.0, abs=0.01)
    (rule,) = method_pages.kept("optim4rl")
    # Two states of eight numbers, four bytes each.
    assert (rule.weights, round(rule.needed)) == (514, 64)
    small, large = method_pages.kept("open")
    # Six momenta, and a state of eight or of sixteen numbers.
    assert (small.weights, round(small.needed)) == (1211, 56)
    assert (large.weights, round(large.needed)) == (3571, 88)
    assert all(row.needed < row.stored < 1.1 * row.needed for row in (rule, small, large))
    (rule,) = method_pages.kept("velo")
    assert rule.weights == 2_320_385 and rule.needed == rule.stored
    # At least three momenta and a mean square, and less than another six numbers a parameter.
    assert 16 < rule.needed < 40


@EACH
def test_the_memory_table(family):
    text = method_pages.memory_table(family)
    assert text.startswith("| optimizer | learned weights |")
    assert "| Adam | none | 8.0 |" in text
    assert "12,497 parameters in 13 tensors" in text
    assert ("as stored" in text) == (family != "velo")


# --- the pages --------------------------------------------------------------------------------


@EACH
def test_a_page_draws_its_rule_and_computes_its_example(family):
    text = (repo_root() / "notebooks" / f"{PAGES[family]}.md").read_text(encoding="utf-8")
    first = text.split("\n## ")[0]
    assert f'method_pages.drawing("{family}")' in first and "**" in first
    assert f'memory_table("{family}")' in text
    assert f"import {HANDS[family].__name__.rpartition('.')[2]} as hand" in text
    assert "by_hand.table(with_numpy, with_library)" in text
    assert re.search(r"Source: \{cite:t\}`\w+`", text)


def test_what_the_pages_say_of_the_library():
    """Names and numbers in the prose are the library's."""
    from loptrl.optimizers import LEARNED
    from loptrl.optimizers.velo import MAX_UPDATES

    pages = {
        family: (repo_root() / "notebooks" / f"{page}.md").read_text(encoding="utf-8")
        for family, page in PAGES.items()
    }
    assert {"linear_optim", "l2lgd2"} <= set(LEARNED)
    assert f"Past {MAX_UPDATES:,} updates" in pages["velo"]
    decays = ", ".join(f"{d:g}" for d in open_by_hand.DECAYS)
    assert f"$d = {decays}$" in pages["open"]
    numbers = re.findall(r"^\|[^|]+\| (\d+) \| (?:yes|no) \|$", pages["open"], re.MULTILINE)
    shape = by_hand.as_float64(open_by_hand.weights())["gru"]["in"]["kernel"].shape
    assert sum(map(int, numbers)) == shape[0] == 19


def test_how_long_a_sign_lives():
    """While d^n m >= 1.2e-38 without subnormal numbers; with them for ever from 0.9 on."""
    rows = [row.split("|")[1:4] for row in open_by_hand.sign_table().splitlines()[2:]]
    assert [float(row[0]) for row in rows] == [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999]
    with_them, without = ([row[i].strip().replace(",", "") for row in rows] for i in (1, 2))
    assert with_them[2:] == ["more than 20000"] * 4
    for d, n in zip((0.1, 0.5, 0.9, 0.99), without, strict=False):
        exact = np.log(np.finfo(np.float32).tiny / (1e-3 * (1 - d))) / np.log(d)
        assert int(n) == np.floor(exact)
    assert without[4:] == ["more than 20000"] * 2


# --- the stand-in -----------------------------------------------------------------------------


def test_the_stand_in_s_search_is_drawn_and_said_from_its_run(store):
    assert velo_standin.words(store) == "The search for a stand-in is not stored."
    assert "no search is stored" in velo_standin.figure(store).texts[0].get_text()
    recipe = meta_recipes.recipe("velo", "standin").config
    generations = np.arange(1, 1001)
    fitness = np.where(generations <= 100, 0.25, 0.75)
    rows = dict.fromkeys(("fitness_mean", "fitness_center", "fitness_best"), fitness)
    rows |= {"fitness_worst": fitness - 9, "generation": generations}
    returns = dict(zip(recipe.tasks, recipe.normalisers, strict=True))
    rows |= {f"center_return_{task}": np.full(1000, level / 2) for task, level in returns.items()}
    frame = pd.DataFrame({"env_steps": generations * recipe.env_steps_per_slice, **rows})
    steps = int(frame["env_steps"].iloc[-1])
    facts = {**stored_runs.FACTS, "env_steps": steps, "diverged_at": None}
    store.write(meta_runs.meta_spec("standin", recipe), frame, facts)
    words = velo_standin.words(store)
    assert "0.25 over the first 100 of 1000 generations, 0.75 over the last 100, where" in words
    assert "0.50 on handwritten digits, 0.50 on wines, 0.50 on tumours and 0.50 on irises" in words
    figure = velo_standin.figure(store)
    (axes,) = figure.axes
    # Members that diverge do not squeeze the others.
    assert axes.get_ylim() == pytest.approx((-0.5, 0.95))
    assert "loptrl meta velo --recipe standin" in " ".join(figure._supxlabel.get_text().split())
    text = (repo_root() / "notebooks" / "12_velo.md").read_text(encoding="utf-8")
    assert f"from {recipe.updates} updates" in text and f"of {recipe.population} members" in text
    assert len(recipe.tasks) == 4 and "on four small classification tasks" in text
