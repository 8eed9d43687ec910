"""The hand computations of the method pages replay what the official code did, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from golden_files import files, nested, read, under, worst
from test_golden_open import update_error
from test_golden_velo import weights

from loptrl.optimizers.open import theta_from_vector
from loptrl.studies import open_by_hand, optim4rl_by_hand, velo_by_hand
from loptrl.studies.by_hand import as_float64


def inputs(data, name):
    """Recorded arrays of that name by path, in 64 bits, in the order of sorted paths."""
    return {k: v.astype(np.float64) for k, v in sorted(under(data, name).items())}


def at(tree, t):
    return {path: value[t] for path, value in tree.items()}


def stacked(trees):
    return {path: np.stack([tree[path] for tree in trees]) for path in trees[0]}


def moved(params, updates):
    """The parameters after each update."""
    found = []
    for update in updates:
        params = {path: p + update[path] for path, p in params.items()}
        found.append(params)
    return stacked(found)


OPTIM4RL = ["optim4rl_mlp0", "optim4rl_mlp0_lr_arg", "optim4rl_mlp0_smallv", "optim4rl_mlp16x16"]


@pytest.mark.parametrize("path", files("optim4rl", OPTIM4RL))
def test_optim4rl_by_hand(path):
    data = read(path)
    assert float(data["config/grad_clip"]) == 1.0 and np.isclose(data["config/eps"], 1e-8)
    theta = as_float64(nested(under(data, "meta/params/")))
    rate, hidden = float(data["config/learning_rate"]), int(data["config/hidden_size"])
    params, grads = inputs(data, "init/params/"), inputs(data, "in/grads/")
    memory = {
        k: (np.zeros((p.size, hidden)), np.zeros((p.size, hidden))) for k, p in params.items()
    }
    found = []
    for t, factor in enumerate(data["in/lr"]):
        updates = {}
        for k in params:
            update, memory[k] = optim4rl_by_hand.step(theta, grads[k][t], memory[k], rate)
            updates[k] = float(factor) * update
        found.append(updates)
    assert worst(stacked(found), under(data, "out/update/")) < 1e-5
    assert worst(moved(params, found), under(data, "out/params/")) < 2e-6


OPEN = ["rand_small_cont_noise", "rand_large_disc_noise", "rand_small_lneps_nonoise"]
OPEN += ["edge_small_disc_noise", "multi_disc_noise"]


def replay_open(data):
    theta = as_float64(theta_from_vector(data["meta/flat"]))
    hidden = theta["gru"]["hn"]["bias"].size
    params, grads = inputs(data, "init/params/"), inputs(data, "in/grads/")
    activity, noise = inputs(data, "in/activations/"), inputs(data, "in/noise/")
    mask, layer = under(data, "in/mask/"), under(data, "in/layer_prop/")
    memory = {
        k: open_by_hand.Memory(np.zeros((p.size, 6)), np.zeros((p.size, hidden)))
        for k, p in params.items()
    }
    found, now = [], params
    for t in range(int(data["config/num_steps"])):
        given = open_by_hand.Inputs(
            at(activity, t),
            {k: float(v) for k, v in layer.items()},
            {k: float(mask[k]) * noise[k][t] for k in params},
            float(data["in/training_prop"][t]),
            float(data["in/batch_prop"][t]),
        )
        updates, memory = open_by_hand.update(theta, now, at(grads, t), memory, given)
        now = {k: p + updates[k] for k, p in now.items()}
        found.append(updates)
    return params, found


@pytest.mark.parametrize("path", files("open", OPEN))
def test_open_by_hand(path):
    data = read(path)
    params, found = replay_open(data)
    assert update_error(data, stacked(found)) < 1e-4
    assert worst(moved(params, found), under(data, "out/params/")) < 1e-5


VELO = ["small_released_flags", "small_tree_ranks", "full512_released_flags"]


@pytest.mark.parametrize("path", files("velo", VELO))
def test_velo_by_hand(path):
    data = read(path)
    theta = as_float64(weights(data))
    params, grads = inputs(data, "init/params/"), inputs(data, "in/grads/")
    memory, now, found = velo_by_hand.start(theta, params), params, []
    for t, loss in enumerate(data["in/loss"]):
        updates, memory = velo_by_hand.update(
            theta, now, at(grads, t), memory, float(loss), int(data["config/num_steps_total"])
        )
        now = {k: p + updates[k] for k, p in now.items()}
        found.append(updates)
    assert worst(moved(params, found), under(data, "out/params/")) < 5e-4
