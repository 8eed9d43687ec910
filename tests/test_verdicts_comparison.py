"""C9 to C12 on made-up scores whose verdicts are plain."""

from __future__ import annotations

import numpy as np
import pytest

from loptrl import verdicts

GAMES = ("a", "b", "c", "d")
SPREAD = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def rng():
    return np.random.default_rng(0)


def table(**levels):
    """Optimizer -> game -> five scores around a level, the same on every game or one for each."""
    return {
        name: dict(zip(GAMES, np.add.outer(np.broadcast_to(level, 4), SPREAD)))
        for name, level in levels.items()
    }


@pytest.mark.parametrize(
    ("candidate", "status"),
    [
        ([120, 120, 120, 120], "supported"),
        ([120, 120, 120, 50], "supported"),  # three games are enough
        ([120, 120, 100, 50], "undecided"),  # two are not, and one lost is not two
        ([120, 50, 100, 50], "contradicted"),
    ],
)
def test_c9(candidate, status):
    scores = table(open_multi=candidate, adam=100, rmsprop=90)
    verdict = verdicts.c9(scores, "open_multi", rng=rng())
    assert verdict.status == status and verdict.claim == "C9"
    assert "(adam, rmsprop)" in verdict.reason
    assert len(verdict.estimates) == 8


def test_c9_needs_a_baseline():
    verdict = verdicts.c9(table(open_multi=100), "open_multi", rng=rng())
    assert verdict.status == "undecided" and "no baseline beside open_multi" in verdict.reason


def test_c9_loses_against_any_baseline():
    scores = table(open_multi=100, adam=50, rmsprop=[150, 150, 50, 50])
    assert verdicts.c9(scores, "open_multi", rng=rng()).status == "contradicted"


@pytest.mark.parametrize(
    ("levels", "status", "words"),
    [
        ({"open_multi": 150, "optim4rl": 60}, "supported", "no learned optimizer other than"),
        ({"open_multi": 150, "optim4rl": 100}, "supported", "open_multi 1.5"),
        ({"open_multi": 150, "optim4rl": 130}, "contradicted", "optim4rl lies above Adam"),
        ({"open_multi": 60, "optim4rl": 50}, "contradicted", "open_multi lies below Adam"),
        ({"open_multi": 100, "optim4rl": 50}, "undecided", "includes Adam's level"),
    ],
)
def test_c10(levels, status, words):
    verdict = verdicts.c10(table(adam=100, **levels), "open_multi", ["optim4rl"], rng=rng())
    assert verdict.status == status and words in verdict.reason


def test_c10_needs_another_learned_optimizer():
    verdict = verdicts.c10(table(adam=100, open_multi=150), "open_multi", [], rng=rng())
    assert verdict.status == "undecided" and "no other learned optimizer has" in verdict.reason


def test_c10_weighs_games_by_adam():
    """Twice Adam on a game of small scores and half of it on one of large ones."""
    scores = {
        "adam": {"a": 10 + SPREAD / 10, "b": 1000 + SPREAD},
        "open_multi": {"a": 20 + SPREAD / 10, "b": 500 + SPREAD},
    }
    verdict = verdicts.c10(scores, "open_multi", [], rng=rng())
    assert verdict.estimates["Adam-normalised IQM of open_multi"].value == pytest.approx(
        1.25, abs=0.01
    )


@pytest.mark.parametrize(
    ("own", "other", "status", "words"),
    [
        (1000, 100, "supported", "far below out of it"),
        (900, 100, "supported", "far below out of it"),
        (1100, 100, "contradicted", "The OPEN trained on Ant lies above Adam"),
        (900, 950, "contradicted", "comes within 10 % of Adam"),
        (900, 800, "undecided", "does not settle it"),
    ],
)
def test_c11(own, other, status, words):
    verdict = verdicts.c11(1000 + SPREAD, own + SPREAD, other + SPREAD, rng=rng())
    assert verdict.status == status and words in verdict.reason


def test_c11_without_a_return_to_compare_with():
    for level in (-100 + SPREAD, 0 * SPREAD):
        verdict = verdicts.c11(level, SPREAD, SPREAD, rng=rng())
        assert verdict.status == "undecided" and "fractions of it say nothing" in verdict.reason


@pytest.mark.parametrize("level", [0, -100])
def test_c10_and_c12_without_a_level_of_adam(level):
    """A worse return divided by a negative one would look better."""
    scores = table(adam=[100, level, 100, 100], open_multi=-300, velo=-300)
    for verdict in (
        verdicts.c10(scores, "open_multi", ["velo"], rng=rng()),
        verdicts.c12(scores, "velo", rng=rng()),
    ):
        assert verdict.status == "undecided" and f"adam scores {level}.0 on b" in verdict.reason


@pytest.mark.parametrize(
    ("level", "status"), [(50, "supported"), (150, "contradicted"), (100, "undecided")]
)
def test_c12(level, status):
    assert verdicts.c12(table(adam=100, velo=level), "velo", rng=rng()).status == status


def test_c12_without_weights_decides_nothing():
    verdict = verdicts.c12(table(adam=100), "velo", rng=rng())
    assert verdict.status == "undecided" and "not available here" in verdict.reason


def test_two_seeds_decide_nothing():
    scores = table(adam=100, open_multi=150, velo=50)
    scores["open_multi"]["c"] = scores["open_multi"]["c"][:2]
    of_games = "2 of 3 seeds of open_multi on c"
    for verdict, words in (
        (verdicts.c9(scores, "open_multi", rng=rng()), of_games),
        (verdicts.c10(scores, "open_multi", ["velo"], rng=rng()), of_games),
        (verdicts.c11(SPREAD + 9, SPREAD[:2], SPREAD, rng=rng()), "2 seeds of the trained on Ant"),
        (verdicts.c11([], SPREAD, SPREAD, rng=rng()), "0 seeds of the adam arm"),
    ):
        assert verdict.status == "undecided" and words in verdict.reason
