"""How long Optim4RL's steps are: for gradients of one size, and in stored runs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import stored_runs
from loptrl.optimizers import optim4rl
from loptrl.studies import (
    method_pages,
    optim4rl_by_hand,
    optim4rl_l2,
    optim4rl_response,
    optim4rl_steps,
)
from loptrl.studies import optim4rl_l2_report as report

SIZES = np.array([1e-6, 1e-3, 1.0])


def scaled(theta, head, factor):
    return {**theta, head: jax.tree.map(lambda w: factor * w, theta[head])}


def test_constant_heads_make_constant_steps():
    """m = exp(log 3), v = exp(log 4): 3 / 2 alpha."""
    theta = jax.tree.map(lambda w: 0.0 * w, optim4rl_by_hand.weights())
    for head, value in (("mlp1", 3.0), ("mlp2", 4.0)):
        (layer,) = theta[head].values()
        layer["bias"] = np.log([value])
    np.testing.assert_allclose(optim4rl_response.respond(theta, SIZES), 1.5, rtol=1e-6)


def test_a_rule_that_hears_its_gradient_is_no_constant():
    theta = scaled(optim4rl_by_hand.weights(), "mlp2", 30.0)
    tiny, _, large = optim4rl_response.respond(theta, SIZES)
    assert abs(large / tiny - 1) > 0.5


def test_the_response_is_that_of_the_library():
    theta = optim4rl.init_theta(jax.random.key(3))
    rule = optim4rl.build(theta, learning_rate=1.0)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (6, 3 * 64))
    gradients = np.repeat(SIZES, 64) * signs
    state, squares = rule.init(np.zeros(3 * 64, np.float32)), []
    for gradient in gradients.astype(np.float32):
        update, state = rule.update(gradient, state)
        squares.append(np.asarray(update) ** 2)
    by_library = np.sqrt(np.mean(np.array(squares[3:]).reshape(3, 3, 64), axis=(0, 2)))
    ours = optim4rl_response.respond(theta, SIZES, updates=6)
    np.testing.assert_allclose(ours, by_library, rtol=1e-5)


def test_the_words_count_the_sets_that_are_here(monkeypatch):
    flat = np.ones(25)
    bent = np.where(np.arange(25) < 5, 1.0, 2.0)
    sets = {"untrained": flat, "a": 1.05 * flat, "b": 4.0 * flat, "c": bent}
    monkeypatch.setattr(optim4rl_response, "responses", lambda: sets)
    words = optim4rl_response.words()
    assert "the step of 3 of the 4 sets that are here varies by less than" in words
    assert "1.00 times α for untrained weights, within 10 % of α for 1 of the 2 trained" in words
    assert "4.00 times α for the longest (`b`)" in words
    (axes,) = optim4rl_response.figure().axes
    assert len(axes.get_lines()) == len(sets) + 1, "Adam's too"
    assert "2 sets, black: untrained" not in {text.get_text() for text in axes.texts}
    assert "3 sets, black: untrained" in {text.get_text() for text in axes.texts}


def test_adams_step_for_noise_is_that_of_its_average():
    """sqrt((1 - b1) / (1 + b1)) = 0.229 for signs that are independent."""
    assert optim4rl_response._adam(np.full(16, 1e-3)) == pytest.approx(np.sqrt(0.1 / 1.9), rel=0.1)


def test_the_numbers_that_are_written_out_are_those_of_the_library():
    networks = method_pages._agent()
    counts = [sum(leaf.size for leaf in jax.tree.leaves(networks[n])) for n in ("actor", "critic")]
    assert tuple(counts) == optim4rl_steps.network_weights() == (6480, 6017)
    assert optim4rl.build.__kwdefaults__["learning_rate"] == optim4rl_steps.ALPHA
    assert optim4rl_l2.STUDY.config("drift").max_grad_norm == optim4rl_steps.CLIP


@pytest.mark.parametrize("steady", [True, False])
def test_stored_runs_are_called_constant_only_when_they_are(store, steady):
    weights = sum(optim4rl_steps.network_weights())
    for spec in optim4rl_l2.STUDY.specs("laptop", ["drift", "small_step"], seeds=3):
        alpha = 5e-5 if spec.arm == "small_step" else 3e-4

        def norms(rows, alpha=alpha):
            wave = 1.0 if steady else 1.0 + 0.5 * np.sin(np.arange(rows))
            return 2.0 * alpha * np.sqrt(weights) * wave * np.ones(rows)

        stored_runs.keep(store, spec, 2000.0, metrics={"update_norm": norms})
    found = report.load(store=store, compute="never")
    if steady:
        for arm in ("drift", "small_step"):
            np.testing.assert_allclose(optim4rl_steps.lengths(found, arm), 2.0, rtol=1e-6)
    words = optim4rl_steps.in_runs(found, report.ARMS)
    assert "Optim4RL (direct) 2.0" in words or not steady
    assert ("**a constant step against the sign" in words) == steady
    assert optim4rl_steps.in_runs(found, ["adam"]) == ""
