"""Learned optimizers in the agent: any rule, by the name or the path of its weights."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from loptrl import optimizers, weights
from loptrl.errors import LoptrlError
from loptrl.ppo.config import PPOConfig
from loptrl.runs import RunSpec
from loptrl.studies.training import make_program
from probe_runs import SMALL, leaves, play

RULES = {
    "optim4rl": lambda key: optimizers.optim4rl.init_theta(key),
    "open": lambda key: optimizers.open_optimizer.init_theta(key),
    "velo": lambda key: optimizers.velo.init_theta(key, lstm_hidden_size=8, param_inits=4),
}


@pytest.fixture(scope="module", params=sorted(RULES))
def rule(request, tmp_path_factory):
    """A rule's name and the path of untrained weights for it."""
    theta = RULES[request.param](jax.random.key(0))
    arrays = {
        "/".join(str(part.key) for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(theta)
    }
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.npz"
    weights.save(path, arrays, {"family": request.param})
    return request.param, str(path)


def spec_of(name: str, path: str, **settings) -> RunSpec:
    fields = {"name": name, "weights": path, "sha256": weights.digest(path, name)}
    config = PPOConfig.from_dict({**SMALL, "optimizer": fields | settings.pop("rule", {})})
    return RunSpec("probe", "plain", "smoke", 1, 0, {**config.to_dict(), **settings})


def test_a_learned_rule_trains_the_agent(rule):
    program = make_program(spec_of(*rule))
    first = leaves(program.init().params)
    state, rows = play(program)
    moved = [np.abs(a - b).max() for a, b in zip(first, leaves(state.params))]
    assert len(rows) == 5 and 0 < max(moved) < 1 and np.isfinite(moved).all()
    assert rows[-1]["update_norm"] > 0 and rows[-1]["last_return"] != 0
    again, _ = play(program)
    for one, two in zip(leaves(state), leaves(again)):
        np.testing.assert_array_equal(one, two)


def test_other_weights_are_another_agent(tmp_path):
    """The step is alpha times a learned ratio: a bias of log 2 more doubles it."""
    theta = optimizers.optim4rl.init_theta(jax.random.key(0))
    results = []
    for extra in (0.0, np.log(2.0)):
        changed = jax.tree.map(np.asarray, theta)
        changed["mlp1"]["layers_0"]["bias"] = changed["mlp1"]["layers_0"]["bias"] + extra
        arrays = {
            "/".join(str(part.key) for part in path): np.asarray(leaf, np.float32)
            for path, leaf in jax.tree_util.tree_leaves_with_path(changed)
        }
        path = tmp_path / f"{extra:.1f}.npz"
        weights.save(path, arrays, {"family": "optim4rl"})
        spec = spec_of("optim4rl", str(path), epochs=1, minibatches=1)
        program = make_program(spec)
        before = ravel_pytree(program.init().params)[0]
        state, _ = program.train(program.init())
        results.append(np.asarray(ravel_pytree(state.params)[0] - before))
    np.testing.assert_allclose(results[1], 2 * results[0], rtol=1e-3, atol=1e-9)


def test_weights_that_changed_since_the_plan_are_refused(rule):
    spec = spec_of(*rule, rule={"sha256": "0" * 64})
    with pytest.raises(LoptrlError, match=r"was planned with other weights of that name"):
        make_program(spec)


def test_a_learning_rate_without_effect_is_refused(rule):
    spec = spec_of(*rule, rule={"learning_rate": 0.1})
    if rule[0] == "optim4rl":
        make_program(spec)
        return
    with pytest.raises(LoptrlError, match=r"has no learning rate, got 0\.1; leave it out"):
        make_program(spec)
