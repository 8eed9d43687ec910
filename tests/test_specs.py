"""What names a run: a change here would make every stored run missing."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

from loptrl.errors import LoptrlError
from loptrl.files import sha256
from loptrl.runs import RunSpec

CONFIG = {"env": "ant", "ppo": {"lr": 3e-4, "clip": None, "sizes": [64, 64]}, "steps": 1e6}


def spec(seed: int = 0, arm: str = "adam", **config) -> RunSpec:
    return RunSpec("study", arm, "smoke", 1, seed, {**CONFIG, **config})


def test_golden_key():
    """A change of hashing would make every committed run missing: it must not happen unseen."""
    golden = RunSpec("adam_collapse", "x", "y", 1, 3, {"a": 1e6, "b": [0.1, None, True], "c": {}})
    text = '{"config":{"a":1000000,"b":[0.1,null,true],"c":{}},"seed":3,"study":"adam_collapse",'
    assert golden.key == sha256((text + '"version":1}').encode())[:16] == "05bf1ddeae10b3a6"


def test_equal_configurations_hash_alike():
    other = {"steps": 1000000, "ppo": {"sizes": (64.0, 64), "clip": None, "lr": 0.0003}}
    assert RunSpec("study", "other", "laptop", 1, 0, {**other, "env": "ant"}).key == spec().key
    assert spec(zero=-0.0).key == spec(zero=0).key
    assert spec(flag=True).key != spec(flag=1).key


def test_every_part_of_the_identity_counts():
    keys = {
        spec().key,
        spec(seed=1).key,
        spec(steps=1e6 + 1).key,
        spec(ppo={}).key,
        RunSpec("other", "adam", "smoke", 1, 0, CONFIG).key,
        RunSpec("study", "adam", "smoke", 2, 0, CONFIG).key,
        spec(text="1").key,
        spec(text=1).key,
    }
    assert len(keys) == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"config": {"a": {"b": [1.0, math.nan]}}}, r"finite number at config\.a\.b\[1\], got nan"),
        ({"config": {"a": -math.inf}}, "got -inf"),
        ({"config": {1: 2}}, "keys that are text in config, got 1"),
        ({"config": {"a": np.float32(1)}}, r"JSON value at config\.a, got a float32"),
        ({"config": {"a": {1, 2}}}, "got a set"),
        ({"config": [1]}, "config as a mapping, got a list"),
        ({"study": ""}, "a study of letters"),
        ({"arm": "../escape"}, "an arm of letters|a arm of letters"),
        ({"arm": ".hidden"}, "got '.hidden'"),
        ({"budget": 3}, "a budget of letters"),
        ({"version": -1}, "version in"),
        ({"version": 1.0}, "version as a whole number, got 1.0"),
        ({"seed": True}, "seed as a whole number, got True"),
        ({"seed": "0"}, "seed as a whole number, got '0'"),
        ({"seed": 2**32}, "seed in"),
    ],
)
def test_mistakes_in_a_spec(change, text):
    fields = {"study": "s", "arm": "a", "budget": "b", "version": 1, "seed": 0, "config": {}}
    with pytest.raises(LoptrlError, match=text) as caught:
        RunSpec(**{**fields, **change})
    assert "\n" not in str(caught.value)


def test_a_spec_cannot_change_behind_its_key():
    config = copy.deepcopy(CONFIG)
    one = RunSpec("study", "adam", "smoke", 1, 0, config)
    config["ppo"]["lr"] = 1.0
    assert one.config["ppo"]["lr"] == 3e-4
    with pytest.raises(TypeError):
        one.config["ppo"]["lr"] = 1.0
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    assert RunSpec.from_dict(one.as_dict()).key == one.key
    assert len({one, spec(), spec(seed=1)}) == 2
