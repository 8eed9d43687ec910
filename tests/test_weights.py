"""Weights: a registry, a checked import, and a format without pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from loptrl import weights
from loptrl.weights import REGISTRY, WeightsError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
ARRAYS = {"mlp/bias": np.ones(3, np.float32), "mlp/kernel": np.zeros((2, 3), np.float32)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "cache"


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def published(monkeypatch, content: bytes, *, checked=True) -> Path:
    """`open/ant` as if the authors had published this content."""
    digest = hashlib.sha256(content).hexdigest() if checked else "0" * 64
    entry = dataclasses.replace(REGISTRY["open/ant"], sha256=digest)
    monkeypatch.setitem(REGISTRY, "open/ant", entry)
    return entry.file


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "mine.npz"
    weights.save(path, ARRAYS, {"family": "open", "trained_on": "nothing"})
    found = weights.read(path)
    assert found.card["trained_on"] == "nothing"
    assert found.card["values"] == 9
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], value)
    assert weights.load(path, family="open").card == found.card
    with pytest.raises(WeightsError, match="expected weights for velo"):
        weights.load(path, family="velo")


def test_our_own_are_found_by_name(cache):
    weights.save(weights.weights_dir() / "open" / "mine.npz", ARRAYS, {"family": "open"})
    assert weights.load("mine", family="open").card["family"] == "open"
    with pytest.raises(WeightsError, match="no weights 'open/other' are here"):
        weights.load("other", family="open")


@pytest.mark.parametrize(
    ("arrays", "card", "message"),
    [
        ({}, {"family": "open"}, "got none"),
        ({"a": np.array([np.nan])}, {"family": "open"}, "NaN"),
        ({"a": np.array([1])}, {"family": "open"}, "expected floats"),
        ({"a": np.array([1.0])}, {}, "name a family"),
        ({"a": np.array([1.0])}, {"family": "open", "x": {1, 2}}, "JSON"),
    ],
)
def test_what_may_not_be_saved(tmp_path, arrays, card, message):
    with pytest.raises(WeightsError, match=message):
        weights.save(tmp_path / "w.npz", arrays, card)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_noticed(tmp_path):
    path = tmp_path / "w.npz"
    weights.save(path, ARRAYS, {"family": "open"})
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="sha256"):
        weights.read(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(WeightsError, match="JSON"):
        weights.read(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="could not read"):
        weights.read(path)


def test_an_official_vector_is_imported(cache, tmp_path, monkeypatch):
    vector = np.linspace(-1, 1, 1211, dtype=np.float32)
    file = published(monkeypatch, npy(vector))
    (tmp_path / file).write_bytes(npy(vector))
    assert weights.import_folder(tmp_path) == ["open/ant"]
    found = weights.load("ant", family="open")
    np.testing.assert_array_equal(found.arrays["vector"], vector)
    assert found.card["licence"] == "Apache-2.0"
    assert found.card["address"].startswith("https://")


@pytest.mark.parametrize(
    ("content", "checked", "message"),
    [
        (npy(np.zeros(1211, np.float32)), False, "sha256"),
        (npy(np.zeros(1210, np.float32)), True, "expected 1211 numbers"),
        (npy(np.full(1211, np.nan, np.float32)), True, "NaN"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), True, "a pickle is never opened"),
        (pickle.dumps({"a": 1}), True, "a pickle is never opened"),
        (npy(np.zeros((1211, 1), np.float32)), True, "one flat vector"),
        (npy(np.zeros(1211, np.int32)), True, "expected floats"),
        (b"", True, "a pickle is never opened"),
        (npy(np.zeros(1211, np.float32))[:-5], True, "expected plain numbers"),
    ],
    ids=["checksum", "length", "nan", "pickle in npy", "pickle", "shape", "ints", "empty", "cut"],
)
def test_a_wrong_official_file_is_refused(cache, tmp_path, monkeypatch, content, checked, message):
    file = published(monkeypatch, content, checked=checked)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.import_file("open/ant", tmp_path / file)
    assert not (cache / "weights").exists()


def test_the_registry_is_complete():
    assert {"open/multi", "open/ant", "optim4rl/ant"} <= set(REGISTRY)
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert entry.address.startswith("https://")
        assert entry.trained_on
        assert entry.values in (514, 1211, 3571)
        if entry.family == "open":
            assert len(entry.sha256) == 64
            assert entry.commit in entry.address
    json.dumps([dataclasses.asdict(entry) for entry in REGISTRY.values()])


def test_an_unknown_name_and_an_empty_folder(tmp_path):
    with pytest.raises(WeightsError, match="no published weights"):
        weights.import_file("open/nobody", tmp_path / "x.npy")
    with pytest.raises(WeightsError, match="official files"):
        weights.import_folder(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the authors' weights are not at {SHARED}")
def test_the_authors_files_are_imported(cache):
    from loptrl.optimizers import open_optimizer, optim4rl

    done = weights.import_folder(SHARED)
    assert sorted(done) == sorted(REGISTRY)
    assert open_optimizer.theta("multi")["mlp"]["layers_6"]["kernel"].shape == (32, 3)
    assert open_optimizer.theta("ant")["mlp"]["layers_6"]["kernel"].shape == (16, 3)
    assert optim4rl.theta()["rnn2"]["hn"]["bias"].shape == (8,)
    optim4rl("ant"), open_optimizer("breakout")
