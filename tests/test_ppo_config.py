"""The configuration: derived numbers, the JSON round trip, every mistake in one sentence."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest

from loptrl.errors import LoptrlError
from loptrl.optimizers import classic
from loptrl.ppo.config import HAND_DESIGNED, OptimizerConfig, PPOConfig
from loptrl.specs import RunSpec, plain


def test_derived_numbers():
    config = PPOConfig(num_envs=64, rollout_length=10, minibatches=4, epochs=3, env_steps=10_000,
                       eval_every=2_000)  # fmt: skip
    assert config.batch_size == 640
    assert config.iterations_per_slice == 4  # rounded up from 3.125
    assert config.env_steps_per_slice == 2560
    assert config.num_slices == 4  # rounded up from 3.9
    assert config.num_updates == 4 * 4 * 3 * 4
    assert PPOConfig(env_steps=1, eval_every=1).num_slices == 1


def test_whole_floats_are_whole_numbers():
    config = PPOConfig(env_steps=2e6, num_envs=64.0, minibatches=1, hidden=[8.0, 4])
    assert (config.env_steps, config.num_envs, config.hidden) == (2_000_000, 64, (8, 4))
    assert all(type(w) is int for w in config.hidden)


def test_json_round_trip():
    config = PPOConfig(
        world="probe_reach",
        clip_ratio=None,
        hidden=(3,),
        optimizer=OptimizerConfig(b2=0.99),
        drift={"friction": {"form": "Linear", "low": 1.0, "high": 2.0, "period": 5}},
    )
    assert PPOConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    # What the store keeps is as good as the original.
    spec = RunSpec("s", "a", "smoke", 1, 0, config.to_dict())
    assert PPOConfig.from_dict(plain(spec.config)).to_dict() == config.to_dict()


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().num_envs = 3


MISTAKES = [
    *[({name: bad}, rf"{name} must be a whole number of at least 1, got {got}")
      for name in ("env_steps", "num_envs", "rollout_length", "epochs", "minibatches",
                   "eval_every", "eval_envs")
      for bad, got in ((0, "0"), (-3, "-3"), (1.5, r"1\.5"), ("7", "'7'"), (math.nan, "nan"),
                       (math.inf, "inf"), (True, "True"), (None, "None"))],
    ({"minibatches": 7}, r"minibatches must divide num_envs x rollout_length = 20480, got 7"),
    ({"discount": 1.1}, r"discount must be a number of at least 0 and at most 1, got 1\.1"),
    ({"gae_lambda": -0.1}, "gae_lambda must be a number of at least 0 and at most 1"),
    ({"gae_lambda": "x"}, "gae_lambda must be a number .*, got 'x'"),
    ({"clip_ratio": 0}, "clip_ratio must be a number above 0, got 0"),
    ({"clip_ratio": math.inf}, "clip_ratio must be a number above 0, got inf"),
    ({"value_clip": 0}, "value_clip must be a number above 0, got 0"),
    ({"max_grad_norm": -1}, "max_grad_norm must be a number above 0, got -1"),
    ({"value_coef": -1}, "value_coef must be a number of at least 0, got -1"),
    ({"entropy_coef": math.nan}, "entropy_coef must be a number of at least 0, got nan"),
    ({"hidden": []}, r"hidden must list the widths .*, got \[\]"),
    ({"hidden": 64}, r"hidden must list the widths .*, got 64"),
    ({"hidden": "64"}, r"hidden must list the widths .*, got '64'"),
    ({"hidden": [64, 0]}, "a width in hidden must be a whole number of at least 1, got 0"),
    ({"activation": "gelu"}, "activation must be 'tanh' or 'relu', got 'gelu'"),
    ({"world": 3}, "world must be a name, got 3"),
    ({"backend": ["spring"]}, "backend must be a name"),
    ({"normalize_rewards": "maybe"}, "normalize_rewards must be true or false, got 'maybe'"),
    ({"standardize_minibatches": 1}, "standardize_minibatches must be true or false, got 1"),
    ({"bootstrap_truncation": 1}, "bootstrap_truncation must be true or false, got 1"),
    ({"colour": 3}, "unknown setting 'colour': PPOConfig has"),
    ({"optimizer": "adam"}, "OptimizerConfig expects names with values, got 'adam'"),
    ({"optimizer": {"beta": 1}}, "unknown setting 'beta': OptimizerConfig has"),
    ({"optimizer": {"name": 3}}, "an optimizer's name must be text, got 3"),
    ({"optimizer": {"b1": 1}}, "b1 and b2 must be below 1, or the moments never move; got 1"),
    ({"optimizer": {"b2": 1.0}}, "b1 and b2 must be below 1"),
    ({"optimizer": {"b1": 1.5}}, "b1 must be a number of at least 0 and at most 1"),
    ({"optimizer": {"learning_rate": 0}}, "learning_rate must be a number above 0, got 0"),
    ({"optimizer": {"eps": -1e-8}}, "eps must be a number of at least 0"),
    ({"optimizer": {"weight_decay": -1}}, "weight_decay must be a number of at least 0"),
    ({"optimizer": {"anneal": 1}}, "anneal must be true or false, got 1"),
    ({"optimizer": {"weights": 1}}, "an optimizer's weights must be text, got 1"),
    ({"optimizer": {"name": "open"}}, "adam or rmsprop without weights, or a learned rule with"),
    ({"optimizer": {"name": "adam", "weights": "x"}}, "got 'adam' and weights 'x'"),
    ({"optimizer": {"sha256": "ab"}}, "sha256 names an optimizer's weights, got no weights"),
    ({"optimizer": {"name": "open", "weights": "multi", "b1": 0.5}}, "with weights takes no b1"),
]  # fmt: skip


def test_numpy_scalars_are_numbers():
    config = PPOConfig(num_envs=np.int64(64), discount=np.float64(0.9), minibatches=np.int32(4))
    assert config == PPOConfig(num_envs=64, discount=0.9, minibatches=4)
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    rule = OptimizerConfig(learning_rate=np.float32(0.5))
    assert rule == OptimizerConfig(learning_rate=0.5) and type(rule.learning_rate) is float


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": {"name": "adam"}}, "optimizer must be an OptimizerConfig, got {'name'"),
        ({"drift": None}, "drift must map names to values, got None"),
    ],
)
def test_settings_within_settings_are_checked(fields, message):
    with pytest.raises(LoptrlError, match=message):
        PPOConfig(**fields)


@pytest.mark.parametrize(("fields", "message"), MISTAKES, ids=lambda x: str(x)[:40])
def test_mistakes(fields, message):
    with pytest.raises(LoptrlError, match=message) as caught:
        PPOConfig.from_dict(fields)
    assert "\n" not in str(caught.value)


def test_settings_that_came_later_leave_stored_runs_their_names():
    """The JSON form of an old run has no value_clip, no annealing and no weights."""
    data = PPOConfig().to_dict()
    assert "value_clip" not in data
    assert sorted(data["optimizer"]) == ["b1", "b2", "eps", "learning_rate", "name", "weight_decay"]
    assert PPOConfig(value_clip=0.2).to_dict()["value_clip"] == 0.2


def test_learned_optimizers_are_named_by_their_weights():
    fields = {"name": "open", "weights": "open/multi", "sha256": "ab" * 32}
    config = PPOConfig.from_dict({"optimizer": fields})
    assert config.to_dict()["optimizer"] == fields and config.optimizer.numbers == {}
    assert PPOConfig.from_dict(config.to_dict()) == config
    annealed = OptimizerConfig(learning_rate=0.1, b1=0.5, anneal=True)
    assert annealed.to_dict()["anneal"] is True
    assert annealed.rule == OptimizerConfig(anneal=True), "numbers compile nothing"
    rate = OptimizerConfig("optim4rl", 1e-4, weights="optim4rl/ant")
    assert rate.rule == rate and rate.to_dict()["learning_rate"] == 1e-4


def test_decays_that_are_not_given_are_the_optimizer_s_own():
    for name in HAND_DESIGNED:
        # What a configuration leaves out is what the optimizer itself would take.
        own = inspect.signature(getattr(classic, name)).parameters
        usual = {key: value.default for key, value in own.items() if key != "learning_rate"}
        config = OptimizerConfig(name, learning_rate=1e-3)
        assert config.numbers == {"learning_rate": 1e-3, **usual}
    rmsprop = OptimizerConfig("rmsprop", learning_rate=1e-3)
    assert (rmsprop.b1, rmsprop.b2, rmsprop.rule.b1) == (0.0, 0.9, 0.0)
    adam = OptimizerConfig("adam")
    assert (adam.b1, adam.b2) == (0.9, 0.999)
    assert OptimizerConfig("rmsprop", b1=0.9).to_dict()["b1"] == 0.9
